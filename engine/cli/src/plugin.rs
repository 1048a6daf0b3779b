//! `downbeat plugin …`: builds components and shows what they are.

use downbeat_sandbox::Plugin;

use crate::arguments::{Language, PluginBuild, PluginInspect, PluginToolchain};
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::talk;
use crate::units;
use crate::workflow_file::{build as build_plugin, component_path, load_component};

/// `downbeat plugin build`
pub(crate) fn build(arguments: &PluginBuild) -> Result<Exit, Fault> {
    let built = build_plugin(&arguments.folder).map_err(Fault::refused)?;
    let word = if built.rebuilt { "built" } else { "fresh" };
    let took = units::duration(built.took.as_millis() as u64);
    talk::say(format_args!("{word} in {took}, {}", built.digest));
    talk::put(&format!("{}\n", built.component.display()))?;
    Ok(Exit::Success)
}

/// `downbeat plugin inspect`
pub(crate) fn inspect(place: &Place, arguments: &PluginInspect) -> Result<Exit, Fault> {
    let sandbox = place.sandbox()?;
    let path = component_path(&arguments.plugin).map_err(Fault::refused)?;
    let plugin = load_component(&path, &sandbox).map_err(Fault::refused)?;
    match arguments.json {
        true => talk::put_json(&as_json(&plugin))?,
        false => talk::put(&page(&plugin))?,
    }
    Ok(Exit::Success)
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

fn as_json(plugin: &Plugin) -> String {
    let component = plugin.component();
    let object = serde_json::json!({
        "digest": component.digest.as_str(),
        "size": plugin.size(),
        "description": component.description,
        "imports": plugin.imports(),
        "exports": plugin.exports(),
    });
    serde_json::to_string_pretty(&object).expect("a value is valid JSON")
}

fn page(plugin: &Plugin) -> String {
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
    for (name, schema) in [("input", &described.input_schema), ("output", &described.output_schema)] {
        let text = serde_json::to_string_pretty(&schema.value()).expect("a value is valid JSON");
        let _ = write!(page, "\n{name} schema\n{text}\n");
    }
    page
}
