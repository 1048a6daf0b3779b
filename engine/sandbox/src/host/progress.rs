//! The interface `progress`: hands the latest state to the observer. Nothing is kept, nothing is counted; an observer
//! that shows it should not do more than store it, since a guest may call this in a tight loop.

use crate::bindings::downbeat::step::progress as wit;
use crate::store::State;
use crate::text;

/// A progress message is one short line on a terminal.
const MESSAGE_MAX: usize = 1024;

impl wit::Host for State {
    fn report(&mut self, done: u64, total: Option<u64>, message: String) {
        let message = self.log.blotted(&message);
        let message = text::bounded(&message, MESSAGE_MAX);
        self.log.observer().progress(done, total, &text::visible(&message, false));
    }
}
