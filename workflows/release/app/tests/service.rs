//! The service as its customers see it: bytes over a loopback connection, in and out.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use shop::catalogue::{BUILT_IN, Catalogue};
use shop::http::{self, InFlight};
use shop::service::{Service, VERSION};

/// Starts a service of its own for one test; it ends with the test's process.
fn start() -> u16 {
    let service = Service::new(Catalogue::parse(BUILT_IN).unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || http::serve(&listener, &InFlight::default(), move |request| service.answer(request)));
    port
}

/// Sends the bytes and reads the status and the body of the answer.
fn send(port: u16, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn get(port: u16, target: &str) -> (u16, String) {
    send(port, format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n").as_bytes())
}

#[test]
fn health_tells_the_version() {
    let (status, body) = get(start(), "/health");
    assert_eq!((status, body), (200, format!(r#"{{"status":"ok","version":"{VERSION}"}}"#)));
}

#[test]
fn a_price_is_told_for_a_quantity() {
    let port = start();
    let (status, body) = get(port, "/price?item=apple&quantity=3");
    assert_eq!(status, 200);
    assert!(body.contains(r#""item":"apple","quantity":3,"unit-cents":45"#), "{body}");
    assert!(body.contains(r#""total-cents":135"#), "{body}");
    assert!(get(port, "/price?item=apple").1.contains(r#""total-cents":45"#));
}

#[test]
fn all_items_are_listed() {
    let (status, body) = get(start(), "/items");
    assert_eq!(status, 200);
    assert!(body.starts_with(r#"{"items":[{"item":"apple","unit-cents":45},{"item":"bread","#), "{body}");
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    let port = start();
    for (target, status) in [
        ("/price", 400),
        ("/price?item=apple&quantity=many", 400),
        ("/price?item=apple&quantity=0", 400),
        ("/price?item=unicorn", 404),
        ("/nowhere", 404),
    ] {
        let (got, body) = get(port, target);
        assert_eq!(got, status, "{target}");
        assert!(body.starts_with(r#"{"error":""#), "{target}: {body}");
    }
    assert_eq!(send(port, b"DELETE /items HTTP/1.1\r\n\r\n").0, 405);
    assert_eq!(send(port, b"hello\r\n\r\n").0, 400);
}

#[test]
fn a_head_without_an_end_is_refused() {
    // One byte beyond the bound: the service has read all that was sent before it answers.
    let mut request = b"GET / HTTP/1.1\r\nX: ".to_vec();
    request.resize(8 * 1024 + 1, b'x');
    assert_eq!(send(start(), &request).0, 431);
}
