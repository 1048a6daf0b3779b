//! The front: the one address that customers know. Each connection is passed on, byte by byte, to the server that the
//! route file names at that moment; the route is changed by renaming a new file over it, so every customer gets the old
//! version or the new one and nobody gets neither. HTTP is not understood here, but for the one question of `route`.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::server::Server;
use crate::state::{self, State, publish};

/// Connections passed on at once, two threads each. Further ones are closed.
const CONNECTIONS_MAX: usize = 64;

/// How long either side of a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until the state file is gone.
pub fn serve(route: &Path, state: &Path) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("cannot listen: {error}"))?;
    let accepting = listener.try_clone().map_err(|error| format!("cannot share the listener: {error}"))?;
    let route: Arc<Path> = Arc::from(route);
    thread::spawn(move || {
        let open = Arc::new(AtomicUsize::new(0));
        for customer in accepting.incoming().filter_map(io::Result::ok) {
            let (route, open) = (route.clone(), open.clone());
            thread::spawn(move || {
                if open.fetch_add(1, Ordering::SeqCst) < CONNECTIONS_MAX {
                    // A customer whose connection can't be passed on sees it closed, and may try again.
                    if let Err(error) = pass_on(&customer, &route) {
                        eprintln!("a connection was dropped: {error}");
                    }
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    state::hold(state, &listener)
}

fn pass_on(customer: &TcpStream, route: &Path) -> io::Result<()> {
    let server = TcpStream::connect(fs::read_to_string(route)?.trim())?;
    for stream in [customer, &server] {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    thread::scope(|scope| {
        scope.spawn(|| copy(customer, &server));
        copy(&server, customer)
    })
}

/// Carries everything from one to the other, and then the end.
fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let copied = io::copy(&mut from, &mut to);
    // Whoever has hung up already need not be told.
    let _ = to.shutdown(Shutdown::Write);
    copied.map(drop)
}

/// Leads customers to the server of this name, makes sure through the front that they arrive, and returns the server's
/// state as JSON. Without a front, the route is set for the one to come.
pub fn route(dir: &str, name: &str) -> Result<String> {
    let Some(target) = Server::named(dir, name)?.ready()? else {
        return Err(format!("{name} is not running, so nobody can be led to it"));
    };
    publish(&Path::new(dir).join("route"), &format!("127.0.0.1:{}\n", target.port))?;
    if let Some(front) = Server::named(dir, "front")?.ready()? {
        verify(&front, &target)?;
    }
    Ok(target.to_json(name))
}

/// Asks for `/health` through the front: the answer must come from the target's version.
fn verify(front: &State, target: &State) -> Result<()> {
    let answer = health(front.port).map_err(|error| format!("the front does not answer: {error}"))?;
    if answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("\"version\":\"{}\"", target.version)) {
        return Ok(());
    }
    Err(format!("the front was to lead to version {}, but answers:\n{answer}", target.version))
}

fn health(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
