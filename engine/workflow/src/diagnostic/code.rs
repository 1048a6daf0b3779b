//! The register of diagnostics: every code that the engine can say, each with a page.
//!
//! A code that is not here can't be said: the constructors look it up where assertions are on, and a page that is not there
//! does not compile. The page is `docs/diagnostics/CODE.md`; it is part of the program, so that `downbeat check --explain CODE`
//! shows it anywhere. Its examples are run by `tests/codes.rs`. What is said about files of tests has one page for all.

/// A kind of finding.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// Its name, in kebab case; stable.
    pub name: &'static str,
    page: &'static str,
    /// The page that it shares with others, as a section of it.
    shared: Option<&'static str>,
}

/// The page of the codes that only files of tests have.
const TESTS: &str = include_str!("../../../../docs/diagnostics/tests.md");

macro_rules! codes {
    ($($name:literal)*) => {
        &[$(Code {
            name: $name,
            page: include_str!(concat!("../../../../docs/diagnostics/", $name, ".md")),
            shared: None,
        }),*]
    };
}

macro_rules! codes_of_tests {
    ($($name:literal)*) => {
        &[$(Code { name: $name, page: TESTS, shared: Some("tests.md") }),*]
    };
}

/// The page of the codes that only policies have.
const POLICIES: &str = include_str!("../../../../docs/diagnostics/policies.md");

/// What is said only about policies, and about workflows by them.
pub const CODES_OF_POLICIES: &[Code] = &[
    Code { name: "empty-policy", page: POLICIES, shared: Some("policies.md") },
    Code { name: "policy", page: POLICIES, shared: Some("policies.md") },
    Code { name: "unknown-signer", page: POLICIES, shared: Some("policies.md") },
];

/// What is said about workflows, and about any file.
pub const CODES: &[Code] = codes! {
    "approval"
    "broad-grant"
    "cancels"
    "concurrency-group"
    "constant-rule"
    "cycle"
    "dead-join"
    "duplicate"
    "duration"
    "empty-enum"
    "endless-recursion"
    "grant"
    "hidden-name"
    "hole-syntax"
    "impossible-need"
    "impossible-path"
    "impure-cache"
    "items"
    "missing-key"
    "missing-property"
    "name"
    "needs-always"
    "no-deadline"
    "no-shell"
    "no-steps"
    "not-a-list"
    "not-an-option"
    "not-boolean"
    "not-granted"
    "not-supported-yet"
    "not-toml"
    "number-range"
    "optional-path"
    "out-of-bounds"
    "pattern"
    "plain-secret"
    "plugin"
    "pool-deadlock"
    "pool-order"
    "rate"
    "rule-call"
    "rule-name"
    "rule-syntax"
    "rule-too-large"
    "rule-type"
    "schema"
    "script-injection"
    "secret-grant"
    "secret-place"
    "secret-source"
    "self-need"
    "similar-names"
    "size"
    "template-cycle"
    "time"
    "timeout-order"
    "too-deep"
    "too-large"
    "too-many-diagnostics"
    "two-works"
    "unfinished-step"
    "unfit-var"
    "unknown-capability"
    "unknown-input"
    "unknown-join"
    "unknown-key"
    "unknown-path"
    "unknown-plugin"
    "unknown-pool"
    "unknown-property"
    "unknown-rest"
    "unknown-secret"
    "unknown-signal"
    "unknown-state"
    "unknown-step"
    "unknown-template"
    "unknown-type"
    "unknown-var"
    "unknown-when-busy"
    "untold-variable"
    "unused"
    "unwanted-grant"
    "useless-allow"
    "useless-key"
    "var-cycle"
    "workflow"
    "wrong-default"
    "wrong-type"
};

/// What is said only about files of tests and about what came out of them.
pub const CODES_OF_TESTS: &[Code] = codes_of_tests! {
    "absent"
    "attempts"
    "before"
    "contradiction"
    "default-answer"
    "end"
    "endless"
    "failure"
    "input"
    "missing-input"
    "need"
    "never-ran"
    "no-answer"
    "no-approval"
    "no-attempts"
    "no-run"
    "no-scopes"
    "no-workflow"
    "opened"
    "outcome"
    "output"
    "pool"
    "ran"
    "reason"
    "says"
    "took"
    "unheard"
    "unknown-approver"
    "unknown-need"
    "unknown-output"
    "waits"
    "workflow-errors"
    "wrong-input"
};

impl Code {
    /// All of them.
    pub fn all() -> impl Iterator<Item = &'static Code> {
        CODES.iter().chain(CODES_OF_TESTS).chain(CODES_OF_POLICIES)
    }

    /// The one of this name.
    pub fn find(name: &str) -> Option<&'static Code> {
        Code::all().find(|code| code.name == name)
    }

    /// What there is to say about it, as Markdown.
    pub fn page(&self) -> &'static str {
        let Some(at) = Some(self.page).filter(|_| self.shared.is_some()).and_then(|page| page.find(&self.heading()))
        else {
            return self.page;
        };
        let section = &self.page[at..];
        section[1..].find("\n### ").map_or(section, |end| &section[..end + 2])
    }

    /// Where its page is, from the root of the repository.
    pub fn docs(&self) -> String {
        match self.shared {
            Some(page) => format!("docs/diagnostics/{page}#{}", self.name),
            None => format!("docs/diagnostics/{}.md", self.name),
        }
    }

    fn heading(&self) -> String {
        format!("### {}\n", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_in_its_order_and_has_something_to_say() {
        for codes in [CODES, CODES_OF_TESTS, CODES_OF_POLICIES] {
            assert!(codes.is_sorted_by(|a, b| a.name < b.name), "keep the register sorted");
        }
        for code in Code::all() {
            assert_eq!(Code::all().filter(|other| other.name == code.name).count(), 1, "{}", code.name);
            let start = if code.shared.is_some() { code.heading() } else { format!("# `{}`: ", code.name) };
            assert!(code.page().starts_with(&start), "{}: {}", code.name, code.page());
            assert!(code.page().contains("\n**Error") || code.page().contains("\n**Warning.**"), "{}", code.name);
        }
        assert!(Code::find("outcome").is_some_and(|code| !code.page().contains("### output")));
    }
}
