//! Outgoing HTTP requests, by the grant `http`. The host makes the connection and checks the TLS certificate.
//!
//! One request, one response, its whole body in memory and bounded. Redirects are not followed: the host that a
//! redirect points to is one that somebody has to grant, so a step that wants to follow sees it and decides.
//!
//! ```
//! use std::time::Duration;
//! use downbeat_sdk::prelude::*;
//!
//! # let host = downbeat_sdk::testing::Host::new();
//! # host.on_http(|_| Ok(http::Response::new(200).body(r#"{"healthy":true}"#)));
//! let response = http::Request::get("https://api.example.org/health")
//!     .header("accept", "application/json")
//!     .timeout(Duration::from_secs(5))
//!     .send()?;
//! let health: serde_json::Value = response.json()?;
//! assert_eq!(health["healthy"], true);
//! # Ok::<(), Failure>(())
//! ```

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Refused;

/// How long a request may take unless it says otherwise: 30 seconds. An API that answers at all does so by then; what
/// takes longer should say so.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest body that is read unless the request says otherwise: 4 MiB. As text in an output it still fits the
/// default limit `output` (16 MiB) when every byte of it has to be escaped.
pub const DEFAULT_MAX_BODY: usize = 4 << 20;

/// A request to send: a builder.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    /// In upper case: `GET`, `POST`, …
    pub method: String,
    /// Absolute, `http` or `https`.
    pub url: String,
    /// In the order in which they were added.
    pub headers: Vec<(String, Vec<u8>)>,
    /// `None` sends no body at all, `Some` of nothing one of length 0.
    pub body: Option<Vec<u8>>,
    /// The most that each of connecting, waiting for the response's first byte, and waiting for more of the body may
    /// take. The attempt's own time-out bounds them all together.
    pub timeout: Duration,
    /// The largest response body that is read, in bytes.
    pub max_body: usize,
}

impl Request {
    /// A request without headers or body.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Request {
        Request {
            method: method.into().to_ascii_uppercase(),
            url: url.into(),
            headers: Vec::new(),
            body: None,
            timeout: DEFAULT_TIMEOUT,
            max_body: DEFAULT_MAX_BODY,
        }
    }

    /// A `GET` request.
    pub fn get(url: impl Into<String>) -> Request {
        Request::new("GET", url)
    }

    /// A `POST` request, without a body as yet.
    pub fn post(url: impl Into<String>) -> Request {
        Request::new("POST", url)
    }

    /// Adds a header. One that is already there stays and is sent as well.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sends these bytes.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Request {
        self.body = Some(bytes.into());
        self
    }

    /// Sends this value as JSON, with the `content-type` to match unless there already is one.
    ///
    /// # Errors
    ///
    /// The value can't be written as JSON.
    pub fn json(mut self, value: &(impl Serialize + ?Sized)) -> Result<Request, Error> {
        crate::finite::check(value).map_err(Error::Invalid)?;
        self.body = Some(serde_json::to_vec(value).map_err(|error| Error::Invalid(error.to_string()))?);
        if !self.has_header("content-type") {
            self = self.header("content-type", "application/json");
        }
        Ok(self)
    }

    /// Bounds each phase of the request; see [`Request::timeout`](#structfield.timeout).
    pub fn timeout(mut self, timeout: Duration) -> Request {
        self.timeout = timeout;
        self
    }

    /// Reads at most so many bytes of the response's body; a longer one is an error.
    pub fn max_body(mut self, bytes: usize) -> Request {
        self.max_body = bytes;
        self
    }

    /// Whether there is a header of this name, in any case.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    /// Sends the request and reads the whole response. Every status is a response, also 404 and 500.
    ///
    /// # Errors
    ///
    /// The request is not well-formed or not granted, the network failed, or the body is too large.
    pub fn send(&self) -> Result<Response, Error> {
        let target = Target::parse(&self.url)?;
        crate::host::send_http(self, &target)
    }
}

/// A URL's parts, as they go over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) https: bool,
    /// `host` or `host:port`.
    pub(crate) authority: &'a str,
    /// Begins with `/`.
    pub(crate) path_and_query: Cow<'a, str>,
}

impl Target<'_> {
    /// Splits a URL. What is inside the parts is for the host to judge, which resolves and sends them.
    pub(crate) fn parse(url: &str) -> Result<Target<'_>, Error> {
        let fault = |what: &str| Error::Invalid(format!("`{url}` is not a URL that can be requested: {what}"));
        if url.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(fault("spaces and characters outside of ASCII must be percent-encoded"));
        }
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| fault("it must begin with `https://` or `http://`"))?;
        let https = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(fault("only `https` and `http` can be requested")),
        };
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || authority.starts_with(':') {
            return Err(fault("it names no host"));
        }
        if authority.contains('@') {
            return Err(fault("credentials belong into an `authorization` header, where no log shows them"));
        }
        let path_and_query = if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) };
        Ok(Target { https, authority, path_and_query })
    }

    /// The refusal that the host's bare "denied" stands for. Which of method, host and path it is about, and what is granted
    /// already, only the host knows, so that the line that would allow it is the host's to propose. What follows `?` is left
    /// out: secrets are there.
    pub(crate) fn refused(&self, method: &str) -> Refused {
        let scheme = if self.https { "https" } else { "http" };
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        Refused {
            capability: "http".into(),
            wanted: format!("{method} {scheme}://{}{path}", self.authority),
            hint: String::new(),
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// 200, 404, …
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, Vec<u8>)>,
    /// All of it.
    pub body: Vec<u8>,
    /// From sending the request to the end of the body. `None` when the step lacks the grant `clock`, without which
    /// time stands still.
    pub elapsed: Option<Duration>,
}

impl Response {
    /// A response without headers or body: for doubles in tests.
    pub fn new(status: u16) -> Response {
        Response { status, headers: Vec::new(), body: Vec::new(), elapsed: None }
    }

    /// Adds a header.
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Response {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Replaces the body.
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Response {
        self.body = bytes.into();
        self
    }

    /// Sets how long it took.
    pub fn with_elapsed(mut self, elapsed: Duration) -> Response {
        self.elapsed = Some(elapsed);
        self
    }

    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of this name, in any case, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The body as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// It is not JSON, or not of this type.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Error::Protocol(format!("the body of the response ({}) is not the JSON expected: {error}", self.status))
        })
    }

    /// How long the server asks to wait before the next try, as `Retry-After` says it in seconds. The header's other
    /// form, a date, is not understood: a step without the grant `clock` could not tell how far off it is.
    pub fn retry_after(&self) -> Option<Duration> {
        Some(Duration::from_secs(self.header("retry-after")?.trim().parse().ok()?))
    }
}

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not granted. Nothing was sent.
    Refused(Refused),
    /// The request can't be sent as it is: a URL, a header or a body that is none. Nothing was sent.
    Invalid(String),
    /// Connecting or waiting took too long.
    TimedOut(String),
    /// The server could not be reached, or the connection was lost.
    Connection(String),
    /// The response's body is larger than the request allows; the bound in bytes.
    BodyTooLarge(usize),
    /// What came back is not what the protocol, TLS, or the step's own expectation allows.
    Protocol(String),
}

impl Error {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::TimedOut(_) | Error::Connection(_))
    }

    /// What was refused, if that is what it was.
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Error::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Refused(refused) => refused.fmt(f),
            Error::Invalid(message) | Error::Protocol(message) => f.write_str(message),
            Error::TimedOut(what) => write!(f, "the request timed out: {what}"),
            Error::Connection(what) => write!(f, "the connection failed: {what}"),
            Error::BodyTooLarge(limit) => write!(f, "the response's body is larger than {limit} bytes"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    fn check(url: &str, expected: Result<(bool, &str, &str), &str>) {
        match (Target::parse(url), expected) {
            (Ok(target), Ok((https, authority, path))) => {
                assert_eq!((target.https, target.authority, &*target.path_and_query), (https, authority, path));
            }
            (Err(Error::Invalid(message)), Err(part)) => assert!(message.contains(part), "{message}"),
            (actual, expected) => panic!("{url}: {actual:?} is not {expected:?}"),
        }
    }

    #[test]
    fn a_url_is_split_as_it_goes_over_the_wire() {
        check("https://example.org", Ok((true, "example.org", "/")));
        check("HTTP://127.0.0.1:8080/a/b?c=d#e", Ok((false, "127.0.0.1:8080", "/a/b?c=d")));
        check("http://[::1]:80?q", Ok((false, "[::1]:80", "/?q")));
    }

    #[test]
    fn a_url_that_cannot_be_requested_says_why() {
        check("example.org/health", Err("must begin with `https://`"));
        check("ftp://example.org", Err("only `https` and `http`"));
        check("https:///health", Err("names no host"));
        check("https://:80/", Err("names no host"));
        check("https://user:secret@example.org/", Err("`authorization` header"));
        check("https://example.org/a b", Err("percent-encoded"));
        check("https://exämple.org/", Err("percent-encoded"));
    }

    #[test]
    fn without_a_grant_the_error_says_what_was_asked_and_leaves_it_to_the_host_what_would_allow_it() {
        let _host = Host::new();
        let error = Request::post("http://127.0.0.1:8080/v1/a?token=s3cret").send().expect_err("nothing is granted");
        let asked = "`POST http://127.0.0.1:8080/v1/a` is refused to this step (http)";
        assert_eq!(error.to_string(), asked);
    }

    #[test]
    fn json_brings_its_content_type_unless_there_is_one() -> Result<(), Error> {
        let request = Request::post("http://x").json(&[1])?;
        assert_eq!(request.body.as_deref(), Some(&b"[1]"[..]));
        assert_eq!(request.headers, [("content-type".to_owned(), b"application/json".to_vec())]);
        let request = Request::post("http://x").header("Content-Type", "application/cloudevents+json").json(&[1])?;
        assert_eq!(request.headers.len(), 1);
        assert!(matches!(Request::post("http://x").json(&f64::NAN), Err(Error::Invalid(_))));
        Ok(())
    }

    #[test]
    fn a_body_over_the_bound_is_an_error_also_in_the_double() {
        let host = Host::new();
        host.on_http(|_| Ok(Response::new(200).body("12345")));
        assert_eq!(Request::get("http://x").max_body(4).send(), Err(Error::BodyTooLarge(4)));
        assert!(Request::get("http://x").max_body(5).send().is_ok());
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let after = |value: &str| Response::new(503).with_header("Retry-After", value).retry_after();
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }
}
