//! A fleet in one program: `serve` keeps as many worker processes as are asked for (`workers`), each of them this program
//! again (`worker`), leads customers to a free one (`front`, `slots`) and takes orders (`admin`); `customers` is the load.
//!
//! All of it shares one directory (`place`). A fleet that was killed starts again at the same ports with the size that
//! was last asked for. Nothing outlives the fleet: its workers end when it does, however it does.

mod admin;
mod customers;
mod front;
mod http;
mod mailbox;
mod place;
mod slots;
mod worker;
mod workers;

use std::env;
use std::process::ExitCode;
use std::str::FromStr;

use crate::place::Place;

const USAGE: &str = "\
usage: fleet serve DIR WORKERS                  serve until the file DIR/stop is there
       fleet address DIR                        wait until the fleet serves, and tell where
       fleet customers DIR PER-SECOND MS        send so many requests a second for so long, and tell what came of it
       fleet worker                             serve until standard input ends";

/// What went wrong, for a person.
type Result<T> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Some(Ok(answer)) => {
            answer.into_iter().for_each(|answer| println!("{answer}"));
            ExitCode::SUCCESS
        }
        Some(Err(message)) => {
            eprintln!("fleet: {message}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// What a command answers; `None` if there is no such command.
fn run(arguments: &[&str]) -> Option<Result<Option<String>>> {
    match *arguments {
        ["serve", dir, workers] => Some(serve(dir, workers).map(Some)),
        ["address", dir] => Some(Place::new(dir).wait_for_address().map(|address| Some(address.to_json()))),
        ["customers", dir, per_second, ms] => Some(customers(dir, per_second, ms).map(Some)),
        // Nobody reads what a worker says when it has said where it serves.
        ["worker"] => Some(worker::serve().map(|()| None)),
        _ => None,
    }
}

fn serve(dir: &str, workers: &str) -> Result<String> {
    admin::serve(&Place::new(dir), number(workers)?)
}

fn customers(dir: &str, per_second: &str, ms: &str) -> Result<String> {
    customers::come(&Place::new(dir), number(per_second)?, number(ms)?)
}

fn number<N: FromStr>(text: &str) -> Result<N> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number from 0 on, or too large"))
}
