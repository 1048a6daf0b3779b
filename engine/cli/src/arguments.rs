//! How a command line is written: one definition, from which the parser and every `--help` come.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, ColorChoice, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use downbeat_workflow::capability::Capability;
use downbeat_workflow::spec::duration_ms;

use crate::exit::EXIT_CODES;
use crate::place::Place;

/// What every command has.
pub(crate) const GLOBAL: &str = "Global options";

/// Runs workflows of sandboxed steps: checked before they run, journaled while they run, explained afterwards.
#[derive(Debug, Parser)]
#[command(name = "downbeat", bin_name = "downbeat", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct CommandLine {
    /// Where things are kept.
    #[command(flatten)]
    pub place: Place,
    /// Colour what is said: always, never, or on a terminal [env: NO_COLOR, CLICOLOR_FORCE]
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = GLOBAL
    )]
    pub color: ColorChoice,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check workflow files without running them: all faults, each with line and hint
    #[command(after_help = CHECK_HELP)]
    Check(Check),
    /// Print a workflow as one file, without overlays, templates, defaults and vars
    #[command(after_help = EXPAND_HELP)]
    Expand(Expand),
    /// Tell what a run would do: order, inputs, grants, open rules; no step is executed
    #[command(after_help = PLAN_HELP)]
    Plan(Plan),
    /// Test workflows in virtual time: steps answer as a test file says, nothing is executed
    #[command(after_help = TEST_HELP)]
    Test(Test),
    /// Run a workflow to its end
    #[command(after_help = RUN_HELP)]
    Run(Run),
    /// Take up a run that was stopped, or whose engine died
    #[command(after_help = RESUME_HELP)]
    Resume(Resume),
    /// Run a part of a run again: a new run that reuses what succeeded
    #[command(after_help = RERUN_HELP)]
    Rerun(Rerun),
    /// Drive what a run recorded through today's plan: whether that would do the same
    #[command(after_help = REPLAY_HELP)]
    Replay(Replay),
    /// List the runs, latest first
    #[command(after_help = LIST_HELP)]
    List(List),
    /// Show a run: steps, attempts, times, resources, and why steps were skipped
    #[command(after_help = SHOW_HELP)]
    Show(Show),
    /// Explain a run or a step: why it ran or not, what it waited for, what its rule saw
    #[command(after_help = EXPLAIN_HELP)]
    Explain(Explain),
    /// Show what a run's attempts wrote to their logs
    #[command(after_help = LOGS_HELP)]
    Logs(Logs),
    /// Draw a workflow or a run: steps, needs, and how it went
    #[command(after_help = GRAPH_HELP)]
    Graph(Graph),
    /// Ask for the end of a run or of some of its steps: attempts in flight are ended, the rest is skipped
    #[command(after_help = CANCEL_HELP)]
    Cancel(Cancel),
    /// Let a run, or some of its steps, start nothing new; what is in flight comes to its end
    #[command(after_help = PAUSE_HELP)]
    Pause(Pause),
    /// Let a run, or some of its steps, go on after a pause
    #[command(after_help = UNPAUSE_HELP)]
    Unpause(Unpause),
    /// Send a signal to a run, for the steps that wait for it
    #[command(after_help = "Example:\n  downbeat signal go 1k8qz4h --data 3")]
    Signal(Signal),
    /// Approve a step that waits for somebody's word
    #[command(after_help = "Example:\n  downbeat approve 1k8qz4h --by ann --note \"looked at the figures\"")]
    Approve(Word),
    /// Reject a step that waits for somebody's word: it fails
    #[command(after_help = "Example:\n  downbeat reject 1k8qz4h --by ann --note \"not before Monday\"")]
    Reject(Word),
    /// Delete runs that are over, with all that only they needed, and give the room back
    #[command(after_help = PRUNE_HELP)]
    Prune(Prune),
    /// Write a run into one file: plan, records, log, blobs
    #[command(after_help = EXPORT_HELP)]
    Export(Export),
    /// Take a run in from a file that `downbeat export` wrote
    #[command(after_help = IMPORT_HELP)]
    Import(Import),
    /// See and give up the answers of steps with `cache` that are kept across runs
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Prove that the journal is as it was written, and show what steps did with their grants
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Build and inspect plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Show, check and test the policies that workflows are held against
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Pin the components of workflows, in `downbeat.lock` beside them
    #[command(after_help = LOCK_HELP)]
    Lock(Lock),
    /// Tell what a component, a workflow or a lock may do that another one may not
    #[command(after_help = DIFF_HELP)]
    Diff(Diff),
    /// Make keys to sign with
    #[command(subcommand)]
    Key(KeyCommand),
    /// Sign a component
    #[command(after_help = SIGN_HELP)]
    Sign(Sign),
    /// Tell who has signed a component
    #[command(after_help = VERIFY_HELP)]
    Verify(Verify),
    /// Print the JSON Schema of workflow files, for editors, or of the event stream
    #[command(after_help = SCHEMA_HELP)]
    Schema(Schema),
    /// Print the script that completes commands and options in a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(Completions),
    /// Print the manual page, or write the pages of all commands into a folder
    #[command(after_help = MAN_HELP)]
    Man(Man),
}

const CHECK_HELP: &str = "\
Nothing is executed but the plugins' descriptions of themselves; source folders are built. The \
exit code is 3 if a file has an error, 0 if there are only warnings (with --deny-warnings also 3).

What is found has a code, `error[unknown-step]`: --explain tells what it means, with an example and how to mend it.

Example:
  downbeat check workflows/release/release.toml
  downbeat check workflows/hello workflows/release    # all in these folders and below
  downbeat check deploy.toml --json                   # for programs: one finding a line
  downbeat check release.toml --with prod.with.toml   # as it is in an environment
  downbeat check --explain unknown-step
  downbeat check --explain                            # all codes";

const EXPAND_HELP: &str = "\
What is printed can be checked and run like any other file: beside the workflow's, since its paths start there, it comes to \
the same plan.

Example:
  downbeat expand release.toml
  downbeat expand release.toml --with prod.with.toml --origins    # and where each line comes from";

const PLAN_HELP: &str = "\
Inputs are given as to `downbeat run`. What they decide is decided: holes are filled, rules evaluated, steps that can't \
run are told. What depends on the course of the run stays as it is written, with the steps that it waits for. Source \
folders of plugins are built, as their digests belong to the plan.

With --diff, what has changed since another run or file is shown instead, and the exit code is 6 if anything has. What \
steps may reach that they could not is marked with `!`. Inputs are compared with those of a run if any are given.

Example:
  downbeat plan workflows/release --input commit=slow
  downbeat plan workflows/release --diff last         # the latest run of a workflow of this name
  downbeat plan workflows/release --diff 1k8qz4h
  downbeat plan prod.toml --diff staging.toml
  downbeat plan release.toml --with prod.with.toml --diff release.toml    # what the overlay changes
  downbeat plan workflows/hello --json";

const TEST_HELP: &str = "\
A test file, NAME.test.toml, says how steps answer and what must come out of it; docs/testing.md describes it. The \
exit code is 1 if a test failed, 3 if a file could not be tested.

Example:
  downbeat test                                     # all tests in this folder and below
  downbeat test workflows/release --coverage        # and what they never tried
  downbeat test release.test.toml --filter rolled_back
  downbeat test --junit tests.xml                   # for CI systems";

const RUN_HELP: &str = "\
Ctrl-C (or SIGTERM) ends the attempts in flight and leaves the run as it is; `downbeat resume` goes on. \
A second one does not wait for them.

Inputs:
  --input name=text          a string as it is; other types as JSON (count=3, flags=[\"a\"])
  --input name=@file         the file's content
  --inputs file.json         an object with several inputs; --input wins

Example:
  downbeat run workflows/hello/hello.toml --input name=Ada
  downbeat run workflows/hello --json > events.jsonl";

const RESUME_HELP: &str = "\
What had succeeded is not done again. Attempts that were in flight are, with the same idempotency key. A run keeps the \
plan that it began with, also when the workflow file has changed since.

Example:
  downbeat resume            # the latest run that is not over
  downbeat resume 1k8qz4h    # by the beginning or the end of its id";

const RERUN_HELP: &str = "\
The old run is not changed. A step is done again if it did not succeed, was undone, is named by --from, sees an input that \
differs, differs in the file given by --file, or is behind such a step: needs it, or mentions it in a rule. What is left is \
reused: its answer is recorded as the old run's, and nothing of it is executed or undone. Of a block, a foreach or a repeat \
that is not reused as a whole, the steps within it are. Files in the old run's workspace are copied for steps that are done again.

Example:
  downbeat rerun                               # the latest run: what failed, and what follows
  downbeat rerun 1k8qz4h --failed --dry-run    # only tell what would be done again
  downbeat rerun 1k8qz4h --from deploy --from tests[3]
  downbeat rerun 1k8qz4h --input region=us     # and what sees that input
  downbeat rerun 1k8qz4h --file release.toml   # by today's file";

const REPLAY_HELP: &str = "\
Nothing is executed. Ends of attempts, signals and words are taken from the record; what the run decided then is compared with \
what the plan asks for, step by step by their paths, and the inputs, components and grants that attempts start with. The exit \
code is 6 if it parts from the run, and the first place where it does is told.

Example:
  downbeat replay                                     # the latest run, by today's file of its workflow
  downbeat replay 1k8qz4h --file release.toml
  downbeat replay 1k8qz4h --json";

const LIST_HELP: &str = "\
A run that is not over is `running` if a process drives it right now, else `stopped`.

Example:
  downbeat list --limit 5
  downbeat list --json
  downbeat list --deleted    # by `downbeat prune`";

const PRUNE_HELP: &str = "\
Runs go with their records, logs and workspaces, and with the plans, components and blobs that no other run needs. What is \
left of a run is a line of `downbeat list --deleted`. A run that is not over is never deleted. Without a run or a \
condition, only what no run needs any more is removed.

No other process may drive runs meanwhile, as what its steps have stored may not be in the journal yet; looking \
(--dry-run) works at any time.

Example:
  downbeat prune --older-than 30d --dry-run          # what would go
  downbeat prune --older-than 30d --keep 10          # but the latest ten of each workflow stay
  downbeat prune --outcome succeeded --workflow release --older-than 7d
  downbeat prune 1k8qz4h 1k8r03c                     # these runs";

const EXPORT_HELP: &str = "\
The file is a tar archive with a manifest.json first, and holds the run's plan, its records, its log and the blobs whose \
digests stand in them; inputs, outputs and logs are in it as they are, secrets among them. A run that is not over can be \
exported as well, as far as it has come. There has to be no file of that name yet.

Example:
  downbeat export 1k8qz4h                              # 1k8qz4h-0a1b2c.downbeat
  downbeat export last --output release.downbeat --components
  tar -tf release.downbeat";

const IMPORT_HELP: &str = "\
All of the file is checked before anything is written: digests, sizes, that its plan holds together and that its records \
can follow each other. A run that is there already is left as it is. An imported run can be shown, explained, drawn and \
compared with, and tests of workflows can answer as it did (docs/testing.md).

A run that is not over is taken with --unfinished alone: two engines that go on with one run would both act under its \
idempotency keys, and `downbeat resume` runs what its plan says, with the grants that stand there. The components have to \
be at hand: export it with --components.

Example:
  downbeat import release.downbeat
  downbeat import stopped.downbeat --unfinished";

const CANCEL_HELP: &str = "\
Several steps are one request: they are ended together. A step is ended with all that it opened.

Example:
  downbeat cancel 1k8qz4h --reason \"wrong branch\"
  downbeat cancel --step deploy/push
  downbeat cancel 1k8qz4h --step build --step suites[3] --reason \"a flaky machine\"";

const PAUSE_HELP: &str = "\
A pause is a record of the run: it outlives the process that drives it, and `downbeat resume` keeps it; `downbeat unpause` \
ends it. A paused step holds back all that is within it, too. Timeouts of the run, of blocks and of waiting stand still \
meanwhile; delays, times that are waited for and timeouts of attempts in flight do not. `downbeat cancel` ends what is paused.

Example:
  downbeat pause 1k8qz4h --reason \"the database is being moved\"
  downbeat pause 1k8qz4h --step deploy
  downbeat pause                              # the latest run that is not over";

const UNPAUSE_HELP: &str = "\
A run that nobody drives is unpaused once `downbeat resume` takes it up.

Example:
  downbeat unpause 1k8qz4h
  downbeat unpause 1k8qz4h --step deploy
  downbeat unpause 1k8qz4h          # if nobody drives it: `downbeat resume` then goes on";

const SHOW_HELP: &str = "\
Example:
  downbeat show              # the latest run
  downbeat show 1k8qz4h --json
  downbeat show --follow     # on another terminal, while it runs";

const EXPLAIN_HELP: &str = "\
Of a run: its story in order, the root causes of what was skipped, what was refused, which limits were near, and \
the steps that the end waited for. Of a step: needs, rule and input with their values, and where its time went.

Example:
  downbeat explain                    # the latest run
  downbeat explain last promote       # a step of it
  downbeat explain 1k8qz4h promote
  downbeat explain 1k8qz4h --json";

const LOGS_HELP: &str = "\
Example:
  downbeat logs 1k8qz4h --step build
  downbeat logs --follow";

const GRAPH_HELP: &str = "\
What is drawn is a workflow, if there is a file or a folder of this name, else a run. Source folders of a workflow's \
plugins are built.

Example:
  downbeat graph workflows/release --output release.svg
  downbeat graph 1k8qz4h --output run.svg               # coloured by how its steps ended
  downbeat graph workflows/release --format mermaid     # for Markdown
  downbeat graph workflows/release --format dot > release.dot";

const LOCK_HELP: &str = "\
A lock has, for each plugin of a folder's workflows, its digest, what it imports and what it wants, and why. It is committed \
and reviewed. Where there is one, a component that differs is not run; what it newly wants is not given until the lock has it. A \
plugin that is built from source is held against the digest of its source folder.

Without --update what is locked stays, and what differs is told (exit code 6); what is new is added, what nobody uses \
removed. With --check nothing is written.

Example:
  downbeat lock release.toml
  downbeat lock workflows --check          # in CI
  downbeat lock release.toml --update http
  downbeat lock release.toml --update      # all that differ";

const DIFF_HELP: &str = "\
Components, workflows and locks can be compared, each with one of its kind. Capabilities that came are told first. The exit \
code is 0 if nothing has changed, 9 if more may be done than before, 6 if anything else has changed.

Example:
  downbeat diff old/http.wasm new/http.wasm
  downbeat diff main/release.toml release.toml --format markdown
  git show main:downbeat.lock > /tmp/old.lock && downbeat diff /tmp/old.lock downbeat.lock";

const SIGN_HELP: &str = "\
The signature is put beside the component, in COMPONENT.sigstore.jsonl: an in-toto statement in a DSSE envelope in a Sigstore \
bundle (v0.3), a line each. It is made and verified without a network.

Example:
  downbeat sign http.wasm --key release.key
  downbeat sign plugins/http --key release.key";

const VERIFY_HELP: &str = "\
Without --key, the signers that the policies name are asked for. The exit code is 3 if none of them has signed it.

Example:
  downbeat verify http.wasm --key release.key.pub";

const SCHEMA_HELP: &str = "\
Editors with a TOML language server (taplo, as in VS Code's \"Even Better TOML\", Helix, Neovim, Zed) complete and \
explain the keys of a workflow that begins with the line
  #:schema ./workflow.schema.json
with the path of the schema from the file's folder, or its URL.

Example:
  downbeat schema > workflow.schema.json
  downbeat schema events > events.schema.json";

const COMPLETIONS_HELP: &str = "\
Where it goes:
  bash        ~/.local/share/bash-completion/completions/downbeat
  zsh         _downbeat in a folder of $fpath
  fish        ~/.config/fish/completions/downbeat.fish
  powershell  into the file that $PROFILE names
  elvish      ~/.config/elvish/rc.elv

Example:
  downbeat completions bash > ~/.local/share/bash-completion/completions/downbeat
  downbeat completions fish > ~/.config/fish/completions/downbeat.fish";

const MAN_HELP: &str = "\
Example:
  downbeat man --dir ~/.local/share/man/man1    # then `man downbeat-run`
  downbeat man > downbeat.1";

/// `downbeat check`
#[derive(Debug, Args)]
pub struct Check {
    /// Workflow files; a folder stands for the workflows in it and below
    #[arg(required_unless_present = "explain", value_name = "FILE")]
    pub workflows: Vec<PathBuf>,
    /// A file laid over the workflow's, as for an environment; may be repeated
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Print the findings as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
    /// Count warnings as errors in the exit code
    #[arg(long)]
    pub deny_warnings: bool,
    /// Tell what a code means, instead of checking a file; without one, list them all
    #[arg(long, value_name = "CODE", num_args = 0..=1, conflicts_with_all = ["workflows", "json", "deny_warnings"])]
    pub explain: Option<Option<String>>,
}

/// `downbeat expand`
#[derive(Debug, Args)]
pub struct Expand {
    /// The workflow's TOML file, or a folder with one workflow, or with one of the folder's name
    #[arg(value_name = "FILE")]
    pub workflow: PathBuf,
    /// A file laid over the workflow's, as for an environment; may be repeated
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Say behind each line where its values were written, if elsewhere
    #[arg(long)]
    pub origins: bool,
}

/// `downbeat plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// The workflow's TOML file, or a folder with one workflow, or with one of the folder's name
    #[arg(value_name = "FILE")]
    pub workflow: PathBuf,
    /// A file laid over the workflow's, as for an environment; may be repeated
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// An input, as NAME=VALUE or NAME=@FILE; may be repeated
    #[arg(long = "input", short, value_name = "NAME=VALUE")]
    pub input: Vec<String>,
    /// A JSON file with an object of inputs
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// Show what has changed since a run (by its id, or `last`) or another workflow file
    #[arg(long, value_name = "RUN|FILE")]
    pub diff: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `downbeat test`
#[derive(Debug, Args)]
pub struct Test {
    /// Test files; a folder stands for those in it and below [default: this folder]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Only tests whose name contains this; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub filter: Vec<String>,
    /// Print what the tests never tried: steps, rules, failures
    #[arg(long)]
    pub coverage: bool,
    /// Write a report for CI systems into this file, as JUnit's XML
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Print JSON lines on standard output: one for each test
    #[arg(long)]
    pub json: bool,
}

/// `downbeat run`
#[derive(Debug, Args)]
pub struct Run {
    /// The workflow's TOML file, or a folder with one workflow, or with one of the folder's name
    #[arg(value_name = "FILE")]
    pub workflow: PathBuf,
    /// A file laid over the workflow's, as for an environment; may be repeated
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// An input, as NAME=VALUE or NAME=@FILE; may be repeated
    #[arg(long = "input", short, value_name = "NAME=VALUE")]
    pub input: Vec<String>,
    /// A JSON file with an object of inputs
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// Its place in lines for pools and its group: higher ones come first
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1_000..=1_000))]
    pub priority: Option<i32>,
    /// Take no kept answers of steps with `cache`, and keep none
    #[arg(long)]
    pub no_cache: bool,
    /// Print the run's events as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}

/// `downbeat resume`
#[derive(Debug, Args)]
pub struct Resume {
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest that is not over
    pub run: Option<String>,
    /// Take no kept answers of steps with `cache`, and keep none
    #[arg(long)]
    pub no_cache: bool,
    /// Print the run's further events as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}

/// `downbeat rerun`
#[derive(Debug, Args)]
pub struct Rerun {
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest
    pub run: Option<String>,
    /// Do again what did not succeed; this is so in any case
    #[arg(long)]
    pub failed: bool,
    /// Do this step again, by its path, and all that is behind it; may be repeated
    #[arg(long, value_name = "STEP")]
    pub from: Vec<String>,
    /// Take the plan of this file instead of the old run's: steps that differ are done again
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A file laid over the workflow's, as for an environment; may be repeated
    #[arg(long, requires = "file", value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Another value for an input, as NAME=VALUE or NAME=@FILE; may be repeated
    #[arg(long = "input", short, value_name = "NAME=VALUE")]
    pub input: Vec<String>,
    /// A JSON file with an object of inputs that take other values
    #[arg(long, value_name = "FILE")]
    pub inputs: Option<PathBuf>,
    /// Only tell what would be reused, what would be done again, and why
    #[arg(long)]
    pub dry_run: bool,
    /// Take no kept answers of steps with `cache` that are done again, and keep none
    #[arg(long)]
    pub no_cache: bool,
    /// Print the new run's events as JSON lines on standard output
    #[arg(long)]
    pub json: bool,
}

/// `downbeat replay`
#[derive(Debug, Args)]
pub struct Replay {
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest
    pub run: Option<String>,
    /// The file with the plan; by default the one of this name in the folder that the run's came from
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// A file laid over the workflow's, as for an environment; may be repeated
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `downbeat list`
#[derive(Debug, Args)]
pub struct List {
    /// How many at most
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// The runs that were deleted instead, and by whom
    #[arg(long)]
    pub deleted: bool,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `downbeat prune`
#[derive(Debug, Args)]
pub struct Prune {
    /// These runs: their ids, or the beginnings or ends of them (`last`: the latest)
    #[arg(value_name = "RUN", conflicts_with_all = ["older_than", "keep", "outcome", "workflow"])]
    pub runs: Vec<String>,
    /// All runs that ended longer ago than this: 30d, 12h
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub older_than: Option<u64>,
    /// All but the latest so many of each workflow, and of the given outcomes
    #[arg(long, value_name = "N")]
    pub keep: Option<usize>,
    /// Only those that ended so; may be given several times
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Vec<RunOutcome>,
    /// Only those of the workflow of this name
    #[arg(long, value_name = "NAME")]
    pub workflow: Option<String>,
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `downbeat export`
#[derive(Debug, Args)]
pub struct Export {
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest
    pub run: Option<String>,
    /// The file to write [default: the run's id and `.downbeat`]
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// With the components that the run uses, so that it can be resumed elsewhere
    #[arg(long)]
    pub components: bool,
    /// Print what was written as JSON
    #[arg(long)]
    pub json: bool,
}

/// `downbeat import`
#[derive(Debug, Args)]
pub struct Import {
    /// The file
    pub file: PathBuf,
    /// Also a run that is not over, which can be resumed then
    #[arg(long)]
    pub unfinished: bool,
    /// Print what was taken in as JSON
    #[arg(long)]
    pub json: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunOutcome {
    /// It did what it was for
    Succeeded,
    /// A step failed
    Failed,
    /// Somebody asked for its end
    Cancelled,
    /// It took longer than its timeout
    TimedOut,
}

/// `downbeat show`
#[derive(Debug, Args)]
pub struct Show {
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest
    pub run: Option<String>,
    /// Print the run's events as JSON lines
    #[arg(long)]
    pub json: bool,
    /// Show it as `downbeat run` does, from its beginning on and until it is over
    #[arg(long, short)]
    pub follow: bool,
}

/// `downbeat graph`
#[derive(Debug, Args)]
pub struct Graph {
    /// A workflow file, a folder with one, or a run (its id, the beginning or end of it, `last`); by default the latest run
    #[arg(value_name = "WORKFLOW|RUN")]
    pub what: Option<String>,
    /// A file laid over the workflow's, as for an environment; may be repeated
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// The format; by default what the output's name ends in (.svg, .dot, .mmd), else SVG
    #[arg(long, value_enum)]
    pub format: Option<GraphFormat>,
    /// Where arrows point, in an SVG; by default what fits a screen better
    #[arg(long, value_enum)]
    pub direction: Option<GraphDirection>,
    /// Write it to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The format of a drawing.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraphFormat {
    /// To look at, in any browser
    Svg,
    /// For Graphviz
    Dot,
    /// For Markdown, as code hosts draw it
    Mermaid,
}

/// Where arrows point.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum GraphDirection {
    /// From top to bottom
    Down,
    /// From left to right
    Right,
}

/// `downbeat explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest
    pub run: Option<String>,
    /// Only this step, with all that is known of it
    pub step: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `downbeat logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest
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
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest that is not over
    pub run: Option<String>,
    /// End only this step, by its path: `build`, `deploy/push`, `suites[3]`; may be repeated
    #[arg(long, value_name = "PATH")]
    pub step: Vec<String>,
    /// Why, for the record
    #[arg(long, default_value = "asked for on the command line")]
    pub reason: String,
}

/// `downbeat pause`
#[derive(Debug, Args)]
pub struct Pause {
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest that is not over
    pub run: Option<String>,
    /// Pause only this step and what is within it, by its path; may be repeated
    #[arg(long, value_name = "PATH")]
    pub step: Vec<String>,
    /// Why, for the record
    #[arg(long, default_value = "asked for on the command line")]
    pub reason: String,
}

/// `downbeat unpause`
#[derive(Debug, Args)]
pub struct Unpause {
    /// The run: its id, or the beginning or end of it; by default (or `last`) the latest that is not over
    pub run: Option<String>,
    /// A step that was paused, by its path; may be repeated
    #[arg(long, value_name = "PATH")]
    pub step: Vec<String>,
}

/// `downbeat signal`
#[derive(Debug, Args)]
pub struct Signal {
    /// The signal: one of the workflow's `[signals]`
    pub name: String,
    /// The run's id, or its beginning or end; by default the latest run that is not over
    pub run: Option<String>,
    /// What comes with it, as JSON
    #[arg(long, value_name = "JSON")]
    pub data: Option<String>,
}

/// `downbeat approve` and `downbeat reject`
#[derive(Debug, Args)]
pub struct Word {
    /// The run's id, or its beginning or end; by default the latest run that is not over
    pub run: Option<String>,
    /// The step, by its path; by default the only one that waits
    #[arg(long, value_name = "PATH")]
    pub step: Option<String>,
    /// Who you are; by default `$USER`
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// What else there is to say, for the record
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub note: String,
}

/// `downbeat schema`
#[derive(Debug, Args)]
pub struct Schema {
    /// What it describes
    #[arg(default_value = "workflow", value_name = "WHAT")]
    pub of: Described,
}

/// What there are schemas of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Described {
    /// Workflow files
    Workflow,
    /// A line of the event stream: `--json` of run, resume and show
    Events,
}

/// `downbeat completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// `downbeat man`
#[derive(Debug, Args)]
pub struct Man {
    /// Write the pages of all commands into this folder, which is made if it is missing
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// `downbeat cache`
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the kept answers, those that were used last first
    #[command(after_help = "Example:\n  downbeat cache list\n  downbeat cache list --json")]
    List(CacheList),
    /// Show a kept answer, and whose it is
    #[command(after_help = "Example:\n  downbeat cache show 3fa1b2")]
    Show(CacheShow),
    /// Look whether all kept answers are as they were written
    #[command(
        after_help = "What is damaged is never taken for an answer, and the exit code is 4.\n\nExample:\n  downbeat cache verify"
    )]
    Verify,
    /// Give up kept answers: their steps are executed the next time
    #[command(
        after_help = "Example:\n  downbeat cache clear\n  downbeat cache clear --older-than 7d   # not used for a week\n  downbeat cache clear 3fa1b2"
    )]
    Clear(CacheClear),
}

/// `downbeat cache list`
#[derive(Debug, Args)]
pub struct CacheList {
    /// How many at most
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `downbeat cache show`
#[derive(Debug, Args)]
pub struct CacheShow {
    /// The answer's key, or the beginning of it
    pub key: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `downbeat cache clear`
#[derive(Debug, Args)]
pub struct CacheClear {
    /// Only the answer of this key, or beginning of one
    pub key: Option<String>,
    /// Only what was not used for so long
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub older_than: Option<u64>,
}

/// `downbeat audit`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Hold the journal against its chain of hashes: whether a record was changed, removed, moved or put in, and where
    #[command(after_help = AUDIT_VERIFY_HELP)]
    Verify(AuditVerify),
    /// Write how far the journal has come into a small signed file, which is to be kept elsewhere
    #[command(after_help = AUDIT_CHECKPOINT_HELP)]
    Checkpoint(AuditCheckpoint),
    /// Show what steps did with what they were granted, and what they were refused
    #[command(after_help = AUDIT_SHOW_HELP)]
    Show(AuditShow),
    /// Tell of each step what it wants, is granted, used and was refused: which grants can be taken away
    #[command(after_help = AUDIT_REPORT_HELP)]
    Report(AuditReport),
    /// Print uses and refusals for other programs: JSON lines, or logs of OpenTelemetry
    #[command(after_help = AUDIT_EXPORT_HELP)]
    Export(AuditExport),
}

const AUDIT_VERIFY_HELP: &str = "\
An engine may drive meanwhile. If anything is not as it was written, it is listed, and the exit code is 6. Without a \
checkpoint, nobody can tell whether the last records were cut off, or the whole journal was written anew.

Example:
  downbeat audit verify
  downbeat audit verify --checkpoint /mnt/vault/monday.checkpoint --key audit.pub
  downbeat audit verify --run 1k8qz4h";

const AUDIT_CHECKPOINT_HELP: &str = "\
The file is a signed note, as transparency logs have it. Whoever can write to the journal should be able neither to change \
the file nor to use the key, which `openssl genpkey -algorithm ed25519 -out audit.pem` makes; `openssl pkey -in audit.pem \
-pubout -out audit.pub` writes its public half, which is enough to verify.

Example:
  downbeat audit checkpoint --key audit.pem --output /mnt/vault/monday.checkpoint";

const AUDIT_SHOW_HELP: &str = "\
What leaves the engine (a program, a request, a blob) is a record of its own, written before it happens; what stays within \
(files, variables, clocks, random numbers) is told with the attempt's end, with how often. On a terminal, what is longer
than its lines ends in `…`; in a file or a pipe all of it is there.

Example:
  downbeat audit show
  downbeat audit show --run last --capability process
  downbeat audit show --refused --since 7d --json";

const AUDIT_REPORT_HELP: &str = "\
Example:
  downbeat audit report release
  downbeat audit report release --runs 100 --json";

const AUDIT_EXPORT_HELP: &str = "\
`otel` is what the file exporter of OpenTelemetry writes: an object of OTLP's logs in a line, here one for each run.

Example:
  downbeat audit export --since 1d > uses.jsonl
  downbeat audit export --format otel --run last";

/// Which uses and refusals are meant; all of them without a condition.
#[derive(Debug, Args)]
pub struct AuditFilter {
    /// Only of this run, by its id, part of it, or `last`
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Only of this step, with all that is within it: `suites`, `suites[3]`, `trial/measure`
    #[arg(long, value_name = "STEP")]
    pub step: Option<String>,
    /// Only of this capability
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Capability::ALL.map(Capability::word)))]
    pub capability: Option<String>,
    /// Only of this plugin, by its name in the workflow, or the beginning of its component's digest
    #[arg(long, value_name = "PLUGIN")]
    pub plugin: Option<String>,
    /// Only refusals
    #[arg(long)]
    pub refused: bool,
    /// Only since so long ago: `1h`, `7d`
    #[arg(long, value_name = "DURATION", value_parser = duration_ms)]
    pub since: Option<u64>,
}

/// `downbeat audit show`
#[derive(Debug, Args)]
pub struct AuditShow {
    /// Which.
    #[command(flatten)]
    pub filter: AuditFilter,
    /// Show each use by itself, and not like ones once, with how often
    #[arg(long)]
    pub all: bool,
    /// Print JSON lines
    #[arg(long)]
    pub json: bool,
}

/// `downbeat audit report`
#[derive(Debug, Args)]
pub struct AuditReport {
    /// Only of the workflow of this name; otherwise of all that have run
    pub workflow: Option<String>,
    /// How many of its latest runs are looked at
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub runs: usize,
    /// Print JSON lines: one for each workflow
    #[arg(long)]
    pub json: bool,
}

/// `downbeat audit export`
#[derive(Debug, Args)]
pub struct AuditExport {
    /// Which.
    #[command(flatten)]
    pub filter: AuditFilter,
    /// In which form
    #[arg(long, value_enum, default_value = "jsonl")]
    pub format: AuditFormat,
}

/// A form in which uses are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuditFormat {
    /// One object a line, as `show --json` has them
    Jsonl,
    /// Logs of OpenTelemetry: OTLP in JSON
    Otel,
}

/// `downbeat audit verify`
#[derive(Debug, Args)]
pub struct AuditVerify {
    /// Only this run, by its id, part of it, or `last`: not its place among the others
    #[arg(long, value_name = "RUN", conflicts_with = "checkpoint")]
    pub run: Option<String>,
    /// A file that `downbeat audit checkpoint` wrote
    #[arg(long, value_name = "FILE", requires = "key")]
    pub checkpoint: Option<PathBuf>,
    /// The key that the checkpoint was signed with: its public half is enough
    #[arg(long, value_name = "FILE", requires = "checkpoint")]
    pub key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `downbeat audit checkpoint`
#[derive(Debug, Args)]
pub struct AuditCheckpoint {
    /// The private key to sign with: Ed25519, in a PEM file
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Where to write it; otherwise it is printed
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print JSON that tells where it is
    #[arg(long, requires = "output")]
    pub json: bool,
}

/// `downbeat policy`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show the policies that hold here, and their rules
    #[command(after_help = "Example:\n  downbeat policy show\n  downbeat policy show --policy next.toml")]
    Show(PolicyShow),
    /// Check policy files before they are put in place
    #[command(after_help = "Example:\n  downbeat policy check policy.toml")]
    Check(PolicyCheck),
    /// Run a policy's own tests
    #[command(after_help = "Example:\n  downbeat policy test policy.test.toml")]
    Test(PolicyTest),
}

/// `downbeat policy show`
#[derive(Debug, Args)]
pub struct PolicyShow {}

/// `downbeat policy check`
#[derive(Debug, Args)]
pub struct PolicyCheck {
    /// Policy files
    #[arg(required = true, value_name = "FILE")]
    pub policies: Vec<PathBuf>,
}

/// `downbeat policy test`
#[derive(Debug, Args)]
pub struct PolicyTest {
    /// Files of tests, `policy.test.toml`
    #[arg(required = true, value_name = "FILE")]
    pub tests: Vec<PathBuf>,
}

/// `downbeat lock`
#[derive(Debug, Args)]
pub struct Lock {
    /// Workflow files; a folder stands for the workflows in it and below
    #[arg(required = true, value_name = "FILE")]
    pub workflows: Vec<PathBuf>,
    /// A file laid over the workflow's, as for an environment; may be repeated
    #[arg(long, value_name = "FILE")]
    pub with: Vec<PathBuf>,
    /// Write nothing; tell whether the lock is up to date
    #[arg(long, conflicts_with = "update")]
    pub check: bool,
    /// Take over what differs: of the plugin with this name or source, or of all
    #[arg(long, value_name = "PLUGIN", num_args = 0..=1)]
    pub update: Option<Option<String>>,
}

/// `downbeat diff`
#[derive(Debug, Args)]
pub struct Diff {
    /// A component or its source folder, a workflow, or a lock
    #[arg(value_name = "OLD")]
    pub old: PathBuf,
    /// Another one
    #[arg(value_name = "NEW")]
    pub new: PathBuf,
    /// How it is told
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// How something is told.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// For a terminal
    Text,
    /// For a pull request
    Markdown,
    /// For programs
    Json,
}

/// `downbeat key`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key: FILE signs, FILE.pub is for everybody; the public key is printed as policies have it
    #[command(after_help = "Example:\n  downbeat key new release.key")]
    New(KeyNew),
}

/// `downbeat key new`
#[derive(Debug, Args)]
pub struct KeyNew {
    /// Where the key is written; there has to be no such file
    pub file: PathBuf,
}

/// `downbeat sign`
#[derive(Debug, Args)]
pub struct Sign {
    /// The component, or its source folder
    pub component: PathBuf,
    /// The key, as `downbeat key new` or openssl wrote it
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// `downbeat verify`
#[derive(Debug, Args)]
pub struct Verify {
    /// The component, or its source folder
    pub component: PathBuf,
    /// A public key, as a file or as text (`ed25519:…`); may be repeated [default: the policies' signers]
    #[arg(long, value_name = "KEY")]
    pub key: Vec<String>,
}

/// `downbeat plugin`
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Build a plugin's source folder into a component
    #[command(
        after_help = "Example:\n  downbeat plugin build plugins/process\n  downbeat plugin build plugins/process --key release.key"
    )]
    Build(PluginBuild),
    /// Show what a component is: exports, imports, schemas, wants, size, digest
    #[command(after_help = INSPECT_HELP)]
    Inspect(PluginInspect),
    /// Hold the crates that components were compiled from against a database of advisories
    #[command(after_help = PLUGIN_CHECK_HELP)]
    Check(PluginCheck),
    /// Set up what is needed to build plugins, unless it is there
    #[command(after_help = "Example:\n  downbeat plugin toolchain\n  downbeat plugin toolchain javascript")]
    Toolchain(PluginToolchain),
}

/// `downbeat plugin toolchain`
#[derive(Debug, Args)]
pub struct PluginToolchain {
    /// The language that plugins are written in
    #[arg(value_enum, default_value = "rust")]
    pub language: Language,
}

/// A language that is built from source.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Language {
    /// A Rust with the standard library of wasm32-wasip2
    Rust,
    /// Node.js with npm
    Javascript,
}

const INSPECT_HELP: &str = "\
Example:
  downbeat plugin inspect plugins/process
  downbeat plugin inspect step.wasm --json
  downbeat plugin inspect plugins/http --crates";

const PLUGIN_CHECK_HELP: &str = "\
Example:
  downbeat plugin check plugins/http plugins/jq --advisories ../advisory-db
  downbeat plugin check step.wasm --advisories ../advisory-db --accept RUSTSEC-2026-0001

The database is a clone of https://github.com/rustsec/advisory-db; nothing is fetched. The exit
code is 1 if an advisory tells of a vulnerability, 0 if none does, and 3 if that can't be told: a
component has no list of its crates, or an advisory can't be read.";

/// `downbeat plugin build`
#[derive(Debug, Args)]
pub struct PluginBuild {
    /// The folder with the plugin's Cargo.toml or package.json
    pub folder: PathBuf,
    /// Sign the component with this key, and attest what it was built from (SLSA provenance)
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// `downbeat plugin inspect`
#[derive(Debug, Args)]
pub struct PluginInspect {
    /// A `.wasm` file, or a source folder (which is built first)
    pub plugin: PathBuf,
    /// List the crates that it was compiled from as well
    #[arg(long, conflicts_with = "json")]
    pub crates: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `downbeat plugin check`
#[derive(Debug, Args)]
pub struct PluginCheck {
    /// `.wasm` files, or source folders (which are built first)
    #[arg(required = true)]
    pub plugins: Vec<PathBuf>,
    /// The folder of a RustSec advisory database
    #[arg(long, value_name = "FOLDER")]
    pub advisories: PathBuf,
    /// An advisory that is known and does not count; may be repeated
    #[arg(long, value_name = "ID")]
    pub accept: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::{Command as Definition, CommandFactory as _, Parser as _};

    use super::CommandLine;

    #[test]
    fn the_definition_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_examples_that_are_right() {
        let mut walked = 0;
        walk(&CommandLine::command(), &mut |command| {
            walked += 1;
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  downbeat ")).collect();
            assert!(help.contains("Example:\n  downbeat "), "{} has no example", command.get_name());
            let own = examples.iter().filter(|example| example.contains(&format!(" {}", command.get_name())));
            assert_eq!(own.count(), examples.len(), "{}: an example of another command", command.get_name());
            for example in examples {
                let words = words(example);
                CommandLine::try_parse_from(&words).unwrap_or_else(|error| panic!("{example}: {error}"));
            }
        });
        assert!(walked >= 13, "{walked} commands were walked");
    }

    #[test]
    fn every_argument_says_what_it_is() {
        walk(&CommandLine::command(), &mut |command| {
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        });
    }

    /// Every command that does something.
    fn walk(command: &Definition, each: &mut impl FnMut(&Definition)) {
        match command.has_subcommands() {
            true => command.get_subcommands().for_each(|command| walk(command, each)),
            false => each(command),
        }
    }

    /// The words of a line as a shell would hand them over: without comments and redirections, quotes taken off.
    fn words(line: &str) -> Vec<String> {
        let line = [" #", " > ", " && "].into_iter().fold(line, |line, end| line.split(end).next().unwrap());
        let quoted = line.split('"').enumerate();
        let mut words = Vec::new();
        for (index, part) in quoted {
            match index % 2 {
                0 => words.extend(part.split_whitespace().map(str::to_owned)),
                _ => words.push(part.to_owned()),
            }
        }
        words
    }
}
