//! Renders one template among others, within bounds, and says what is wrong with it so that its author sees the place:
//! the template's name, the line, the line's text with the faulty part marked, and what can be done.

use std::error::Error as _;
use std::io;

use downbeat_sdk::Failure;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How long the text may get, in bytes. 16 MiB, what the limit `output` allows by default.
const TEXT_BYTES: usize = 16 << 20;

/// How deeply includes, macros and blocks may nest, in minijinja's units: an include or a macro is about ten. With 200 the
/// guest's stack of 1 MiB is not exhausted, and no layout nests 20 templates.
const RECURSION: usize = 200;

/// How much of a line of a template a message quotes, in characters.
const QUOTED_CHARS: usize = 160;

/// How many names of the data a hint lists.
const NAMES_LISTED: usize = 12;

/// How values are written where a template does not say it itself. `{{ value | safe }}` writes one as it is.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Escape {
    /// As they are.
    #[default]
    None,
    /// With `<`, `>`, `&`, `"`, `'` and `/` escaped, as text in HTML and XML.
    Html,
    /// As JSON: strings with their quotes.
    Json,
}

/// What is to be rendered.
pub(crate) struct Job {
    /// The name of the template to begin with.
    pub(crate) main: String,
    /// All templates, by name.
    pub(crate) templates: Vec<(String, String)>,
    pub(crate) data: Map<String, Value>,
    pub(crate) escape: Escape,
    pub(crate) fuel: u64,
}

impl Job {
    /// The text.
    ///
    /// # Errors
    ///
    /// Invalid input where a template is none; permanent where one speaks of what is not there, or goes over a bound.
    pub(crate) fn render(&self) -> Result<String, Failure> {
        let mut environment = Environment::new();
        environment.set_debug(true);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let mut syntax = environment.syntax().to_builder();
        environment.set_syntax(syntax.keep_trailing_newline(true).build().expect("the usual delimiters are right"));
        environment.set_recursion_limit(RECURSION);
        environment.set_fuel(Some(self.fuel));
        let escape = match self.escape {
            Escape::None => AutoEscape::None,
            Escape::Html => AutoEscape::Html,
            Escape::Json => AutoEscape::Json,
        };
        // The same for all templates, whatever their names end with.
        environment.set_auto_escape_callback(move |_| escape.clone());
        for (name, text) in &self.templates {
            environment.add_template(name, text).map_err(|error| self.failure(&error))?;
        }

        let mut text = Bounded::default();
        let rendered = environment
            .get_template(&self.main)
            .and_then(|template| template.render_captured_to(Serde(&self.data), &mut text));
        match rendered.map(drop) {
            Ok(()) => Ok(String::from_utf8(text.bytes).expect("a template writes characters")),
            Err(_) if text.full => {
                Err(Failure::permanent(format!("the text gets longer than {TEXT_BYTES} bytes; write it in pieces")))
            }
            Err(error) => Err(self.failure(&error)),
        }
    }

    fn failure(&self, error: &Error) -> Failure {
        // An include that failed says so; why is further in.
        let mut error = error;
        while let Some(inner) = error.source().and_then(|source| source.downcast_ref::<Error>()) {
            error = inner;
        }
        let name = error.name().unwrap_or(&self.main);
        let what = match (error.kind(), error.detail()) {
            (ErrorKind::OutOfFuel, _) => "the template does more than it may".to_owned(),
            (kind, Some(detail)) => format!("{kind}: {detail}"),
            (kind, None) => kind.to_string(),
        };
        let mut message = match error.line() {
            Some(line) => format!("`{name}`, line {line}: {what}"),
            None => format!("`{name}`: {what}"),
        };
        let part = self.part(error);
        if let Some(part) = &part {
            message.push_str(&format!("\n{}", part.marked()));
        }
        if let Some(hint) = self.hint(error) {
            message.push_str(&format!("\nhint: {hint}"));
        }
        let failure = match error.kind() {
            ErrorKind::SyntaxError
            | ErrorKind::UnknownFilter
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownTest
            | ErrorKind::TemplateNotFound => Failure::invalid_input(message),
            _ => Failure::permanent(message),
        };
        failure.details(serde_json::json!({ "template": name, "line": error.line() }))
    }

    /// The part of a template that an error is about.
    fn part(&self, error: &Error) -> Option<Part<'_>> {
        let name = error.name()?;
        let (_, text) = self.templates.iter().find(|(known, _)| known == name)?;
        let range = error.range().filter(|range| text.get(range.clone()).is_some_and(|part| !part.is_empty()));
        let number = error.line()?;
        let line = text.lines().nth(number.checked_sub(1)?)?;
        let start = line.as_ptr() as usize - text.as_ptr() as usize;
        // A range that begins in another line marks nothing.
        let marked = range.filter(|range| (start..start + line.len()).contains(&range.start));
        let marked = marked.map(|range| range.start - start..(range.end - start).min(line.len()));
        Some(Part { number, line, marked })
    }

    fn hint(&self, error: &Error) -> Option<String> {
        match error.kind() {
            ErrorKind::OutOfFuel => Some(format!("`fuel` is {}; raise it if that much is meant", self.fuel)),
            ErrorKind::TemplateNotFound => {
                let names: Vec<String> = self.templates.iter().map(|(name, _)| format!("`{name}`")).collect();
                Some(format!("there are {}; add others to `templates`", names.join(", ")))
            }
            _ => {
                let missing = missing(error)?;
                let names: Vec<String> = self.data.keys().take(NAMES_LISTED).map(|name| format!("`{name}`")).collect();
                let known = match names.is_empty() {
                    true => "`data` is empty".to_owned(),
                    false => format!("`data` has {}", names.join(", ")),
                };
                Some(format!("{known}; where a value may be missing, write `{{{{ {missing} | default(\"…\") }}}}`"))
            }
        }
    }
}

/// What was not there, whatever was tried with it: minijinja says so in words only.
fn missing(error: &Error) -> Option<&str> {
    let (before, _) = error.detail()?.rsplit_once("` is undefined")?;
    before.rsplit_once('`').map(|(_, missing)| missing)
}

/// A line of a template, and what is wrong in it.
struct Part<'t> {
    /// Counts from 1.
    number: usize,
    line: &'t str,
    /// In bytes of the line.
    marked: Option<std::ops::Range<usize>>,
}

impl Part<'_> {
    /// The line with its number, and carets below the marked part.
    fn marked(&self) -> String {
        let line: String = self.line.chars().take(QUOTED_CHARS).collect();
        let number = self.number.to_string();
        let mut text = format!("{number} | {line}");
        if let Some(range) = &self.marked
            && let (Some(before), Some(part)) = (self.line.get(..range.start), self.line.get(range.clone()))
            && before.chars().count() + part.chars().count() <= QUOTED_CHARS
        {
            // A tab takes as much room below as above.
            let indent: String = before.chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let carets = "^".repeat(part.chars().count());
            text.push_str(&format!("\n{} | {indent}{carets}", " ".repeat(number.len())));
        }
        text
    }
}

/// Takes text up to the bound.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > TEXT_BYTES {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
