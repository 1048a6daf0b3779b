//! The interface `log`, and the one place where an attempt's lines are made visible, counted and bounded: the guest's
//! messages, its standard output and error, and the output of its native programs all come through here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use downbeat_workflow::log::Level;

use crate::attempt::Observer;
use crate::bindings::downbeat::step::log as wit;
use crate::store::State;
use crate::text;

/// A line is cut into several after this many bytes, so that output without line ends is not held back in memory.
const LINE_MAX: usize = 64 << 10;

/// One attempt's log.
pub(crate) struct Log {
    observer: Arc<dyn Observer>,
    /// The limit `log`.
    max: u64,
    /// Bytes taken from the limit; exceeds it by what was dropped.
    offered: AtomicU64,
    stdout: Mutex<Lines>,
    stderr: Mutex<Lines>,
}

impl Log {
    pub(crate) fn new(observer: Arc<dyn Observer>, max: u64) -> Log {
        Log {
            observer,
            max,
            offered: AtomicU64::new(0),
            stdout: Mutex::new(Lines::new(Level::Info)),
            stderr: Mutex::new(Lines::new(Level::Warn)),
        }
    }

    /// Keeps one line, or as much of it as the limit still takes. A line counts its bytes and one more for its end, so
    /// that a flood of empty lines ends as well.
    pub(crate) fn line(&self, level: Level, line: &str) {
        let line = text::visible(line, false);
        let size = line.len() as u64 + 1;
        let before = self.offered.fetch_add(size, Ordering::Relaxed);
        let room = self.max.saturating_sub(before);
        if room == 0 {
            return;
        }
        let kept = if size <= room { &line[..] } else { &line[..line.floor_char_boundary(room as usize)] };
        self.observer.log(level, kept);
    }

    fn message(&self, level: Level, message: &str) {
        message.lines().for_each(|line| self.line(level, line));
    }

    /// A piece of the guest's standard output or error.
    pub(crate) fn stream(&self, stream: Stream, bytes: &[u8]) {
        self.lines(stream).push(bytes, |level, line| self.line(level, line));
    }

    /// Lets go of unfinished lines. To be called when the attempt has ended.
    pub(crate) fn flush(&self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.lines(stream).flush(|level, line| self.line(level, line));
        }
    }

    /// Bytes kept and bytes dropped.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let offered = self.offered.load(Ordering::Relaxed);
        (offered.min(self.max), offered.saturating_sub(self.max))
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    fn lines(&self, stream: Stream) -> MutexGuard<'_, Lines> {
        let lines = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The guest's two output streams.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
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
    fn output_without_line_ends_is_not_held_back() {
        let kept = Arc::new(Kept::default());
        let log = Log::new(kept.clone(), 1 << 20);
        log.stream(Stream::Stdout, &[b'x'; LINE_MAX]);
        assert_eq!(kept.0.lock().unwrap().len(), 1);
    }
}
