//! Run ids: short enough to type, ordered by time, not guessable by counting.

use std::sync::Arc;

use downbeat_workflow::event::{RunId, Timestamp};

/// Crockford's base 32 in lower case: no letter that looks like a digit, so that an id can be read aloud.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A fresh id: seven digits of seconds since the epoch (they last until 3058) and six random ones (30 bits: two runs
/// created in the same second collide once in a billion times, and the journal refuses the second).
pub(crate) fn fresh(now: Timestamp, random: u64) -> RunId {
    let mut text = String::with_capacity(14);
    digits(&mut text, now.0 / 1000, 7);
    text.push('-');
    digits(&mut text, random, 6);
    RunId(Arc::from(text))
}

fn digits(text: &mut String, number: u64, count: u32) {
    for place in (0..count).rev() {
        text.push(DIGITS[(number >> (5 * place)) as usize & 31] as char);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time() {
        let early = fresh(Timestamp(1_700_000_000_000), u64::MAX);
        let late = fresh(Timestamp(1_700_000_001_000), 0);
        assert_eq!((&*early.0, &*late.0), ("1jn7w80-zzzzzz", "1jn7w81-000000"));
        assert!(early < late);
    }
}
