//! How a command line is written: one definition, from which the parser and every `--help` come.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::exit::EXIT_CODES;
use crate::place::Place;

/// Runs workflows of sandboxed steps: checked before they run, journaled while they run, explained afterwards.
#[derive(Debug, Parser)]
#[command(name = "downbeat", bin_name = "downbeat", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct CommandLine {
    /// Where things are kept.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a workflow file without running it: all of its faults, each with line and hint
    #[command(after_help = "Example:\n  downbeat check workflows/release/release.toml")]
    Check(Check),
    /// Run a workflow to its end
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Take up a run that was stopped, or whose engine died
    #[command(
        after_help = "Example:\n  downbeat resume            # the latest run that is not over\n  downbeat resume 1k8qz4h    # by the beginning or the end of its id"
    )]
    Resume(Resume),
    /// List the runs, latest first
    #[command(after_help = "Example:\n  downbeat list --limit 5")]
    List(List),
    /// Show a run: steps, attempts, times, resources, and why steps were skipped
    #[command(
        after_help = "Example:\n  downbeat show              # the latest run\n  downbeat show 1k8qz4h --json\n  downbeat show --follow     # on another terminal, while it runs"
    )]
    Show(Show),
    /// Show what a run's attempts wrote to their logs
    #[command(after_help = "Example:\n  downbeat logs 1k8qz4h --step build\n  downbeat logs --follow")]
    Logs(Logs),
    /// Ask for a run's end: attempts in flight are ended, the rest is skipped
    #[command(after_help = "Example:\n  downbeat cancel 1k8qz4h --reason \"wrong branch\"")]
    Cancel(Cancel),
    /// Build and inspect plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
}

const RUN_HELP: &str = "\
Inputs:
  --input name=text          a string as it is; other types as JSON (count=3, flags=[\"a\"])
  --input name=@file         the file's content
  --inputs file.json         an object with several inputs; --input wins

Example:
  downbeat run workflows/hello/hello.toml --input name=Ada";

/// `downbeat check`
#[derive(Debug, Args)]
pub struct Check {
    /// The workflow's TOML file
    pub workflow: PathBuf,
    /// Print the findings as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}

/// `downbeat run`
#[derive(Debug, Args)]
pub struct Run {
    /// The workflow's TOML file
    pub workflow: PathBuf,
    /// An input, as NAME=VALUE or NAME=@FILE; may be repeated
    #[arg(long = "input", short, value_name = "NAME=VALUE")]
    pub input: Vec<String>,
    /// A JSON file with an object of inputs
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// Print the run's events as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}

/// `downbeat resume`
#[derive(Debug, Args)]
pub struct Resume {
    /// The run's id, or its beginning or end; by default the latest run that is not over
    pub run: Option<String>,
    /// Print the run's events as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}

/// `downbeat list`
#[derive(Debug, Args)]
pub struct List {
    /// How many at most
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `downbeat show`
#[derive(Debug, Args)]
pub struct Show {
    /// The run's id, or its beginning or end; by default the latest run
    pub run: Option<String>,
    /// Print the run's events as JSON lines
    #[arg(long)]
    pub json: bool,
    /// Show it as `downbeat run` does, from its beginning on and until it is over
    #[arg(long, short)]
    pub follow: bool,
}

/// `downbeat logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// The run's id, or its beginning or end; by default the latest run
    pub run: Option<String>,
    /// Only this step's lines
    #[arg(long)]
    pub step: Option<String>,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
    /// Go on with what is written from now on, until the run is over
    #[arg(long, short)]
    pub follow: bool,
}

/// `downbeat cancel`
#[derive(Debug, Args)]
pub struct Cancel {
    /// The run's id, or its beginning or end; by default the latest run that is not over
    pub run: Option<String>,
    /// Why, for the record
    #[arg(long, default_value = "asked for on the command line")]
    pub reason: String,
}

/// `downbeat plugin`
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Build a plugin's source folder into a component
    #[command(after_help = "Example:\n  downbeat plugin build plugins/process")]
    Build(PluginBuild),
    /// Show what a component is: exports, imports, schemas, wants, size, digest
    #[command(after_help = "Example:\n  downbeat plugin inspect plugins/process")]
    Inspect(PluginInspect),
    /// Set up what is needed to build plugins, unless it is there
    #[command(after_help = "Example:\n  downbeat plugin toolchain")]
    Toolchain,
}

/// `downbeat plugin build`
#[derive(Debug, Args)]
pub struct PluginBuild {
    /// The folder with the plugin's Cargo.toml
    pub folder: PathBuf,
}

/// `downbeat plugin inspect`
#[derive(Debug, Args)]
pub struct PluginInspect {
    /// A `.wasm` file, or a source folder (which is built first)
    pub plugin: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory as _;
        super::CommandLine::command().debug_assert();
    }
}
