//! Files that `downbeat export` wrote, as they are opened: for `import`, and for tests that answer as a run did.

use std::fs::File;
use std::io::{self, Read};
use std::panic;
use std::path::Path;

use downbeat_archive::{Kind, RecordedRun, Refusal, read};
use downbeat_workflow::description::Digest;

/// Reads a file; its blobs and components are given to `keep`. The error is for a person and does not name the file.
pub(crate) fn read_file(
    path: &Path,
    keep: &mut dyn FnMut(Kind, &Digest, &mut dyn Read) -> io::Result<()>,
) -> Result<RecordedRun, String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    if file.metadata().is_ok_and(|file| file.is_dir()) {
        return Err("it is a folder".to_owned());
    }
    // A plan that does not hold together may end in a panic, which is caught, and told as what is wrong with the file.
    let told = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let run = read(&mut file, keep);
    panic::set_hook(told);
    run.map_err(|refusal: Refusal| refusal.to_string())
}

/// Nothing is kept: for whoever only looks.
pub(crate) fn nothing(_: Kind, _: &Digest, _: &mut dyn Read) -> io::Result<()> {
    Ok(())
}
