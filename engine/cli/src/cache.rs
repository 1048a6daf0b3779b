//! `downbeat cache`: the answers of steps with `cache` that are kept across runs: which there are, what one says, whether
//! they are whole, and how they are given up.

use std::time::SystemTime;

use downbeat_conductor::Answers;
use downbeat_conductor::answers::{ANSWERS_BYTES_MAX, Found, Listed};
use downbeat_workflow::cache::Entry;
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::Timestamp;

use crate::arguments::{CacheClear, CacheCommand, CacheList, CacheShow};
use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::table::table;
use crate::talk;
use crate::units;

pub(crate) fn cache(place: &Place, command: &CacheCommand) -> Result<Exit, Fault> {
    let answers = place.answers();
    match command {
        CacheCommand::List(arguments) => list(&answers, arguments),
        CacheCommand::Show(arguments) => show(&answers, arguments),
        CacheCommand::Verify => verify(&answers),
        CacheCommand::Clear(arguments) => clear(&answers, arguments),
    }
}

fn list(answers: &Answers, arguments: &CacheList) -> Result<Exit, Fault> {
    let all = sorted(answers)?;
    if all.is_empty() {
        talk::say("no answers are kept");
        return Ok(Exit::Success);
    }
    let mut rows = Vec::new();
    for listed in all.iter().take(arguments.limit) {
        let (used, bytes) = (time(listed.used), listed.bytes);
        let found = answers.peek(&listed.key);
        if arguments.json {
            let object = match &found {
                Found::Hit(entry) => serde_json::json!({
                    "key": entry.key,
                    "plugin": entry.plugin,
                    "component": entry.component,
                    "workflow": entry.workflow,
                    "origin": entry.origin,
                    "used": used,
                    "bytes": bytes,
                }),
                Found::Miss => continue,
                Found::Damaged(reason) => {
                    serde_json::json!({ "key": listed.key, "damaged": reason, "used": used, "bytes": bytes })
                }
            };
            talk::put_json(&object.to_string())?;
            continue;
        }
        let key = listed.key.short().to_owned();
        match found {
            Found::Hit(entry) => {
                let Entry { plugin, workflow, origin, .. } = *entry;
                let kept = units::time(origin.at);
                let step = format!("{workflow}/{}", origin.step);
                rows.push(vec![key, step, plugin.into_owned(), units::size(bytes), kept, used, origin.run.to_string()]);
            }
            Found::Miss => (),
            Found::Damaged(_) => {
                rows.push(vec![key, "damaged".to_owned(), String::new(), units::size(bytes), String::new(), used]);
            }
        }
    }
    if arguments.json {
        return Ok(Exit::Success);
    }
    talk::put(&table(&["KEY", "STEP", "PLUGIN", "SIZE", "KEPT", "LAST USED", "RUN"], &rows))?;
    let bytes = all.iter().map(|listed| listed.bytes).sum();
    let more = if all.len() > arguments.limit { "; --limit shows more of them" } else { "" };
    talk::say(format_args!("{}, of {} at most{more}", count(all.len(), bytes), units::size(ANSWERS_BYTES_MAX)));
    Ok(Exit::Success)
}

fn show(answers: &Answers, arguments: &CacheShow) -> Result<Exit, Fault> {
    let key = find(answers, &arguments.key)?;
    let entry = match answers.peek(&key) {
        Found::Hit(entry) => *entry,
        Found::Miss => return Err(Fault::new(Exit::Usage, format!("the answer {} was just given up", key.short()))),
        Found::Damaged(reason) => {
            return Err(Fault::engine(reason).hint("the step is executed the next time, as if nothing had been kept"));
        }
    };
    if arguments.json {
        talk::put_json(&serde_json::to_string(&entry).expect("an entry holds nothing that JSON can't"))?;
        return Ok(Exit::Success);
    }
    let Entry { key, plugin, component, workflow, origin, output } = entry;
    let output = serde_json::to_string_pretty(&output.value()).expect("a value is valid JSON");
    talk::put(&format!(
        "key       {key}\nstep      {} of {workflow}\nplugin    {plugin}, {component}\nrun       {}\nkept      {}\n\noutput\n{output}\n",
        origin.step,
        origin.run,
        units::time(origin.at),
    ))?;
    Ok(Exit::Success)
}

fn verify(answers: &Answers) -> Result<Exit, Fault> {
    let all = sorted(answers)?;
    let (mut whole, mut bytes, mut damaged) = (0, 0, 0);
    for listed in &all {
        match answers.peek(&listed.key) {
            Found::Hit(_) => {
                whole += 1;
                bytes += listed.bytes;
            }
            Found::Miss => (),
            Found::Damaged(reason) => {
                damaged += 1;
                talk::put(&format!("{} {reason}\n", listed.key.short()))?;
            }
        }
    }
    match damaged {
        0 => {
            talk::say(format_args!("{}, all whole", count(whole, bytes)));
            Ok(Exit::Success)
        }
        damaged => {
            let are = if damaged == 1 { "answer is" } else { "answers are" };
            Err(Fault::engine(format!("{damaged} kept {are} damaged, {whole} whole"))
                .hint("none of the damaged is taken: their steps are executed the next time. `downbeat cache clear` removes them"))
        }
    }
}

fn clear(answers: &Answers, arguments: &CacheClear) -> Result<Exit, Fault> {
    let meant = match &arguments.key {
        Some(key) => {
            let key = find(answers, key)?;
            answers.list().map_err(Fault::engine)?.into_iter().filter(|listed| listed.key == key).collect()
        }
        None => sorted(answers)?,
    };
    let least_ms = arguments.older_than.unwrap_or(0);
    let now = SystemTime::now();
    let is_old =
        |listed: &Listed| now.duration_since(listed.used).map_or(0, |age| age.as_millis()) >= u128::from(least_ms);
    let (mut removed, mut bytes) = (0, 0);
    for listed in meant.iter().filter(|listed| is_old(listed)) {
        if answers.remove(&listed.key).map_err(Fault::engine)? {
            removed += 1;
            bytes += listed.bytes;
        }
    }
    talk::say(format_args!("gave up {}", count(removed, bytes)));
    Ok(Exit::Success)
}

/// Those that were used last first.
fn sorted(answers: &Answers) -> Result<Vec<Listed>, Fault> {
    let mut all = answers.list().map_err(Fault::engine)?;
    all.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.key.cmp(&b.key)));
    Ok(all)
}

/// The key that a person means: by its beginning.
fn find(answers: &Answers, text: &str) -> Result<Digest, Fault> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let mut keys = answers.list().map_err(Fault::engine)?.into_iter().map(|listed| listed.key);
    let mut meant = keys.by_ref().filter(|key| !hex.is_empty() && key.hex().starts_with(hex));
    match (meant.next(), meant.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => {
            Err(Fault::new(Exit::Usage, format!("several keys begin with `{text}`")).hint("write more of it"))
        }
        (None, _) => Err(Fault::new(Exit::Usage, format!("no answer is kept whose key begins with `{text}`"))
            .hint("`downbeat cache list` shows the keys")),
    }
}

fn count(answers: usize, bytes: u64) -> String {
    format!("{}, {}", units::counted(answers as u64, "answer"), units::size(bytes))
}

fn time(at: SystemTime) -> String {
    let ms = at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    units::time(Timestamp(u64::try_from(ms).unwrap_or(u64::MAX)))
}
