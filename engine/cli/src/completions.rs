//! `downbeat completions` and `downbeat man`: what shells and manual readers know about the command line, made from its
//! one definition.

use clap::CommandFactory as _;

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
    let command = CommandLine::command().disable_help_subcommand(true);
    let Some(folder) = &arguments.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(Fault::engine)?;
        talk::put(&String::from_utf8_lossy(&page))?;
        return Ok(Exit::Success);
    };
    let unwritable = |error| Fault::engine(format!("{}: the pages can't be written: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    clap_mangen::generate_to(command, folder).map_err(unwritable)?;
    talk::say(format_args!("manual pages are in {}", folder.display()));
    Ok(Exit::Success)
}
