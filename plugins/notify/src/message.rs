//! The forms of a message. Pure: fields in, JSON out.

use downbeat_sdk::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Input;

/// How much of a receiver's answer a failure's details keep, in characters: receivers answer in a line.
pub(crate) const ANSWER_CHARS: usize = 1000;

/// The form of a message.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// An object with `title`, `text`, `level`, `fields`, `link`, and where it comes from.
    #[default]
    Generic,
    /// An object with a `text` in Slack's markup, which Mattermost, Rocket.Chat and Discord (`/slack`) read as well.
    Slack,
}

/// How serious a message is.
#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    #[default]
    Info,
    Success,
    Warning,
    Error,
}

pub(crate) fn render(context: &Context, input: &Input) -> Value {
    match input.kind {
        Kind::Generic => generic(context, input),
        Kind::Slack => json!({ "text": slack(context, input) }),
    }
}

fn generic(context: &Context, input: &Input) -> Value {
    json!({
        "title": input.title,
        "text": input.text.as_deref().unwrap_or_default(),
        "level": input.level,
        "fields": input.fields,
        "link": input.link,
        "source": { "workflow": context.workflow, "run": context.run, "step": context.step },
    })
}

fn slack(context: &Context, input: &Input) -> String {
    let sign = match input.level {
        Level::Info => ":information_source:",
        Level::Success => ":white_check_mark:",
        Level::Warning => ":warning:",
        Level::Error => ":rotating_light:",
    };
    let mut lines = vec![format!("{sign} *{}*", escaped(&input.title))];
    lines.extend(input.text.as_deref().map(escaped));
    lines.extend(input.fields.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("• {}: {}", escaped(name), escaped(&value))
    }));
    // In Slack's markup a `|` and a `>` end the address.
    lines.extend(input.link.as_deref().map(|link| format!("<{}>", link.replace('|', "%7C").replace('>', "%3E"))));
    lines.push(format!("_{} · {}_", escaped(&context.workflow), escaped(&context.run)));
    lines.join("\n")
}

/// The three characters that are markup wherever they stand. `<!channel>` in a log line shall not call everybody.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
