//! Finds the numbers that JSON can't write before `serde_json` quietly turns them into `null`.
//!
//! A NaN that becomes `null` (or worse, is left out) would travel through rules and gates as "no value". Here it is an
//! error with the path to it. A serializer that writes nothing and only walks the value: types that serialise are
//! walked once more than they are written, which for a step's output is nothing.

use std::fmt::Display;

use serde::Serialize;
use serde::ser;

/// Fails with the path of the first number in `value` that is NaN or infinite, or with what the value's own
/// `Serialize` says against being serialised.
pub(crate) fn check(value: &(impl Serialize + ?Sized)) -> Result<(), String> {
    value.serialize(&mut Walk { path: String::new() }).map_err(|Fault(message)| message)
}

/// The walk, and where in the value it is: `stats.latency-ms.p95`, `results[2]`.
struct Walk {
    path: String,
}

#[derive(Debug)]
struct Fault(String);

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl ser::Error for Fault {
    fn custom<T: Display>(message: T) -> Fault {
        Fault(message.to_string())
    }
}

impl Walk {
    fn number(&self, number: f64) -> Result<(), Fault> {
        if number.is_finite() {
            return Ok(());
        }
        let what = if self.path.is_empty() { "the value".to_owned() } else { format!("`{}`", self.path) };
        Err(Fault(format!("{what} is {number}, and JSON has no such number")))
    }

    /// Walks `value` one level further down.
    fn inside<T: Serialize + ?Sized>(&mut self, segment: &dyn Display, value: &T) -> Result<(), Fault> {
        use std::fmt::Write;
        let length = self.path.len();
        write!(self.path, "{segment}").expect("writing to a string succeeds");
        value.serialize(&mut *self)?;
        self.path.truncate(length);
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Fault> {
        match self.path.is_empty() {
            true => self.inside(&name, value),
            false => self.inside(&format_args!(".{name}"), value),
        }
    }
}

/// The elements of a sequence and how many of them were walked.
struct Elements<'a> {
    walk: &'a mut Walk,
    index: usize,
}

/// The entries of a map and the key that was walked last.
struct Entries<'a> {
    walk: &'a mut Walk,
    key: String,
}

/// Methods for the kinds of value that hold no number of interest.
macro_rules! nothing_to_see {
    ($($method:ident($($kind:ty),*);)*) => {
        $(fn $method(self, $(_: $kind),*) -> Result<(), Fault> { Ok(()) })*
    };
}

impl<'a> ser::Serializer for &'a mut Walk {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Elements<'a>;
    type SerializeTupleStruct = Elements<'a>;
    type SerializeTupleVariant = Elements<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = &'a mut Walk;
    type SerializeStructVariant = &'a mut Walk;

    nothing_to_see! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_f32(self, number: f32) -> Result<(), Fault> {
        self.number(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<(), Fault> {
        self.number(number)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.field(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements<'a>, Fault> {
        Ok(Elements { walk: self, index: 0 })
    }

    fn serialize_tuple(self, _: usize) -> Result<Elements<'a>, Fault> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Elements<'a>, Fault> {
        self.serialize_seq(None)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Elements<'a>, Fault> {
        self.serialize_seq(None)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>, Fault> {
        Ok(Entries { walk: self, key: String::new() })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<&'a mut Walk, Fault> {
        Ok(self)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<&'a mut Walk, Fault> {
        Ok(self)
    }
}

impl Elements<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let index = self.index;
        self.index += 1;
        self.walk.inside(&format_args!("[{index}]"), value)
    }
}

impl ser::SerializeSeq for Elements<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.element(value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeTuple for Elements<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.element(value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeTupleStruct for Elements<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.element(value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeTupleVariant for Elements<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.element(value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        let key = serde_json::to_value(key).map_err(|error| Fault(error.to_string()))?;
        self.key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        let key = std::mem::take(&mut self.key);
        self.walk.field(&key, value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeStruct for &mut Walk {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Fault> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for &mut Walk {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Fault> {
        self.field(name, value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    struct Report {
        stats: Stats,
        values: Vec<(u8, f64)>,
        by_name: BTreeMap<&'static str, Option<f32>>,
        shape: Shape,
    }

    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Stats {
        error_rate: f64,
    }

    #[derive(Serialize)]
    enum Shape {
        Circle(f64),
    }

    fn report() -> Report {
        Report {
            stats: Stats { error_rate: 0.5 },
            values: vec![(0, 1.0), (1, -2.5e300)],
            by_name: BTreeMap::from([("p50", Some(1.0)), ("p95", None)]),
            shape: Shape::Circle(1.0),
        }
    }

    fn fault(change: impl FnOnce(&mut Report)) -> String {
        let mut report = report();
        change(&mut report);
        check(&report).expect_err("the report holds a number that is not finite")
    }

    #[test]
    fn finite_numbers_pass() {
        assert_eq!(check(&report()), Ok(()));
        assert_eq!(check(&serde_json::json!({ "a": [1.5, null, "NaN"] })), Ok(()));
    }

    #[test]
    fn a_number_that_is_not_finite_is_named_by_its_path() {
        assert!(fault(|r| r.stats.error_rate = f64::NAN).starts_with("`stats.error-rate` is NaN"));
        assert!(fault(|r| r.values[1].1 = f64::INFINITY).starts_with("`values[1][1]` is inf"));
        assert!(fault(|r| _ = r.by_name.insert("p95", Some(f32::NAN))).starts_with("`by_name.p95` is NaN"));
        assert!(fault(|r| r.shape = Shape::Circle(f64::NEG_INFINITY)).starts_with("`shape.Circle` is -inf"));
        assert!(check(&f64::NAN).is_err_and(|message| message.starts_with("the value is NaN")));
    }
}
