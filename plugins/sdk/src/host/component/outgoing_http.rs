//! One HTTP request over `wasi:http`, from its headers to the end of the response's body.

use std::io::Write;
use std::time::{Instant, SystemTime};

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, HeaderError, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme, http_error_code,
};
use wasip2::io::streams::StreamError;

use crate::http::{Error, Request, Response, Target};

/// Many APIs refuse requests that don't say who is asking.
const USER_AGENT: &str = concat!("downbeat-sdk/", env!("CARGO_PKG_VERSION"));

/// How much of a body is asked for at a time, in bytes. The host hands out what it has, which is seldom more.
const PIECE: u64 = 64 << 10;

pub(crate) fn send(request: &Request, target: &Target<'_>) -> Result<Response, Error> {
    let (started, wall_clock) = (Instant::now(), SystemTime::now());
    let failed = |code: ErrorCode| error(code, request, target);

    let outgoing = OutgoingRequest::new(headers(request)?);
    let accepted = outgoing
        .set_method(&method(&request.method))
        .and_then(|()| outgoing.set_scheme(Some(if target.https { &Scheme::Https } else { &Scheme::Http })))
        .and_then(|()| outgoing.set_authority(Some(target.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(&target.path_and_query)));
    if accepted.is_err() {
        return Err(Error::Invalid(format!("`{} {}` is not a well-formed request", request.method, request.url)));
    }

    // Asked for before the request is handed over, written after: only then does the host drain what is written. A
    // request whose body was never asked for is sent without one.
    let body = request.body.as_ref().map(|bytes| {
        let body = outgoing.body().expect("a request's body is there to be taken once");
        (body, bytes)
    });
    let response = outgoing_handler::handle(outgoing, Some(options(request))).map_err(failed)?;
    if let Some((body, bytes)) = body {
        let mut stream = body.write().expect("a body's stream is there to be taken once");
        // A server may answer before it has read everything: then the response says more than this error does.
        let written = stream.write_all(bytes).and_then(|()| Write::flush(&mut stream));
        drop(stream);
        if written.is_ok() {
            OutgoingBody::finish(body, None).map_err(failed)?;
        }
    }

    response.subscribe().block();
    let response = response
        .get()
        .expect("the response is there once its pollable is ready")
        .expect("the response is taken once")
        .map_err(failed)?;
    let status = response.status();
    let headers = response.headers().entries();
    let body = read_body(response, request, target)?;

    // Without the grant `clock` the wall clock stands still, and what the other one then says is no measurement.
    let elapsed = (SystemTime::now() != wall_clock).then(|| started.elapsed());
    let mut read = Response::new(status).body(body);
    read.headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    read.elapsed = elapsed;
    Ok(read)
}

fn headers(request: &Request) -> Result<Fields, Error> {
    let fields = Fields::new();
    let append = |name: &str, value: &[u8]| {
        fields.append(name, value).map_err(|error| {
            let why = match error {
                HeaderError::InvalidSyntax => "its name or value has characters that a header can't have",
                HeaderError::Forbidden => "it is one that only the host may set",
                HeaderError::Immutable => "the headers can't be changed any more",
            };
            Error::Invalid(format!("the header `{name}` can't be sent: {why}"))
        })
    };
    for (name, value) in &request.headers {
        append(name, value)?;
    }
    if !request.has_header("user-agent") {
        append("user-agent", USER_AGENT.as_bytes())?;
    }
    // Known here, and some servers take no body of unknown length.
    if let Some(body) = &request.body
        && !request.has_header("content-length")
    {
        append("content-length", body.len().to_string().as_bytes())?;
    }
    Ok(fields)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn options(request: &Request) -> RequestOptions {
    let nanoseconds = Some(u64::try_from(request.timeout.as_nanos()).unwrap_or(u64::MAX));
    let options = RequestOptions::new();
    // A host that does not support one of them still enforces the attempt's own time-out.
    _ = options.set_connect_timeout(nanoseconds);
    _ = options.set_first_byte_timeout(nanoseconds);
    _ = options.set_between_bytes_timeout(nanoseconds);
    options
}

fn read_body(response: IncomingResponse, request: &Request, target: &Target<'_>) -> Result<Vec<u8>, Error> {
    let max_body = request.max_body;
    let body: IncomingBody = response.consume().expect("a response's body is there to be taken once");
    let stream = body.stream().expect("a body's stream is there to be taken once");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(PIECE) {
            Ok(piece) if bytes.len() + piece.len() > max_body => return Err(Error::BodyTooLarge(max_body)),
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(failed)) => {
                return Err(match http_error_code(&failed) {
                    Some(code) => error(code, request, target),
                    None => Error::Connection(failed.to_debug_string()),
                });
            }
        }
    }
}

fn error(code: ErrorCode, request: &Request, target: &Target<'_>) -> Error {
    let authority = target.authority;
    match code {
        ErrorCode::HttpRequestDenied => Error::Refused(target.refused(&request.method)),
        ErrorCode::ConnectionTimeout => Error::TimedOut(format!("{authority} does not accept connections")),
        ErrorCode::DnsTimeout => Error::TimedOut(format!("the name of {authority} was not resolved")),
        ErrorCode::HttpResponseTimeout | ErrorCode::ConnectionReadTimeout | ErrorCode::ConnectionWriteTimeout => {
            Error::TimedOut(format!("{authority} took too long to answer"))
        }
        ErrorCode::ConnectionRefused => Error::Connection(format!("{authority} refused it")),
        ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => {
            Error::Connection(format!("{authority} ended it early"))
        }
        ErrorCode::DnsError(payload) => {
            let code = payload.rcode.map(|rcode| format!(" ({rcode})")).unwrap_or_default();
            Error::Connection(format!("the name of {authority} can't be resolved{code}"))
        }
        ErrorCode::DestinationNotFound | ErrorCode::DestinationUnavailable | ErrorCode::DestinationIpUnroutable => {
            Error::Connection(format!("{authority} can't be reached"))
        }
        ErrorCode::ConnectionLimitReached => Error::Connection("too many connections are open".to_owned()),
        ErrorCode::InternalError(reason) => {
            Error::Connection(format!("{authority}: {}", reason.as_deref().unwrap_or("no reason is given")))
        }
        ErrorCode::HttpRequestMethodInvalid | ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong => {
            Error::Invalid(format!("the request to {authority} is not well-formed: {code}"))
        }
        ErrorCode::TlsCertificateError => {
            Error::Protocol(format!("the certificate of {authority} is not to be trusted"))
        }
        other => Error::Protocol(format!("the exchange with {authority} failed: {other}")),
    }
}
