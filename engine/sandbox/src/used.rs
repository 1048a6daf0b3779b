//! What an attempt has used of its grants, for the record. What leaves the engine (a program, a request, a blob) has a
//! record of its own, which is on the disk before it happens; what stays within is counted and told with the attempt's
//! end. Nothing is done here for an attempt that uses nothing.

use std::borrow::Cow;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use downbeat_workflow::event::Used;

use crate::attempt::Observer;
use crate::replace::Replacer;
use crate::text;

/// Uses of one attempt that have a record of their own; what comes after is counted by grant. Each costs a commit, and a
/// step that calls a thousand programs is told from one that calls three by the number.
pub(crate) const USES_RECORDED_MAX: u32 = 256;

/// Different uses that are told with the attempt's end; more are counted by grant.
pub(crate) const USES_TOLD_MAX: usize = 64;

/// Bytes of what was done that are kept: a command with its arguments, an address.
const WHAT_MAX: usize = 1024;

/// When the record is on the disk.
pub(crate) type Recorded = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an attempt has used so far.
#[derive(Default)]
pub(crate) struct Uses {
    /// Who keeps records; without it nothing is noted at all.
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// Blots out secrets that the guest was shown.
    pub(crate) redactor: Option<Arc<Replacer>>,
    recorded: u32,
    told: Vec<Used>,
    /// Looks at the real clocks, and numbers drawn: guests do either in loops.
    pub(crate) clock: u64,
    pub(crate) random: u64,
}

impl Uses {
    /// Something is about to leave the engine: ready once that is on record. It must not happen before.
    pub(crate) fn leaves(&mut self, capability: &str, what: &str, grant: String) -> Recorded {
        match &self.observer {
            Some(observer) if self.recorded < USES_RECORDED_MAX => {
                self.recorded += 1;
                observer.used(Used {
                    capability: capability.to_owned(),
                    what: self.kept(what),
                    grant,
                    count: 1,
                    unset: false,
                })
            }
            Some(_) => {
                self.count(capability, "", grant, false);
                Box::pin(ready(()))
            }
            None => Box::pin(ready(())),
        }
    }

    /// Something was used that stays within the engine.
    pub(crate) fn stays(&mut self, capability: &str, what: &str, grant: &str) {
        if self.observer.is_some() {
            self.count(capability, what, grant.to_owned(), false);
        }
    }

    /// A granted variable was looked for, and is not set.
    pub(crate) fn lacks(&mut self, name: &str, grant: &str) {
        if self.observer.is_some() {
            self.count("env", name, grant.to_owned(), true);
        }
    }

    fn count(&mut self, capability: &str, what: &str, grant: String, unset: bool) {
        let what = self.kept(what);
        let is_it = |used: &&mut Used, what: &str| {
            used.capability == capability && used.grant == grant && used.what == what && used.unset == unset
        };
        if let Some(known) = self.told.iter_mut().find(|used| is_it(used, &what)) {
            known.count += 1;
        } else if what.is_empty() || self.told.len() < USES_TOLD_MAX {
            self.told.push(Used { capability: capability.to_owned(), what, grant, count: 1, unset });
        } else {
            self.count(capability, "", grant, unset);
        }
    }

    /// All that the attempt's end tells.
    pub(crate) fn take(&mut self) -> Vec<Used> {
        let mut told = std::mem::take(&mut self.told);
        for (capability, count) in [("clock", self.clock), ("random", self.random)] {
            if count > 0 && self.observer.is_some() {
                let (what, grant) = (String::new(), format!("{capability} = true"));
                told.push(Used { capability: capability.to_owned(), what, grant, count, unset: false });
            }
        }
        told
    }

    /// A text of the guest's without secrets.
    pub(crate) fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.redactor.as_ref().map_or(Cow::Borrowed(text), |redactor| redactor.text(text))
    }

    /// Cut only when it is clean: the beginning of a secret would not be known for one.
    fn kept(&self, what: &str) -> String {
        text::visible(&text::bounded(&self.clean(what), WHAT_MAX), false).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use downbeat_workflow::log::Level;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Seen(Mutex<Vec<Used>>);

    impl Observer for Seen {
        fn log(&self, _: Level, _: &str) {}
        fn progress(&self, _: u64, _: Option<u64>, _: &str) {}
        fn used(&self, used: Used) -> Recorded {
            self.0.lock().unwrap().push(used);
            Box::pin(ready(()))
        }
    }

    #[test]
    fn what_is_beyond_the_bounds_is_counted_by_grant() {
        let seen = Arc::new(Seen::default());
        let mut uses = Uses { observer: Some(seen.clone()), ..Uses::default() };
        for n in 0..USES_RECORDED_MAX + 3 {
            drop(uses.leaves("process", &format!("git {n}"), "git".to_owned()));
        }
        for n in 0..2 * USES_TOLD_MAX {
            uses.stays("files", &format!("read {n}"), "data");
            uses.stays("files", "read 1", "data");
        }
        uses.clock = 7;
        assert_eq!(seen.0.lock().unwrap().len(), USES_RECORDED_MAX as usize);
        let told = uses.take();
        assert!(told.len() <= USES_TOLD_MAX + 2, "{}", told.len());
        let count = |capability: &str, what: &str| {
            told.iter().find(|used| used.capability == capability && used.what == what).map(|used| used.count)
        };
        assert_eq!((count("process", ""), count("clock", "")), (Some(3), Some(7)));
        assert_eq!(count("files", "read 1"), Some(2 * USES_TOLD_MAX as u64 + 1));
        assert_eq!(told.iter().filter(|used| used.capability == "files").map(|used| used.count).sum::<u64>(), 256);
    }

    #[test]
    fn a_secret_that_the_guest_was_shown_is_blotted_out_before_anything_is_cut() {
        let seen = Arc::new(Seen::default());
        let redactor = crate::redact::redactor([("key", "0123456789abcdef")]).map(Arc::new);
        let mut uses = Uses { observer: Some(seen.clone()), redactor, ..Uses::default() };
        drop(uses.leaves("process", "curl -u 0123456789abcdef", "curl".to_owned()));
        let long = "x".repeat(WHAT_MAX - 8);
        uses.stays("files", &format!("{long}0123456789abcdef"), "data");
        assert_eq!(seen.0.lock().unwrap()[0].what, "curl -u [secret key]");
        assert!(!uses.take()[0].what.contains("0123"));
    }

    #[test]
    fn without_anybody_who_keeps_records_nothing_is_noted() {
        let mut uses = Uses::default();
        uses.stays("env", "HOME", "HOME");
        uses.clock = 7;
        assert_eq!(uses.take(), []);
    }
}
