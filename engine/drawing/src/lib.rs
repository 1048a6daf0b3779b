//! Draws workflows and runs: as SVG to look at, as DOT and Mermaid for other programs.
//!
//! A plan, or a run with its history, becomes a [`Picture`]: what is to be seen, without a place or a colour. [`svg`] lays it
//! out and draws it, [`dot`] and [`mermaid`] leave that to Graphviz and Mermaid. All of it is pure: the same plan and the
//! same records give the same bytes.
//!
//! ```text
//! Plan ────────────┐              ┌─ layout ─ svg
//!                  ├─► Picture ───┼─ dot
//! Run + History ───┘              └─ mermaid
//! ```

mod dot;
mod layout;
mod mermaid;
mod picture;
mod svg;
mod text;

pub use dot::dot;
pub use mermaid::mermaid;
pub use picture::Picture;
pub use svg::{Direction, STEPS_DRAWN_MAX, TooLarge, svg};
