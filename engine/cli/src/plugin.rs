//! `downbeat plugin …`: builds components and shows what they are.

use std::path::Path;

use downbeat_builder::{Crate, Kind, ListFault, crates_of};
use downbeat_sandbox::Plugin;
use downbeat_workflow::description::Digest;
use downbeat_workflow::text::visible;
use serde_json::{Value, json};

use crate::arguments::{Language, PluginBuild, PluginInspect, PluginToolchain};
use crate::exit::{Exit, Fault};
use crate::files::read_bytes;
use crate::place::Place;
use crate::policy::Guard;
use crate::signature::{self, PROVENANCE, SIGNED, Said, SecretKey};
use crate::table::table;
use crate::units;
use crate::workflow_file::{build as build_plugin, load_component, named_component};
use crate::{lock, sign, talk};

/// `downbeat plugin build`
pub(crate) fn build(arguments: &PluginBuild) -> Result<Exit, Fault> {
    // Before, so that what is attested was there when the build began.
    let source = arguments.key.as_ref().and_then(|_| lock::source_digest(&arguments.folder));
    let built = build_plugin(&arguments.folder).map_err(Fault::refused)?;
    let word = if built.rebuilt { "built" } else { "fresh" };
    let took = units::duration(built.took.as_millis() as u64);
    talk::say(format_args!("{word} in {took}, {}", built.digest));
    if let Some(key) = &arguments.key {
        attest(&arguments.folder, &built.component, source.as_ref(), key)?;
    }
    talk::put(&format!("{}\n", built.component.display()))?;
    Ok(Exit::Success)
}

/// Signs a component, and says of it what it was built from, by what.
fn attest(folder: &Path, component: &Path, source: Option<&Digest>, key: &Path) -> Result<(), Fault> {
    let key = SecretKey::read(key).map_err(|error| Fault::refused(format!("{}: {error}", key.display())))?;
    let bytes = read_bytes(component).map_err(|error| Fault::refused(format!("{}: {error}", component.display())))?;
    let digest = Digest::of(&bytes);
    let name = component.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let folder_name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut materials = Vec::new();
    if source.is_some() && source == lock::source_digest(&folder).as_ref() {
        materials
            .extend(source.map(|digest| json!({ "name": folder_name, "digest": { "downbeatSource": digest.hex() } })));
    }
    // What pins the dependencies: in the folder, or in that of the workspace around it.
    let pins = ["Cargo.lock", "package-lock.json"].into_iter().filter_map(|file| {
        let path = folder.ancestors().take(3).map(|folder| folder.join(file)).find(|path| path.is_file())?;
        Some(json!({ "name": file, "digest": { "sha256": Digest::of(&std::fs::read(path).ok()?).hex() } }))
    });
    materials.extend(pins);
    let version = env!("CARGO_PKG_VERSION");
    let predicate = json!({
        "buildDefinition": {
            "buildType": "downbeat plugin build",
            "externalParameters": { "source": folder_name },
            "resolvedDependencies": materials,
        },
        "runDetails": { "builder": { "id": format!("downbeat {version}"), "version": { "downbeat": version } } },
    });
    sign::append(component, &signature::bundle(&key, &name, &digest, SIGNED, &json!({})))?;
    sign::append(component, &signature::bundle(&key, &name, &digest, PROVENANCE, &predicate))?;
    talk::say(format_args!("signed by {}", key.public()));
    Ok(())
}

/// What is said of a component by those who have signed it, whoever they are: a line each.
fn vouched(path: &Path, digest: &Digest) -> Vec<(&'static str, String)> {
    let keys = signature::named(path);
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let said = signature::said_of(path, digest, keys.iter().copied());
    let lines = said.into_iter().map(|said| match said.kind.as_str() {
        PROVENANCE => {
            let (built, by) = (&said.predicate["buildDefinition"], &said.predicate["runDetails"]["builder"]["id"]);
            let materials = built["resolvedDependencies"].as_array().into_iter().flatten();
            let material = |material: &Value| {
                let digest = material["digest"].as_object().and_then(|digests| digests.values().next());
                let digest = digest.and_then(Value::as_str).and_then(|digest| digest.get(..12)).unwrap_or_default();
                format!("{} {digest}", material["name"].as_str().unwrap_or_default())
            };
            let materials: Vec<String> = materials.map(material).collect();
            let text = format!(
                "by {} of {}, says {} (SLSA provenance v1)",
                by.as_str().unwrap_or_default(),
                materials.join(", "),
                said.key
            );
            ("built", visible(&text, false).into_owned())
        }
        SIGNED => ("signed", format!("by {}", said.key)),
        kind => ("attested", visible(&format!("{kind}, by {}", said.key), false).into_owned()),
    });
    let changed = signature::outdated(path, digest, &keys).into_iter();
    let changed = changed.map(|was| ("signed", format!("as {} by {}, and changed since", was.digest.short(), was.key)));
    lines.chain(changed).collect()
}

/// `downbeat plugin inspect`
pub(crate) fn inspect(place: &Place, arguments: &PluginInspect) -> Result<Exit, Fault> {
    let sandbox = place.sandbox()?;
    if arguments.plugin.is_dir() {
        let refused = |reason: String| {
            let (message, hint) = reason.split_once('\n').unwrap_or((&reason, ""));
            let fault = Fault::new(Exit::Forbidden, format!("{}: {message}", arguments.plugin.display()));
            if hint.is_empty() { fault } else { fault.hint(hint) }
        };
        Guard::of_looking(place)?.before_building_alone(&arguments.plugin).map_err(refused)?;
    }
    let path = named_component(&arguments.plugin)?;
    let plugin = load_component(&path, &sandbox).map_err(Fault::refused)?;
    let bytes = read_bytes(&path).map_err(|error| Fault::refused(format!("{}: {error}", path.display())))?;
    if Digest::of(&bytes) != plugin.component().digest {
        return Err(Fault::refused(format!("{} was changed meanwhile", path.display())));
    }
    let crates = crates_of(&bytes);
    match arguments.json {
        true => talk::put_json(&as_json(&plugin, &path, &crates))?,
        false => talk::put(&page(&plugin, &path, &crates, arguments.crates))?,
    }
    Ok(Exit::Success)
}

/// The crates that a component says it was compiled from.
type Crates = Result<Option<Vec<Crate>>, ListFault>;

/// How many crates there are, and from where, in a line.
fn crates_in_a_line(crates: &Crates) -> String {
    match crates {
        Err(fault) => format!("unknown, as {fault}"),
        Ok(None) => "unknown, as it has no list of them".to_owned(),
        Ok(Some(crates)) => {
            let in_it = crates.iter().filter(|one| one.kind == Kind::Runtime).count();
            let public = crates.iter().filter(|one| one.is_of_crates_io()).count();
            format!("{in_it} in it and {} to build it, {public} of them of crates.io", crates.len() - in_it)
        }
    }
}

/// `downbeat plugin toolchain`
pub(crate) fn toolchain(arguments: &PluginToolchain) -> Result<Exit, Fault> {
    let mut talk = |line: &str| talk::say(line);
    match arguments.language {
        Language::Rust => {
            let route = downbeat_builder::install_toolchain(&mut talk).map_err(Fault::engine)?;
            talk::say(format_args!("plugins can be built: {route}"));
        }
        Language::Javascript => {
            let route = downbeat_builder::install_node(&mut talk).map_err(Fault::engine)?;
            talk::say(format_args!("plugins in JavaScript can be built: {route}"));
        }
    }
    Ok(Exit::Success)
}

fn as_json(plugin: &Plugin, path: &Path, crates: &Crates) -> String {
    let component = plugin.component();
    let mut object = serde_json::json!({
        "digest": component.digest.as_str(),
        "size": plugin.size(),
        "description": component.description,
        "imports": plugin.imports(),
        "exports": plugin.exports(),
    });
    match crates {
        Ok(crates) => object["crates"] = json!(crates),
        Err(fault) => object["crates-fault"] = json!(fault.to_string()),
    }
    let keys = signature::named(path);
    let said = signature::said_of(path, &component.digest, keys.iter().map(String::as_str));
    if !said.is_empty() {
        let statement = |said: &Said| json!({ "key": said.key, "kind": said.kind, "predicate": said.predicate });
        object["statements"] = said.iter().map(statement).collect();
    }
    serde_json::to_string_pretty(&object).expect("a value is valid JSON")
}

fn page(plugin: &Plugin, path: &Path, crates: &Crates, list_crates: bool) -> String {
    use std::fmt::Write as _;
    let component = plugin.component();
    let described = &component.description;
    let mut page = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(page, "{key:10}{value}");
    };
    line("name", &described.name);
    line("version", &described.version);
    line("summary", &described.summary);
    line("digest", component.digest.as_str());
    line("size", &units::size(plugin.size()));
    for (key, said) in vouched(path, &component.digest) {
        line(key, &said);
    }
    line("crates", &crates_in_a_line(crates));
    for (index, export) in plugin.exports().iter().enumerate() {
        line(if index == 0 { "exports" } else { "" }, export);
    }
    for (index, import) in plugin.imports().iter().enumerate() {
        line(if index == 0 { "imports" } else { "" }, import);
    }
    if described.wants.is_empty() {
        line("wants", "nothing");
    }
    for (index, want) in described.wants.iter().enumerate() {
        line(if index == 0 { "wants" } else { "" }, &format!("{}: {}", want.capability, want.reason));
    }
    if let (true, Ok(Some(crates))) = (list_crates, crates) {
        let row = |one: &Crate| {
            let kind = if one.kind == Kind::Build { "build" } else { "runtime" };
            let cells = [one.name.as_str(), &one.version, &one.source, kind];
            cells.map(|cell| visible(cell, false).into_owned()).to_vec()
        };
        let rows: Vec<Vec<String>> = crates.iter().map(row).collect();
        let _ = write!(page, "\n{}", table(&["CRATE", "VERSION", "SOURCE", "KIND"], &rows));
    }
    for (name, schema) in [("input", &described.input_schema), ("output", &described.output_schema)] {
        let text = serde_json::to_string_pretty(&schema.value()).expect("a value is valid JSON");
        let _ = write!(page, "\n{name} schema\n{text}\n");
    }
    page
}
