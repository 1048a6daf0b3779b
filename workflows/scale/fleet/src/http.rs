//! As much of HTTP/1.1 as fleet, workers and customers speak with each other and with an engine: one request a
//! connection, answered and closed. Every bound on what a stranger may send is here.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A request's head or body, and an answer, in bytes at most. A message for people has some hundred.
const BYTES_MAX: u64 = 64 * 1024;

/// How long a peer may be silent in the middle of a request.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// How long to wait for an answer: longer than whoever answers waits for something himself (`place::PATIENCE`).
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A request.
#[derive(Debug, PartialEq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: String,
    /// The header `Idempotency-Key`.
    pub key: Option<String>,
}

/// An answer: a status and a JSON text.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Answer {
    /// 200.
    pub fn ok(body: String) -> Answer {
        Answer { status: 200, body }
    }

    /// A status that is not good, and why. The message has nothing to be escaped in JSON.
    pub fn error(status: u16, message: &str) -> Answer {
        Answer { status, body: format!(r#"{{"error":"{message}"}}"#) }
    }
}

/// Answers every connection, each in a thread of its own, for as long as the process lives.
pub fn serve(listener: &TcpListener, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) {
    let answer = Arc::new(answer);
    for stream in listener.incoming() {
        // A connection that broke before it was taken up, or no more file descriptors: the next one may do better.
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let answer = answer.clone();
        // Who hangs up early does not get an answer, and without a thread to be had the connection is dropped, and with
        // it closed: there is nobody else to tell.
        let _ = thread::Builder::new().spawn(move || converse(&stream, &*answer));
    }
}

/// Asks a server on the loopback interface.
pub fn ask(port: u16, method: &str, path: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SILENCE_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(BYTES_MAX).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(ErrorKind::InvalidData)?;
    Ok(Answer { status, body: body.to_owned() })
}

fn converse(mut stream: &TcpStream, answer: &dyn Fn(&Request) -> Answer) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let answer = match read(&mut BufReader::new(stream)) {
        Ok(request) => answer(&request),
        Err(error) if error.kind() == ErrorKind::InvalidData => Answer::error(400, "that is no request"),
        Err(error) => return Err(error),
    };
    let reason = match answer.status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let (status, body) = (answer.status, answer.body);
    let length = body.len();
    // In one piece: a small answer in two would wait for the first to be acknowledged.
    stream.write_all(
        format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{body}"
        )
        .as_bytes(),
    )?;
    stream.shutdown(Shutdown::Write)
}

fn read(reader: &mut impl BufRead) -> io::Result<Request> {
    let mut head = reader.by_ref().take(BYTES_MAX);
    let first = line(&mut head)?;
    let [method, path, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else { return Err(invalid()) };
    let (mut length, mut chunked, mut key) = (0, false, None);
    loop {
        let header = line(&mut head)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').ok_or_else(invalid)?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(|_| invalid())?,
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "idempotency-key" => key = Some(value.to_owned()),
            _ => {}
        }
    }
    let body = if chunked { read_chunks(reader)? } else { read_exactly(reader, length)? };
    let body = String::from_utf8(body).map_err(|_| invalid())?;
    Ok(Request { method: method.to_owned(), path: path.to_owned(), body, key })
}

/// One line, without its end.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    reader.read_line(&mut text)?;
    match text.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(invalid()),
    }
}

fn read_exactly(reader: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > BYTES_MAX {
        return Err(invalid());
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    if body.len() as u64 == length { Ok(body) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// A body in chunks (RFC 9112, section 7.1), to the end of its last one.
fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(&mut reader.by_ref().take(1024))?;
        let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).map_err(|_| invalid())?;
        if size.saturating_add(body.len() as u64) > BYTES_MAX {
            return Err(invalid());
        }
        body.extend(read_exactly(reader, size)?);
        line(&mut reader.by_ref().take(2))?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn invalid() -> io::Error {
    ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, method: &str, path: &str, body: &str, key: Option<&str>) {
        let request = read(&mut text.as_bytes()).unwrap();
        assert_eq!((request.method.as_str(), request.path.as_str(), request.body.as_str()), (method, path, body));
        assert_eq!(request.key.as_deref(), key);
    }

    #[test]
    fn a_request_falls_into_its_parts() {
        check("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET", "/", "", None);
        check("PUT /workers/5 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "PUT", "/workers/5", "", None);
        let chunks = "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        let head = "POST /messages HTTP/1.1\r\nIdempotency-Key: k\r\n";
        check(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"), "POST", "/messages", "abcde", Some("k"));
        check(&format!("{head}Content-Length: 2\r\n\r\nhi"), "POST", "/messages", "hi", Some("k"));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in [
            "hello",
            "GET / SMTP\r\n\r\n",
            "GET / HTTP/1.1\r\nno colon\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        ] {
            assert_eq!(read(&mut text.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidData, "{text}");
        }
    }
}
