//! `downbeat key`, `sign` and `verify`: makes keys, and signs components with them. What a signature is is known in
//! `signature`, whose counts in policies.

use std::path::Path;

use downbeat_workflow::description::Digest;
use downbeat_workflow::policy::CHANGED;
use serde_json::json;

use crate::arguments::{KeyNew, Sign, Verify};
use crate::exit::{Exit, Fault};
use crate::files::{read_bytes, read_named_text};
use crate::place::Place;
use crate::policy::Guard;
use crate::signature::{self, SIGNED, SecretKey};
use crate::{talk, workflow_file};

/// `downbeat key new`
pub(crate) fn new_key(arguments: &KeyNew) -> Result<Exit, Fault> {
    let path = &arguments.file;
    let written = SecretKey::generate().and_then(|key| Ok((key.public(), key.write(path)?)));
    let (public, beside) = written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Fault::new(Exit::Usage, format!("{} is there already", path.display())).hint(
            "no key is written over another one, as what that signed could not be signed again: name another file, or move \
             that one away",
        ),
        _ => Fault::engine(format!("{}: {error}", path.display())),
    })?;
    talk::say(format_args!("{} signs, and is for you alone; {} is for everybody", path.display(), beside.display()));
    talk::put(&format!("{public}\n"))?;
    Ok(Exit::Success)
}

/// `downbeat sign`
pub(crate) fn sign(arguments: &Sign) -> Result<Exit, Fault> {
    let key = SecretKey::read(&arguments.key)
        .map_err(|error| Fault::refused(format!("{}: {error}", arguments.key.display())))?;
    let component = workflow_file::built_component(&arguments.component)?;
    let digest = digest(&component)?;
    let name = component.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    append(&component, &signature::bundle(&key, &name, &digest, SIGNED, &json!({})))?;
    talk::say(format_args!("{} is signed by {}", component.display(), key.public()));
    talk::put(&format!("{}\n", signature::beside(&component).display()))?;
    Ok(Exit::Success)
}

/// Adds a bundle to those beside a component; one that says the same of it stays alone.
pub(crate) fn append(component: &Path, bundle: &str) -> Result<(), Fault> {
    let path = signature::beside(component);
    let fault = |error: std::io::Error| Fault::engine(format!("{}: {error}", path.display()));
    let before = match path.try_exists().map_err(fault)? {
        true => read_named_text(&path).map_err(|error| Fault::engine(format!("{}: {error}", path.display())))?,
        false => String::new(),
    };
    let lines: Vec<&str> = before.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.contains(&bundle) {
        return Ok(());
    }
    // As many as are looked at. The others are of what the component was long ago.
    let latest = &lines[lines.len().saturating_sub(signature::STATEMENTS_MAX - 1)..];
    let before: String = latest.iter().map(|line| format!("{line}\n")).collect();
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    std::fs::write(&aside, format!("{before}{bundle}\n")).and_then(|()| std::fs::rename(&aside, &path)).map_err(fault)
}

fn digest(component: &Path) -> Result<Digest, Fault> {
    let bytes = read_bytes(component).map_err(|error| Fault::refused(format!("{}: {error}", component.display())))?;
    Ok(Digest::of(&bytes))
}

/// `downbeat verify`
pub(crate) fn verify(place: &Place, arguments: &Verify) -> Result<Exit, Fault> {
    let component = workflow_file::built_component(&arguments.component)?;
    let digest = digest(&component)?;
    let mut keys = Vec::new();
    for key in &arguments.key {
        let read = signature::public_key(key).map_err(|error| Fault::refused(format!("{key}: {error}")))?;
        keys.push((key.clone(), read));
    }
    if keys.is_empty() {
        keys = Guard::of(place)?.signers();
    }
    if keys.is_empty() {
        let fault =
            Fault::new(Exit::Usage, "there is no key to verify with: no `--key`, and no policy that names a signer");
        return Err(fault.hint("name one: `--key release.key.pub`"));
    }
    let mut said = signature::said_of(&component, &digest, keys.iter().map(|(_, key)| key.as_str()));
    said.retain(signature::Said::vouches);
    for said in &said {
        let name = keys.iter().find(|(_, key)| *key == said.key).map_or("", |(name, _)| name.as_str());
        talk::put(&format!("{digest} signed by {name} ({})\n", said.kind_told()))?;
    }
    let known: Vec<&str> = keys.iter().map(|(_, key)| key.as_str()).collect();
    let outdated = signature::outdated(&component, &digest, &known);
    if let (true, Some(was)) = (said.is_empty(), outdated.first()) {
        let name = keys.iter().find(|(_, key)| *key == was.key).map_or("", |(name, _)| name.as_str());
        let message = format!(
            "{} has changed since {name} signed it: the signature is of {}, and it is {digest}",
            component.display(),
            was.digest
        );
        return Err(Fault::refused(message).hint(CHANGED));
    }
    if said.is_empty() {
        let named = signature::named(&component);
        let hint = match named.as_slice() {
            [] => format!("there is no signature in {}", signature::beside(&component).display()),
            named => {
                format!("{} says that it was signed by {}", signature::beside(&component).display(), named.join(", "))
            }
        };
        let message = format!("{} is not signed by any of these keys", component.display());
        return Err(Fault::refused(message).hint(hint));
    }
    Ok(Exit::Success)
}
