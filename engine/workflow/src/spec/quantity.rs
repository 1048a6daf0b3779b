//! Durations, sizes and rates, as people write them: `"1m30s"`, `"64MiB"`, `"10/min"`.

use crate::plan::Rate;

/// The longest duration. A hundred years in milliseconds: sums of a few of them with a clock's time do not overflow.
const DURATION_MS_MAX: u64 = 100 * 365 * 24 * 3_600_000;

const DURATION_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_UNITS: [(&str, u64); 5] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// What [`duration_ms`] takes, as a regular expression for editors; besides, it is not empty and at most a hundred years.
pub(crate) const DURATION_PATTERN: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$";

/// What [`size_bytes`] takes, as a regular expression for editors.
pub(crate) const SIZE_PATTERN: &str = "^[0-9]+ *(B|KiB|MiB|GiB|TiB)$";

/// Milliseconds. Units from the largest to the smallest, each at most once, without spaces. The error is for a person.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    const EXAMPLES: &str = "write a duration such as `250ms`, `2s`, `1m30s`, `4h` or `1d`";
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units = DURATION_UNITS.iter();
    if rest.is_empty() {
        return Err(EXAMPLES.to_owned());
    }
    while !rest.is_empty() {
        let (number, after) = leading_number(rest).ok_or(EXAMPLES)?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, factor) = units.find(|(name, _)| *name == unit).ok_or_else(|| {
            match (unit, DURATION_UNITS.iter().any(|(name, _)| *name == unit)) {
                ("", _) => format!("`{number}` has no unit; {EXAMPLES}"),
                (_, true) => "units go from the largest to the smallest, each at most once".to_owned(),
                (_, false) => format!("there is no unit `{unit}`; {EXAMPLES}"),
            }
        })?;
        total = number
            .checked_mul(*factor)
            .and_then(|ms| total.checked_add(ms))
            .filter(|ms| *ms <= DURATION_MS_MAX)
            .ok_or("at most a hundred years (`36500d`)")?;
        rest = after;
    }
    Ok(total)
}

/// Bytes. One whole number and one unit. The error is for a person.
pub(crate) fn size_bytes(text: &str) -> Result<u64, String> {
    const EXAMPLES: &str = "write a size such as `512B`, `64KiB`, `16MiB` or `2GiB`";
    let (number, unit) = leading_number(text).ok_or(EXAMPLES)?;
    let unit = unit.trim_start_matches(' ');
    let known = SIZE_UNITS.iter().find(|(name, _)| *name == unit);
    let (_, factor) = known.ok_or_else(|| match unit {
        "" => format!("`{number}` has no unit; {EXAMPLES}, or a number without quotes for bytes"),
        _ => match SIZE_UNITS
            .iter()
            .find(|(name, _)| name[..1].eq_ignore_ascii_case(&unit.chars().take(1).collect::<String>()))
        {
            Some((name, _)) => format!("there is no unit `{unit}`; did you mean `{name}`?"),
            None => format!("there is no unit `{unit}`; {EXAMPLES}"),
        },
    })?;
    number.checked_mul(*factor).ok_or_else(|| "that is more bytes than there are".to_owned())
}

/// The largest count of a rate. 10,000: the time of each start is kept, and a second has not many more starts of anything.
pub(crate) const RATE_COUNT_MAX: u64 = 10_000;

/// What [`rate`] takes, as a regular expression for editors; besides, the number is 1 to 10,000.
pub(crate) const RATE_PATTERN: &str = "^[0-9]+/(s|min|h|d)$";

/// So many in a second, minute, hour or day. The error is for a person.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    const EXAMPLES: &str = "write a rate such as `5/s`, `10/min`, `100/h` or `1000/d`";
    let (count, rest) = leading_number(text).ok_or(EXAMPLES)?;
    let unit = rest.strip_prefix('/').ok_or(EXAMPLES)?;
    let known = Rate::WINDOWS.iter().find(|(name, _)| *name == unit);
    let (_, window_ms) = known.ok_or_else(|| match unit {
        "m" => "`m` may be a minute or a month; write `/min`".to_owned(),
        _ => format!("there is no unit `/{unit}`; {EXAMPLES}"),
    })?;
    match count {
        1..=RATE_COUNT_MAX => Ok(Rate { count: count as u32, window_ms: *window_ms }),
        _ => Err(format!("its number is 1 to {RATE_COUNT_MAX}")),
    }
}

fn leading_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_a_number_and_a_window_and_are_written_as_they_are_read() {
        for text in ["5/s", "10/min", "100/h", "10000/d"] {
            assert_eq!(rate(text).unwrap().to_string(), text);
        }
        for text in ["", "10", "10/", "10/m", "10 /min", "0/min", "10001/s", "1.5/s", "-1/s", "10/week"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_sums_of_units() {
        assert_eq!(duration_ms("250ms"), Ok(250));
        assert_eq!(duration_ms("2s"), Ok(2_000));
        assert_eq!(duration_ms("1m30s"), Ok(90_000));
        assert_eq!(duration_ms("1d2h3m4s5ms"), Ok(93_784_005));
        assert_eq!(duration_ms("0s"), Ok(0));
    }

    #[test]
    fn what_is_no_duration_says_how_to_write_one() {
        for (text, part) in [
            ("", "such as"),
            ("10", "no unit"),
            ("ten", "such as"),
            ("1.5h", "no unit"),
            ("-1s", "such as"),
            ("5 s", "no unit"),
            ("1s1m", "largest to the smallest"),
            ("1s1s", "largest to the smallest"),
            ("3w", "no unit `w`"),
            ("36501d", "hundred years"),
            ("99999999999999999999d", "such as"),
        ] {
            let error = duration_ms(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size_bytes("64KiB"), Ok(65_536));
        assert_eq!(size_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(size_bytes("512B"), Ok(512));
        assert!(size_bytes("64MB").expect_err("decimal").contains("did you mean `MiB`?"));
        assert!(size_bytes("64m").expect_err("short").contains("did you mean `MiB`?"));
        assert!(size_bytes("64").expect_err("bare").contains("no unit"));
        assert!(size_bytes("99999999999TiB").is_err());
        assert!(size_bytes("üü").is_err());
    }
}
