//! Durations, sizes and points in time as people read them.

use crate::event::Timestamp;

/// `2026-11-22T09:30:00.123Z` (RFC 3339, UTC).
pub fn time(at: Timestamp) -> String {
    match jiff::Timestamp::from_millisecond(i64::try_from(at.0).unwrap_or(i64::MAX)) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{} ms", at.0),
    }
}

/// `340 ms`, `2.4 s`, `3 min 05 s`, `2 h 10 min`.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {:02} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// Microseconds: `12 µs`, `3.4 ms`, then as [`duration`].
pub fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        _ => duration(us / 1_000),
    }
}

/// `512 B`, `1.5 KiB`, `64.0 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// How many: `1 rule`, `2 rules`.
pub fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The value of the limit of this name: a size, a duration, or a number of what is counted.
pub fn limit(name: &str, value: u64) -> String {
    match name {
        "table-elements" | "processes" => value.to_string(),
        "process-cpu" | "timeout" => duration(value),
        _ => size(value),
    }
}

/// As a workflow file has it, without loss: `64KiB`, `16MiB`, `1000B`.
pub(crate) fn bytes_text(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let read = [0, 999, 1_000, 59_999, 60_000, 185_000, 7_800_000].map(duration);
        assert_eq!(read, ["0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 00 s", "3 min 05 s", "2 h 10 min"]);
        assert_eq!([7, 3_456, 12_000].map(micros), ["7 µs", "3.4 ms", "12 ms"]);
    }

    #[test]
    fn times_are_utc() {
        assert_eq!(time(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    }

    #[test]
    fn sizes_read_well() {
        let read = [0, 1_023, 1_536, 64 << 20, 5 << 30].map(size);
        assert_eq!(read, ["0 B", "1023 B", "1.5 KiB", "64.0 MiB", "5.0 GiB"]);
    }
}
