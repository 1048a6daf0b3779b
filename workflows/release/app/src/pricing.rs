//! What a number of pieces costs. Whole cents, checked arithmetic, no rounding and nothing else: the part of the service
//! that must never be wrong is the part that is easiest to test.

/// Pieces in one quote at most. The dearest item a hundred million times over still fits a `u64`; the bound is there
/// because nobody buys ten thousand of anything without a word with us first.
pub const QUANTITY_MAX: u64 = 10_000;

/// An offer, in whole cents.
#[derive(Debug, PartialEq)]
pub struct Quote {
    pub quantity: u64,
    pub unit_cents: u64,
    pub total_cents: u64,
}

/// Why there is no offer.
#[derive(Debug, PartialEq)]
pub enum NoQuote {
    /// The quantity is not within 1 and [`QUANTITY_MAX`].
    Quantity,
    /// The total does not fit.
    TooDear,
}

/// What `quantity` pieces cost at `unit_cents` each.
pub fn quote(unit_cents: u64, quantity: u64) -> Result<Quote, NoQuote> {
    if !(1..=QUANTITY_MAX).contains(&quantity) {
        return Err(NoQuote::Quantity);
    }
    let total_cents = unit_cents.checked_mul(quantity).ok_or(NoQuote::TooDear)?;
    Ok(Quote { quantity, unit_cents, total_cents })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cost_their_number_times_the_unit_price() {
        assert_eq!(quote(45, 1).unwrap().total_cents, 45);
        assert_eq!(quote(45, 3).unwrap().total_cents, 135);
    }

    #[test]
    fn no_pieces_and_too_many_are_refused() {
        assert_eq!(quote(45, 0), Err(NoQuote::Quantity));
        assert_eq!(quote(45, QUANTITY_MAX + 1), Err(NoQuote::Quantity));
    }

    #[test]
    fn a_total_that_does_not_fit_is_refused() {
        assert_eq!(quote(u64::MAX, 2), Err(NoQuote::TooDear));
    }
}
