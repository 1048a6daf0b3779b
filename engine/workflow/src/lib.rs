//! The pure core of Downbeat: text becomes a plan; a plan and its events make a run; a run says what should happen.
//!
//! Nothing here reads a clock, starts a thread, touches a file or knows an async runtime: the caller hands in texts,
//! descriptions and the time. The same [`Run`](run::Run) is therefore driven by the live engine, by crash recovery, by every test
//! in virtual time, and later by simulation.
//!
//! ```text
//! workflow.toml ─Spec::parse→ Spec ─resolve→ Plan ─┐
//!                                                  ├─ Run::apply(record), Run::next(now) → [Action]
//! journal ── Record* ──────────────────────────────┘
//! ```
//!
//! In reading order: the words of the boundary ([`json`], [`description`], [`capability`]), the text ([`spec`],
//! [`diagnostic`]), what is true (`schema`, [`rule`], [`plan`], [`resolve`]), what happened ([`event`]) and what
//! follows ([`run`], and before pools [`line`](mod@line)), what an attempt may do ([`permission`], [`policy`], [`lock`](mod@lock), and
//! [`review`] and [`advisory`] for those who have to look at it),
//! with [`cache`] for answers that are kept, [`preview`] for those who look ahead, [`answer`] for those who rehearse,
//! [`history`] and [`explain`] for those who look back, and [`replay`] and [`rerun`] for those who do it again.

pub mod advisory;
pub mod answer;
pub mod cache;
pub mod capability;
pub mod description;
pub mod diagnostic;
pub mod difference;
pub mod event;
pub mod explain;
pub mod foreign;
pub mod group;
pub mod history;
pub mod inputs;
pub mod json;
pub mod line;
pub mod lock;
pub mod log;
pub mod permission;
pub mod plan;
pub mod policy;
pub mod preview;
mod region;
pub mod replay;
pub mod rerun;
pub mod resolve;
pub mod review;
pub mod rule;
pub mod run;
mod schema;
pub mod scope;
pub mod secret;
pub mod spec;
pub mod text;
pub mod units;
pub mod written;
