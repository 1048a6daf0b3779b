//! The program `downbeat`; all of it is in the library.

use std::process::ExitCode;

/// A step is some forty small objects, made on one thread and often let go of on another; the system's allocator had 15 % of
/// its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    downbeat_cli::run(std::env::args_os())
}
