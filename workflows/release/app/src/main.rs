//! `shop serve --state FILE`: the price service as a process. The state file is how it tells that it is ready and where,
//! and how it is told to end; neither signals nor fixed ports are involved.

use std::error::Error;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use shop::catalogue::{self, Catalogue};
use shop::http::{self, InFlight};
use shop::service::{Service, VERSION};

const USAGE: &str = "usage: shop serve --state FILE";

/// How often the state file is looked for. Nobody who stops a service minds a tenth of a second.
const LEASE_CHECK: Duration = Duration::from_millis(100);

/// How long requests in flight may take after the lease has ended; the time that a request may take to arrive and its
/// answer to leave.
const FAREWELL: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [command, flag, state] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if (command.as_str(), flag.as_str()) != ("serve", "--state") {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    match serve(&PathBuf::from(state)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until the state file is gone.
fn serve(state: &Path) -> Result<(), Box<dyn Error>> {
    let service = Service::new(Catalogue::parse(catalogue::BUILT_IN)?);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let in_flight = InFlight::default();
    thread::spawn({
        let in_flight = in_flight.clone();
        move || http::serve(&listener, &in_flight, move |request| service.answer(request))
    });

    // The port is bound, so whoever reads the state file from here on can connect.
    publish(state, &format!("{{\"port\":{port},\"pid\":{},\"version\":\"{VERSION}\"}}\n", process::id()))
        .map_err(|error| format!("cannot write the state file {}: {error}", state.display()))?;
    eprintln!("shop {VERSION} listens on 127.0.0.1:{port}");

    while state.exists() {
        thread::sleep(LEASE_CHECK);
    }
    let deadline = Instant::now() + FAREWELL;
    while in_flight.count() > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    eprintln!("shop {VERSION} ends: {} is gone", state.display());
    Ok(())
}

/// Writes a file so that a reader sees all of it or nothing.
fn publish(path: &Path, text: &str) -> std::io::Result<()> {
    let unfinished = path.with_extension(format!("{}.new", process::id()));
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, path)
}
