//! The program `downbeat`; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    downbeat_cli::run(std::env::args_os())
}
