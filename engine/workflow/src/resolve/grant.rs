//! Grants: what a step's author lets it do, held against what its component wants.
//!
//! What is granted but not wanted is withheld; what is wanted but not granted is refused when the guest asks.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::capability::{Capability, FileGrant, Grant, Grants, HttpGrant, Key, ProgramGrant, Withheld, quoted};
use crate::description::{Component, Digest, Want};
use crate::diagnostic::{Collector, Diagnostic};
use crate::permission::cover::covers;
use crate::spec::{GrantSpec, Spanned};

/// Capabilities without which a component that wants them is hardly of use. The others have a sensible absence (a fixed
/// clock, no variables), and a warning at every step that leaves them out would be noise.
const ESSENTIAL: &[&str] = &["process", "http"];

/// The grants that remain. `at` is where the step stands, for what is not granted at all.
pub(super) fn grants(spec: &GrantSpec, component: Option<&Component>, at: Range<usize>, out: &mut Collector) -> Grants {
    let granted: Vec<(&str, Range<usize>, bool)> = [
        spec.process.as_ref().map(|list| ("process", list.span(), !list.get_ref().is_empty())),
        spec.files.as_ref().map(|list| ("files", list.span(), !list.get_ref().is_empty())),
        spec.http.as_ref().map(|list| ("http", list.span(), !list.get_ref().is_empty())),
        spec.env.as_ref().map(|list| ("env", list.span(), !list.get_ref().is_empty())),
        spec.clock.as_ref().map(|flag| ("clock", flag.span(), *flag.get_ref())),
        spec.random.as_ref().map(|flag| ("random", flag.span(), *flag.get_ref())),
        spec.artifacts.as_ref().map(|flag| ("artifacts", flag.span(), *flag.get_ref())),
        spec.workspace.as_ref().map(|flag| ("workspace", flag.span(), *flag.get_ref())),
    ]
    .into_iter()
    .flatten()
    .collect();
    let wants = |capability: &str| {
        component.is_none_or(|component| component.description.wants.iter().any(|want| want.kind() == capability))
    };
    for (capability, span, _) in granted.iter().filter(|(capability, _, given)| *given && !wants(capability)) {
        let message = format!("the component does not want `{capability}`, so it is not given");
        out.push(Diagnostic::warning("unwanted-grant", span.clone(), message).label("has no effect"));
    }
    for want in component.iter().flat_map(|component| &component.description.wants) {
        // A grant that is written, if only as an empty list, is a decision.
        let written = granted.iter().any(|(capability, ..)| *capability == want.kind());
        if ESSENTIAL.contains(&want.kind()) && !written {
            let message = format!("the component wants `{}` and is not granted it: {}", want.capability, want.reason);
            let line = match (want.kind(), want.item()) {
                (kind, Some(item)) => format!("{kind} = [{}]", quoted(item)),
                ("process", None) => "process = [\"PROGRAM\"]".to_owned(),
                _ => "http = [\"HOST\"]".to_owned(),
            };
            let hint = match granted.is_empty() {
                true => format!("add `grant = {{ {line} }}`"),
                false => format!("add `{line}` to its `grant`"),
            };
            out.push(Diagnostic::warning("not-granted", at.clone(), message).label("will be refused").hint(hint));
        }
    }
    let granted = Grants {
        process: programs(spec, out).into_iter().filter(|_| wants("process")).collect(),
        files: files(spec, out).into_iter().filter(|_| wants("files")).collect(),
        http: hosts(spec, out).into_iter().filter(|_| wants("http")).collect(),
        env: texts(wants("env"), &spec.env, out, variable),
        clock: flag(&spec.clock) && wants("clock"),
        random: flag(&spec.random) && wants("random"),
        artifacts: flag(&spec.artifacts) && wants("artifacts"),
        workspace: flag(&spec.workspace) && wants("workspace"),
        require: Vec::new(),
        withheld: Vec::new(),
        forbidden: Vec::new(),
        led: std::collections::BTreeMap::new(),
        allowed_by: Vec::new(),
        secrets: Vec::new(), // judged once the hosts are known: `secret`
    };
    match component {
        Some(component) => narrowed(granted, &component.description.wants, at, out),
        None => granted,
    }
}

/// What is left of grants where a component wants single items of a kind and not the kind as a whole.
fn narrowed(mut grants: Grants, wants: &[Want], at: Range<usize>, out: &mut Collector) -> Grants {
    let mut taken = Vec::new();
    for kind in [Capability::Process, Capability::Files, Capability::Http, Capability::Env] {
        let of_kind = || wants.iter().filter(|want| want.kind() == kind.word());
        if of_kind().any(|want| want.item().is_none()) {
            continue;
        }
        let wanted: Vec<Grant> = of_kind().filter_map(|want| Some(wanted(kind, want.item()?))).collect();
        let of_it = grants.items().filter(|grant| grant.capability() == kind);
        taken.extend(of_it.filter(|grant| !wanted.iter().any(|wanted| covers(wanted, grant))));
    }
    for grant in taken {
        let message = format!("the component does not want `{grant}`, so it is not given");
        out.push(Diagnostic::warning("unwanted-grant", at.clone(), message).label("has no effect"));
        grants.take(&grant);
        grants.withheld.push(Withheld {
            grant,
            key: Key::Component,
            by: "the component, which does not want it".into(),
        });
    }
    grants
}

/// An item that a component wants, as the widest grant that has nothing else: it does not say how it would be used.
fn wanted(kind: Capability, item: &str) -> Grant {
    match kind {
        Capability::Process => {
            Grant::Process(ProgramGrant { network: true, daemons: true, read: vec!["/".into()], ..item.into() })
        }
        Capability::Files => Grant::Files(FileGrant { path: item.into(), write: true }),
        Capability::Http => Grant::Http(HttpGrant { private: true, ..item.into() }),
        _ => Grant::Env(item.into()),
    }
}

fn programs(spec: &GrantSpec, out: &mut Collector) -> Vec<ProgramGrant> {
    let mut programs: Vec<ProgramGrant> = Vec::new();
    for written in spec.process.iter().flat_map(|list| list.get_ref()) {
        let before = out.error_count();
        let mut right = |text: &Spanned<String>, check: &dyn Fn(&str) -> Result<(), &'static str>| {
            if let Err(reason) = no_hole(text.get_ref()).and_then(|()| check(text.get_ref())) {
                let message = format!("`{}` can't be granted: {reason}", text.get_ref());
                out.push(Diagnostic::error("grant", text.span(), message));
            }
            text.get_ref().clone()
        };
        let mut list = |list: &Option<Spanned<Vec<Spanned<String>>>>,
                        check: &dyn Fn(&str) -> Result<(), &'static str>| {
            let list = list.as_ref()?.get_ref();
            Some(list.iter().map(|text| right(text, check)).collect::<Vec<String>>())
        };
        let args = list(&written.args, &argument);
        let env = list(&written.env, &variable);
        let read = list(&written.read, &beyond).unwrap_or_default();
        let grant = ProgramGrant {
            program: right(&written.program, &program),
            args,
            env,
            directory: written.directory.as_ref().map(|text| right(text, &directory)),
            digest: written.digest.as_ref().map(|text| right(text, &digest)),
            network: written.network,
            daemons: written.daemons,
            read,
        };
        if out.error_count() > before {
            continue;
        }
        if programs.contains(&grant) {
            let message = format!("`{}` is granted twice", grant.program);
            out.push(Diagnostic::warning("duplicate", written.program.span(), message));
            continue;
        }
        programs.push(grant);
    }
    programs
}

fn hosts(spec: &GrantSpec, out: &mut Collector) -> Vec<HttpGrant> {
    let mut hosts: Vec<HttpGrant> = Vec::new();
    for written in spec.http.iter().flat_map(|list| list.get_ref()) {
        let before = out.error_count();
        let mut right = |text: &Spanned<String>, check: &dyn Fn(&str) -> Result<(), &'static str>| {
            if let Err(reason) = no_hole(text.get_ref()).and_then(|()| check(text.get_ref())) {
                let message = format!("`{}` can't be granted: {reason}", text.get_ref());
                out.push(Diagnostic::error("grant", text.span(), message));
            }
            text.get_ref().clone()
        };
        let methods = written.methods.as_ref();
        let grant = HttpGrant {
            host: right(&written.host, &destination),
            methods: methods.map(|list| list.get_ref().iter().map(|text| right(text, &method)).collect()),
            path: written.path.as_ref().map(|text| right(text, &path)),
            private: written.private,
        };
        if out.error_count() > before {
            continue;
        }
        if hosts.contains(&grant) {
            let message = format!("`{}` is granted twice", grant.host);
            out.push(Diagnostic::warning("duplicate", written.host.span(), message));
            continue;
        }
        hosts.push(grant);
    }
    hosts
}

fn program(program: &str) -> Result<(), &'static str> {
    match program {
        "" => Err("a program has a name"),
        program if program.contains('\0') => Err("a program's name has no zero byte"),
        // A relative path would be looked up where the guest may write.
        program if program.contains('/') && !program.starts_with('/') => {
            Err("write a name, which is looked up in `PATH`, or an absolute path")
        }
        program if program.split('/').any(|part| part == "." || part == "..") => {
            Err("a path is written without `.` and `..`")
        }
        _ => Ok(()),
    }
}

fn argument(pattern: &str) -> Result<(), &'static str> {
    if pattern.contains('\0') { Err("an argument has no zero byte") } else { Ok(()) }
}

fn directory(path: &str) -> Result<(), &'static str> {
    match path {
        "" => Err("a path is not empty; the run's own directory is `/workspace`"),
        path if path.contains('\0') => Err("a path has no zero byte"),
        path if path.split('/').any(|part| part == "..") => Err("a directory is written without `..`"),
        _ => Ok(()),
    }
}

/// What a program may read beyond the system's own.
fn beyond(path: &str) -> Result<(), &'static str> {
    match path {
        "" => Err("a path is not empty"),
        path if path.contains('\0') => Err("a path has no zero byte"),
        path if path.split('/').any(|part| part == "..") => Err("a path is written without `..`"),
        path if path.starts_with('~') && path != "~" && !path.starts_with("~/") => {
            Err("of home directories, `~/` is known")
        }
        _ => Ok(()),
    }
}

fn digest(text: &str) -> Result<(), &'static str> {
    match Digest::parse(text) {
        Some(_) => Ok(()),
        None => Err("a digest is `sha256:` and 64 small hexadecimal digits"),
    }
}

fn variable(name: &str) -> Result<(), &'static str> {
    let right = |(at, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || at > 0 && c.is_ascii_digit();
    match !name.is_empty() && name.char_indices().all(right) {
        true => Ok(()),
        false => Err("an environment variable's name has letters, digits and `_`, not a digit first"),
    }
}

fn method(method: &str) -> Result<(), &'static str> {
    match !method.is_empty() && method.bytes().all(|c| c.is_ascii_uppercase() || c == b'-') {
        true => Ok(()),
        false => Err("a method is written in capitals: `GET`"),
    }
}

/// A prefix has to say where it leads, as the requests that it is to allow have to.
fn path(path: &str) -> Result<(), &'static str> {
    match path {
        path if !path.starts_with('/') => Err("a path begins with `/`"),
        path if path.contains(['?', '#']) => Err("a path has no query"),
        path if path.contains(['%', '\\', ';']) || path.split('/').any(|part| part == "." || part == "..") => {
            Err("a path is written plainly, without `.`, `..`, `%`, `;` and `\\`")
        }
        _ => Ok(()),
    }
}

fn flag(flag: &Option<Spanned<bool>>) -> bool {
    flag.as_ref().is_some_and(|flag| *flag.get_ref())
}

fn texts(
    wanted: bool,
    list: &Option<Spanned<Vec<Spanned<String>>>>,
    out: &mut Collector,
    check: impl Fn(&str) -> Result<(), &'static str>,
) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    let mut known: HashSet<&str> = HashSet::new();
    for item in list.iter().flat_map(|list| list.get_ref()) {
        let text = item.get_ref();
        if let Err(reason) = no_hole(text).and_then(|()| check(text)) {
            out.push(Diagnostic::error("grant", item.span(), format!("`{text}` can't be granted: {reason}")));
        } else if !known.insert(text) {
            out.push(Diagnostic::warning("duplicate", item.span(), format!("`{text}` is granted twice")));
        } else {
            texts.push(text.clone());
        }
    }
    texts.retain(|_| wanted);
    texts
}

fn files(spec: &GrantSpec, out: &mut Collector) -> Vec<FileGrant> {
    let mut files: Vec<FileGrant> = Vec::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for file in spec.files.iter().flat_map(|files| files.get_ref()) {
        let path = file.path.get_ref();
        let reason = match path.as_str() {
            "" => Err("a path is not empty; the workflow's folder is `.`"),
            path if path.contains('\0') => Err("a path has no zero byte"),
            path if path.starts_with('~') => Err("`~` means nothing here; write the absolute path"),
            path => no_hole(path),
        };
        if let Err(reason) = reason {
            out.push(Diagnostic::error("grant", file.path.span(), format!("`{path}` can't be granted: {reason}")));
        } else if let Some(index) = known.get(path.as_str()) {
            files[*index].write |= file.write;
            out.push(Diagnostic::warning("duplicate", file.path.span(), format!("`{path}` is granted twice")));
        } else {
            known.insert(path, files.len());
            files.push(FileGrant { path: path.clone(), write: file.write });
        }
    }
    files
}

fn no_hole(text: &str) -> Result<(), &'static str> {
    match text.contains("${") {
        true => Err("grants are fixed text without `${…}`, so that they can be reviewed"),
        false => Ok(()),
    }
}

/// `host`, `host:port`, `host:*`; IPv6 addresses in brackets.
pub(super) fn destination(text: &str) -> Result<(), &'static str> {
    if text.contains("://") || text.contains('/') {
        return Err("write the host alone, or `host:port`, without a scheme and a path");
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("the address has no `]`")?;
            if address.parse::<core::net::Ipv6Addr>().is_err() {
                return Err("what is in brackets is an IPv6 address");
            }
            let port = match port {
                "" => None,
                port => Some(port.strip_prefix(':').ok_or("after the address comes `:` and a port")?),
            };
            ("address", port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if port.is_some_and(|port| port.contains(':')) {
        return Err("an IPv6 address is written in brackets, `[::1]:8080`");
    }
    if host.ends_with('.') {
        return Err("a host is written without a dot at its end");
    }
    if host.contains('*') {
        return Err("a host is named in full; only a port may be `*`");
    }
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || host.len() > 253 || !host.chars().all(right) || host.starts_with(['.', '-']) {
        return Err("that is no host name");
    }
    // Resolvers take `127.1`, `0x7f.1` and `2130706433` for addresses, and would reach what is named otherwise elsewhere.
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_hexadecimal = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let is_number = last.chars().all(|c| c.is_ascii_digit())
        || last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")).is_some_and(is_hexadecimal);
    if is_number && host.parse::<core::net::Ipv4Addr>().is_err() {
        return Err("an IPv4 address is written as four decimal numbers, `127.0.0.1`");
    }
    match port {
        None | Some("*") => Ok(()),
        Some(port) => match port.parse::<u16>() {
            Ok(1..) if !port.starts_with('+') => Ok(()),
            _ => Err("a port is a number from 1 to 65535, or `*`"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::destination;

    #[test]
    fn destinations_are_hosts_with_or_without_a_port() {
        for right in ["api.example.org", "127.0.0.1:*", "localhost:8080", "[::1]:8080", "[::1]", "[fe80::1]:*"] {
            assert_eq!(destination(right), Ok(()), "{right}");
        }
        for wrong in [
            "",
            "https://example.org",
            "example.org/path",
            "*.example.org",
            "*",
            "host:",
            "host:0",
            "host:65536",
            "host:+8",
            "::1",
            "[::1",
            "[::1]8",
            "[nonsense]",
            "a b",
            "-a",
            "ü.example",
            "example.org.",
            "example.org.:443",
            "2130706433:80",
            "0x7f.1",
            "127.1",
            "127.0.0.0x1",
            "0177.0.0.1",
            "1.2.3.4.5",
        ] {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
    }
}
