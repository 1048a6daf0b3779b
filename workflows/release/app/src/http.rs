//! As much of HTTP/1.1 as a small service behind a router needs: one request a connection, answered and closed. Apart
//! from the service, so that every bound on what a stranger may send is in one place. Bodies of requests are not read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The request line and the headers together, in bytes. 8 KiB is what the common servers accept.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// How long a request's head may take to arrive, and its answer to leave. A browser on a bad line needs a second; who
/// needs longer is holding a thread on purpose.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections answered at once, a thread each. Further ones are told so at once rather than kept waiting.
const CONNECTIONS_MAX: usize = 64;

/// A request, without its headers: nothing here depends on them.
#[derive(Debug, PartialEq)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// What follows the `?`, as it came.
    pub query: String,
}

/// An answer. The body is JSON.
#[derive(Debug, PartialEq)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

impl Request {
    /// Reads a request line, as in `GET /price?item=apple HTTP/1.1`.
    pub fn parse(line: &str) -> Option<Request> {
        let mut words = line.split(' ');
        let (method, target, protocol) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !protocol.starts_with("HTTP/1.") || !target.starts_with('/') {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Some(Request { method: method.to_owned(), path: path.to_owned(), query: query.to_owned() })
    }

    /// The first value of a query parameter. Percent signs are not decoded: no valid value here has any.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// How many connections are being answered. Cloned into whoever wants to know.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// The number right now.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Takes a place, until the returned guard is dropped.
    fn enter(&self) -> Guard {
        Guard { before: self.0.fetch_add(1, Ordering::SeqCst), places: self.0.clone() }
    }
}

struct Guard {
    before: usize,
    places: Arc<AtomicUsize>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.places.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers every connection of the listener, for as long as the process lives.
pub fn serve(
    listener: &TcpListener,
    in_flight: &InFlight,
    answer: impl Fn(&Request) -> Response + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    for stream in listener.incoming() {
        // A connection that broke before it was taken up, or no more file descriptors: the next one may do better.
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let place = in_flight.enter();
        let answer = answer.clone();
        let converse = move || {
            let overloaded = place.before >= CONNECTIONS_MAX;
            // Who hangs up early does not get an answer; there is nobody else to tell.
            let _ = if overloaded { refuse(stream) } else { converse(stream, &*answer) };
            drop(place);
        };
        // Without a thread to be had, the connection is dropped, and with it closed.
        let _ = thread::Builder::new().spawn(converse);
    }
}

fn refuse(stream: TcpStream) -> io::Result<()> {
    send(stream, &Response { status: 503, body: r#"{"error":"busy, try again"}"#.to_owned() })
}

fn converse(mut stream: TcpStream, answer: &dyn Fn(&Request) -> Response) -> io::Result<()> {
    let bad = |status, message: &str| Response { status, body: format!(r#"{{"error":"{message}"}}"#) };
    let response = match read_head(&mut stream) {
        Ok(head) => match head.lines().next().and_then(Request::parse) {
            Some(request) => answer(&request),
            None => bad(400, "that is no HTTP/1.1 request"),
        },
        Err(error) if error.kind() == ErrorKind::TimedOut => bad(408, "the request took too long"),
        Err(error) if error.kind() == ErrorKind::InvalidData => bad(431, "the request's head is too large or no text"),
        Err(error) => return Err(error),
    };
    send(stream, &response)
}

/// Everything up to the empty line, within [`HEAD_BYTES_MAX`] and [`PATIENCE`].
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        stream.set_read_timeout(Some(left.ok_or(ErrorKind::TimedOut)?))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => head.extend_from_slice(&chunk[..count]),
            // What a read that timed out is called depends on the system.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(head).map_err(|_| ErrorKind::InvalidData.into())
}

fn send(mut stream: TcpStream, response: &Response) -> io::Result<()> {
    let Response { status, body } = response;
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let length = body.len();
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .as_bytes(),
    )?;
    stream.shutdown(Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_falls_into_its_parts() {
        let request = Request::parse("GET /price?item=apple&quantity=3 HTTP/1.1").unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/price"));
        assert_eq!(request.parameter("quantity"), Some("3"));
        assert_eq!(request.parameter("colour"), None);
    }

    #[test]
    fn what_is_no_request_line_is_refused() {
        for line in ["", "GET", "GET /", "GET / SMTP", "GET price HTTP/1.1", "GET / HTTP/1.1 twice"] {
            assert_eq!(Request::parse(line), None, "{line}");
        }
    }
}
