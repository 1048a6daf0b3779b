//! Policies, text in and text out: what `policies/NAME.policy.toml` makes of `policies/NAME.toml` is in `policies/NAME.expected`
//! (`DOWNBEAT_BLESS=1` writes it anew; the diff is the review). What docs/security.md shows is read, and its cases come out as
//! they say.

#![allow(clippy::unwrap_used)]

mod components;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use downbeat_workflow::diagnostic::{Diagnostic, render};
use downbeat_workflow::policy::{Cases, Facts, Outcome, Policy, SIGNERS_MAX, apply};
use downbeat_workflow::spec::Source;

fn read(path: &str, text: &str) -> Policy {
    Policy::parse(Source::new(path, text))
        .unwrap_or_else(|(source, found)| panic!("{}", render(&found, &source, false)))
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies")
}

#[test]
fn a_policy_says_of_each_step_what_it_is_not_content_with() {
    let bless = std::env::var_os("DOWNBEAT_BLESS").is_some();
    let (mut wrong, mut count) = (String::new(), 0);
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().to_str().unwrap().strip_suffix(".policy.toml").map(str::to_owned)
        })
        .collect();
    names.sort();
    for name in names {
        let text = |end: &str| std::fs::read_to_string(folder().join(format!("{name}{end}"))).unwrap_or_default();
        let path = format!("/etc/downbeat/{name}.policy.toml");
        let told = match Policy::parse(Source::new(path, text(".policy.toml"))) {
            Err((source, found)) => render(&found, &source, false),
            Ok(policy) => {
                let source = Source::new(format!("{name}.toml"), text(".toml"));
                let (plan, found) = components::check(&source);
                let mut plan = plan.unwrap_or_else(|| panic!("{}", render(&found, &source, false)));
                plan.environments = vec!["prod".into()];
                let found = apply(&mut plan, &[policy], &Facts::default());
                let mut told: String = found.iter().map(|(source, found)| render(found, source, false)).collect();
                for step in &plan.steps {
                    let Some(uses) = step.uses() else { continue };
                    let grants = serde_json::to_string(&uses.grants).unwrap();
                    writeln!(
                        told,
                        "{}: {grants}, memory {}, time {}",
                        step.name,
                        uses.limits.memory,
                        step.timeout_ms.unwrap_or(uses.limits.time_ms)
                    )
                    .unwrap();
                }
                told
            }
        };
        count += 1;
        match bless {
            true => std::fs::write(folder().join(format!("{name}.expected")), &told).unwrap(),
            false if text(".expected") != told => writeln!(wrong, "--- {name}\n{told}").unwrap(),
            false => {}
        }
    }
    assert!(count >= 3, "the cases are gone");
    assert!(wrong.is_empty(), "not as expected (DOWNBEAT_BLESS=1 accepts it):\n{wrong}");
}

#[test]
fn a_plan_knows_the_policies_that_it_was_held_against_and_is_another_one_then() {
    let source = Source::new("w.toml", "name = \"w\"\nplugins.any = \"any.wasm\"\nsteps.a = { use = \"any\" }\n");
    let mut plan = components::check(&source).0.unwrap();
    let before = plan.to_json().1;
    let policy = read("p.toml", "[rules.all]\nallow = {}\n");
    assert!(apply(&mut plan, std::slice::from_ref(&policy), &Facts::default()).is_empty());
    assert_eq!((plan.policies[0].path.as_str(), &plan.policies[0].digest), ("p.toml", &policy.digest));
    assert_ne!(plan.to_json().1, before);
    let read = downbeat_workflow::plan::Plan::from_json(&plan.to_json().0).unwrap();
    assert_eq!(read.policies, plan.policies);
}

#[test]
fn a_policy_without_rules_is_told_what_it_means_and_one_with_a_crowd_of_signers_is_refused() {
    let empty = read("p.toml", "# Some day.\n");
    assert_eq!(empty.warnings.iter().map(|found| found.code).collect::<Vec<_>>(), ["empty-policy"]);
    assert!(read("p.toml", "[rules.none]\nallow = {}\n").warnings.is_empty());
    let crowd = |count: usize| {
        let signer = |n: usize| format!("[signers.s{n}]\nkey = \"ed25519:{n:042}A=\"\n");
        let text = (0..count).map(signer).collect::<String>() + "[rules.signed]\nsigners = [\"s0\"]\n";
        Policy::parse(Source::new("p.toml", text))
    };
    assert_eq!(crowd(SIGNERS_MAX).unwrap().signers.len(), SIGNERS_MAX);
    let (_, found) = crowd(SIGNERS_MAX + 1).unwrap_err();
    assert_eq!(found.iter().map(|found| found.code).collect::<Vec<_>>(), ["too-large"]);
}

#[test]
fn what_the_hint_about_approvals_suggests_has_a_deadline_and_is_enough() {
    let policy = read("p.toml", "[rules.word]\napprovals = [\"lead-*\", \"managers\"]\n");
    let held = |steps: &str| {
        let source = Source::new("w.toml", format!("name = \"w\"\nplugins.any = \"any.wasm\"\n{steps}"));
        let (plan, found) = components::check(&source);
        assert!(found.is_empty(), "{}", render(&found, &source, false));
        apply(&mut plan.unwrap(), std::slice::from_ref(&policy), &Facts::default())
    };
    let found = held("[steps.push]\nuse = \"any\"\n");
    let hint = found[0].1[0].hint.clone().unwrap();
    let quoted: Vec<&str> = hint.split('`').collect();
    assert!(quoted[1].starts_with("wait = ") && quoted[3].starts_with("timeout = "), "{hint}");
    let steps = format!("[steps.ask]\n{}\n{}\n[steps.push]\nneeds = [\"ask\"]\nuse = \"any\"\n", quoted[1], quoted[3]);
    assert!(held(&steps).is_empty(), "{steps}");
}

#[test]
fn a_program_is_forbidden_by_whatever_path_leads_to_it() {
    let text = "name = \"w\"\nplugins.all = \"all.wasm\"\n[secrets.key]\ncommand = [\"/opt/link\"]\n\
        [steps.a]\nuse = \"all\"\ngrant = { process = [PROGRAM] }\n\
        [steps.b]\nuse = \"all\"\nwith = { key = \"${secrets.key}\" }\ngrant = { secrets = [{ name = \"key\", reveal = true }] }\n";
    // As on a machine where `/bin` is `/usr/bin`, `sh` is `dash`, and somebody has a link in `/opt`.
    let others = [
        ("/bin/sh", vec!["/bin", "/usr/bin/sh", "/usr/bin/dash"]),
        ("/usr/bin/sh", vec!["/usr/bin/dash"]),
        ("/opt/link", vec!["/bin/sh", "/bin", "/usr/bin/sh", "/usr/bin/dash"]),
        ("sh", vec!["/usr/bin/sh", "/usr/bin/dash"]),
        ("dash", vec!["/usr/bin/dash"]),
    ];
    let owned =
        |(program, paths): (&str, Vec<&str>)| (program.to_owned(), paths.into_iter().map(str::to_owned).collect());
    let facts = Facts { programs: others.into_iter().map(owned).collect(), ..Facts::default() };
    let steps = |forbid: &str, program: &str| -> Vec<&str> {
        let policy = read("p.toml", &format!("[rules.no]\nforbid = {{ process = [{forbid}] }}\n"));
        let plan = components::check(&Source::new("w.toml", text.replace("PROGRAM", program))).0.unwrap();
        let found = apply(&mut plan.clone(), &[policy], &facts);
        let said = |step: &&str| found.iter().any(|(_, found)| found.iter().any(|one| one.message.contains(*step)));
        ["`a`", "`b`"].into_iter().filter(said).collect()
    };
    for (forbid, program, refused) in [
        ("\"/bin/sh\"", "\"/usr/bin/sh\"", vec!["`a`", "`b`"]),
        ("\"/bin/sh\"", "\"/usr/bin/dash\"", vec!["`a`", "`b`"]),
        ("\"/bin/sh\"", "\"dash\"", vec!["`a`", "`b`"]),
        ("\"/usr/bin/sh\"", "\"/bin/sh\"", vec!["`a`", "`b`"]),
        ("\"/usr/bin/*sh\"", "\"/opt/link\"", vec!["`a`", "`b`"]),
        ("\"sh\"", "\"/opt/link\"", vec!["`a`", "`b`"]),
        ("\"dash\"", "\"sh\"", vec!["`a`", "`b`"]),
        // What `sh` is here forbids nothing to those who are not granted it.
        ("\"sh\"", "\"dash\"", vec!["`b`"]),
        ("\"/opt/*\"", "\"/bin/sh\"", vec!["`b`"]),
        ("\"/bin/sh\"", "\"/bin/true\"", vec!["`b`"]),
        ("{ program = \"/bin/sh\", args = [\"-i\"] }", "{ program = \"/usr/bin/sh\", args = [\"-c\", \"*\"] }", vec![]),
        ("{ program = \"/bin/sh\", network = true }", "\"/usr/bin/sh\"", vec![]),
    ] {
        assert_eq!(steps(forbid, program), refused, "{forbid} {program}");
    }
    // What is forbidden goes with the step, as a link may be another one by the time that it is started.
    let policy = read("p.toml", "[rules.no]\nforbid = { process = [\"/bin/sh\"], http = true }\n");
    let mut plan = components::check(&Source::new("w.toml", text.replace("PROGRAM", "\"/bin/true\""))).0.unwrap();
    let before = plan.steps[0].uses().unwrap().grants.clone();
    apply(&mut plan, &[policy], &Facts::default());
    let after = &plan.steps[0].uses().unwrap().grants;
    assert_eq!((after.forbidden.len(), &after.forbidden[0].by[..]), (1, "rule `no` of p.toml:2"));
    assert!(after.are_those_of(&before) && plan.steps[1].uses().unwrap().grants.forbidden.is_empty());
}

#[test]
fn what_is_read_is_judged_by_where_it_leads_as_well() {
    let text = "name = \"w\"\nplugins.all = \"all.wasm\"\n[secrets.key]\nfile = \"SECRET\"\n\
        [steps.a]\nuse = \"all\"\ngrant = { process = [{ program = \"cat\", read = [\"READ\"] }] }\n\
        [steps.b]\nuse = \"all\"\nwith = { key = \"${secrets.key}\" }\ngrant = { secrets = [{ name = \"key\", reveal = true }] }\n";
    let led = [
        ("/opt/link", "/x/secret/key"),
        ("/opt/other", "/x/other"),
        ("/x/pointer", "/x/secret"),
        ("~/tools", "/home/ann/tools"),
        ("~/link", "/x/secret"),
        ("~", "/home/ann"),
        ("$NONE", ""),
    ];
    let owned = |(path, led): (&str, &str)| (path.to_owned(), led.to_owned());
    let facts = Facts { files: led.into_iter().map(owned).collect(), ..Facts::default() };
    let play = |rule: &str, read_: &str, secret: &str| {
        let policy = read("p.toml", &format!("[rules.no]\n{rule}\n"));
        let text = text.replace("READ", read_).replace("SECRET", secret);
        let mut plan = components::check(&Source::new("w.toml", text)).0.unwrap();
        let found = apply(&mut plan, &[policy], &facts);
        let said = |step: &&str| found.iter().any(|(_, found)| found.iter().any(|one| one.message.contains(*step)));
        let steps: Vec<&str> = ["`a`", "`b`"].into_iter().filter(said).collect();
        (steps, plan)
    };
    let both = vec!["`a`", "`b`"];
    for (rule, path, secret, refused) in [
        ("forbid = { files = [\"/x/secret\"] }", "/opt/link", "/opt/link", both.clone()),
        ("forbid = { files = [\"/x/pointer\"] }", "/opt/link", "/x/secret/key", both.clone()),
        ("forbid = { files = [\"/x/secret\"] }", "/opt/other", "/opt/other", vec![]),
        ("forbid = { files = [\"/opt/other\"] }", "/opt/other", "/opt/link", vec!["`a`"]),
        ("forbid = { files = [\"/x/secret\"] }", "~", "/opt/other", vec!["`a`"]),
        ("forbid = { files = true }", "~", "/opt/other", both.clone()),
        (
            "allow = { process = [{ program = \"cat\", read = [\"/opt\"] }], secrets = true }",
            "/opt/link",
            "/k",
            vec!["`a`"],
        ),
        (
            "allow = { process = [{ program = \"cat\", read = [\"/opt\", \"/x\"] }], secrets = true }",
            "/opt/link",
            "/k",
            vec![],
        ),
        ("allow = { process = [{ program = \"cat\", read = [\"~\"] }], secrets = true }", "~/tools", "/k", vec![]),
        ("allow = { process = [{ program = \"cat\", read = [\"~\"] }], secrets = true }", "~/link", "/k", vec!["`a`"]),
        ("allow = { process = [{ program = \"cat\", read = [\"$NONE\"] }], secrets = true }", "$NONE", "/k", vec![]),
    ] {
        assert_eq!(play(rule, path, secret).0, refused, "{rule} {path} {secret}");
    }
    // Where it led goes with the step, and is what is opened.
    let (_, plan) = play("forbid = { http = true }", "/opt/link", "/opt/other");
    let led = |step: usize| plan.steps[step].uses().unwrap().grants.led.clone().into_iter().collect::<Vec<_>>();
    assert_eq!(led(0), [owned(("/opt/link", "/x/secret/key"))]);
    assert_eq!(led(1), [owned(("/opt/other", "/x/other"))]);
    assert!(
        led(0) != led(1)
            && play("mode = \"report\"\nforbid = { http = true }", "/opt/link", "/k").1.steps[0]
                .uses()
                .unwrap()
                .grants
                .led
                .is_empty()
    );
}

#[test]
fn two_policies_allow_what_both_allow() {
    let text = "name = \"w\"\nplugins.all = \"all.wasm\"\n[steps.a]\nuse = \"all\"\ngrant = { env = [\"A\", \"B\"] }\n";
    let plan = components::check(&Source::new("w.toml", text)).0.unwrap();
    let (a, b) = (
        read("a.toml", "[rules.a]\nallow = { env = [\"A\"] }\n"),
        read("b.toml", "[rules.b]\nallow = { env = [\"B\"] }\n"),
    );
    let found = apply(&mut plan.clone(), &[a, b], &Facts::default());
    let told: Vec<(&str, usize)> = found.iter().map(|(source, found)| (source.path.as_str(), found.len())).collect();
    assert_eq!(told, [("a.toml", 1), ("b.toml", 1)]);
    assert!(found.iter().flat_map(|(_, found)| found).all(Diagnostic::is_error));
}

#[test]
fn what_one_policy_lowered_another_lowers_further_and_what_an_author_asked_for_it_refuses() {
    let text = "name = \"w\"\nplugins.any = \"any.wasm\"\n[steps.usual]\nuse = \"any\"\n[steps.own]\nuse = \"any\"\n\
        limit = { memory = \"48MiB\" }\n";
    let of = |memory: &str, mode: &str| {
        read(&format!("{memory}.toml"), &format!("mode = \"{mode}\"\n[rules.r]\nlimit = {{ memory = \"{memory}\" }}\n"))
    };
    for mode in ["enforce", "withhold"] {
        let mut plan = components::check(&Source::new("w.toml", text)).0.unwrap();
        let found =
            apply(&mut plan, &[of("40MiB", mode), of("32MiB", "enforce"), of("36MiB", mode)], &Facts::default());
        let errors = found.iter().flat_map(|(_, found)| found).filter(|one| one.is_error());
        let errors: Vec<&str> = errors.map(|one| one.message.as_str()).collect();
        assert!(
            errors.iter().all(|error| error.contains("`own`")) && errors.iter().any(|e| e.contains("32MiB.toml")),
            "{errors:?}"
        );
        let usual = &plan.steps[0].uses().unwrap().limits;
        assert_eq!((usual.memory, usual.lowered_by("memory")), (32 << 20, Some("rule `r` of 32MiB.toml:3")));
    }
}

#[test]
fn the_policy_that_is_shown_is_right_and_its_cases_come_out_as_they_say() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md")).unwrap();
    let block = |fence: &str| page.split_once(&format!("```toml {fence}\n")).unwrap().1.split("```").next().unwrap();
    let policy = read("docs/security.md", block("policy"));
    let source = Source::new("policy.test.toml", block("cases"));
    let cases = Cases::parse(&source).unwrap_or_else(|found| panic!("{}", render(&found, &source, false)));
    assert!(cases.cases.len() >= 6);
    let mut met = Vec::new();
    for case in &cases.cases {
        let (outcome, said) = case.play(&policy);
        let told = render(&said, &policy.source, false);
        assert_eq!(outcome, case.expect, "{}: {told}", case.name);
        if let Some(by) = &case.by {
            let mut rules = case.rules(&policy, &said);
            rules.sort_unstable();
            assert_eq!(rules, *by, "{}: {told}", case.name);
        }
        met.push(outcome);
    }
    assert!(met.contains(&Outcome::Refuse) && met.contains(&Outcome::Report) && met.contains(&Outcome::Allow));
}

#[test]
fn what_is_no_case_is_told() {
    let source = Source::new("policy.test.toml", "[cases.a]\nexpect = \"deny\"\n[cases.b]\ngrants = {}\n[cases.c]\n");
    let found = Cases::parse(&source).unwrap_err();
    let told: Vec<&str> = found.iter().map(|found| found.code).collect();
    assert_eq!(told, ["not-an-option", "unknown-key", "missing-key"]);
}

#[test]
fn a_reviewer_is_told_what_the_steps_of_a_workflow_may_do_that_they_could_not() {
    use downbeat_workflow::review::{Review, Severity};
    let plan = |steps: &str| {
        let source = Source::new("w.toml", format!("name = \"w\"\nplugins.all = \"all.wasm\"\n{steps}"));
        let (plan, found) = components::check(&source);
        plan.unwrap_or_else(|| panic!("{}", render(&found, &source, false)))
    };
    let old = plan(
        "[steps.a]\nuse = \"all\"\ngrant = { http = [\"a.org\", \"b.org\"], process = [{ program = \"git\", args = [\"fetch\", \"*\"] }], files = [\"data\"] }\n\
         [steps.gone]\nuse = \"all\"\ngrant = { clock = true }\n",
    );
    let new = plan(
        "[steps.a]\nuse = \"all\"\nlimit = { memory = \"1GiB\" }\ngrant = { http = [{ host = \"a.org\", methods = [\"GET\"] }, \"c.org\"], process = [\"git\"], files = [{ path = \"data/in\" }] }\n\
         [steps.deep]\nsteps.new = { use = \"all\", grant = { env = [\"HOME\"] } }\n",
    );
    let review = Review::of_plans(&old, &new);
    assert_eq!(review.severity(), Some(Severity::Wider));
    assert_eq!(
        review.text(),
        "may do more\n  \
         + a: grants process = [\"git\"]\n  \
         + a: grants http = [\"c.org\"]\n  \
         ~ a: limits memory 268435456 → 1073741824\n  \
         + deep/new: step runs all\n  \
         + deep/new: grants env = [\"HOME\"]\n\
         may do less\n  \
         - a: grants files = [{ path = \"data\" }]\n  \
         - a: grants http = [\"a.org\"]\n  \
         - a: grants http = [\"b.org\"]\n  \
         - gone: step runs all\n  \
         - gone: grants clock = true\n\
         may do the same\n  \
         ~ workflow steps.deep, steps.deep.steps.new, steps.gone: `downbeat expand` shows each\n"
    );
    assert_eq!(Review::of_plans(&old, &old).text(), "nothing has changed\n");
}
