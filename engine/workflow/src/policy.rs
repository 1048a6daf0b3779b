//! A policy: what workflows may ask for, decided by those who answer for the machine and not by those who write the
//! workflows. It is a file of its own, found outside of the workflow's folder; here is what it says (`read`), what it
//! finds in a plan (`judge`), and the tests that it may have of itself (`cases`).
//!
//! Rules only narrow: every rule of every policy that speaks of a step has to be content with it, whatever the others
//! say, so that two policies together allow what both allow. Nothing here opens a file; a policy that can't be read is for
//! whoever looks for it to tell, and to refuse everything.

mod cases;
mod judge;
mod read;

use std::ops::Range;

pub use cases::{Case, Cases, Outcome};
pub use judge::{CHANGED, Candidate, Facts, Outdated, apply, names, paths, programs, unbuildable, unsigned};

use crate::capability::{Capability, Grant, Protection};
use crate::description::Digest;
use crate::diagnostic::Diagnostic;
use crate::spec::Source;

/// What the name of a policy's own tests ends with.
pub const TESTS_SUFFIX: &str = ".test.toml";

/// A policy's text, understood.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its path as it is told, and its text.
    pub source: Source,
    /// Of its text.
    pub digest: Digest,
    /// Its rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// Who may sign, by name.
    pub signers: Vec<Signer>,
    /// What is hardly meant in it.
    pub warnings: Vec<Diagnostic>,
}

/// The most signers of a policy. 128: more people than can be told apart by whether they may sign. Each of the
/// statements beside a component that are looked at is held against every key.
pub const SIGNERS_MAX: usize = 128;

/// What happens to what a rule is not content with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The workflow is refused.
    #[default]
    Enforce,
    /// It is taken away, and the workflow runs without it. What can't be taken away, such as who signed a component, refuses
    /// the workflow.
    Withhold,
    /// It is told, and the workflow runs with it.
    Report,
}

impl Mode {
    const WORDS: [(&'static str, Mode); 3] =
        [("enforce", Mode::Enforce), ("withhold", Mode::Withhold), ("report", Mode::Report)];

    /// How it is written.
    pub fn word(self) -> &'static str {
        Mode::WORDS[self as usize].0
    }
}

/// One of `[rules.NAME]`.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name, with its place.
    pub name: String,
    /// Where the name stands.
    pub span: Range<usize>,
    /// `mode`, or the file's.
    pub mode: Mode,
    /// `description`: why it is there.
    pub description: String,
    /// `for`: the steps that it speaks of; all of them without it.
    pub speaks_of: Scope,
    /// `except`: those among them of which it does not; none without it.
    pub except: Option<Scope>,
    /// `allow`: nothing else is.
    pub allow: Option<At<Vec<Allowed>>>,
    /// `forbid`: none of it is.
    pub forbid: Option<At<Vec<Allowed>>>,
    /// `limit`: the highest that each may be set to.
    pub limits: Vec<At<Bound>>,
    /// `sources`: where a component may come from, as patterns over its absolute path.
    pub sources: Option<At<Vec<String>>>,
    /// `signers`: one of these must have signed the component.
    pub signers: Option<At<Vec<String>>>,
    /// `approvals`: nothing is done before one of these has approved it.
    pub approvals: Option<At<Vec<String>>>,
    /// `require`: the protections without which no native program is started.
    pub require: Vec<Protection>,
}

/// A part of a rule, and where its key stands.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// Bytes of the source.
    pub span: Range<usize>,
    /// The part.
    pub value: T,
}

/// Which steps. A list that is not there is of no matter; of one that is, one pattern has to fit.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Names of workflows, of the run's or of the sub-workflow's that the step is in; or, with a `/`, absolute folders.
    pub workflow: Option<Vec<String>>,
    /// Names of components, `sha256:…` digests of theirs, or, with a `/`, absolute paths.
    pub plugin: Option<Vec<String>>,
    /// Who signed the component.
    pub signer: Option<Vec<String>>,
    /// What is laid over the workflow: `prod` of `prod.with.toml`.
    pub environment: Option<Vec<String>>,
}

/// What `allow` and `forbid` have of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// All of it.
    All(Capability),
    /// This, in which names may be patterns.
    One(Grant),
}

/// An upper bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Which, as `limit` has it, or `timeout`.
    pub name: &'static str,
    /// In the limit's own unit.
    pub most: u64,
}

/// Somebody whose signature means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// How the policy calls him.
    pub name: String,
    /// His public key: `ed25519:` and its 32 bytes in base64.
    pub key: String,
}

impl Policy {
    /// Reads a file, collecting everything that is wrong with it. There is a policy if nothing is.
    pub fn parse(source: Source) -> Result<Policy, (Source, Vec<Diagnostic>)> {
        read::policy(source)
    }

    /// The line of a place in it, from 1.
    pub fn line(&self, span: &Range<usize>) -> usize {
        self.source.text.as_bytes()[..span.start].iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// A rule as it is told: its name, the file and the line.
    pub fn told(&self, rule: &Rule, span: &Range<usize>) -> String {
        format!("rule `{}` of {}:{}", rule.name, self.source.path, self.line(span))
    }
}
