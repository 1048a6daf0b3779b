//! Runs without a performer: a plan, answers that somebody wrote down or drew, and the records that follow from them, in
//! virtual time. What decides is the same `Run` as live; what it decides about costs microseconds.
//!
//! ```text
//! x.test.toml ─TestFile::parse→ TestFile ─resolve→ Suite ─┐
//!                                                         ├─ rehearse → Rehearsal ─judge→ [Diagnostic]
//! workflow.toml ─────────────────────────→ Plan ──────────┘                 └────→ Coverage
//! ```
//!
//! In reading order: the driver ([`mod@rehearse`]), the text of tests ([`file`]), what it means for a plan ([`suite`]), whether
//! how steps are named ([`path`]), runs that tests answer from ([`recorded`]), whether
//! it came true ([`verdict`]), what was never tried ([`coverage`]), and the report that CI systems read ([`junit`]).
//! Nothing here reads a clock or touches a file.

pub mod coverage;
pub mod file;
pub mod junit;
pub mod path;
pub mod recorded;
pub mod rehearse;
pub mod suite;
pub mod timeline;
pub mod verdict;
