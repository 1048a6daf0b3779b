//! Exit codes, documented here and nowhere else, and the faults that lead to them.

use std::process::ExitCode;
use std::time::Duration;

use owo_colors::OwoColorize as _;

use crate::talk;

/// How the program ends. The numbers are part of its interface; of a fault of a file and one of the engine, the greater
/// is the graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Exit {
    /// 0: it worked; of `run` and `resume`: the workflow succeeded.
    Success = 0,
    /// 1: the workflow ran and failed, or timed out; of `test`: a test failed; of `plugin check`: there is an advisory.
    WorkflowFailed = 1,
    /// 2: the command line is wrong.
    Usage = 2,
    /// 3: the workflow file, an input or a plugin is wrong; nothing was run.
    Refused = 3,
    /// 4: the engine could not do its work: the journal can't be written, another process drives it, a disk is full.
    Engine = 4,
    /// 5: the run was cancelled.
    Cancelled = 5,
    /// 6: of `plan --diff`, `diff`, `lock`: something has changed; of `replay`: the plan does something else; of
    /// `audit verify`: the journal is not as it was written.
    Changed = 6,
    /// 7: another run of its group was not over, and the workflow says `when-busy = "reject"`; nothing was run.
    Rejected = 7,
    /// 8: a policy forbids it, or can't be read; nothing was run.
    Forbidden = 8,
    /// 9: of `diff`: more may be done than before.
    Wider = 9,
    /// 130: interrupted (Ctrl-C, SIGTERM) while a run was in flight; it can be resumed.
    Interrupted = 130,
}

/// The same table, for `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  it worked; of run and resume: the workflow succeeded
    1  the workflow ran and failed, or timed out; of test, plugin check: something did not pass
    2  the command line is wrong
    3  the workflow file, an input or a plugin is wrong; nothing was run
    4  the engine could not do its work (journal, disk, another process drives the runs)
    5  the run was cancelled
    6  of plan --diff, diff, lock, audit verify, replay: something has changed
    7  another run of its group was not over, and the workflow rejects it then; nothing was run
    8  a policy forbids it, or can't be read; nothing was run
    9  of diff: more may be done than before
  130  interrupted by Ctrl-C or SIGTERM; the run can be resumed";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command could not do what it was asked for.
#[derive(Debug)]
pub struct Fault {
    /// The exit code.
    pub exit: Exit,
    /// What, where and why.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Fault {
    /// A fault without a hint.
    pub fn new(exit: Exit, message: impl ToString) -> Fault {
        Fault { exit, message: message.to_string(), hint: None }
    }

    /// The engine can't do its work.
    pub fn engine(message: impl ToString) -> Fault {
        Fault::new(Exit::Engine, message)
    }

    /// What was handed in is wrong.
    pub fn refused(message: impl ToString) -> Fault {
        Fault::new(Exit::Refused, message)
    }

    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Fault {
        self.hint = Some(hint.into());
        self
    }

    /// Not a fault really: whoever reads our standard output has had enough of it (`| head`). The command is done.
    pub(crate) fn enough() -> Fault {
        Fault::new(Exit::Success, "")
    }

    /// Whether it is only that the reader has had enough.
    pub(crate) fn is_enough(&self) -> bool {
        self.exit == Exit::Success
    }

    /// All is well if it is only that the reader has had enough.
    pub(crate) fn unless_enough(self) -> Result<(), Fault> {
        if self.is_enough() { Ok(()) } else { Err(self) }
    }

    /// Tells the person. An empty message means that everything has been said.
    pub fn print(&self) {
        if !self.message.is_empty() {
            talk::say(self.text());
        }
    }

    /// Tells the person, but does not wait longer than this for somebody who has stopped reading. What is left is the
    /// exit code.
    pub(crate) fn said_within(self, limit: Duration) -> Fault {
        talk::say_within(limit, self.text());
        Fault { message: String::new(), hint: None, ..self }
    }

    fn text(&self) -> String {
        let mut text = format!("{} {}", "error:".red().bold(), self.message);
        if let Some(hint) = &self.hint {
            text.push_str(&format!("\n{} {hint}", "hint:".cyan().bold()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_help_lists_every_code() {
        let codes = [
            Exit::Success,
            Exit::WorkflowFailed,
            Exit::Usage,
            Exit::Refused,
            Exit::Engine,
            Exit::Cancelled,
            Exit::Changed,
            Exit::Rejected,
            Exit::Forbidden,
            Exit::Wider,
            Exit::Interrupted,
        ];
        let listed: Vec<u8> =
            EXIT_CODES.lines().skip(1).map(|line| line.split_whitespace().next().unwrap().parse().unwrap()).collect();
        assert_eq!(listed, codes.map(|code| code as u8));
    }
}
