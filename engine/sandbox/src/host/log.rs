//! The interface `log`, and the one place where an attempt's lines are made visible, counted and bounded: the guest's
//! messages, its standard output and error, and the output of its native programs all come through here.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use downbeat_workflow::log::Level;

use crate::attempt::Observer;
use crate::bindings::downbeat::step::log as wit;
use crate::replace::{Pieces, Replacer};
use crate::store::State;
use crate::text;

/// A line is cut into several after this many bytes, so that output without line ends is not held back in memory.
const LINE_MAX: usize = 64 << 10;

/// Lines of one attempt that are kept, whatever their length. Some 10,000 fill the limit `log` by default. Each is a row of the
/// journal: a mebibyte of line ends in one message would keep a thread busy for many seconds, and nothing interrupts it.
const LINES_MAX: u64 = 16_384;

/// Lines of trouble that are remembered for the message of a trap: a panic's place and text, or the end of a traceback.
/// Apart from the limit `log`, which a chatty guest has used up by the time it breaks down.
const TROUBLE_LINES: usize = 32;

/// Bytes of each of them, and of all of them in a message: a panic's text is for reading, a dump belongs into the log.
const TROUBLE_LINE_MAX: usize = 1024;
const LAST_WORDS_MAX: usize = 4096;

/// One attempt's log.
pub(crate) struct Log {
    observer: Arc<dyn Observer>,
    /// The limit `log`.
    max: u64,
    /// Bytes that came, kept or not.
    offered: AtomicU64,
    /// Bytes and lines that were kept.
    kept: AtomicU64,
    lines: AtomicU64,
    stdout: Mutex<(Pieces, Lines)>,
    stderr: Mutex<(Pieces, Lines)>,
    /// The guest's messages, where there are secrets to be looked for: one may be cut by the end of a message.
    messages: Mutex<Messages>,
    /// Blots secrets out of all that comes.
    redactor: Option<Arc<Replacer>>,
    /// The latest lines of level `error` and of standard error.
    trouble: Mutex<VecDeque<String>>,
}

impl Log {
    pub(crate) fn new(observer: Arc<dyn Observer>, max: u64) -> Log {
        Log {
            observer,
            max,
            offered: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            stdout: Mutex::new((Pieces::new(None), Lines::new(Level::Info))),
            stderr: Mutex::new((Pieces::new(None), Lines::new(Level::Warn))),
            messages: Mutex::new(Messages { pieces: Pieces::new(None), line: Vec::new(), level: Level::Info }),
            redactor: None,
            trouble: Mutex::default(),
        }
    }

    /// The same, with secrets blotted out.
    pub(crate) fn blotting(mut self, redactor: Option<Arc<Replacer>>) -> Log {
        for lines in [&mut self.stdout, &mut self.stderr] {
            lines.get_mut().unwrap_or_else(PoisonError::into_inner).0 = Pieces::new(redactor.clone());
        }
        self.messages.get_mut().unwrap_or_else(PoisonError::into_inner).pieces = Pieces::new(redactor.clone());
        Log { redactor, ..self }
    }

    /// What blots secrets out of all that the attempt says.
    pub(crate) fn redactor(&self) -> Option<&Arc<Replacer>> {
        self.redactor.as_ref()
    }

    /// A text without secrets.
    pub(crate) fn blotted<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.redactor.as_ref().map_or(Cow::Borrowed(text), |redactor| redactor.text(text))
    }

    /// Keeps one line, or as much of it as the limit still takes. A line counts its bytes and one more for its end, so
    /// that a flood of empty lines ends as well. What there is no room for is counted and not looked at: a guest may call
    /// this with tens of MiB at a time, and nothing interrupts a host function.
    pub(crate) fn line(&self, level: Level, line: &str) {
        let room = usize::try_from(self.room()).unwrap_or(usize::MAX);
        let (line, rest) = line.split_at(line.floor_char_boundary(room));
        let line = text::visible(line, false);
        let size = (line.len() + rest.len() + 1) as u64;
        let before = self.offered.fetch_add(size, Ordering::Relaxed);
        let room = self.max.saturating_sub(before);
        if room == 0 || self.lines.fetch_add(1, Ordering::Relaxed) >= LINES_MAX {
            return;
        }
        self.kept.fetch_add(size.min(room), Ordering::Relaxed);
        let kept = if size <= room { &line[..] } else { &line[..line.floor_char_boundary(room as usize)] };
        self.observer.log(level, kept);
    }

    /// Bytes that the bounds still take.
    fn room(&self) -> u64 {
        match self.lines.load(Ordering::Relaxed) {
            ..LINES_MAX => self.max.saturating_sub(self.offered.load(Ordering::Relaxed)),
            _ => 0,
        }
    }

    fn message(&self, level: Level, message: &str) {
        if level == Level::Error {
            // All of it, also what there is no room for: a secret that goes over many lines is known by the whole.
            let blotted = self.blotted(message);
            let last: Vec<&str> = blotted.lines().rev().take(TROUBLE_LINES).collect();
            last.into_iter().rev().for_each(|line| self.in_trouble(line));
        }
        let unseen = match &self.redactor {
            Some(redactor) => self.looked_through(level, message, redactor.longest()),
            None => self.as_it_is(level, message),
        };
        if unseen > 0 {
            let unfinished = u64::from(!message.ends_with('\n'));
            self.offered.fetch_add(unseen as u64 + unfinished, Ordering::Relaxed);
        }
    }

    /// Keeps the lines of a message for which there is room; the number of bytes of the others.
    fn as_it_is(&self, level: Level, message: &str) -> usize {
        let mut rest = message;
        while self.room() > 0
            && let Some(line) = rest.split_inclusive('\n').next()
        {
            rest = &rest[line.len()..];
            let line = line.strip_suffix('\n').unwrap_or(line);
            self.line(level, line.strip_suffix('\r').unwrap_or(line));
        }
        rest.len()
    }

    /// The same where secrets are looked for, the longest of which takes so many bytes. What there is no room for is not looked
    /// through either.
    fn looked_through(&self, level: Level, message: &str, longest: usize) -> usize {
        let room = usize::try_from(self.room()).unwrap_or(usize::MAX);
        let seen = match room {
            0 => "",
            _ => &message[..message.floor_char_boundary(room.saturating_add(longest))],
        };
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.is_empty() {
            messages.push(level, seen, |level, line| self.line(level, line));
            if seen.len() < message.len() {
                messages.pieces.cut();
            }
            if !seen.ends_with('\n') {
                messages.push(level, "\n", |level, line| self.line(level, line));
            }
        }
        message.len() - seen.len()
    }

    /// A piece of the guest's standard output or error.
    pub(crate) fn stream(&self, stream: Stream, bytes: &[u8]) {
        let mut streamed = self.pieces(stream);
        let (pieces, lines) = &mut *streamed;
        pieces.push(bytes, |clean| lines.push(clean, |level, line| self.spoken(stream, level, line)));
    }

    /// Lets go of unfinished lines. To be called when the attempt has ended.
    pub(crate) fn flush(&self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut streamed = self.pieces(stream);
            let (pieces, lines) = &mut *streamed;
            pieces.finish(|clean| lines.push(clean, |level, line| self.spoken(stream, level, line)));
            lines.flush(|level, line| self.spoken(stream, level, line));
        }
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.flush(|level, line| self.line(level, line));
    }

    fn spoken(&self, stream: Stream, level: Level, line: &str) {
        if matches!(stream, Stream::Stderr) {
            self.in_trouble(line);
        }
        self.line(level, line);
    }

    fn in_trouble(&self, line: &str) {
        // Advice to the person at a terminal; where it broke down is in the backtrace.
        if line.trim().is_empty() || line.starts_with("note: run with `RUST_BACKTRACE=") {
            return;
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if is_panic(line) {
            trouble.clear();
        } else if trouble.len() == TROUBLE_LINES {
            // The beginning of a panic says more than the end of its stack.
            if trouble.front().is_some_and(|first| is_panic(first)) {
                return;
            }
            trouble.pop_front();
        }
        trouble.push_back(text::bounded(line.trim(), TROUBLE_LINE_MAX).into_owned());
    }

    /// What the guest said last about its trouble, in one line: a panic from its beginning, else
    /// the last line alone. For people: why a guest broke down is in its own words or nowhere.
    pub(crate) fn last_words(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let from = if is_panic(trouble.front()?) { 0 } else { trouble.len() - 1 };
        let words = trouble.range(from..).map(String::as_str).collect::<Vec<_>>().join(" ");
        Some(text::message(&words, LAST_WORDS_MAX))
    }

    /// Bytes kept and bytes dropped.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let kept = self.kept.load(Ordering::Relaxed);
        (kept, self.offered.load(Ordering::Relaxed).saturating_sub(kept))
    }

    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        self.observer.clone()
    }

    fn pieces(&self, stream: Stream) -> MutexGuard<'_, (Pieces, Lines)> {
        let lines = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a panic begins with this line, as Rust and Go write it.
fn is_panic(line: &str) -> bool {
    line.contains("panicked at ") || line.starts_with("panic: ")
}

/// The guest's two output streams.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// The guest's messages, one after the other, on their way to becoming lines.
struct Messages {
    pieces: Pieces,
    /// What has no line end yet.
    line: Vec<u8>,
    /// The level of the message with which that began.
    level: Level,
}

impl Messages {
    /// Hands over each line that `text` completes, at the level of the message in which it began.
    fn push(&mut self, level: Level, text: &str, line: impl FnMut(Level, &str)) {
        if self.line.is_empty() && !self.pieces.holds() {
            self.level = level;
        }
        let Messages { pieces, line: unfinished, level: first } = self;
        let mut line = lines_of(unfinished, first, level, line);
        pieces.push(text.as_bytes(), |clean| line(clean));
    }

    fn flush(&mut self, mut line: impl FnMut(Level, &str)) {
        let Messages { pieces, line: unfinished, level } = self;
        let last = *level;
        pieces.finish(|clean| lines_of(unfinished, level, last, &mut line)(clean));
        if !unfinished.is_empty() {
            line(*level, &String::from_utf8_lossy(&std::mem::take(unfinished)));
        }
    }
}

/// Takes pieces of messages and hands over the lines that they complete: the first at the level `first`, which is `level` from then on.
fn lines_of(
    unfinished: &mut Vec<u8>,
    first: &mut Level,
    level: Level,
    mut line: impl FnMut(Level, &str),
) -> impl FnMut(&[u8]) {
    move |bytes| {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            unfinished.extend_from_slice(piece);
            if let Some(whole) = unfinished.strip_suffix(b"\n") {
                line(*first, &String::from_utf8_lossy(strip_return(whole)));
                unfinished.clear();
                *first = level;
            }
        }
    }
}

/// Bytes on their way to becoming lines.
pub(crate) struct Lines {
    level: Level,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(level: Level) -> Lines {
        Lines { level, rest: Vec::new() }
    }

    /// Hands over each line that `bytes` completes.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(Level, &str)) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            if self.rest.is_empty() {
                line(self.level, &String::from_utf8_lossy(strip_return(&bytes[..end])));
            } else {
                self.rest.extend_from_slice(&bytes[..end]);
                line(self.level, &String::from_utf8_lossy(strip_return(&self.rest)));
                self.rest.clear();
            }
            bytes = &bytes[end + 1..];
        }
        self.rest.extend_from_slice(bytes);
        if self.rest.len() >= LINE_MAX {
            self.flush(line);
        }
    }

    /// Hands over what has no line end yet.
    pub(crate) fn flush(&mut self, mut line: impl FnMut(Level, &str)) {
        if !self.rest.is_empty() {
            line(self.level, &String::from_utf8_lossy(&self.rest));
            self.rest.clear();
        }
    }
}

fn strip_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl wit::Host for State {
    fn write(&mut self, level: wit::Level, message: String) {
        let level = match level {
            wit::Level::Trace => Level::Trace,
            wit::Level::Debug => Level::Debug,
            wit::Level::Info => Level::Info,
            wit::Level::Warn => Level::Warn,
            wit::Level::Error => Level::Error,
        };
        self.log.message(level, &message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<String>>);

    impl Observer for Kept {
        fn log(&self, level: Level, line: &str) {
            self.0.lock().unwrap().push(format!("{level:?} {line}"));
        }

        fn progress(&self, _: u64, _: Option<u64>, _: &str) {}
    }

    fn check(max: u64, write: impl FnOnce(&Log), lines: &[&str], totals: (u64, u64)) {
        let kept = Arc::new(Kept::default());
        let log = Log::new(kept.clone(), max);
        write(&log);
        log.flush();
        assert_eq!(*kept.0.lock().unwrap(), lines);
        assert_eq!(log.totals(), totals);
    }

    #[test]
    fn a_message_of_several_lines_is_several_lines() {
        check(100, |log| log.message(Level::Warn, "a\nb\r\n"), &["Warn a", "Warn b"], (4, 0));
    }

    #[test]
    fn what_comes_after_the_limit_is_dropped_and_counted() {
        let flood = |log: &Log| (0..3).for_each(|_| log.line(Level::Info, "abcd"));
        check(8, flood, &["Info abcd", "Info abc"], (8, 7));
        check(2, |log| (0..4).for_each(|_| log.line(Level::Info, "")), &["Info ", "Info "], (2, 2));
    }

    #[test]
    fn output_becomes_lines_whatever_pieces_it_comes_in() {
        let pieces = |log: &Log| {
            log.stream(Stream::Stdout, b"on");
            log.stream(Stream::Stderr, b"oops");
            log.stream(Stream::Stdout, b"e\ntwo\r\nthr");
        };
        check(100, pieces, &["Info one", "Info two", "Info thr", "Warn oops"], (17, 0));
    }

    #[test]
    fn a_message_beyond_the_limit_is_counted_without_being_looked_at() {
        check(3, |log| log.message(Level::Info, "ab\ncd\n\u{1b}[2J"), &["Info ab"], (3, 8));
        check(2, |log| log.message(Level::Info, "\u{1b}\u{1b}\u{1b}"), &["Info \\u"], (2, 12));
        check(0, |log| log.message(Level::Error, "one\ntwo"), &[], (0, 8));
    }

    const SECRET: &str = "0123456789abcdef";

    /// What is kept where a secret is to be blotted out.
    fn check_blotted(max: u64, write: impl FnOnce(&Log), lines: &[&str]) {
        let kept = Arc::new(Kept::default());
        let log = Log::new(kept.clone(), max).blotting(crate::redact::redactor([("key", SECRET)]).map(Arc::new));
        write(&log);
        log.flush();
        assert_eq!(*kept.0.lock().unwrap(), lines);
    }

    #[test]
    fn a_secret_is_found_across_messages_and_lines_keep_their_levels() {
        let (start, end) = SECRET.split_at(7);
        let messages = |texts: &[(Level, &str)]| {
            let texts: Vec<_> = texts.iter().map(|(level, text)| (*level, (*text).to_owned())).collect();
            move |log: &Log| texts.iter().for_each(|(level, text)| log.message(*level, text))
        };
        use Level::{Info, Warn};
        check_blotted(
            100,
            messages(&[(Info, "a"), (Warn, ""), (Warn, "b\n"), (Info, "c\r\nd")]),
            &["Info a", "Warn b", "Info c", "Info d"],
        );
        check_blotted(100, messages(&[(Warn, start), (Info, end), (Info, "z")]), &["Warn [secret key]", "Info z"]);
        check_blotted(
            100,
            messages(&[(Warn, start), (Info, "else"), (Info, "z")]),
            &["Warn 0123456", "Info else", "Info z"],
        );
        check_blotted(100, messages(&[(Warn, "x 01"), (Info, &SECRET[2..])]), &["Warn x 01", "Info [secret key]"]);
        check_blotted(100, messages(&[(Warn, start)]), &["Warn 0123456"]);
    }

    #[test]
    fn no_beginning_of_a_secret_is_kept_where_there_is_no_room_for_more() {
        let redactor = crate::redact::redactor([("key", SECRET)]).map(Arc::new).unwrap();
        let room = 40;
        let spaced = |text: &str, gap: usize| text.chars().map(String::from).collect::<Vec<_>>().join(&" ".repeat(gap));
        // What is blotted out takes less room than what was looked through for it: there is room for more than that.
        let hex = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let blotted = spaced(&hex, 32) + &spaced(SECRET, 3);
        for cut in 4..=8 {
            let filler = "y".repeat(room + redactor.longest() - blotted.len() - cut);
            let kept = Arc::new(Kept::default());
            let log = Log::new(kept.clone(), room as u64).blotting(Some(redactor.clone()));
            log.message(Level::Info, &format!("{blotted}{filler}{SECRET}"));
            log.flush();
            let shown = format!("Info [secret key][secret key]{filler}");
            assert_eq!(*kept.0.lock().unwrap(), [shown], "cut after {cut}");
        }
    }

    #[test]
    fn a_flood_of_short_lines_ends_as_well() {
        let kept = vec!["Info "; LINES_MAX as usize];
        check(
            1 << 20,
            |log| log.message(Level::Info, &"\n".repeat(1 << 20)),
            &kept,
            (LINES_MAX, (1 << 20) - LINES_MAX),
        );
    }

    #[test]
    fn last_words_are_the_panic_or_the_last_line_whatever_the_limit() {
        let words = |lines: &[&str]| {
            let log = Log::new(Arc::new(Kept::default()), 0);
            lines.iter().for_each(|line| log.stream(Stream::Stderr, format!("{line}\n").as_bytes()));
            log.last_words()
        };
        assert_eq!(words(&[]), None);
        assert_eq!(words(&["careful", "oops\u{1b}", ""]).unwrap(), "oops\\u{1b}");
        let rust = ["careful", "", "thread 'a' (1) panicked at b.rs:1:2:", "left: 1", " right: 2"];
        let rust =
            [&rust[..], &["note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace"]].concat();
        assert_eq!(words(&rust).unwrap(), "thread 'a' (1) panicked at b.rs:1:2: left: 1 right: 2");
        assert_eq!(
            words(&["careful", "panic: oops", "goroutine 1 [running]:"]).unwrap(),
            "panic: oops goroutine 1 [running]:"
        );
        let flood = vec!["x".repeat(1 << 20); 100];
        let flood: Vec<&str> = [&["panic: big"][..], &flood.iter().map(String::as_str).collect::<Vec<_>>()].concat();
        let kept = words(&flood).unwrap();
        assert!(kept.starts_with("panic: big xxx") && kept.len() < 2 * LAST_WORDS_MAX, "{} bytes", kept.len());
    }

    #[test]
    fn the_last_words_are_also_what_was_logged_as_an_error() {
        let log = Log::new(Arc::new(Kept::default()), 100);
        log.message(Level::Error, "panicked at a.rs:1:2:\nno");
        log.message(Level::Warn, "well");
        assert_eq!(log.last_words().unwrap(), "panicked at a.rs:1:2: no");
    }

    #[test]
    fn output_without_line_ends_is_not_held_back() {
        let kept = Arc::new(Kept::default());
        let log = Log::new(kept.clone(), 1 << 20);
        log.stream(Stream::Stdout, &[b'x'; LINE_MAX]);
        assert_eq!(kept.0.lock().unwrap().len(), 1);
    }
}
