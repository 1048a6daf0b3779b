//! Times as people read them; durations and sizes are written in the pure core, which tells of them as well.

use downbeat_workflow::event::Timestamp;
pub(crate) use downbeat_workflow::units::{duration, micros, size};

/// `2026-11-22T09:30:00.123Z` (RFC 3339, UTC).
pub(crate) fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(i64::try_from(at.0).unwrap_or(i64::MAX)) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{} ms", at.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(time(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    }
}
