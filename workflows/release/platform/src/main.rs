//! A small platform in one program: `start`, `stop` and `status` keep servers (`server`), `front` passes customers on
//! to the one that the route names and `route` changes it (`front`), `receiver` takes messages in (`receiver`).
//!
//! Everything lives in one directory, in which each server has a folder of its own. Every command may be repeated, also
//! after it was killed halfway: it looks at what is there and does the rest.

mod front;
mod receiver;
mod server;
mod state;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use crate::server::Server;

const USAGE: &str = "\
usage: platform start DIR NAME PROGRAM [ARGUMENT…]   `{state}` in an argument stands for the server's state file
       platform stop DIR NAME
       platform stop-all DIR
       platform status DIR
       platform route DIR NAME                       lead the customers of the server `front` to this one
       platform front --route FILE --state FILE
       platform receiver --messages FILE --state FILE";

/// What went wrong, for a person.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["start", dir, name, program, arguments @ ..] => {
            Server::named(dir, name).and_then(|server| server.start(program, arguments)).map(|state| print(&state))
        }
        ["stop", dir, name] => Server::named(dir, name).and_then(|server| server.stop()).map(|state| print(&state)),
        ["stop-all", dir] => Server::all(dir)
            .and_then(|servers| servers.iter().try_for_each(|server| server.stop().map(|state| print(&state)))),
        ["status", dir] => Server::all(dir)
            .and_then(|servers| servers.iter().try_for_each(|server| server.status().map(|state| print(&state)))),
        ["route", dir, name] => front::route(dir, name).map(|state| print(&state)),
        ["front", "--route", route, "--state", state] => front::serve(Path::new(route), Path::new(state)),
        ["receiver", "--messages", messages, "--state", state] => {
            receiver::serve(Path::new(messages), Path::new(state))
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("platform: {message}");
            ExitCode::FAILURE
        }
    }
}

fn print(line: &str) {
    println!("{line}");
}
