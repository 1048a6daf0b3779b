//! The fleet's own interface, as a cloud would have one: how many workers, what was measured, messages for people. And
//! the life of a fleet: it takes up where a killed one stopped, and ends when it is told to.
//!
//! | request | does |
//! |---|---|
//! | `PUT /workers/N` | makes it N workers, and answers when N serve: who repeats it changes nothing |
//! | `PUT /window` | counts anew, as soon as all workers serve |
//! | `GET /window` | what was counted |
//! | `POST /messages` | keeps a message, once for each `Idempotency-Key` |
//! | `GET /messages` | all messages |

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::Result;
use crate::front::{self, Window};
use crate::http::{self, Answer, Request};
use crate::mailbox::Mailbox;
use crate::place::{Address, Place, TICK, wait};
use crate::slots::Slots;
use crate::workers::{WORKERS_MAX, Workers};

/// Serves until the place says stop; what the fleet was like, as JSON.
pub fn serve(place: &Place, workers: u32) -> Result<String> {
    let _lock = place.lock()?;
    let wanted = place.workers()?.unwrap_or(workers);
    if wanted > WORKERS_MAX {
        return Err(format!("{wanted} workers are more than {WORKERS_MAX}"));
    }
    let mailbox = Mailbox::open(&place.messages())?;
    // Whoever was told the address of a fleet that was killed finds this one there.
    let before = place.address()?;
    let front = listen(before.map_or(0, |before| before.front))?;
    let admin = listen(before.map_or(0, |before| before.admin))?;
    let address = Address { front: port(&front)?, admin: port(&admin)? };

    let (slots, window) = (Arc::new(Slots::default()), Arc::new(Window::default()));
    let workers = Workers::start(slots.clone(), wanted);
    workers.settled()?;
    let desk = Desk {
        place: place.clone(),
        workers: workers.clone(),
        slots: slots.clone(),
        window: window.clone(),
        mailbox: Mutex::new(mailbox),
    };
    thread::spawn(move || front::serve(&front, slots, window));
    thread::spawn(move || http::serve(&admin, move |request| desk.answer(request)));
    place.set_address(address)?;
    eprintln!("serves at 127.0.0.1:{} with {wanted} worker(s)", address.front);

    while !place.is_stopped() {
        thread::sleep(TICK);
    }
    let tally = workers.tally();
    workers.want(0);
    workers.settled()?;
    Ok(format!(r#"{{"peak":{},"started":{},"lost":{}}}"#, tally.peak, tally.started, tally.lost))
}

/// A listener at this port, or at any if it is 0. The connections of its last owner don't keep it taken.
fn listen(port: u16) -> Result<TcpListener> {
    let mut error = None;
    wait("a port", || match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => Ok(Some(listener)),
        Err(bind) => {
            error = Some(bind);
            Ok(None)
        }
    })
    .map_err(|waited| error.map_or(waited, |error| format!("cannot listen at 127.0.0.1:{port}: {error}")))
}

fn port(listener: &TcpListener) -> Result<u16> {
    listener.local_addr().map(|address| address.port()).map_err(|error| format!("a listener has no address: {error}"))
}

/// Where orders are taken.
struct Desk {
    place: Place,
    workers: Arc<Workers>,
    slots: Arc<Slots>,
    window: Arc<Window>,
    mailbox: Mutex<Mailbox>,
}

impl Desk {
    fn answer(&self, request: &Request) -> Answer {
        let answer = match (request.method.as_str(), request.path.as_str()) {
            ("PUT", "/window") => self.open_window(),
            ("GET", "/window") => self.window(),
            ("POST", "/messages") => self.keep_message(request),
            ("GET", "/messages") => Ok(self.mailbox.lock().expect("no holder of the lock panics").to_json()),
            ("PUT", path) => match path.strip_prefix("/workers/").and_then(|workers| workers.parse().ok()) {
                Some(workers) if workers <= WORKERS_MAX => self.set_workers(workers),
                Some(_) => return Answer::error(400, "a fleet has 64 workers at most"),
                None => return Answer::error(404, "there is PUT /workers/N, /window and /messages"),
            },
            _ => return Answer::error(404, "there is PUT /workers/N, /window and /messages"),
        };
        // What goes wrong here may go well the next time, which is what 503 says.
        answer.map_or_else(|message| Answer::error(503, &message.replace(['"', '\\'], "'")), Answer::ok)
    }

    fn set_workers(&self, workers: u32) -> Result<String> {
        // First the file: a fleet that is killed from here on starts again with so many.
        self.place.set_workers(workers)?;
        self.workers.want(workers);
        let pids = self.workers.settled()?;
        Ok(format!(r#"{{"workers":{},"pids":{pids:?}}}"#, pids.len()))
    }

    fn open_window(&self) -> Result<String> {
        let pids = self.workers.settled()?;
        self.slots.take_queue_peak();
        self.window.open();
        Ok(format!(r#"{{"workers":{}}}"#, pids.len()))
    }

    fn window(&self) -> Result<String> {
        let pids = self.workers.settled()?;
        let counts = self.window.counts();
        let (requests, refused, broken) = (counts.requests, counts.refused, counts.broken);
        let (queue_peak, workers) = (self.slots.take_queue_peak(), pids.len());
        Ok(format!(
            r#"{{"requests":{requests},"refused":{refused},"broken":{broken},"queue-peak":{queue_peak},"workers":{workers},"pids":{pids:?}}}"#
        ))
    }

    fn keep_message(&self, request: &Request) -> Result<String> {
        let key = request.key.as_deref().ok_or("a message needs an Idempotency-Key")?;
        self.mailbox.lock().expect("no holder of the lock panics").put(key, &request.body)?;
        Ok("{}".to_owned())
    }
}
