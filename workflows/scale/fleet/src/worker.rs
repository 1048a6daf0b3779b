//! A worker: a process that can do a known amount of work. Its standard input is its lease: when the other end is closed,
//! as it is by the system when the fleet ends in whatever way, the worker ends.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::http::{self, Answer, Request};

/// How long one piece of work takes. It is slept, not computed: a worker's capacity is the same on every machine, and as
/// many workers as one likes fit on a small one.
pub const SERVICE: Duration = Duration::from_millis(50);

/// Pieces of work that a worker does at once. With [`SERVICE`]: 40 a second.
pub const SLOTS: usize = 2;

/// Serves until standard input ends. The first line on standard output is the port: it is bound by then.
pub fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| format!("cannot listen: {error}"))?;
    let port = listener.local_addr().map_err(|error| format!("the listener has no address: {error}"))?.port();
    writeln!(io::stdout(), "{port}").map_err(|error| format!("cannot say where: {error}"))?;
    let busy = Busy::default();
    thread::spawn(move || http::serve(&listener, move |request| answer(request, &busy)));
    io::copy(&mut io::stdin(), &mut io::sink()).map_err(|error| format!("the lease is unreadable: {error}"))?;
    Ok(())
}

fn answer(request: &Request, busy: &Busy) -> Answer {
    if request.path != "/health" {
        busy.work();
    }
    Answer::ok(format!(r#"{{"pid":{}}}"#, process::id()))
}

/// How many pieces of work are being done.
#[derive(Default)]
struct Busy {
    slots: Mutex<usize>,
    freed: Condvar,
}

impl Busy {
    fn work(&self) {
        let slots = self.slots.lock().expect("no holder panics");
        *self.freed.wait_while(slots, |slots| *slots == SLOTS).expect("no holder panics") += 1;
        thread::sleep(SERVICE);
        *self.slots.lock().expect("no holder panics") -= 1;
        self.freed.notify_one();
    }
}
