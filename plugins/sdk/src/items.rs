//! Items that other steps work on while this one still runs: `foreach = "${steps.NAME.items}"`. Needs no grant.

use serde::Serialize;

/// What can go wrong with items. Nothing of the call was appended then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// One of them can't be written as JSON, or is nested too deeply: which, and what is wrong.
    NotJson(u32, String),
    /// A list has at most so many items.
    TooMany(u32),
    /// All items of an attempt together have at most so many bytes: the limit `output`.
    TooLarge(u64),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::NotJson(index, why) => write!(f, "item {index} can't be appended: it is {why}"),
            Error::TooMany(most) => write!(f, "a list has at most {most} items"),
            Error::TooLarge(limit) => {
                write!(f, "the items have more than {limit} bytes together, which is the limit `output`")
            }
        }
    }
}

impl std::error::Error for Error {}

/// Appends items to the step's list, in their order. Returns once they are durable: one call with many is much faster than
/// many with one.
///
/// An attempt that is repeated appends from the beginning again: its n-th item *is* the n-th of the list, and one that an
/// earlier attempt has appended stays as it was. So append in an order that is the same each time.
///
/// ```
/// # let host = downbeat_sdk::testing::Host::new();
/// use downbeat_sdk::items;
///
/// items::append(["a.txt", "b.txt"])?;
/// items::append([serde_json::json!({ "path": "c.txt", "bytes": 7 })])?;
/// assert_eq!(host.items().len(), 3);
/// # Ok::<(), downbeat_sdk::Failure>(())
/// ```
///
/// # Errors
///
/// One of them is no JSON, or there are too many.
pub fn append<T: Serialize>(items: impl IntoIterator<Item = T>) -> Result<(), Error> {
    let mut texts = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        texts.push(serde_json::to_string(&item).map_err(|error| Error::NotJson(index as u32, error.to_string()))?);
    }
    match texts.is_empty() {
        true => Ok(()),
        false => crate::host::append_items(texts),
    }
}
