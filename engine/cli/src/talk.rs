//! What the program writes: talk on standard error, data on standard output.
//!
//! Much of it came from files, components and native programs, so whatever could move a cursor is made visible on the way;
//! only our own colours pass. Talk whose reader has gone away is dropped, as it must not end a run. Data that can't be
//! written is a fault; a reader who has had enough of it (`| head`) ends the command, without one.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc;
use std::time::Duration;

use anstream::ColorChoice;
use downbeat_workflow::text::{visible, visible_json};

use crate::exit::Fault;

/// Characters of a terminal's lines where it does not say how many: as terminals always had.
const TERMINAL_WIDTH: usize = 80;

/// Says one line, or several, with our own colours where they are wanted.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(anstream::stderr().lock(), "{}", tamed(&line.to_string()));
}

/// Says it, but does not wait longer than this for a reader who has stopped reading.
pub(crate) fn say_within(limit: Duration, line: String) {
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        say(line);
        let _ = said.send(());
    });
    let _ = heard.recv_timeout(limit);
}

/// Takes the line above the cursor away, on a terminal.
pub(crate) fn erase_line_above() {
    let _ = io::stderr().lock().write_all(b"\x1b[1A\r\x1b[2K");
}

/// Decides about colours for the whole process, before anything is said. `auto` is: on a terminal, unless `NO_COLOR` is
/// set or `TERM` is `dumb`; also elsewhere if `CLICOLOR_FORCE` is set.
pub(crate) fn choose_colours(choice: clap::ColorChoice) {
    let choice = match choice {
        clap::ColorChoice::Auto => ColorChoice::Auto,
        clap::ColorChoice::Always => ColorChoice::Always,
        clap::ColorChoice::Never => ColorChoice::Never,
    };
    choice.write_global();
}

/// Whether talk has colours.
pub(crate) fn has_colours() -> bool {
    !matches!(anstream::AutoStream::choice(&io::stderr()), ColorChoice::Never)
}

/// Writes text for people.
pub(crate) fn put(text: &str) -> Result<(), Fault> {
    written(io::stdout().lock().write_all(visible(text, true).as_bytes()))
}

/// Writes text for people that has colours of ours where they are wanted.
pub(crate) fn put_painted(text: &str) -> Result<(), Fault> {
    written(io::stdout().lock().write_all(tamed(text).as_bytes()))
}

/// Whether data for people has colours.
pub(crate) fn paints() -> bool {
    !matches!(anstream::AutoStream::choice(&io::stdout()), ColorChoice::Never)
}

/// Whether somebody reads the data right away, in lines as wide as a terminal.
pub(crate) fn is_read_on_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Of how many characters the lines are of which somebody reads the data right away; `None` if nobody does on a terminal.
pub(crate) fn terminal_width() -> Option<usize> {
    let known = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col));
    is_read_on_terminal().then(|| known.filter(|columns| *columns > 0).unwrap_or(TERMINAL_WIDTH))
}

/// Writes JSON and a line feed.
pub(crate) fn put_json(json: &str) -> Result<(), Fault> {
    let line = format!("{}\n", visible_json(json));
    written(io::stdout().lock().write_all(line.as_bytes()))
}

fn written(result: io::Result<()>) -> Result<(), Fault> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Fault::enough()),
        Err(error) => Err(Fault::engine(format!("standard output can't be written: {error}"))),
    }
}

/// Everything visible but our own colours: an escape, `[`, digits and semicolons, `m`.
fn tamed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&visible(&rest[..at], true));
        let after = &rest[at + 1..];
        let length = after.strip_prefix('[').and_then(|inside| {
            let digits = inside.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
            (inside.as_bytes().get(digits) == Some(&b'm')).then_some(digits + 2)
        });
        match length {
            Some(length) => out.push_str(&rest[at..=at + length]),
            None => out.push_str("\\u{1b}"),
        }
        rest = &after[length.unwrap_or(0)..];
    }
    out.push_str(&visible(rest, true));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_nothing_else_that_moves_a_terminal() {
        assert_eq!(tamed("a \u{1b}[1;31mred\u{1b}[0m b"), "a \u{1b}[1;31mred\u{1b}[0m b");
        assert_eq!(tamed("\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31"), "\\u{1b}]0;title\\u{7}\\u{1b}[2J\\u{1b}[31");
        assert_eq!(tamed("line\none\u{202e}"), "line\none\\u{202e}");
        assert_eq!(tamed("\u{1b}"), "\\u{1b}");
    }
}
