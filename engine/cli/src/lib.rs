//! The command line: wires the rooms together and talks to people. The only room that prints.
//!
//! Data goes to standard output, talk to standard error. A command is a file with one function that takes its parsed
//! arguments and returns an [`exit::Exit`] or a [`exit::Fault`]; how a command line is written is in [`arguments`], what
//! exit codes mean in [`exit`].

pub mod arguments;
pub mod exit;

mod advisories;
mod approve;
mod ask;
mod audience;
mod audit;
mod cache;
mod cancel;
mod check;
mod completions;
mod diff;
mod drive;
mod elsewhere;
mod expand;
mod explain;
mod export;
mod files;
mod follow;
mod graph;
mod group;
mod import;
mod list;
mod lock;
mod logs;
mod names;
mod pause;
mod place;
mod plan;
mod plugin;
mod policy;
mod prune;
mod recorded;
mod replay;
mod rerun;
mod resume;
mod run;
mod schema;
mod screen;
mod show;
mod sign;
mod signal;
mod signature;
mod state;
mod stream;
mod table;
mod talk;
mod test;
mod units;
mod workflow_file;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser};

use arguments::{Command, CommandLine, KeyCommand, PluginCommand, PolicyCommand};
use exit::Exit;

/// Runs the command that `args` (the program's name first) asks for.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match CommandLine::try_parse_from(args) {
        Ok(line) => line,
        Err(mut error) => {
            point_to_subcommand(&mut error);
            // Help and version are answers (0, standard output); everything else is bad usage (2).
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
        }
    };
    talk::choose_colours(line.color);
    let place = line.place;
    let ended = match line.command {
        Command::Check(arguments) => check::check(&place, &arguments),
        Command::Expand(arguments) => expand::expand(&arguments),
        Command::Plan(arguments) => plan::plan(&place, &arguments),
        Command::Test(arguments) => test::test(&place, &arguments),
        Command::Run(arguments) => run::run(&place, &arguments),
        Command::Resume(arguments) => resume::resume(&place, &arguments),
        Command::Rerun(arguments) => rerun::rerun(&place, &arguments),
        Command::Replay(arguments) => replay::replay(&place, &arguments),
        Command::List(arguments) => list::list(&place, &arguments),
        Command::Show(arguments) => show::show(&place, &arguments),
        Command::Explain(arguments) => explain::explain(&place, &arguments),
        Command::Logs(arguments) => logs::logs(&place, &arguments),
        Command::Graph(arguments) => graph::graph(&place, &arguments),
        Command::Cancel(arguments) => cancel::cancel(&place, &arguments),
        Command::Pause(arguments) => pause::pause(&place, &arguments),
        Command::Unpause(arguments) => pause::unpause(&place, &arguments),
        Command::Signal(arguments) => signal::signal(&place, &arguments),
        Command::Approve(arguments) => approve::answer(&place, &arguments, true),
        Command::Reject(arguments) => approve::answer(&place, &arguments, false),
        Command::Prune(arguments) => prune::prune(&place, &arguments),
        Command::Export(arguments) => export::export(&place, &arguments),
        Command::Import(arguments) => import::import(&place, &arguments),
        Command::Cache(command) => cache::cache(&place, &command),
        Command::Audit(command) => audit::audit(&place, &command),
        Command::Plugin(PluginCommand::Build(arguments)) => plugin::build(&arguments),
        Command::Plugin(PluginCommand::Inspect(arguments)) => plugin::inspect(&place, &arguments),
        Command::Plugin(PluginCommand::Check(arguments)) => advisories::check(&arguments),
        Command::Plugin(PluginCommand::Toolchain(arguments)) => plugin::toolchain(&arguments),
        Command::Policy(PolicyCommand::Show(arguments)) => policy::show(&place, &arguments),
        Command::Policy(PolicyCommand::Check(arguments)) => policy::check(&arguments),
        Command::Policy(PolicyCommand::Test(arguments)) => policy::test(&arguments),
        Command::Lock(arguments) => lock::lock(&place, &arguments),
        Command::Diff(arguments) => diff::diff(&place, &arguments),
        Command::Key(KeyCommand::New(arguments)) => sign::new_key(&arguments),
        Command::Sign(arguments) => sign::sign(&arguments),
        Command::Verify(arguments) => sign::verify(&place, &arguments),
        Command::Schema(arguments) => schema::schema(&arguments),
        Command::Completions(arguments) => completions::completions(&arguments),
        Command::Man(arguments) => completions::man(&arguments),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(fault) => {
            fault.print();
            fault.exit.into()
        }
    }
}

/// Says of a command that is not there, but is one of another command, how it is written.
fn point_to_subcommand(error: &mut clap::Error) {
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidSubcommand) else { return };
    let definition = CommandLine::command();
    let below = |command: &clap::Command| {
        let found = command.find_subcommand(unknown)?;
        Some(format!("{} {}", command.get_name(), found.get_name()))
    };
    if let Some(whole) = definition.get_subcommands().find_map(below) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![whole]));
    }
}
