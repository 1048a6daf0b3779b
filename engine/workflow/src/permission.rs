//! Whether an attempt may do what it is about to do: the one place where a use is held against the grants that are in
//! force. Host interfaces ask here before they act, and nobody else compares hosts, programs, arguments or paths.
//!
//! It knows no file and no socket: that a directory is the one that was granted, and that a name leads to a public address,
//! is seen where the directory is opened and the connection made. Allowing allocates nothing.

pub mod cover;

use core::net::IpAddr;
use std::path::{Component, Path};

use crate::capability::{Capability, FileGrant, Grant, Grants, HttpGrant, ProgramGrant, Withheld};
use crate::secret::SecretGrant;

/// Something that an attempt is about to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Use<'u> {
    /// Start a program.
    Program(Command<'u>),
    /// Send a request.
    Http(Request<'u>),
    /// Reach a directory or a file, by the path that the guest has for it.
    Files {
        /// The guest's path.
        path: &'u str,
        /// Whether it is to be changed.
        write: bool,
    },
    /// See a variable of the engine's environment.
    Env(&'u str),
    /// Put the value of a secret into a request.
    Secret(Carried<'u>),
    /// What is granted as a whole: `clock`, `random`, `artifacts`, `workspace`.
    Whole(Capability),
}

/// A program as a guest asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Command<'u> {
    /// The name or the path.
    pub program: &'u str,
    /// What follows the program's own name.
    pub arguments: &'u [String],
    /// Variables that the guest sets: name and value.
    pub environment: &'u [(String, String)],
    /// Where it is to run, if the guest says so.
    pub directory: Option<&'u str>,
}

/// A request as a guest sends it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Request<'u> {
    /// Whether it is `https`.
    pub tls: bool,
    /// The host: a name in any case, or an address, with or without brackets.
    pub host: &'u str,
    /// The port, also if it is the scheme's own.
    pub port: u16,
    /// The method.
    pub method: &'u str,
    /// The path as it will be sent, percent signs and all, without the query.
    pub path: &'u str,
}

/// A secret that a request is to carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carried<'u> {
    /// Its name.
    pub name: &'u str,
    /// Whether the request is `https`.
    pub tls: bool,
    /// The request's host, as in [`Request`].
    pub host: &'u str,
    /// Its port.
    pub port: u16,
    /// Where in the request it is.
    pub place: Place<'u>,
}

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'u> {
    /// The header of this name, in lower case.
    Header(&'u str),
    /// The body.
    Body,
    /// The query of the address.
    Query,
    /// The path of the address.
    Path,
}

/// Says yes, and which grant it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The kind of the grant.
    pub capability: Capability,
    /// The place in the list of that kind; 0 of what is granted as a whole.
    pub item: usize,
}

impl Granted {
    /// The grant itself, of the grants that were asked.
    pub fn grant(self, grants: &Grants) -> Option<Grant> {
        grants.item(self.capability, self.item)
    }
}

/// Says no, and how near the grants came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Denied<'g> {
    /// The kind of grant that is missing: `env` of a program that would be granted without its variables.
    pub capability: Capability,
    /// What is not granted.
    pub reason: Reason<'g>,
    /// The grant that would have allowed it, if the workflow has it and another key took it away.
    pub withheld: Option<&'g Withheld>,
}

/// What is not granted. In the order of nearness: the later, the more of the use was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason<'g> {
    /// No grant names the program, the host, the directory, the variable or the capability.
    Unnamed,
    /// The host is granted, and not with this method.
    Method,
    /// The host is granted, and not with this path.
    Path,
    /// The host is granted below a path only, and servers differ in where this request's path leads.
    UnclearPath,
    /// The program is granted, and not with these arguments.
    Arguments,
    /// The program is granted, and may not be given this variable.
    Variable(&'g str),
    /// The program is granted, and not in this directory.
    Directory,
    /// The secret may go to the host, and not in this part of a request.
    Place,
    /// The secret may go to the host, and not where others can read it on the way.
    InTheOpen,
}

/// Whether these grants cover this use.
pub fn decide<'g>(grants: &'g Grants, wanted: &Use<'g>) -> Result<Granted, Denied<'g>> {
    let (capability, found) = match wanted {
        Use::Program(command) => (Capability::Process, program(grants, command)),
        Use::Http(request) => (Capability::Http, first(&grants.http, |grant| http(grant, request))),
        Use::Files { path, write } => (Capability::Files, first(&grants.files, |grant| file(grant, path, *write))),
        Use::Env(name) => (Capability::Env, first(&grants.env, |granted| named(granted == name))),
        Use::Secret(carried) => (Capability::Secrets, first(&grants.secrets, |grant| carries(grant, carried))),
        Use::Whole(capability) => (*capability, named(grants.has(capability.word())).map(|()| 0)),
    };
    match found {
        Ok(item) => Ok(Granted { capability, item }),
        Err(reason) => {
            let capability = if matches!(reason, Reason::Variable(_)) { Capability::Env } else { capability };
            Err(Denied { capability, reason, withheld: withheld(grants, capability, wanted) })
        }
    }
}

/// Whether a request that a grant covers may go to an address that its host led to. What a public name resolves to is
/// decided by whoever owns the name: he shall not reach what only this machine can reach. So an address that is not public
/// is reached by a grant that names it literally (`localhost` is a name for loopback, and for nothing else), or that says
/// `private = true`.
pub fn may_connect(grant: &HttpGrant, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let (host, _) = split(&grant.host);
    grant.private
        || is_public(address)
        || same_host(host, address)
        || (host.eq_ignore_ascii_case("localhost") && address.is_loopback())
}

fn same_host(host: &str, address: IpAddr) -> bool {
    unbracketed(host).parse::<IpAddr>().is_ok_and(|granted| granted.to_canonical() == address)
}

/// Whether an address belongs to the internet at large. Not: what [IANA's registries of special
/// addresses](https://www.iana.org/assignments/iana-ipv4-special-registry) call not globally reachable, and what carries
/// such an IPv4 address within (mapped, NAT64, 6to4, Teredo), as a translator would send it there.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            let special = address.is_unspecified()
                || a == 0
                || address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || (a == 100 && b & 0b1100_0000 == 64) // shared with the provider (RFC 6598)
                || (a == 192 && b == 0 && c == 0) // protocols (RFC 6890)
                || (a == 192 && b == 88 && c == 99) // relays of 6to4 (RFC 7526)
                || address.is_documentation()
                || (a == 198 && b & 0b1111_1110 == 18) // benchmarks (RFC 2544)
                || address.is_multicast()
                || a >= 240; // reserved, and broadcast
            !special
        }
        IpAddr::V6(address) => {
            let segments = address.segments();
            let inner =
                |high: u16, low: u16| is_public(IpAddr::from(((u32::from(high) << 16) | u32::from(low)).to_be_bytes()));
            match segments {
                // NAT64 (RFC 6052), and what a site keeps for its own (RFC 8215).
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
                [0x64, 0xff9b, ..] => false,
                // 6to4 (RFC 3056).
                [0x2002, high, low, ..] => inner(high, low),
                // Teredo, and the rest of what is for protocols (RFC 2928); documentation (RFC 3849, RFC 9637).
                [0x2001, 0..0x200, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..0x1000, ..] => false,
                // The rest of the world is in 2000::/3: everything else is not assigned, or of one site, link or machine.
                [first, ..] => first & 0xe000 == 0x2000,
            }
        }
    }
}

/// The first item that covers a use, or how near the nearest came.
fn first<'g, T>(items: &'g [T], covers: impl Fn(&'g T) -> Result<(), Reason<'g>>) -> Result<usize, Reason<'g>> {
    let mut nearest = Reason::Unnamed;
    for (at, item) in items.iter().enumerate() {
        match covers(item) {
            Ok(()) => return Ok(at),
            Err(reason) => nearest = nearest.max(reason),
        }
    }
    Err(nearest)
}

fn named<'g>(is_named: bool) -> Result<(), Reason<'g>> {
    if is_named { Ok(()) } else { Err(Reason::Unnamed) }
}

fn program<'g>(grants: &'g Grants, command: &Command<'g>) -> Result<usize, Reason<'g>> {
    first(&grants.process, |grant| called(grant, command, &grants.env))
}

/// `env` are the variables of the step, for a grant that has none of its own.
fn called<'g>(grant: &'g ProgramGrant, command: &Command<'g>, env: &'g [String]) -> Result<(), Reason<'g>> {
    named(grant.program == command.program)?;
    if grant.args.as_ref().is_some_and(|patterns| !arguments(patterns, command.arguments)) {
        return Err(Reason::Arguments);
    }
    let env = grant.env.as_deref().unwrap_or(env);
    if let Some((name, _)) = command.environment.iter().find(|(name, _)| !env.contains(name)) {
        return Err(Reason::Variable(name));
    }
    match (&grant.directory, command.directory) {
        // Without a wish it runs in the granted one.
        (None, _) | (_, None) => Ok(()),
        (Some(granted), Some(wanted)) if is_below(granted, wanted) => Ok(()),
        _ => Err(Reason::Directory),
    }
}

/// Whether arguments are as the patterns say, one for one. A last pattern `**` stands for any further arguments, whatever
/// they are.
fn arguments(patterns: &[String], arguments: &[String]) -> bool {
    let (patterns, rest) = match patterns.split_last() {
        Some((last, patterns)) if last == "**" => (patterns, true),
        _ => (patterns, false),
    };
    (arguments.len() == patterns.len() || (rest && arguments.len() > patterns.len()))
        && patterns.iter().zip(arguments).all(|(pattern, argument)| argument_fits(pattern, argument))
}

/// Whether an argument is as the pattern says. A `*` stands for any text; at the beginning of a pattern for none that
/// begins with `-`: a value from elsewhere must not become an option. Work is linear in both lengths.
fn argument_fits(pattern: &str, argument: &str) -> bool {
    if pattern.starts_with('*') && argument.starts_with('-') {
        return false;
    }
    let Some((first, others)) = pattern.split_once('*') else { return pattern == argument };
    let Some(mut text) = argument.strip_prefix(first) else { return false };
    let (between, last) = others.rsplit_once('*').unwrap_or(("", others));
    // Each piece at the first place where it can be leaves the most for those behind it.
    for piece in between.split('*') {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

fn file<'g>(grant: &FileGrant, path: &str, write: bool) -> Result<(), Reason<'g>> {
    named((grant.write || !write) && is_below(&grant.path, path))
}

/// The directories among these grants that a guest's path is in, each with the path from there. It may have `..` in it.
pub fn directories_of<'p>(files: &'p [FileGrant], path: &'p Path) -> impl Iterator<Item = (&'p FileGrant, &'p Path)> {
    files.iter().filter_map(move |grant| Some((grant, path.strip_prefix(&grant.path).ok()?)))
}

/// Whether a path is one or below it, by its text.
fn is_below(directory: &str, path: &str) -> bool {
    let path = Path::new(path);
    path.starts_with(directory) && !path.components().any(|component| component == Component::ParentDir)
}

fn http<'g>(grant: &HttpGrant, request: &Request<'_>) -> Result<(), Reason<'g>> {
    named(reaches(&grant.host, request.tls, request.host, request.port))?;
    if grant.methods.as_ref().is_some_and(|methods| !methods.iter().any(|method| method == request.method)) {
        return Err(Reason::Method);
    }
    let Some(prefix) = &grant.path else { return Ok(()) };
    let prefix = prefix.trim_end_matches('/');
    let below = request.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match (below, is_unclear(request.path)) {
        (_, true) => Err(Reason::UnclearPath),
        (false, _) => Err(Reason::Path),
        _ => Ok(()),
    }
}

fn carries<'g>(grant: &'g SecretGrant, carried: &Carried<'_>) -> Result<(), Reason<'g>> {
    let Carried { name, tls, host, port, place } = *carried;
    named(grant.name == name && grant.host.as_ref().is_some_and(|granted| reaches(granted, tls, host, port)))?;
    let is_place = match place {
        Place::Header(header) => grant.header.as_deref() == Some(header),
        Place::Body => grant.body,
        Place::Query => grant.query,
        Place::Path => grant.path,
    };
    if !is_place {
        return Err(Reason::Place);
    }
    if tls || grant.insecure || is_this_machine(host) { Ok(()) } else { Err(Reason::InTheOpen) }
}

/// Whether nobody else can be on the way to a host: addresses of loopback, and the name for them.
fn is_this_machine(host: &str) -> bool {
    let host = unbracketed(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Whether a granted host (`host`, `host:port`, `host:*`, with IPv6 addresses in brackets) is the one of a request.
fn reaches(granted: &str, tls: bool, host: &str, port: u16) -> bool {
    let (granted, granted_port) = split(granted);
    let is_port = match granted_port {
        None => port == default_port(tls),
        Some("*") => true,
        Some(text) => !text.starts_with('+') && text.parse() == Ok(port),
    };
    if !is_port {
        return false;
    }
    let (granted, host) = (unbracketed(granted), unbracketed(host));
    // Addresses by what they are, so that `::1` and `0:0::1` are the same.
    match (address(granted), address(host)) {
        (Some(granted), Some(host)) => granted == host,
        (None, None) => !granted.is_empty() && granted != "*" && granted.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// The address that a host is, if it is one. Most are names, which are told without a parser: an IPv4 address begins with a
/// digit, an IPv6 address has a colon.
fn address(host: &str) -> Option<IpAddr> {
    let may_be = host.starts_with(|first: char| first.is_ascii_digit()) || host.contains(':');
    may_be.then(|| host.parse().ok()).flatten()
}

/// The port of a request that names none.
pub fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// A granted host without and with its port.
fn split(granted: &str) -> (&str, Option<&str>) {
    match granted.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (granted, None),
    }
}

fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether a path may lead elsewhere than its text says: it has `.` or `..` as a segment, written out or with percent
/// signs, also twice, or before a `;`; or a `\` or an escaped `/`, which some servers take for a `/`.
fn is_unclear(path: &str) -> bool {
    path.split('/').any(|segment| {
        let mut dots = 0;
        let mut others = false;
        let mut rest = segment.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            let (byte, after) = unescaped(*first, after);
            match byte {
                b'/' | b'\\' | b'\0' => return true,
                b'.' => dots += 1,
                b';' => break,
                _ => others = true,
            }
            rest = after;
        }
        !others && (dots == 1 || dots == 2)
    })
}

/// A byte of a path as a server may read it, and what follows it. Percent signs are looked through as often as they are
/// escaped themselves: each time the text becomes shorter.
fn unescaped(first: u8, after: &[u8]) -> (u8, &[u8]) {
    let (mut byte, mut rest) = (first, after);
    while byte == b'%' {
        let [high, low, after @ ..] = rest else { break };
        let digit = |byte: u8| (byte as char).to_digit(16);
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { break };
        byte = (high * 16 + low) as u8;
        rest = after;
    }
    (byte, rest)
}

/// What would have been about the use if no other key had taken it away.
fn withheld<'g>(grants: &'g Grants, capability: Capability, wanted: &Use<'_>) -> Option<&'g Withheld> {
    let is_about = |grant: &Grant| match (grant, wanted) {
        (Grant::Process(grant), Use::Program(command)) => grant.program == command.program,
        (Grant::Env(granted), Use::Program(command)) => command.environment.iter().any(|(name, _)| name == granted),
        (Grant::Env(granted), Use::Env(name)) => granted == name,
        (Grant::Http(grant), Use::Http(request)) => reaches(&grant.host, request.tls, request.host, request.port),
        (Grant::Files(grant), Use::Files { path, .. }) => is_below(&grant.path, path),
        (Grant::Secrets(grant), Use::Secret(carried)) => grant.name == carried.name,
        (Grant::Whole(_), Use::Whole(_)) => true,
        _ => false,
    };
    grants.withheld.iter().find(|taken| taken.grant.capability() == capability && is_about(&taken.grant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Key;

    fn request(text: &str) -> Request<'_> {
        let (scheme, rest) = text.split_once("://").expect("a scheme");
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (host, port) = split(authority);
        let tls = scheme == "https";
        let port = port.map_or(default_port(tls), |port| port.parse().expect("a port"));
        Request { tls, host, port, method: "GET", path }
    }

    fn check(grant: HttpGrant, allowed: &[&str], denied: &[(&str, Reason<'_>)]) {
        let grants = Grants { http: vec![grant], ..Grants::default() };
        for uri in allowed {
            let granted = decide(&grants, &Use::Http(request(uri)));
            assert_eq!(granted, Ok(Granted { capability: Capability::Http, item: 0 }), "{uri}");
        }
        for (uri, reason) in denied {
            let denied = decide(&grants, &Use::Http(request(uri))).expect_err(uri);
            assert_eq!((denied.capability, denied.reason), (Capability::Http, *reason), "{uri}");
        }
    }

    fn check_host(grant: &str, allowed: &[&str], denied: &[&str]) {
        let denied: Vec<_> = denied.iter().map(|uri| (*uri, Reason::Unnamed)).collect();
        check(grant.into(), allowed, &denied);
    }

    #[test]
    fn a_host_alone_means_the_default_ports() {
        check_host(
            "api.example.org",
            &["http://api.example.org/x", "https://API.example.org", "https://api.example.org:443/"],
            &[
                "http://api.example.org:443",
                "https://example.org",
                "https://x.api.example.org",
                "https://api.example.org.evil",
            ],
        );
    }

    #[test]
    fn a_port_is_that_port_and_a_star_is_any() {
        check_host("127.0.0.1:8080", &["http://127.0.0.1:8080"], &["http://127.0.0.1", "http://127.0.0.1:8081"]);
        check_host("127.0.0.1:*", &["http://127.0.0.1:1", "https://127.0.0.1"], &["http://127.0.0.2:1"]);
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        check_host(
            "[::1]:8080",
            &["http://[::1]:8080", "http://[0:0::1]:8080"],
            &["http://[::1]", "http://[::2]:8080"],
        );
        check_host("[::1]:*", &["http://[::1]"], &[]);
    }

    #[test]
    fn a_grant_that_is_none_allows_nothing() {
        check_host("*", &[], &["http://example.org", "http://*"]);
        check_host("", &[], &["http://example.org", "http://"]);
    }

    #[test]
    fn a_method_and_a_path_narrow_a_host() {
        let methods = Some(vec!["GET".to_owned(), "HEAD".to_owned()]);
        let grant = HttpGrant { methods, path: Some("/v1/".into()), ..HttpGrant::from("api.example.org") };
        check(
            grant.clone(),
            &[
                "https://api.example.org/v1",
                "https://api.example.org/v1/",
                "https://api.example.org/v1/a/b..c/...",
                "https://api.example.org/v1/a%20b;x=.",
            ],
            &[
                ("https://api.example.org/", Reason::Path),
                ("https://api.example.org/v10", Reason::Path),
                ("https://api.example.org/V1/", Reason::Path),
                ("https://api.example.org//v1/", Reason::Path),
                ("https://api.example.org/v1/../admin", Reason::UnclearPath),
                ("https://api.example.org/v1/..", Reason::UnclearPath),
                ("https://api.example.org/v1/./x", Reason::UnclearPath),
                ("https://api.example.org/v1/%2e%2E/admin", Reason::UnclearPath),
                ("https://api.example.org/v1/.%2e", Reason::UnclearPath),
                ("https://api.example.org/v1/%252e%252e/admin", Reason::UnclearPath),
                ("https://api.example.org/v1/%25252e./admin", Reason::UnclearPath),
                ("https://api.example.org/v1/..;a=b/admin", Reason::UnclearPath),
                ("https://api.example.org/v1/..%2fadmin", Reason::UnclearPath),
                ("https://api.example.org/v1/..%5cadmin", Reason::UnclearPath),
                ("https://api.example.org/v1/..\\admin", Reason::UnclearPath),
                ("https://elsewhere.org/v1/", Reason::Unnamed),
            ],
        );
        let grants = Grants { http: vec![grant], ..Grants::default() };
        for (method, is_granted) in [("GET", true), ("HEAD", true), ("POST", false), ("get", false), ("", false)] {
            let request = Request { method, ..request("https://api.example.org/v1/") };
            let decided = decide(&grants, &Use::Http(request)).map(drop).map_err(|denied| denied.reason);
            assert_eq!(decided, if is_granted { Ok(()) } else { Err(Reason::Method) }, "{method}");
        }
    }

    #[test]
    fn the_first_of_several_grants_that_covers_a_use_allows_it() {
        let narrow = HttpGrant { path: Some("/a".into()), ..HttpGrant::from("x.org") };
        let grants = Grants { http: vec![narrow, "x.org:8080".into(), "x.org".into()], ..Grants::default() };
        let item = |uri| decide(&grants, &Use::Http(request(uri))).map(|granted| granted.item).ok();
        assert_eq!(item("http://x.org/a/b"), Some(0));
        assert_eq!(item("http://x.org:8080/"), Some(1));
        assert_eq!(item("http://x.org/b"), Some(2));
        let granted = decide(&grants, &Use::Http(request("http://x.org/a"))).expect("granted");
        assert_eq!(
            granted.grant(&grants).expect("is there").to_string(),
            r#"http = [{ host = "x.org", path = "/a" }]"#
        );
    }

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn what_is_not_of_the_internet_at_large_is_not_public() {
        let public =
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "198.20.0.1", "2606:4700::1", "2001:4860::1"];
        for address in addresses(&public) {
            assert!(is_public(address), "{address}");
        }
        let special = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:c0a8:101::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for address in addresses(&special) {
            assert!(!is_public(address), "{address}");
        }
        assert!(is_public("64:ff9b::101:101".parse().expect("an address")), "it is 1.1.1.1 behind a translator");
    }

    #[test]
    fn an_address_that_is_not_public_is_reached_by_its_own_name_or_a_word_for_it() {
        let may = |grant: &HttpGrant, address: &str| may_connect(grant, address.parse().expect("an address"));
        let name = HttpGrant::from("intranet.example.org:8080");
        assert!(may(&name, "1.1.1.1"));
        assert!(!may(&name, "10.0.0.1") && !may(&name, "::1") && !may(&name, "::ffff:127.0.0.1"));
        let private = HttpGrant { private: true, ..name };
        assert!(may(&private, "10.0.0.1") && may(&private, "169.254.169.254"));
        let literal = HttpGrant::from("127.0.0.1:*");
        assert!(may(&literal, "127.0.0.1") && may(&literal, "::ffff:127.0.0.1") && !may(&literal, "127.0.0.2"));
        assert!(may(&HttpGrant::from("[::1]:80"), "::1"));
        let local = HttpGrant::from("LocalHost:80");
        assert!(may(&local, "127.0.0.1") && may(&local, "::1") && !may(&local, "10.0.0.1"));
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn check_arguments(patterns: &[&str], allowed: &[&[&str]], denied: &[&[&str]]) {
        let grant = ProgramGrant { args: Some(strings(patterns)), ..ProgramGrant::from("git") };
        let grants = Grants { process: vec![grant], ..Grants::default() };
        for (list, expected) in
            allowed.iter().map(|list| (list, Ok(0))).chain(denied.iter().map(|list| (list, Err(Reason::Arguments))))
        {
            let arguments = strings(list);
            let command = Command { program: "git", arguments: &arguments, ..Command::default() };
            let decided = decide(&grants, &Use::Program(command));
            assert_eq!(decided.map(|granted| granted.item).map_err(|denied| denied.reason), expected, "{list:?}");
        }
    }

    #[test]
    fn arguments_are_as_their_patterns_one_for_one() {
        check_arguments(&[], &[&[]], &[&["x"]]);
        check_arguments(
            &["fetch", "*"],
            &[&["fetch", "origin"], &["fetch", ""]],
            &[&["fetch"], &["push", "origin"], &["fetch", "a", "b"]],
        );
        check_arguments(
            &["--depth=*", "*.git"],
            &[&["--depth=1", "a.git"], &["--depth=", ".git.git"]],
            &[&["--depth", "a.git"], &["--depth=1", "a.git "], &["--depth=1", "a"]],
        );
        check_arguments(&["a*b*c"], &[&["abc"], &["abbbcc"], &["a*b*c"]], &[&["ac"], &["abcd"], &["xabc"]]);
        check_arguments(&["log", "**"], &[&["log"], &["log", "-p", "--all"]], &[&[], &["show"]]);
        // Only at the end is it what it is there.
        check_arguments(&["**", "x"], &[&["a", "x"]], &[&["x"], &["a", "b", "x"]]);
    }

    #[test]
    fn a_value_from_elsewhere_does_not_become_an_option() {
        check_arguments(&["fetch", "*"], &[&["fetch", "a-b"]], &[&["fetch", "--upload-pack=evil"], &["fetch", "-"]]);
        check_arguments(&["fetch", "-*"], &[&["fetch", "-v"]], &[&["fetch", "v"]]);
    }

    #[test]
    fn a_star_for_a_star_costs_no_more_than_the_product_of_their_lengths() {
        let (pattern, text) = ("*a".repeat(2_000), "a".repeat(2_000));
        assert!(argument_fits(&pattern, &text));
        assert!(!argument_fits(&format!("{pattern}b"), &text));
        // A product of these would be looked at for minutes.
        let (piece, text) = ("a".repeat(300_000), "a".repeat(2_000_000));
        assert!(!argument_fits(&format!("*{piece}b"), &text) && !argument_fits(&format!("*{piece}b*"), &text));
    }

    #[test]
    fn a_program_has_its_variables_and_its_directory() {
        let git =
            ProgramGrant { directory: Some("src".into()), env: Some(strings(&["TOKEN"])), ..ProgramGrant::from("git") };
        let grants = Grants { process: vec![git, "make".into()], env: strings(&["HOME"]), ..Grants::default() };
        let (token, home) = ([("TOKEN".to_owned(), "x".to_owned())], [("HOME".to_owned(), "x".to_owned())]);
        let ask = |program, environment, directory| {
            let command = Command { program, environment, directory, ..Command::default() };
            decide(&grants, &Use::Program(command)).map(|granted| granted.item).map_err(|no| (no.capability, no.reason))
        };
        assert_eq!(ask("git", &token, None), Ok(0));
        assert_eq!(ask("git", &[], Some("src/a")), Ok(0));
        assert_eq!(ask("git", &home, None), Err((Capability::Env, Reason::Variable("HOME"))));
        assert_eq!(ask("git", &[], Some("src/../x")), Err((Capability::Process, Reason::Directory)));
        assert_eq!(ask("git", &[], Some("srcs")), Err((Capability::Process, Reason::Directory)));
        assert_eq!(ask("make", &home, Some("anywhere")), Ok(1));
        assert_eq!(ask("make", &token, None), Err((Capability::Env, Reason::Variable("TOKEN"))));
        assert_eq!(ask("./make", &[], None), Err((Capability::Process, Reason::Unnamed)));
    }

    #[test]
    fn a_directory_is_granted_with_what_is_below_it() {
        let read = FileGrant { path: "data".into(), write: false };
        let grants = Grants { files: vec![read], workspace: true, ..Grants::default() };
        let ask = |path, write| decide(&grants, &Use::Files { path, write }).is_ok();
        assert!(ask("data", false) && ask("data/a", false));
        assert!(!ask("data", true) && !ask("database", false) && !ask("data/../x", false) && !ask("/data", false));
        assert!(decide(&grants, &Use::Whole(Capability::Workspace)).is_ok());
        assert!(decide(&grants, &Use::Whole(Capability::Clock)).is_err());
        let mut found = directories_of(&grants.files, Path::new("data/a/b"));
        assert_eq!(found.next().map(|(_, rest)| rest), Some(Path::new("a/b")));
    }

    #[test]
    fn a_refusal_knows_which_key_took_the_grant_away() {
        let withheld = |grant| Withheld { grant, key: Key::Policy, by: "rule `web`".into() };
        let taken = vec![withheld(Grant::Process("git".into())), withheld(Grant::Http("x.org".into()))];
        let grants = Grants { withheld: taken, ..Grants::default() };
        let denied = decide(&grants, &Use::Http(request("https://x.org"))).expect_err("withheld");
        assert_eq!(denied.withheld.map(|taken| &taken.grant), Some(&Grant::Http("x.org".into())));
        assert_eq!(decide(&grants, &Use::Http(request("https://y.org"))).expect_err("no grant").withheld, None);
        let git = Command { program: "git", ..Command::default() };
        assert!(decide(&grants, &Use::Program(git)).expect_err("withheld").withheld.is_some());
    }

    #[test]
    fn a_grant_is_kept_in_the_form_in_which_it_was_written() {
        let json = r#"{"process":["make",{"program":"git","args":["fetch","*"]}],"http":["a.org",{"host":"b.org","methods":["GET"],"private":true}]}"#;
        let grants: Grants = serde_json::from_str(json).expect("grants");
        assert_eq!(serde_json::to_string(&grants).expect("JSON"), json);
        let texts: Vec<String> = grants.items().map(|grant| grant.to_string()).collect();
        assert_eq!(
            texts,
            [
                r#"process = ["make"]"#,
                r#"process = [{ program = "git", args = ["fetch", "*"] }]"#,
                r#"http = ["a.org"]"#,
                r#"http = [{ host = "b.org", methods = ["GET"], private = true }]"#,
            ]
        );
    }
}
