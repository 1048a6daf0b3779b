//! Outgoing HTTP (`wasi:http/outgoing-handler`), always linked and open only to the hosts that the grant `http` names. A
//! refused request is the typed error `HTTP-request-denied` and a refusal in the attempt's record.
//!
//! The engine makes the connection: HTTP/1.1 over TCP, TLS with the roots of webpki and nothing else, to an address that
//! the granted name resolves to and that the grant covers as well: whoever owns a name decides where it leads, and shall not
//! lead a step to what only this machine can reach. The name is resolved once, and each address judged right before it is
//! connected, so that no second answer can come in between. What is refused is the typed error
//! `destination-IP-prohibited` and a refusal in the record. Bodies are streamed in both directions. Redirects are answers like any other: following
//! one is the guest's decision, and asks for its host's grant again. Connections are not kept: an attempt is short.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use downbeat_workflow::capability::Grants;
use downbeat_workflow::permission::{self, Use};
use http::uri::Scheme;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, timeout};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use crate::host::secrets;
use crate::reach::{Later, Reach};
use crate::store::State;

/// How long a connection may take when the guest does not say: three retransmissions of a lost packet take 7 seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an answer, or its next piece, may take when the guest does not say. The attempt's own time-out is shorter as
/// a rule.
const READ_TIMEOUT: Duration = Duration::from_secs(600);

/// Bytes that a connection buffers, which also bounds the header of an answer. Twice what servers commonly send.
const BUFFER_MAX: usize = 64 << 10;

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.reach }
    }
}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Reach {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let target = match Target::of(request.uri()) {
            Err(error) => return Box::new(async { Err(error) }),
            Ok(target) => target,
        };
        let wanted = permission::Request {
            tls: target.tls,
            host: &target.host,
            port: target.port,
            method: request.method().as_str(),
            path: request.uri().path(),
        };
        match self.ask(&Use::Http(wanted)) {
            Err(_) => Box::new(async { Err(Error::HttpRequestDenied) }),
            Ok(granted) => {
                let recorded = self.leaves(granted, &told(&request));
                let way = Way { grants: self.grants.clone(), item: granted.item, refused: self.refused_later.clone() };
                let to = secrets::Destination { tls: target.tls, host: &target.host, port: target.port };
                match secrets::put_in(self, request, to) {
                    Ok(request) => Box::new(async move {
                        recorded.await;
                        send(request, target, options.unwrap_or_default(), way, System).await
                    }),
                    Err(error) => Box::new(async { Err(error) }),
                }
            }
        }
    }
}

/// A request for the record: without what follows `?`, where secrets are.
fn told(request: &http::Request<WasiBody>) -> String {
    let uri = request.uri();
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    format!("{} {scheme}://{authority}{}", request.method(), uri.path())
}

/// Where a request goes.
#[derive(Debug, PartialEq)]
struct Target {
    tls: bool,
    /// Lower case; an IPv6 address without its brackets.
    host: String,
    port: u16,
}

impl Target {
    fn of(uri: &http::Uri) -> Result<Target, Error> {
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid); // credentials belong in a header
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().map_err(|_| Error::HttpRequestUriInvalid)?,
            None => permission::default_port(tls),
        };
        Ok(Target { tls, host: normal(authority.host()), port })
    }
}

/// Names in lower case, addresses in their one canonical form, so that `[::1]` and `[0:0::1]` are the same.
fn normal(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse::<IpAddr>().map_or_else(|_| host.to_ascii_lowercase(), |address| address.to_string())
}

async fn send(
    request: http::Request<WasiBody>,
    target: Target,
    options: RequestOptions,
    way: Way,
    resolver: impl Resolve,
) -> Result<Sent, Error> {
    let blotting = secrets::blotting(&request);
    let mut request = secrets::whole(request).await?;
    let connect_timeout = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let connection =
        timeout(connect_timeout, connect(&target, &way, &resolver)).await.map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(BUFFER_MAX).handshake(TokioIo::new(connection)).await.map_err(of_hyper)?;
    // To an origin server a request names the path alone; where it goes is in the header `host`.
    *request.uri_mut() = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .parse()
        .map_err(|_| Error::HttpRequestUriInvalid)?;

    let first_byte = options.first_byte_timeout.unwrap_or(READ_TIMEOUT);
    let mut connection = Box::pin(connection);
    let mut closed = false;
    let response = {
        let mut answer = pin!(timeout(first_byte, sender.send_request(request)));
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => break answer.map_err(|_| Error::ConnectionReadTimeout)?.map_err(of_hyper)?,
                ended = &mut connection, if !closed => {
                    closed = true;
                    ended.map_err(of_hyper)?;
                }
            }
        }
    };
    let between_bytes = options.between_bytes_timeout.unwrap_or(READ_TIMEOUT);
    let response = response.map(|body| Answer::new(body, between_bytes).boxed_unsync());
    let response = secrets::blotted(response, blotting)?;
    let rest = async move { if closed { Ok(()) } else { connection.await.map_err(of_hyper) } };
    Ok((response, Box::new(rest)))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Who knows the addresses of a name.
trait Resolve: Sync {
    fn addresses(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;
}

/// The machine's own resolver.
struct System;

impl Resolve for System {
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        tokio::net::lookup_host((host, port)).await.map(Iterator::collect)
    }
}

/// The grant by which a request goes out, and where it is put down if the way ends at its address.
struct Way {
    grants: Arc<Grants>,
    item: usize,
    refused: Later,
}

impl Way {
    /// Whether this address may be connected. If not, that is on record.
    fn leads_to(&self, host: &str, address: IpAddr) -> bool {
        let grant = &self.grants.http[self.item];
        let may = permission::may_connect(grant, address);
        if !may {
            let mut enough = Grants::clone(&self.grants);
            enough.http[self.item].private = true;
            self.refused.refuse("http", &format!("{host} at {address}"), &enough);
        }
        may
    }
}

async fn connect(target: &Target, way: &Way, resolver: &impl Resolve) -> Result<Box<dyn Stream>, Error> {
    let addresses = resolver
        .addresses(&target.host, target.port)
        .await
        .map_err(|error| Error::DnsError { rcode: Some(error.to_string()), info_code: None })?;
    let mut failed = Error::DestinationNotFound;
    for address in addresses {
        if !way.leads_to(&target.host, address.ip()) {
            failed = Error::DestinationIpProhibited;
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(of_connect)?;
                return if target.tls { secure(stream, &target.host).await } else { Ok(Box::new(stream)) };
            }
            Err(error) => failed = of_connect(error),
        }
    }
    Err(failed)
}

/// One TLS configuration for the process: building it parses 150 certificates.
static TLS: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
});

async fn secure(stream: TcpStream, host: &str) -> Result<Box<dyn Stream>, Error> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let stream = tokio_rustls::TlsConnector::from(TLS.clone()).connect(name, stream).await.map_err(of_tls)?;
    Ok(Box::new(stream))
}

fn of_connect(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Error::ConnectionTerminated,
        _ => Error::DestinationUnavailable,
    }
}

fn of_tls(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        Some(_) => Error::TlsProtocolError,
        None => Error::ConnectionTerminated,
    }
}

fn of_hyper(error: hyper::Error) -> Error {
    if error.is_timeout() {
        Error::HttpResponseTimeout
    } else if error.is_incomplete_message() {
        Error::HttpResponseIncomplete
    } else if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(Some(BUFFER_MAX as u32))
    } else if error.is_parse() {
        Error::HttpProtocolError
    } else if error.is_canceled() || error.is_closed() {
        Error::ConnectionTerminated
    } else {
        Error::Hyper(error) // the guest's own body failed: its error is inside
    }
}

/// The body of an answer, of which no piece may take longer than the time given.
struct Answer {
    body: hyper::body::Incoming,
    between_bytes: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Answer {
    fn new(body: hyper::body::Incoming, between_bytes: Duration) -> Answer {
        Answer { body, between_bytes, timer: Box::pin(tokio::time::sleep(between_bytes)) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            ready!(self.timer.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        let next = Instant::now() + self.between_bytes;
        self.timer.as_mut().reset(next);
        Poll::Ready(frame.map(|frame| frame.map_err(of_hyper)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use downbeat_workflow::capability::HttpGrant;
    use std::sync::Mutex;

    fn target(uri: &str) -> Target {
        Target::of(&uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn credentials_in_an_address_are_refused() {
        assert!(Target::of(&"http://user@example.org".parse().unwrap()).is_err());
    }

    /// Sends a request to a server on loopback that answers with these bytes, in these pieces, and then does nothing.
    async fn ask(
        grant: &str,
        answer: &'static [&'static str],
        options: RequestOptions,
    ) -> (Result<(u16, String), Error>, String, Reach) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, request) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            while !text.ends_with(b"\r\n\r\n") {
                text.push(stream.read_u8().await.unwrap());
            }
            asked.send(String::from_utf8(text).unwrap()).unwrap();
            for piece in answer {
                stream.write_all(piece.as_bytes()).await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let grants =
            Grants { http: vec![grant.replace("PORT", &port.to_string()).as_str().into()], ..Default::default() };
        let mut reach = Reach::new(Arc::new(grants), Arc::from(std::path::Path::new("/")), "/".into(), Arc::default());
        let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request_uri = format!("http://127.0.0.1:{port}/path?q=1");
        let request_out = http::Request::get(request_uri).header("host", "here").body(body).unwrap();
        let sent = Pin::from(reach.send_request(request_out, Some(options), Box::new(async { Ok(()) }))).await;
        let answered = match sent {
            Err(error) => Err(error),
            Ok((response, rest)) => {
                let rest = tokio::spawn(Pin::from(rest));
                let status = response.status().as_u16();
                let body = response.into_body().collect().await;
                rest.abort();
                body.map(|body| (status, String::from_utf8(body.to_bytes().to_vec()).unwrap()))
            }
        };
        server.abort();
        (answered, request.await.unwrap_or_default(), reach)
    }

    #[tokio::test]
    async fn a_granted_request_is_sent_and_its_answer_streamed() {
        let answer = &["HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\n", "content-length: 5\r\n\r\nhe", "llo"];
        let (answered, request, reach) = ask("127.0.0.1:PORT", answer, RequestOptions::default()).await;
        assert_eq!(answered.unwrap(), (302, "hello".into()));
        assert_eq!(request, "GET /path?q=1 HTTP/1.1\r\nhost: here\r\n\r\n");
        assert!(reach.refusals.is_empty());
    }

    #[tokio::test]
    async fn an_ungranted_request_is_denied_and_on_record() {
        let (answered, request, reach) = ask("127.0.0.2:PORT", &[], RequestOptions::default()).await;
        assert!(matches!(answered, Err(Error::HttpRequestDenied)), "{answered:?}");
        assert_eq!(request, "");
        assert_eq!((reach.refusals.len(), reach.refusals[0].capability.as_str()), (1, "http"));
        assert!(reach.refusals[0].hint.contains(", \"127.0.0.1:"), "{:?}", reach.refusals[0]);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_or_not_go_on_is_given_up() {
        let short = Some(Duration::from_millis(50));
        let first = RequestOptions { first_byte_timeout: short, ..RequestOptions::default() };
        let (answered, ..) = ask("127.0.0.1:PORT", &[], first).await;
        assert!(matches!(answered, Err(Error::ConnectionReadTimeout)), "{answered:?}");
        let between = RequestOptions { between_bytes_timeout: short, ..RequestOptions::default() };
        let (answered, ..) = ask("127.0.0.1:PORT", &["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe"], between).await;
        assert!(matches!(answered, Err(Error::ConnectionReadTimeout)), "{answered:?}");
    }

    #[tokio::test]
    async fn an_answer_that_is_no_http_or_has_an_endless_header_is_told_apart() {
        let (answered, ..) = ask("127.0.0.1:PORT", &["hello\r\n\r\n"], RequestOptions::default()).await;
        assert!(matches!(answered, Err(Error::HttpProtocolError)), "{answered:?}");
        static ENDLESS: LazyLock<[&'static str; 2]> = LazyLock::new(|| {
            let header: &'static str = Box::leak(format!("x: {}\r\n", "y".repeat(2 * BUFFER_MAX)).into_boxed_str());
            ["HTTP/1.1 200 OK\r\n", header]
        });
        let (answered, ..) = ask("127.0.0.1:PORT", &ENDLESS[..], RequestOptions::default()).await;
        assert!(matches!(answered, Err(Error::HttpResponseHeaderSectionSize(_))), "{answered:?}");
    }

    #[tokio::test]
    async fn a_host_that_refuses_the_connection_is_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let target = target(&format!("http://127.0.0.1:{port}"));
        let way = way("127.0.0.1:*".into());
        assert!(matches!(connect(&target, &way, &System).await.map(drop), Err(Error::ConnectionRefused)));
    }

    #[tokio::test]
    async fn a_server_without_a_certificate_of_the_web_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"this is not TLS at all, it is text\r\n").await.unwrap();
            std::future::pending::<()>().await;
        });
        let target = target(&format!("https://127.0.0.1:{port}"));
        let way = way("127.0.0.1:*".into());
        assert!(matches!(connect(&target, &way, &System).await.map(drop), Err(Error::TlsProtocolError)));
        server.abort();
    }

    /// A resolver that says another thing each time.
    struct Told(Mutex<Vec<Vec<SocketAddr>>>);

    impl Told {
        fn of(answers: &[&[SocketAddr]]) -> Told {
            Told(Mutex::new(answers.iter().rev().map(|answer| answer.to_vec()).collect()))
        }
    }

    impl Resolve for Told {
        async fn addresses(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            Ok(self.0.lock().unwrap().pop().expect("the name is asked for as often as the test says"))
        }
    }

    fn way(grant: HttpGrant) -> Way {
        Way { grants: Arc::new(Grants { http: vec![grant], ..Grants::default() }), item: 0, refused: Later::default() }
    }

    /// A server on loopback that counts who comes.
    async fn listen() -> (tokio::net::TcpListener, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Whether nobody has come.
    fn is_alone(listener: &tokio::net::TcpListener) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        listener.poll_accept(&mut cx).is_pending()
    }

    #[tokio::test]
    async fn a_name_that_leads_to_a_private_address_is_not_connected() {
        let (listener, here) = listen().await;
        let target = target(&format!("http://rebound.example:{}", here.port()));
        for address in [
            here.ip(),
            "169.254.169.254".parse().unwrap(),
            "10.0.0.1".parse().unwrap(),
            "::ffff:127.0.0.1".parse().unwrap(),
            "fd00::1".parse().unwrap(),
            "0.0.0.0".parse().unwrap(),
        ] {
            let way = way("rebound.example:*".into());
            let resolver = Told::of(&[&[SocketAddr::new(address, here.port())]]);
            let connected = connect(&target, &way, &resolver).await.map(drop);
            assert!(matches!(connected, Err(Error::DestinationIpProhibited)), "{address}: {connected:?}");
            let refused = way.refused.take();
            assert_eq!(refused[0].wanted, format!("rebound.example at {address}"));
            let line = r#"grant = { http = [{ host = "rebound.example:*", private = true }] }"#;
            assert_eq!(refused[0].hint, line);
        }
        assert!(is_alone(&listener));
    }

    #[tokio::test]
    async fn a_private_address_is_connected_by_its_own_name_or_by_a_grant_that_says_so() {
        let (listener, here) = listen().await;
        let private = HttpGrant { private: true, ..HttpGrant::from("inside.example:*") };
        for (host, grant) in
            [("inside.example", private), ("localhost", "localhost:*".into()), ("127.0.0.1", "127.0.0.1:*".into())]
        {
            let target = target(&format!("http://{host}:{}", here.port()));
            let way = way(grant);
            connect(&target, &way, &Told::of(&[&[here]])).await.map(drop).unwrap();
            listener.accept().await.unwrap();
            assert!(way.refused.take().is_empty());
        }
    }

    #[tokio::test]
    async fn the_address_that_was_judged_is_the_one_that_is_connected() {
        let (listener, here) = listen().await;
        let target = target(&format!("http://rebound.example:{}", here.port()));
        // The first answer is judged; a second one would lead here, and is never asked for.
        let resolver = Told::of(&[&["10.0.0.1:1".parse().unwrap()], &[here]]);
        let way = way("rebound.example:*".into());
        let connected = connect(&target, &way, &resolver).await.map(drop);
        assert!(matches!(connected, Err(Error::DestinationIpProhibited)), "{connected:?}");
        assert_eq!(resolver.0.lock().unwrap().len(), 1, "the name is resolved once a connection");
        // One answer that has both: what is private in it is passed over, whatever comes of the other.
        let unroutable = SocketAddr::new("192.0.2.1".parse().unwrap(), 1);
        let way = self::way("rebound.example:*".into());
        let resolver = Told::of(&[&[here, unroutable]]);
        assert!(connect(&target, &way, &resolver).await.is_err());
        assert_eq!(way.refused.take().len(), 2, "neither is public");
        assert!(is_alone(&listener));
    }
}
