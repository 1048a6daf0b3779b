//! The front: the one address that customers know. It leads each of them to a worker's free place, in the order in which
//! they came, and counts what a capacity decision is made of.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::{self, Answer};
use crate::place::PATIENCE;
use crate::slots::{NoSlot, Slots};

/// What came in and went wrong since the window was opened.
#[derive(Debug, Default)]
pub struct Window {
    requests: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
}

/// The window's counts.
#[derive(Debug, PartialEq)]
pub struct Counts {
    /// Requests that came in.
    pub requests: u64,
    /// Those that found no place.
    pub refused: u64,
    /// Those whose worker ended in the middle.
    pub broken: u64,
}

impl Window {
    /// Counts anew.
    pub fn open(&self) {
        for count in [&self.requests, &self.refused, &self.broken] {
            count.store(0, Ordering::SeqCst);
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Counts { requests: load(&self.requests), refused: load(&self.refused), broken: load(&self.broken) }
    }
}

/// Serves customers for as long as the process lives.
pub fn serve(listener: &TcpListener, slots: Arc<Slots>, window: Arc<Window>) {
    http::serve(listener, move |request| {
        window.requests.fetch_add(1, Ordering::SeqCst);
        let slot = match slots.take(PATIENCE) {
            Ok(slot) => slot,
            Err(reason) => {
                window.refused.fetch_add(1, Ordering::SeqCst);
                let message = match reason {
                    NoSlot::Full => "too many are waiting",
                    NoSlot::TimedOut => "no worker was free in time",
                };
                return Answer::error(503, message);
            }
        };
        let answer = http::ask(slot.port, &request.method, &request.path);
        slots.give_back(slot);
        answer.unwrap_or_else(|_| {
            window.broken.fetch_add(1, Ordering::SeqCst);
            Answer::error(502, "the worker did not answer")
        })
    });
}
