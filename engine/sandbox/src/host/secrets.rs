//! Puts secrets into requests on their way out, where a grant says so, and blots them out of the answers: a server may send
//! back what it was sent. What can't be looked through, as it is compressed, is not asked for and not handed on. Elsewhere in a request a placeholder stays what it is; that it was there is a refusal on record.
//!
//! A body is rewritten as it is sent, piece by piece, in the encoding of its content type. One that the guest has announced the
//! length of is first put together, up to a bound, so that its new length can be announced.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use downbeat_workflow::permission::{self, Carried, Place, Use};
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use wasmtime_wasi_http::{Error, WasiBody};
use zeroize::Zeroizing;

use crate::reach::Reach;
use crate::redact::{is_unreserved, json_string, percent};
use crate::replace::{Pieces, Replacer};
use crate::secrets::{Secret, Secrets};

/// The longest body that is put together before it is sent; longer ones are sent in chunks, without a length. 1 MiB: calls of
/// services take some KiB, and servers that read no chunks are not those that are sent large files.
const WHOLE_MAX: u64 = 1 << 20;

/// A destination.
#[derive(Clone, Copy)]
pub(super) struct Destination<'d> {
    pub(super) tls: bool,
    pub(super) host: &'d str,
    pub(super) port: u16,
}

/// Of a request: that its body is to be put together before it is sent.
#[derive(Clone, Copy)]
struct ToBeWhole;

/// Of a request: what is to be blotted out of its answer.
#[derive(Clone)]
pub(super) struct ToBlotOut {
    replacer: Arc<Replacer>,
    /// Whether the step has secrets that servers are sent, and not itself: it could ask for an answer in which they are not found.
    are_kept_from_it: bool,
}

/// The request as it is sent. It is granted itself.
pub(super) fn put_in(
    reach: &mut Reach,
    mut request: http::Request<WasiBody>,
    to: Destination<'_>,
) -> Result<http::Request<WasiBody>, Error> {
    if reach.secrets.list.is_empty() {
        return Ok(request);
    }
    // Asking records refusals, beside the list.
    let secrets = std::mem::take(&mut reach.secrets);
    let done = put_all(reach, &secrets, &mut request, to);
    if let Some(redactor) = &secrets.redactor {
        let are_kept_from_it = reach.grants.secrets.iter().any(|grant| grant.host.is_some());
        if let (true, Some(codings)) = (are_kept_from_it, request.headers_mut().get_mut(ACCEPT_ENCODING)) {
            *codings = HeaderValue::from_static("identity");
        }
        request.extensions_mut().insert(ToBlotOut { replacer: redactor.clone(), are_kept_from_it });
    }
    reach.secrets = secrets;
    done.map(|()| request)
}

fn put_all(
    reach: &mut Reach,
    secrets: &Secrets,
    request: &mut http::Request<WasiBody>,
    to: Destination<'_>,
) -> Result<(), Error> {
    for (name, value) in request.headers_mut() {
        for secret in &secrets.list {
            if holds(value.as_bytes(), secret) && carries(reach, secret, to, Place::Header(name.as_str())) {
                *value = header(value, secret)?;
            }
        }
    }
    address(reach, secrets, request, to)?;
    if Body::size_hint(request.body()).exact() == Some(0) {
        return Ok(());
    }
    let encode = encoding(request.headers());
    let mut pairs = Vec::new();
    for secret in &secrets.list {
        let wanted = asked(&secret.name, to, Place::Body);
        // Whether it is in there is not known yet: only a grant is worth asking for.
        let is_granted = permission::decide(&reach.grants, &wanted).is_ok();
        if is_granted && carries(reach, secret, to, Place::Body) {
            let placeholder = Zeroizing::new(secret.placeholder.clone().into_bytes());
            pairs.push((placeholder, Arc::<str>::from(encode(&secret.value))));
        }
    }
    let Some(replacer) = Replacer::new(pairs) else { return Ok(()) };
    let length = request.headers_mut().remove(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length <= WHOLE_MAX) {
        request.extensions_mut().insert(ToBeWhole);
    }
    let body =
        std::mem::replace(request.body_mut(), Full::<Bytes>::default().map_err(|never| match never {}).boxed_unsync());
    *request.body_mut() = Rewritten::new(body, Arc::new(replacer), false).boxed_unsync();
    Ok(())
}

/// Whether the secret may be there. Both answers are put on record.
fn carries(reach: &mut Reach, secret: &Secret, to: Destination<'_>, place: Place<'_>) -> bool {
    match reach.ask(&asked(&secret.name, to, place)) {
        Ok(granted) => {
            reach.stays(granted, &format!("{} to {}:{}", secret.name, to.host, to.port));
            true
        }
        Err(_) => false,
    }
}

fn asked<'u>(name: &'u str, to: Destination<'u>, place: Place<'u>) -> Use<'u> {
    Use::Secret(Carried { name, tls: to.tls, host: to.host, port: to.port, place })
}

fn holds(bytes: &[u8], secret: &Secret) -> bool {
    let placeholder = secret.placeholder.as_bytes();
    bytes.windows(placeholder.len()).any(|window| window == placeholder)
}

fn header(value: &HeaderValue, secret: &Secret) -> Result<HeaderValue, Error> {
    // It holds a placeholder, and what else is in it may be any bytes but line ends.
    let (mut done, mut rest) = (Zeroizing::new(Vec::new()), value.as_bytes());
    let placeholder = secret.placeholder.as_bytes();
    while let Some(at) = rest.windows(placeholder.len()).position(|window| window == placeholder) {
        done.extend_from_slice(&rest[..at]);
        done.extend_from_slice(secret.value.as_bytes());
        rest = &rest[at + placeholder.len()..];
    }
    done.extend_from_slice(rest);
    // A secret with a line end is no header.
    let mut value = HeaderValue::from_bytes(&done).map_err(|_| Error::HttpProtocolError)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Path and query.
fn address(
    reach: &mut Reach,
    secrets: &Secrets,
    request: &mut http::Request<WasiBody>,
    to: Destination<'_>,
) -> Result<(), Error> {
    let Some(written) = request.uri().path_and_query().map(|written| written.as_str().to_owned()) else {
        return Ok(());
    };
    let (path, query) = match written.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*written, None),
    };
    let mut put = |part: &str, place: Place<'_>, stays: fn(u8) -> bool| {
        let mut part = Cow::Borrowed(part);
        for secret in &secrets.list {
            if part.contains(&secret.placeholder) && carries(reach, secret, to, place) {
                part = Cow::Owned(part.replace(&secret.placeholder, &percent(&secret.value, true, stays)));
            }
        }
        part.into_owned()
    };
    // A secret may be several segments of a path; `:` and `@` mean nothing in it.
    let new_path = put(path, Place::Path, |byte| is_unreserved(byte) || b"/:@".contains(&byte));
    let new_query = query.map(|query| put(query, Place::Query, is_unreserved));
    if new_path == path && new_query.as_deref() == query {
        return Ok(());
    }
    // Where it leads now has to be granted as well; nothing of it is put on record.
    let method = request.method().as_str();
    let wanted = permission::Request { tls: to.tls, host: to.host, port: to.port, method, path: &new_path };
    if permission::decide(&reach.grants, &Use::Http(wanted)).is_err() {
        return Err(Error::HttpRequestDenied);
    }
    let whole = match new_query {
        Some(query) => format!("{new_path}?{query}"),
        None => new_path,
    };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(whole).map_err(|_| Error::HttpRequestUriInvalid)?);
    *request.uri_mut() = http::Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)?;
    Ok(())
}

/// How a value is written in a body of this type.
fn encoding(headers: &HeaderMap) -> fn(&str) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-www-form-urlencoded" => |value: &str| percent(value, true, is_unreserved),
        kind if kind == "application/json" || kind.ends_with("+json") => json_string,
        _ => str::to_owned,
    }
}

/// What was to be done before the request is sent: its body in one piece, if that is to be.
pub(super) async fn whole(request: http::Request<WasiBody>) -> Result<http::Request<WasiBody>, Error> {
    if request.extensions().get::<ToBeWhole>().is_none() {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(http::Request::from_parts(parts, Full::new(body).map_err(|never| match never {}).boxed_unsync()))
}

/// What takes secrets out of the answer to a request; to be asked before it is sent.
pub(super) fn blotting(request: &http::Request<WasiBody>) -> Option<ToBlotOut> {
    request.extensions().get::<ToBlotOut>().cloned()
}

/// The answer as the guest may see it.
pub(super) fn blotted(
    response: http::Response<WasiBody>,
    blotting: Option<ToBlotOut>,
) -> Result<http::Response<WasiBody>, Error> {
    let Some(ToBlotOut { replacer, are_kept_from_it }) = blotting else { return Ok(response) };
    let (mut parts, body) = response.into_parts();
    blot_headers(&mut parts.headers, &replacer);
    if body.is_end_stream() {
        return Ok(http::Response::from_parts(parts, body));
    }
    if are_kept_from_it {
        if let Some(coding) = other_than(&parts.headers, CONTENT_ENCODING, "identity") {
            return Err(Error::HttpResponseContentCoding(Some(coding)));
        }
        if let Some(coding) = other_than(&parts.headers, TRANSFER_ENCODING, "chunked") {
            return Err(Error::HttpResponseTransferCoding(Some(coding)));
        }
    }
    parts.headers.remove(CONTENT_LENGTH);
    Ok(http::Response::from_parts(parts, Rewritten::new(body, replacer, true).boxed_unsync()))
}

/// What stands in a header beside the one word that is expected.
fn other_than(headers: &HeaderMap, name: HeaderName, expected: &str) -> Option<String> {
    let values = headers.get_all(name).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.map(|value| value.trim().to_ascii_lowercase()).find(|value| !value.is_empty() && value != expected)
}

fn blot_headers(headers: &mut HeaderMap, replacer: &Replacer) {
    // A header of that name is left out: there is no name for it.
    let is_one = |name: &&HeaderName| replacer.finds(name.as_str().as_bytes());
    for name in headers.keys().filter(is_one).cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    for value in headers.values_mut() {
        if let Cow::Owned(done) = replacer.bytes(value.as_bytes()) {
            *value = HeaderValue::from_bytes(&done).unwrap_or(HeaderValue::from_static("[secret]"));
        }
    }
}

/// A body in which texts are replaced as it passes.
struct Rewritten {
    body: WasiBody,
    replacer: Arc<Replacer>,
    pieces: Pieces,
    trailers: Option<HeaderMap>,
    /// Whether trailers are replaced in as well. In a request they are headers, and what may be in a body may not be in them.
    with_trailers: bool,
    is_over: bool,
}

impl Rewritten {
    fn new(body: WasiBody, replacer: Arc<Replacer>, with_trailers: bool) -> Rewritten {
        let pieces = Pieces::new(Some(replacer.clone()));
        Rewritten { body, replacer, pieces, trailers: None, with_trailers, is_over: false }
    }

    /// What was held back, if there is any.
    fn rest(&mut self) -> Option<Frame<Bytes>> {
        let mut rest = Vec::new();
        self.pieces.finish(|bytes| rest.extend_from_slice(bytes));
        (!rest.is_empty()).then(|| Frame::data(rest.into()))
    }
}

impl Body for Rewritten {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        while !this.is_over {
            let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    this.is_over = true;
                    return Poll::Ready(this.rest().map(Ok));
                }
            };
            match frame.into_data() {
                Ok(data) => {
                    let mut certain = Vec::with_capacity(data.len());
                    this.pieces.push(&data, |bytes| certain.extend_from_slice(bytes));
                    if !certain.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(certain.into()))));
                    }
                }
                Err(frame) => {
                    this.is_over = true;
                    this.trailers = frame.into_trailers().ok().map(|mut trailers| {
                        if this.with_trailers {
                            blot_headers(&mut trailers, &this.replacer);
                        }
                        trailers
                    });
                    if let Some(rest) = this.rest() {
                        return Poll::Ready(Some(Ok(rest)));
                    }
                }
            }
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::redact::redactor;
    use downbeat_workflow::capability::{Grants, HttpGrant};
    use downbeat_workflow::secret::SecretGrant;

    const PLACEHOLDER: &str = "dbsecret-00112233445566778899aabbccddeeff";
    const VALUE: &str = "s3cr\"t/+val";

    /// What is sent to `to`, its body in these pieces, by a step with this grant: address, headers, body; and the refusals.
    async fn sent(
        grant: SecretGrant,
        to: (bool, &str),
        uri: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (http::request::Parts, String, Vec<String>) {
        let grants = Grants {
            http: vec![HttpGrant::from("api.example.org"), HttpGrant::from("localhost:*")],
            secrets: vec![SecretGrant { name: "key".into(), ..grant }],
            ..Grants::default()
        };
        let mut reach = Reach::new(Arc::new(grants), Arc::from(Path::new("/")), "/".into(), Arc::default());
        let value = Arc::new(Zeroizing::new(VALUE.to_owned()));
        let secret = Secret { name: "key".into(), placeholder: PLACEHOLDER.into(), value };
        reach.secrets = Secrets { list: vec![secret], redactor: redactor([("key", VALUE)]).map(Arc::new) };
        let (start, end) = PLACEHOLDER.split_at(13);
        let put = |text: &str| text.replace("KEY", PLACEHOLDER).replace("KE|Y", &format!("{start}|{end}"));
        // Cut at every `|`, also within a placeholder.
        let pieces: Vec<Bytes> = put(body).split('|').map(|piece| Bytes::from(piece.to_owned())).collect();
        let body = match body.is_empty() {
            true => Full::<Bytes>::default().map_err(|never| match never {}).boxed_unsync(),
            false => Pieced(pieces.into_iter()).boxed_unsync(),
        };
        let mut request = http::Request::post(put(uri));
        for (name, value) in headers {
            request = request.header(*name, put(value));
        }
        let to = Destination { tls: to.0, host: to.1, port: if to.0 { 443 } else { 80 } };
        let request = put_in(&mut reach, request.body(body).unwrap(), to).unwrap();
        let (parts, body) = whole(request).await.unwrap().into_parts();
        let length = Body::size_hint(&body).exact();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        assert!(length.is_none_or(|length| length == body.len() as u64));
        let refusals = reach.refusals.iter().map(|refusal| format!("{}: {}", refusal.wanted, refusal.hint));
        (parts, body, refusals.collect())
    }

    /// A body in pieces, of a length that is not known before.
    struct Pieced(std::vec::IntoIter<Bytes>);

    impl Body for Pieced {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn grant(places: impl FnOnce(&mut SecretGrant)) -> SecretGrant {
        let mut grant = SecretGrant { host: Some("api.example.org".into()), ..SecretGrant::default() };
        places(&mut grant);
        grant
    }

    const HOME: (bool, &str) = (true, "api.example.org");

    #[tokio::test]
    async fn a_header_has_the_value_and_is_marked_as_sensitive() {
        let granted = grant(|grant| grant.header = Some("authorization".into()));
        let headers = [("authorization", "Bearer KEY"), ("x-other", "KEY")];
        let (parts, _, refusals) = sent(granted, HOME, "https://api.example.org/", &headers, "").await;
        assert_eq!(parts.headers["authorization"], format!("Bearer {VALUE}"));
        assert!(parts.headers["authorization"].is_sensitive());
        assert_eq!(parts.headers["x-other"], PLACEHOLDER);
        let [refusal] = &refusals[..] else { panic!("{refusals:?}") };
        assert!(refusal.starts_with("key in the header x-other of a request to api.example.org: "), "{refusal}");
        assert!(refusal.contains(r#"{ name = "key", host = "api.example.org", header = "x-other" }"#), "{refusal}");
    }

    #[tokio::test]
    async fn a_body_has_the_value_in_its_own_encoding_wherever_it_is_cut() {
        let text = grant(|grant| grant.body = true);
        for (kind, expected) in [
            ("application/json; charset=utf-8", r#"{"a":"s3cr\"t/+val"}"#),
            ("application/x-www-form-urlencoded", r#"{"a":"s3cr%22t%2F%2Bval"}"#),
            ("text/plain", r#"{"a":"s3cr"t/+val"}"#),
        ] {
            for body in [r#"{"a":"KEY"}"#, r#"{"a":"KE|Y"}"#, r#"{|"a"|:"|KEY|"}|"#] {
                let uri = "https://api.example.org/";
                let (_, streamed, _) = sent(text.clone(), HOME, uri, &[("content-type", kind)], body).await;
                assert_eq!(streamed, expected, "{kind} {body}");
                let headers = [("content-type", kind), ("content-length", "49")];
                let (parts, whole, _) = sent(text.clone(), HOME, uri, &headers, body).await;
                assert_eq!(whole, expected);
                assert!(parts.headers.get(CONTENT_LENGTH).is_none(), "it is another one");
            }
        }
    }

    #[tokio::test]
    async fn an_address_has_the_value_escaped() {
        let both = grant(|grant| (grant.path, grant.query) = (true, true));
        let (parts, ..) = sent(both, HOME, "https://api.example.org/a/KEY/b?k=KEY&l", &[], "").await;
        assert_eq!(parts.uri, "https://api.example.org/a/s3cr%22t/%2Bval/b?k=s3cr%22t%2F%2Bval&l");
        let query = grant(|grant| grant.query = true);
        let (parts, _, refusals) = sent(query, HOME, "https://api.example.org/KEY?KEY", &[], "").await;
        assert_eq!(parts.uri.to_string(), format!("https://api.example.org/{PLACEHOLDER}?s3cr%22t%2F%2Bval"));
        assert_eq!(refusals.len(), 1);
    }

    #[tokio::test]
    async fn elsewhere_and_in_the_open_it_stays_a_placeholder() {
        let granted = grant(|grant| grant.header = Some("authorization".into()));
        for to in [(true, "localhost"), (false, "api.example.org")] {
            let uri = "http://stands.for/both";
            let (parts, _, refusals) = sent(granted.clone(), to, uri, &[("authorization", "KEY")], "a KEY").await;
            assert_eq!(parts.headers["authorization"], PLACEHOLDER, "{to:?}");
            assert_eq!(refusals.len(), 1);
        }
        let insecure = SecretGrant { insecure: true, ..granted };
        let (parts, ..) =
            sent(insecure, (false, "api.example.org"), "http://a/", &[("authorization", "KEY")], "").await;
        assert_eq!(parts.headers["authorization"], VALUE);
        let loopback =
            SecretGrant { host: Some("localhost".into()), header: Some("x".into()), ..SecretGrant::default() };
        let (parts, ..) = sent(loopback, (false, "localhost"), "http://a/", &[("x", "KEY")], "").await;
        assert_eq!(parts.headers["x"], VALUE);
    }

    fn to_blot_out(value: &str, are_kept_from_it: bool) -> Option<ToBlotOut> {
        redactor([("key", value)]).map(|replacer| ToBlotOut { replacer: Arc::new(replacer), are_kept_from_it })
    }

    #[tokio::test]
    async fn what_a_server_sends_back_is_blotted_out() {
        let (start, end) = VALUE.split_at(5);
        let pieces = [format!("you said {start}"), format!("{end}!")].map(Bytes::from).to_vec();
        let response = http::Response::builder().header("x-echo", VALUE).header("content-length", "21");
        let response = response.body(Pieced(pieces.into_iter()).boxed_unsync()).unwrap();
        let response = blotted(response, to_blot_out(VALUE, true)).unwrap();
        assert_eq!(response.headers()["x-echo"], "[secret key]");
        assert!(response.headers().get(CONTENT_LENGTH).is_none());
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "you said [secret key]!");
        // As the name of a header.
        let response = http::Response::builder().header("x-token-0123", "1").header("x-other", "2");
        let response = response.body(Pieced(Vec::new().into_iter()).boxed_unsync()).unwrap();
        let response = blotted(response, to_blot_out("token-0123", false)).unwrap();
        assert_eq!(response.headers().keys().collect::<Vec<_>>(), ["x-other"]);
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_looked_through_is_not_handed_on() {
        let answer = |name: &str, coding: &str| {
            let body = Pieced(vec![Bytes::from("\u{1f}\u{8b}")].into_iter()).boxed_unsync();
            http::Response::builder().header(name, coding).body(body).unwrap()
        };
        for (name, coding, is_handed_on) in [
            ("content-encoding", "identity", true),
            ("content-encoding", "", true),
            ("content-encoding", "GZIP", false),
            ("content-encoding", "identity, br", false),
            ("transfer-encoding", "chunked", true),
            ("transfer-encoding", "gzip, chunked", false),
        ] {
            assert_eq!(
                blotted(answer(name, coding), to_blot_out(VALUE, true)).is_ok(),
                is_handed_on,
                "{name}: {coding}"
            );
            assert!(blotted(answer(name, coding), to_blot_out(VALUE, false)).is_ok(), "the component has it anyway");
        }
        // Without a body there is nothing in it.
        let empty = http::Response::builder().header("content-encoding", "gzip");
        let empty = empty.body(Full::<Bytes>::default().map_err(|never| match never {}).boxed_unsync()).unwrap();
        assert!(blotted(empty, to_blot_out(VALUE, true)).is_ok());
        let granted = grant(|grant| grant.header = Some("authorization".into()));
        let headers = [("accept-encoding", "gzip, br")];
        let (parts, ..) = sent(granted, HOME, "https://api.example.org/", &headers, "").await;
        assert_eq!(parts.headers["accept-encoding"], "identity");
    }

    #[tokio::test]
    async fn a_trailer_of_a_request_is_no_body() {
        struct Trailing(bool);
        impl Body for Trailing {
            type Data = Bytes;
            type Error = Error;

            fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
                let trailers = [(HeaderName::from_static("x-key"), HeaderValue::from_static(PLACEHOLDER))];
                let is_first = std::mem::replace(&mut self.0, false);
                Poll::Ready(is_first.then(|| Ok(Frame::trailers(trailers.into_iter().collect()))))
            }
        }
        let pairs = [(Zeroizing::new(PLACEHOLDER.as_bytes().to_vec()), Arc::from(VALUE))];
        let body = Rewritten::new(Trailing(true).boxed_unsync(), Arc::new(Replacer::new(pairs).unwrap()), false);
        assert_eq!(body.collect().await.unwrap().trailers().unwrap()["x-key"], PLACEHOLDER);
    }
}
