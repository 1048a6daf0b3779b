//! Grants: what a step's author lets it do, held against what its component wants.
//!
//! What is granted but not wanted is withheld; what is wanted but not granted is refused when the guest asks.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::capability::{FileGrant, Grants};
use crate::description::Component;
use crate::diagnostic::{Collector, Diagnostic};
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
        component.is_none_or(|component| component.description.wants.iter().any(|want| want.capability == capability))
    };
    for (capability, span, _) in granted.iter().filter(|(capability, _, given)| *given && !wants(capability)) {
        let message = format!("the component does not want `{capability}`, so it is not given");
        out.push(Diagnostic::warning("unwanted-grant", span.clone(), message).label("has no effect"));
    }
    for want in component.iter().flat_map(|component| &component.description.wants) {
        // A grant that is written, if only as an empty list, is a decision.
        let written = granted.iter().any(|(capability, ..)| *capability == want.capability);
        if ESSENTIAL.contains(&want.capability.as_str()) && !written {
            let message = format!("the component wants `{}` and is not granted it: {}", want.capability, want.reason);
            let line = match want.capability.as_str() {
                "process" => "process = [\"PROGRAM\"]",
                _ => "http = [\"HOST\"]",
            };
            let hint = match granted.is_empty() {
                true => format!("add `grant = {{ {line} }}`"),
                false => format!("add `{line}` to its `grant`"),
            };
            out.push(Diagnostic::warning("not-granted", at.clone(), message).label("will be refused").hint(hint));
        }
    }
    Grants {
        process: texts(wants("process"), &spec.process, out, |program| match program {
            "" => Err("a program has a name"),
            program if program.contains('\0') => Err("a program's name has no zero byte"),
            // A relative path would be looked up where the guest may write.
            program if program.contains('/') && !program.starts_with('/') => {
                Err("write a name, which is looked up in `PATH`, or an absolute path")
            }
            _ => Ok(()),
        })
        .iter()
        .map(|program| program.as_str().into())
        .collect(),
        files: files(spec, out).into_iter().filter(|_| wants("files")).collect(),
        http: texts(wants("http"), &spec.http, out, destination).iter().map(|host| host.as_str().into()).collect(),
        env: texts(wants("env"), &spec.env, out, |name| {
            let right = |(at, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || at > 0 && c.is_ascii_digit();
            match !name.is_empty() && name.char_indices().all(right) {
                true => Ok(()),
                false => Err("an environment variable's name has letters, digits and `_`, not a digit first"),
            }
        }),
        clock: flag(&spec.clock) && wants("clock"),
        random: flag(&spec.random) && wants("random"),
        artifacts: flag(&spec.artifacts) && wants("artifacts"),
        workspace: flag(&spec.workspace) && wants("workspace"),
        require: Vec::new(),
        withheld: Vec::new(),
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
fn destination(text: &str) -> Result<(), &'static str> {
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
    if host.contains('*') {
        return Err("a host is named in full; only a port may be `*`");
    }
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || host.len() > 253 || !host.chars().all(right) || host.starts_with(['.', '-']) {
        return Err("that is no host name");
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
        ] {
            assert!(destination(wrong).is_err(), "{wrong}");
        }
    }
}
