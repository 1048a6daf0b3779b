//! The program under test: the same line as `downbeat` itself, in this package so that cargo builds it before the tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    downbeat_cli::run(std::env::args_os())
}
