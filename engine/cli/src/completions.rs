//! `downbeat completions` and `downbeat man`: what shells and manual readers know about the command line, made from its
//! one definition.

use std::io;
use std::path::Path;

use clap::{Command, CommandFactory as _};

use crate::arguments::{CommandLine, Completions, Man};
use crate::exit::{Exit, Fault};
use crate::talk;

/// `downbeat completions`
pub(crate) fn completions(arguments: &Completions) -> Result<Exit, Fault> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut CommandLine::command(), "downbeat", &mut script);
    talk::put(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}

/// `downbeat man`
pub(crate) fn man(arguments: &Man) -> Result<Exit, Fault> {
    // Without the command `help`, which has no manual of its own.
    let mut command = CommandLine::command().disable_help_subcommand(true);
    command.build();
    let Some(folder) = &arguments.dir else {
        talk::put(&page(&command).map_err(Fault::engine)?)?;
        return Ok(Exit::Success);
    };
    let unwritable = |error| Fault::engine(format!("{}: the pages can't be written: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    write_pages(&command, folder).map_err(unwritable)?;
    talk::say(format_args!("manual pages are in {}", folder.display()));
    Ok(Exit::Success)
}

/// The page of a command, and those of all commands below it.
fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    std::fs::write(folder.join(format!("{name}.1")), page(command)?)?;
    command.get_subcommands().try_for_each(|command| write_pages(command, folder))
}

/// A manual page: the paragraphs of a command's help are its description, and what has a heading there has one here.
fn page(command: &Command) -> io::Result<String> {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage).to_owned();
    let version = command.get_version().unwrap_or_default();
    let man = clap_mangen::Man::new(command.clone().override_usage(usage))
        .source(format!("downbeat {version}"))
        .manual("Downbeat");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let (mut description, mut sections, mut is_titled) = (String::new(), String::new(), false);
    for line in help.lines() {
        let title = TITLES.iter().find(|(heading, _)| *heading == line);
        is_titled |= title.is_some();
        let part = if is_titled { &mut sections } else { &mut description };
        match (title, line.strip_prefix("  ")) {
            (Some((_, title)), _) => part.push_str(&format!(".SH \"{title}\"\n")),
            (None, Some(indented)) => part.push_str(&format!(".nf\n{}\n.fi\n", escaped(indented))),
            (None, None) if line.is_empty() => part.push_str(".PP\n"),
            (None, None) => part.push_str(&format!("{}\n", escaped(line))),
        }
    }
    if !description.is_empty() {
        page.extend_from_slice(format!(".PP\n{description}").as_bytes());
    }
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend_from_slice(sections.as_bytes());
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The headings that helps have, and those of their sections in a manual.
const TITLES: [(&str, &str); 4] =
    [("Example:", "EXAMPLES"), ("Exit codes:", "EXIT STATUS"), ("Inputs:", "INPUTS"), ("Where it goes:", "FILES")];

/// A line as roff takes it: neither a command nor escapes in it.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headings_of_all_helps_are_those_of_sections() {
        fn walk(command: &Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines().filter(|line| line.ends_with(':')) {
                assert!(TITLES.iter().any(|(heading, _)| *heading == line), "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&CommandLine::command());
    }

    #[test]
    fn a_line_is_neither_a_command_nor_has_escapes() {
        assert_eq!(escaped(r".a\b --c"), r"\&.a\eb \-\-c");
    }
}
