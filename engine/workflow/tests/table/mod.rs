//! The control-flow patterns as they lie in `tests/patterns`, a folder each: `pattern.toml` says what is judged and how,
//! `workflow.toml` shows it (with the files of sub-workflows beside it), `script` is what happens to a run of it, `expected`
//! what comes out. Apart from the test that plays them because the conductor's tests drive the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use downbeat_workflow::plan::Plan;
use downbeat_workflow::spec::{Source, document};

use crate::plans::plan_of;

/// A pattern.
pub(crate) struct Pattern {
    /// Its folder's name: number and name.
    pub(crate) folder: String,
    pub(crate) number: u64,
    pub(crate) name: String,
    /// What has to be supported, in a sentence.
    pub(crate) criterion: String,
    /// How a workflow says it, in Markdown.
    pub(crate) construct: String,
    /// `+`, `+/-` or `-`.
    pub(crate) verdict: String,
    /// Why it is not a `+`; empty if it is.
    pub(crate) reason: String,
    pub(crate) plan: Arc<Plan>,
    script: Vec<(String, String)>,
    directory: PathBuf,
}

/// All of them, by number.
pub(crate) fn patterns() -> Vec<Pattern> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/patterns");
    let mut directories: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    directories.sort();
    directories.into_iter().map(Pattern::read).collect()
}

impl Pattern {
    fn read(directory: PathBuf) -> Pattern {
        let folder = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let text = |file: &str| {
            fs::read_to_string(directory.join(file)).unwrap_or_else(|error| panic!("{folder}/{file}: {error}"))
        };
        let (about, faults) = document(&Source::new(folder.clone(), text("pattern.toml")));
        assert!(faults.is_empty(), "{folder}/pattern.toml: {faults:?}");
        let about = about.unwrap().to_json();
        let said = |key: &str| about[key].as_str().unwrap_or_default().to_owned();
        let mut files: Vec<(String, String)> = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|file| file.ends_with(".toml") && file != "pattern.toml")
            .map(|file| (file.clone(), text(&file)))
            .collect();
        files.sort();
        let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        let script = text("script");
        let script = script.lines().map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{folder}: {line}")));
        Pattern {
            number: about["number"].as_u64().unwrap(),
            name: said("name"),
            criterion: said("criterion"),
            construct: said("construct"),
            verdict: said("verdict"),
            reason: said("reason"),
            plan: Arc::new(plan_of(&text("workflow.toml"), &files)),
            script: script.map(|(who, ends)| (who.to_owned(), ends.to_owned())).collect(),
            folder,
            directory,
        }
    }

    /// How its attempts end and what comes from outside, in the words of `play`.
    pub(crate) fn script(&self) -> Vec<(&str, &str)> {
        self.script.iter().map(|(who, ends)| (who.as_str(), ends.as_str())).collect()
    }

    /// What comes out: a line for each event.
    pub(crate) fn expected(&self) -> String {
        fs::read_to_string(self.directory.join("expected")).unwrap_or_default()
    }

    /// Writes down what comes out.
    pub(crate) fn expect(&self, log: &str) {
        fs::write(self.directory.join("expected"), log).unwrap();
    }
}
