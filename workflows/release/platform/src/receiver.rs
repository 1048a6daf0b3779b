//! The receiver: where the webhook of a chat would be. The body of each request becomes one line of the messages file,
//! written before the sender hears that it has arrived. A message whose `Idempotency-Key` has been seen is acknowledged and
//! not written again: a sender that was interrupted may safely send twice. Who does not send the token in `authorization` is
//! sent away.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::state;

/// A message, or its headers, in bytes at most. Slack takes 40,000 characters.
const MESSAGE_BYTES_MAX: u64 = 256 * 1024;

/// What senders have to know. A stand-in as well: a platform's token is no part of its program.
const TOKEN: &str = include_str!("../token");

/// How long a sender may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keys remembered at most; a run sends a handful.
const KEYS_MAX: usize = 10_000;

/// Receives until the state file is gone.
pub fn serve(messages: &Path, state: &Path) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("cannot listen: {error}"))?;
    let accepting = listener.try_clone().map_err(|error| format!("cannot share the listener: {error}"))?;
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(messages)
        .map_err(|error| format!("cannot open {}: {error}", messages.display()))?;
    // One sender after the other: the order of the lines is the order of arrival, and nothing needs a lock.
    thread::spawn(move || {
        let mut seen = HashSet::new();
        for sender in accepting.incoming().filter_map(io::Result::ok) {
            if let Err(error) = receive(&sender, &mut file, &mut seen) {
                eprintln!("a message was lost: {error}");
            }
        }
    });
    state::hold(state, &listener)
}

fn receive(mut sender: &TcpStream, file: &mut impl Write, seen: &mut HashSet<String>) -> io::Result<()> {
    sender.set_read_timeout(Some(PATIENCE))?;
    sender.set_write_timeout(Some(PATIENCE))?;
    let status = match Message::read(&mut BufReader::new(sender)) {
        Ok(message) if message.token.as_deref() != Some(TOKEN.trim_end()) => "401 Unauthorized",
        Ok(message) => match message.key.filter(|_| seen.len() < KEYS_MAX) {
            Some(key) if seen.contains(&key) => "200 OK",
            key => {
                writeln!(file, "{}", message.line)?;
                seen.extend(key);
                "200 OK"
            }
        },
        Err(error) if error.kind() == ErrorKind::InvalidData => "400 Bad Request",
        Err(error) => return Err(error),
    };
    write!(sender, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    sender.shutdown(Shutdown::Write)
}

/// What arrived.
#[derive(Debug, PartialEq)]
struct Message {
    /// The body. Line breaks have become spaces, which in JSON means the same.
    line: String,
    key: Option<String>,
    /// What stands behind `Bearer`.
    token: Option<String>,
}

impl Message {
    fn read(reader: &mut impl BufRead) -> io::Result<Message> {
        let mut head = reader.by_ref().take(MESSAGE_BYTES_MAX);
        if !line(&mut head)?.starts_with("POST ") {
            return Err(invalid("only POST is understood here"));
        }
        let (mut length, mut chunked, mut key, mut token) = (0, false, None, None);
        loop {
            let header = line(&mut head)?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').ok_or_else(|| invalid("a header has no colon"))?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().map_err(|_| invalid("the length is no number"))?,
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "idempotency-key" => key = Some(value.to_owned()),
                "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
                _ => {}
            }
        }
        let body = if chunked { read_chunks(reader)? } else { read_exactly(reader, length)? };
        let body = String::from_utf8(body).map_err(|_| invalid("the body is no text"))?;
        Ok(Message { line: body.trim().replace(['\r', '\n'], " "), key, token })
    }
}

/// One line, without its end.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    reader.read_line(&mut text)?;
    match text.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err(invalid("a line does not end, or the head is too long")),
    }
}

fn read_exactly(reader: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > MESSAGE_BYTES_MAX {
        return Err(invalid("the message is too long"));
    }
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    if body.len() as u64 == length { Ok(body) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

/// A body in chunks (RFC 9112, section 7.1); what may follow the last one is not read.
fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(&mut reader.by_ref().take(1024))?;
        let size = u64::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| invalid("a chunk has no size"))?;
        if size == 0 {
            return Ok(body);
        }
        if size.saturating_add(body.len() as u64) > MESSAGE_BYTES_MAX {
            return Err(invalid("the message is too long"));
        }
        body.extend(read_exactly(reader, size)?);
        line(&mut reader.by_ref().take(2))?;
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: &str) -> io::Result<Message> {
        Message::read(&mut request.as_bytes())
    }

    #[test]
    fn a_body_becomes_one_line() {
        let message = read("POST / HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\n  \"a\": 1\n}\n").unwrap();
        assert_eq!(message, Message { line: "{   \"a\": 1 }".to_owned(), key: None, token: None });
    }

    #[test]
    fn a_body_may_come_in_chunks() {
        let request = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nIdempotency-Key: k1\r\nAuthorization: Bearer t\r\n\r\n\
                       3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(
            read(request).unwrap(),
            Message { line: "abcde".to_owned(), key: Some("k1".to_owned()), token: Some("t".to_owned()) }
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for request in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "hello",
        ] {
            assert_eq!(read(request).unwrap_err().kind(), ErrorKind::InvalidData, "{request}");
        }
    }

    #[test]
    fn a_message_with_a_key_is_kept_once_and_one_without_the_token_not_at_all() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let sender = thread::spawn(move || {
            for (token, status) in
                [("guessed", "401 Unauthorized"), (TOKEN.trim_end(), "200 OK"), (TOKEN.trim_end(), "200 OK")]
            {
                let mut stream = TcpStream::connect(address).unwrap();
                let head = format!("POST / HTTP/1.1\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: k\r\n");
                write!(stream, "{head}Content-Length: 2\r\n\r\nhi").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
            }
        });
        let (mut file, mut seen) = (Vec::new(), HashSet::new());
        for _ in 0..3 {
            receive(&listener.accept().unwrap().0, &mut file, &mut seen).unwrap();
        }
        sender.join().unwrap();
        assert_eq!(String::from_utf8(file).unwrap(), "hi\n");
    }
}
