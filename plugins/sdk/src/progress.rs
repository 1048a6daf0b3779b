//! How far the attempt has come, for whoever is watching. Needs no grant and is not kept.

/// Reports `done` of `total`, in a unit of the step's own choosing (bytes, files, requests); `None` when the total is
/// not known. `message` says what is being done right now; it may be empty. Call it often: the host shows the latest.
///
/// ```
/// # let _host = downbeat_sdk::testing::Host::new();
/// downbeat_sdk::progress::report(3, 10, "src/lib.rs");
/// downbeat_sdk::progress::report(4096, None, "");
/// ```
pub fn report(done: u64, total: impl Into<Option<u64>>, message: impl AsRef<str>) {
    crate::host::report_progress(done, total.into(), message.as_ref());
}
