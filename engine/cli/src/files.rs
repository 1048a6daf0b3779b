//! Reading what a command line names, within bounds: a name may stand for a device that never ends.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// What a command line names holds at most so many bytes: four times what a workflow file or a run's inputs may have, so
/// that those refuse what is too large in their own words.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The text of a file that another file names: nothing that one has to wait for, such as a pipe.
pub(crate) fn read_named_text(path: &Path) -> Result<String, String> {
    match path.metadata() {
        Ok(found) if !found.is_file() && !found.is_dir() => Err("it is not a file".to_owned()),
        _ => read_text(path),
    }
}

/// The text of a file. The error is for a person and does not name the file.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    String::from_utf8(read_bytes(path)?).map_err(|error| format!("it is no UTF-8 text: {error}"))
}

/// The bytes of a file. The error is for a person and does not name the file.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err("it is a folder".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20));
    }
    Ok(bytes)
}
