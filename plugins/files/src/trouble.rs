//! The words for what the file system said: the path, what was meant to happen to it, why it didn't.

use std::fmt::Display;
use std::io;

use downbeat_sdk::Failure;

/// A failure of the file system. `deed` completes "can't be …": `read`, `written`.
pub(crate) fn io(path: &str, deed: &str, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        // The sandbox answers so, too, when a link would lead out of what is granted.
        io::ErrorKind::PermissionDenied => format!("{error}; a link is not followed out of the granted directory"),
        _ => error.to_string(),
    };
    failed(path, deed, reason)
}

/// A failure for a reason of our own.
pub(crate) fn failed(path: &str, deed: &str, reason: impl Display) -> Failure {
    Failure::permanent(format!("`{path}` can't be {deed}: {reason}")).details(serde_json::json!({ "path": path }))
}
