//! What there is to buy and what one piece costs. Read from text once, at the start; afterwards only looked up.

use std::collections::BTreeMap;
use std::fmt;

/// The catalogue that the service is built with.
pub const BUILT_IN: &str = include_str!("../catalogue.txt");

/// Items and their unit prices.
#[derive(Debug)]
pub struct Catalogue {
    unit_cents: BTreeMap<String, u64>,
}

/// A line that is no `item price`. Lines count from 1.
#[derive(Debug, PartialEq)]
pub struct BadLine {
    pub line: usize,
    pub text: String,
}

impl Catalogue {
    /// Reads `item price-in-cents` lines; empty ones and those that start with `#` are passed over.
    ///
    /// Items are lower-case letters and hyphens, so that they need no escaping in a query or in JSON.
    pub fn parse(text: &str) -> Result<Catalogue, BadLine> {
        let mut unit_cents = BTreeMap::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let (item, cents) = parse_line(line).ok_or_else(|| BadLine { line: index + 1, text: line.to_owned() })?;
            unit_cents.insert(item.to_owned(), cents);
        }
        Ok(Catalogue { unit_cents })
    }

    /// What one piece costs, in cents; `None` if there is no such item.
    pub fn unit_cents(&self, item: &str) -> Option<u64> {
        self.unit_cents.get(item).copied()
    }

    /// Every item and its unit price in cents, in the order of the alphabet.
    pub fn items(&self) -> impl Iterator<Item = (&str, u64)> {
        self.unit_cents.iter().map(|(item, cents)| (item.as_str(), *cents))
    }
}

fn parse_line(line: &str) -> Option<(&str, u64)> {
    let (item, cents) = line.split_once(' ')?;
    let is_item = !item.is_empty() && item.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    is_item.then_some((item, cents.trim().parse().ok()?))
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: `{}` is not an item and its price in cents, as in `apple 45`", self.line, self.text)
    }
}

impl std::error::Error for BadLine {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_catalogue_is_readable() {
        let catalogue = Catalogue::parse(BUILT_IN).unwrap();
        assert_eq!(catalogue.unit_cents("apple"), Some(45));
        assert_eq!(catalogue.unit_cents("pineapple"), None);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = Catalogue::parse("# fruit\n\napple 45\npear cheap\n").unwrap_err();
        assert_eq!(error, BadLine { line: 4, text: "pear cheap".to_owned() });
    }

    #[test]
    fn an_item_that_would_need_escaping_is_refused() {
        assert!(Catalogue::parse("\"apple\" 45").is_err());
    }
}
