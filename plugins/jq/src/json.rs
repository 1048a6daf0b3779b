//! Between JSON and jaq's values, which can be more than JSON: numbers of any size, bytes, objects with any keys. What
//! JSON can't say is an error with the path to it, never a silent `null`.

use std::fmt::Write as _;

use jaq_json::{Num, Val};
use serde_json::{Map, Number, Value};

/// How deeply lists and objects may nest in a result: the 64 levels that the engine takes as a step's output, less the two
/// around a result in it.
const DEPTH_MAX: usize = 62;

pub(crate) fn to_val(value: Value) -> Val {
    match value {
        Value::Null => Val::Null,
        Value::Bool(bool) => Val::Bool(bool),
        Value::Number(number) => Val::Num(match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Num::from_integral(integer),
            (None, Some(integer)) => Num::from_integral(integer),
            (None, None) => Num::Float(number.as_f64().unwrap_or(f64::NAN)),
        }),
        Value::String(text) => Val::utf8_str(text),
        Value::Array(items) => items.into_iter().map(to_val).collect(),
        Value::Object(entries) => {
            Val::obj(entries.into_iter().map(|(key, value)| (Val::utf8_str(key), to_val(value))).collect())
        }
    }
}

/// The value as JSON. The error says what JSON can't write, and where it is.
pub(crate) fn of_val(value: &Val) -> Result<Value, String> {
    convert(value, &mut String::from("."), 0)
}

fn convert(value: &Val, path: &mut String, depth: usize) -> Result<Value, String> {
    if depth == DEPTH_MAX && matches!(value, Val::Arr(_) | Val::Obj(_)) {
        return Err(format!("a result of the filter is nested deeper than {DEPTH_MAX} levels"));
    }
    Ok(match value {
        Val::Null => Value::Null,
        Val::Bool(bool) => Value::Bool(*bool),
        Val::Num(number) => Value::Number(convert_number(number, path)?),
        Val::TStr(text) => Value::String(String::from_utf8_lossy(text).into_owned()),
        Val::BStr(_) => {
            return Err(format!("`{path}` of a result is a string of bytes, which JSON can't write; use `@base64`"));
        }
        Val::Arr(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                list.push(inside(path, format_args!("[{index}]"), |path| convert(item, path, depth + 1))?);
            }
            Value::Array(list)
        }
        Val::Obj(entries) => {
            let mut object = Map::new();
            for (key, value) in entries.iter() {
                let Val::TStr(name) = key else {
                    return Err(format!("`{path}` of a result has the key {key}, and in JSON a key is a string"));
                };
                let name = String::from_utf8_lossy(name).into_owned();
                let dot = if path.ends_with('.') { "" } else { "." };
                let value = inside(path, format_args!("{dot}{name}"), |path| convert(value, path, depth + 1))?;
                object.insert(name, value);
            }
            Value::Object(object)
        }
    })
}

fn inside<T>(path: &mut String, segment: std::fmt::Arguments<'_>, walk: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    path.write_fmt(segment).expect("writing to a string succeeds");
    let walked = walk(path);
    path.truncate(length);
    walked
}

fn convert_number(number: &Num, path: &str) -> Result<Number, String> {
    let float = |float: f64| {
        Number::from_f64(float).ok_or_else(|| format!("`{path}` of a result is {float}, and JSON has no such number"))
    };
    match number {
        Num::Int(integer) => Ok((*integer as i64).into()),
        Num::Float(number) => float(*number),
        Num::Dec(decimal) => float(decimal.parse().unwrap_or(f64::NAN)),
        // Within 64 bits these are exact; a component's own word has 32 of them.
        Num::BigInt(integer) => {
            let text = integer.to_string();
            (text.parse::<i64>().map(Number::from).or_else(|_| text.parse::<u64>().map(Number::from))).map_err(|_| {
                format!(
                    "`{path}` of a result is an integer of more than 64 bits; keep it as text with `tostring`, or round \
                     it with `. + 0.0`"
                )
            })
        }
    }
}
