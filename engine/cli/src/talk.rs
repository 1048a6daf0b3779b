//! Talk: what is said to a person on standard error. A reader that has gone away must not end a run, so that a line which
//! can't be written is dropped; colours are stripped where they are not wanted (a pipe, `NO_COLOR`).

use std::fmt::Display;
use std::io::Write as _;

/// Says one line, or several.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{line}");
}
