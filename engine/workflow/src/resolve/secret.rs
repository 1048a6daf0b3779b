//! Secrets: what is declared of them, and what steps are granted of them. Values are none of its business, and neither is
//! whether a source is there: that is seen when the first attempt needs it.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path};

use super::grant::destination;
use crate::capability::HttpGrant;
use crate::diagnostic::{Collector, Diagnostic};
use crate::secret::{SecretGrant, SecretSource};
use crate::spec::{GrantSpec, SecretGrantSpec, SecretSpec, Spanned, Spec};

/// Headers that say how a request travels, and where to: a secret in one of them is none, or changes who reads the rest.
const HEADERS_OF_THE_WAY: &[&str] =
    &["host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"];

/// The sources of what is declared; `None` of what is declared wrongly, and told.
pub(super) fn declared<'a>(spec: &'a Spec, out: &mut Collector) -> HashMap<&'a str, Option<SecretSource>> {
    let secrets = spec.secrets.iter();
    secrets.map(|(name, secret)| (name.get_ref().as_str(), source(name, secret, out))).collect()
}

fn source(name: &Spanned<String>, spec: &SecretSpec, out: &mut Collector) -> Option<SecretSource> {
    let SecretSpec { env, file, command, credential, incomplete } = spec;
    let command_text = command.as_ref().map(|words| {
        let texts: Vec<String> = words.get_ref().iter().map(|word| word.get_ref().clone()).collect();
        Spanned::new(words.span(), texts)
    });
    let mut sources: Vec<(std::ops::Range<usize>, SecretSource)> = [
        env.as_ref().map(|text| (text.span(), SecretSource::Env(text.get_ref().clone()))),
        file.as_ref().map(|text| (text.span(), SecretSource::File(text.get_ref().clone()))),
        command_text.map(|words| (words.span(), SecretSource::Command(words.into_inner()))),
        credential.as_ref().map(|text| (text.span(), SecretSource::Credential(text.get_ref().clone()))),
    ]
    .into_iter()
    .flatten()
    .collect();
    if sources.is_empty() {
        if !incomplete {
            let message = format!("nothing says where the secret `{}` is read from", name.get_ref());
            let found = Diagnostic::error("secret-source", name.span(), message).label("without a source");
            let hint =
                "write `env = \"NAME\"`, `file = \"PATH\"`, `command = [\"PROGRAM\"]` or `credential = \"NAME\"`";
            out.push(found.hint(hint));
        }
        return None;
    }
    if let [(first, one), (second, other), ..] = &sources[..] {
        let message =
            format!("the secret `{}` has two sources, `{}` and `{}`", name.get_ref(), one.word(), other.word());
        let found = Diagnostic::error("secret-source", second.clone(), message).label("one of them too many");
        out.push(found.also(first.clone(), "the other").hint("write two secrets, and grant the one that is meant"));
        return None;
    }
    let (span, source) = sources.remove(0);
    match right(&source) {
        Ok(()) => Some(source),
        Err(reason) => {
            let message = format!("the secret `{}` can't be read from {source}: {reason}", name.get_ref());
            out.push(Diagnostic::error("secret-source", span, message).label("can't be meant"));
            None
        }
    }
}

fn right(source: &SecretSource) -> Result<(), &'static str> {
    let text = |text: &str| match text {
        text if text.contains('\0') => Err("there is no zero byte in it"),
        text if text.contains("${") => Err("a source is fixed text without `${…}`, so that it can be reviewed"),
        _ => Ok(()),
    };
    match source {
        SecretSource::Env(name) if !is_variable(name) => Err("a variable's name has letters, digits and `_`"),
        SecretSource::Env(_) => Ok(()),
        SecretSource::File(path) if path.is_empty() => Err("a path is not empty"),
        SecretSource::File(path) if path.starts_with('~') => Err("`~` means nothing here; write the absolute path"),
        SecretSource::File(path) => text(path),
        SecretSource::Command(words) => match words.first().map(String::as_str) {
            None | Some("") => Err("a command begins with a program"),
            Some(program) if program.contains('/') && !program.starts_with('/') => {
                Err("write a name, which is looked up in `PATH`, or an absolute path")
            }
            Some(_) => words.iter().try_for_each(|word| text(word)),
        },
        SecretSource::Credential(name) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
            Err("a credential's name is that of a file, without a path")
        }
        SecretSource::Credential(name) => text(name),
    }
}

fn is_variable(name: &str) -> bool {
    let right = |(at, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || at > 0 && c.is_ascii_digit();
    !name.is_empty() && name.char_indices().all(right)
}

/// What a step is granted of the secrets that are declared. `http` are its hosts.
pub(super) fn grants(
    spec: &GrantSpec,
    declared: &HashMap<&str, Option<SecretSource>>,
    left_out: impl Fn(&str) -> bool,
    http: &[HttpGrant],
    out: &mut Collector,
) -> Vec<SecretGrant> {
    let mut grants: Vec<SecretGrant> = Vec::new();
    let mut variables: HashSet<&str> = HashSet::new();
    for written in spec.secrets.iter().flat_map(|list| list.get_ref()) {
        let name = written.name.get_ref();
        let source = match declared.get(name.as_str()) {
            Some(source) => source.clone(),
            None if left_out(name) => None,
            None => {
                let hint = out.suggest(name, declared.keys().copied());
                let hint = hint.unwrap_or_else(|| format!("declare it: `[secrets.{name}]` `env = \"NAME\"`"));
                let message = format!("there is no secret `{name}`");
                let found = Diagnostic::error("unknown-secret", written.name.span(), message);
                out.push(found.label("unknown secret").hint(hint));
                None
            }
        };
        let Some(grant) = grant(written, source.clone(), out) else { continue };
        if let Some(host) = &grant.host
            && !http.iter().any(|granted| granted.host == *host || is_host_of(&granted.host, host))
        {
            let span = written.host.as_ref().map_or(written.name.span(), Spanned::span);
            let message = format!("the secret `{name}` may go to `{host}`, and the step may not");
            let found = Diagnostic::error("secret-grant", span, message).label("no request gets there");
            out.push(found.hint(format!("grant the host as well: `http = [\"{host}\"]`")));
        }
        if let Some(variable) = written.env.as_ref().filter(|variable| !variables.insert(variable.get_ref())) {
            let message = format!("two secrets are to be the variable `{}`", variable.get_ref());
            out.push(Diagnostic::error("secret-grant", variable.span(), message).label("which of them?"));
        }
        in_the_open(spec, written, source.as_ref(), out);
        match grants.contains(&grant) {
            true => {
                let message = format!("`{name}` is granted twice");
                out.push(Diagnostic::warning("duplicate", written.name.span(), message).label("says nothing new"));
            }
            false => grants.push(grant),
        }
    }
    grants
}

/// Whether a grant of `http` is about this host with any port, or with those that it has without one.
fn is_host_of(granted: &str, host: &str) -> bool {
    let bare = |text: &str| match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host.to_ascii_lowercase(),
        _ => text.to_ascii_lowercase(),
    };
    bare(granted) == bare(host) && (granted.ends_with(":*") || granted.eq_ignore_ascii_case(host))
}

fn grant(spec: &SecretGrantSpec, source: Option<SecretSource>, out: &mut Collector) -> Option<SecretGrant> {
    let name = spec.name.get_ref();
    let flag = |flag: &Option<Spanned<bool>>| flag.as_ref().is_some_and(|flag| *flag.get_ref());
    let places = [("body", &spec.body), ("query", &spec.query), ("path", &spec.path), ("insecure", &spec.insecure)];
    let grant = SecretGrant {
        name: name.clone(),
        source: source.clone(),
        host: spec.host.as_ref().map(|host| host.get_ref().clone()),
        header: spec.header.as_ref().map(|header| header.get_ref().to_ascii_lowercase()),
        body: flag(&spec.body),
        query: flag(&spec.query),
        path: flag(&spec.path),
        insecure: flag(&spec.insecure),
        reveal: flag(&spec.reveal),
        env: spec.env.as_ref().map(|env| env.get_ref().clone()),
    };
    let before = out.error_count();
    let mut wrong = |span: std::ops::Range<usize>, message: String, label: &str, hint: &str| {
        let found = Diagnostic::error("secret-grant", span, message).label(label);
        out.push(match hint {
            "" => found,
            hint => found.hint(hint),
        });
    };
    if let Some(host) = &spec.host {
        if let Err(reason) = destination(host.get_ref()) {
            wrong(host.span(), format!("`{}` is no destination: {reason}", host.get_ref()), "not a host", "");
        }
        if grant.header.is_none() && !grant.body && !grant.query && !grant.path {
            let message = format!("nothing says where in a request the secret `{name}` may be");
            let hint = "write `header = \"authorization\"`, `body = true`, `query = true` or `path = true`";
            wrong(host.span(), message, "a host without a place", hint);
        }
    } else {
        let header = spec.header.as_ref().map(|header| ("header", header.span()));
        let flags = places.iter().filter_map(|(key, flag)| Some((*key, flag.as_ref()?.span())));
        if let Some((key, span)) = header.into_iter().chain(flags).next() {
            let message = format!("`{key}` is about requests, and no host is named");
            wrong(span, message, "to which host?", "add `host = \"HOST\"`");
        } else if !grant.reveal && grant.env.is_none() && !spec.incomplete {
            let message = format!("the step is granted `{name}`, and nothing says for what");
            let hint = "write `host = \"HOST\", header = \"authorization\"`: only what is sent there has the value; or \
                        `env = \"NAME\"` for native programs, or `reveal = true` for the component";
            wrong(spec.name.span(), message, "a secret without a use", hint);
        }
    }
    if let Some(header) = &spec.header {
        let text = header.get_ref();
        let is_token = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        if text.is_empty() || !text.bytes().all(is_token) {
            wrong(header.span(), format!("`{text}` is no name of a header"), "not a header", "");
        } else if HEADERS_OF_THE_WAY.contains(&text.to_ascii_lowercase().as_str()) {
            wrong(header.span(), format!("the header `{text}` is about the connection"), "can't have a secret", "");
        }
    }
    if let Some(variable) = spec.env.as_ref().filter(|variable| !is_variable(variable.get_ref())) {
        let message = format!("`{}` is no variable's name: it has letters, digits and `_`", variable.get_ref());
        wrong(variable.span(), message, "not a variable", "");
    }
    (out.error_count() == before && source.is_some()).then_some(grant)
}

/// That a step is given the source itself beside the secret: then it has the value in the open.
fn in_the_open(spec: &GrantSpec, written: &SecretGrantSpec, source: Option<&SecretSource>, out: &mut Collector) {
    let told = |span, what: &str, out: &mut Collector| {
        let message = format!("the step is granted {what}, from which the secret `{}` is read", written.name.get_ref());
        let found = Diagnostic::error("secret-grant", span, message).label("has the value in the open");
        out.push(
            found.also(written.name.span(), "granted as a secret").hint("take the one of the two that is not meant"),
        );
    };
    match source {
        Some(SecretSource::Env(name)) => {
            let mut variables = spec.env.iter().flat_map(|list| list.get_ref());
            if let Some(variable) = variables.find(|variable| variable.get_ref() == name) {
                told(variable.span(), &format!("the variable `{name}`"), out);
            }
        }
        Some(SecretSource::File(path)) => {
            let is_plain = |path: &Path| path.components().all(|part| part != Component::ParentDir);
            let file = plain(path);
            let mut files = spec.files.iter().flat_map(|list| list.get_ref());
            if let Some(granted) = files.find(|granted| {
                let folder = plain(granted.path.get_ref());
                is_plain(file)
                    && is_plain(folder)
                    && file.starts_with(folder)
                    && file.is_absolute() == folder.is_absolute()
            }) {
                told(granted.path.span(), &format!("the folder `{}`", granted.path.get_ref()), out);
            }
        }
        Some(SecretSource::Command(_) | SecretSource::Credential(_)) | None => (),
    }
}

/// A path without the `./` before it.
fn plain(path: &str) -> &Path {
    let path = Path::new(path);
    path.strip_prefix(".").unwrap_or(path)
}
