//! What is said for short means what it says at length: templates, defaults, vars and overlays leave no trace in the plan,
//! and what is wrong in them is shown where it was written.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod components;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use downbeat_workflow::diagnostic::{Diagnostic, findings, render};
use downbeat_workflow::difference::Difference;
use downbeat_workflow::plan::Plan;
use downbeat_workflow::resolve::{File, Loaded, Surroundings, beside, resolve};
use downbeat_workflow::spec::{Source, Spec};

const HEAD: &str = "name = \"w\"\nplugins.any = \"any.wasm\"\n";

fn source(toml: &str) -> Source {
    Source::new("w.toml", format!("{HEAD}{toml}"))
}

/// The plan of a file about which there is nothing to say, but that `any` does not want what it is granted.
fn plan(source: &Source) -> Plan {
    let (plan, mut found) = components::check(source);
    found.retain(|found| found.code != "unwanted-grant");
    assert!(found.is_empty(), "{}", render(&found, source, false));
    plan.unwrap()
}

/// Both files come to the same plan; and so does the first when it is written out.
fn same(short: &Source, long: &str) {
    let (short_plan, long_plan) = (plan(short), plan(&source(long)));
    let difference = Difference::of_plans(&short_plan, &long_plan);
    assert!(difference.is_empty(), "{}", difference.page());
    let out = written_out(short);
    assert!(short_plan.does_the_same(&plan(&Source::new("out.toml", out.clone()))), "{out}");
}

fn written_out(source: &Source) -> String {
    let (text, found) = Spec::written_out(source, false);
    assert!(found.is_empty(), "{}", render(&found, source, false));
    text.unwrap()
}

fn told(source: &Source) -> Vec<String> {
    components::check(source).1.into_iter().map(|found| found.message).collect()
}

#[test]
fn what_would_be_hidden_is_written_out_as_toml_escapes_it() {
    let short = source("[steps.a]\nuse = \"any\"\nwith = { a = \"abc\\u202edef \\u200f\\u2028 \\u0007 \\\\\" }");
    let out = written_out(&short);
    assert!(!out.contains(|c| downbeat_workflow::text::is_hidden(c) && c != '\n'), "{out:?}");
    assert!(plan(&short).does_the_same(&plan(&Source::new("out.toml", out))));
}

#[test]
fn an_undo_may_be_like_a_template_too() {
    let short = "
        [templates.base]
        use     = \"any\"
        timeout = \"1m\"
        with    = { a = 1, b = \"${vars.which}\" }
        [vars]
        which = \"none\"
        [steps.a]
        like = \"base\"
        vars = { which = \"this\" }
        undo = { like = \"base\", retry = { attempts = 2 }, with = { a = 2 } }";
    let long = "
        [steps.a]
        use     = \"any\"
        timeout = \"1m\"
        with    = { a = 1, b = \"this\" }
        undo    = { use = \"any\", timeout = \"1m\", retry = { attempts = 2 }, with = { a = 2, b = \"this\" } }";
    same(&source(short), long);
    let unknown = told(&source("[steps.a]\nuse = \"any\"\nundo = { like = \"bese\" }"));
    assert_eq!(unknown, ["there is no template `bese`"]);
}

#[test]
fn a_step_has_what_its_template_says_and_it_does_not() {
    let short = "
        [templates.base]
        use     = \"any\"
        timeout = \"1m\"
        retry   = { attempts = 3, delay = \"2s\" }
        with    = { a = 1, b = { c = 2, d = [1, 2] } }
        grant   = { http = [\"example.org\"], clock = true }
        [templates.more]
        like    = \"base\"
        timeout = \"2m\"
        [steps.one]
        like = \"base\"
        [steps.two]
        like  = \"more\"
        needs = [\"one\"]
        retry = { attempts = 5 }
        with  = { b = { d = [3] }, e = true }
        grant = { clock = false }
        [steps.three]
        like  = \"more\"
        retry = { attempts = 1 }";
    let long = "
        [steps.one]
        use     = \"any\"
        timeout = \"1m\"
        retry   = { attempts = 3, delay = \"2s\" }
        with    = { a = 1, b = { c = 2, d = [1, 2] } }
        grant   = { http = [\"example.org\"], clock = true }
        [steps.two]
        needs   = [\"one\"]
        use     = \"any\"
        timeout = \"2m\"
        retry   = { attempts = 5, delay = \"2s\" }
        with    = { b = { d = [3], c = 2 }, e = true, a = 1 }
        grant   = { http = [\"example.org\"] }
        [steps.three]
        use     = \"any\"
        timeout = \"2m\"
        with    = { a = 1, b = { c = 2, d = [1, 2] } }
        grant   = { http = [\"example.org\"], clock = true }";
    same(&source(short), long);
}

#[test]
fn a_template_may_be_a_block_and_have_steps_that_are_like_others() {
    let short = "
        [templates.work]
        use = \"any\"
        [templates.both]
        outputs = { x = \"${steps.first.output.x}\" }
        [templates.both.steps.first]
        like = \"work\"
        [templates.both.steps.second]
        like  = \"work\"
        needs = [\"first\"]
        with  = { x = \"${steps.first.output.x}\" }
        [steps.one]
        like = \"both\"
        [steps.two]
        like  = \"both\"
        needs = [\"one\"]
        outputs = { y = \"${steps.first.output.y}\" }
        [steps.two.steps.third]
        like = \"work\"
        with = { x = \"${steps.one.output.x}\" }
        [outputs]
        y = \"${steps.two.output.y}\"";
    let long = "
        [steps.one]
        outputs = { x = \"${steps.first.output.x}\" }
        [steps.one.steps.first]
        use = \"any\"
        [steps.one.steps.second]
        use   = \"any\"
        needs = [\"first\"]
        with  = { x = \"${steps.first.output.x}\" }
        [steps.two]
        needs = [\"one\"]
        outputs = { y = \"${steps.first.output.y}\", x = \"${steps.first.output.x}\" }
        [steps.two.steps.third]
        use  = \"any\"
        with = { x = \"${steps.one.output.x}\" }
        [steps.two.steps.first]
        use = \"any\"
        [steps.two.steps.second]
        use   = \"any\"
        needs = [\"first\"]
        with  = { x = \"${steps.first.output.x}\" }
        [outputs]
        y = \"${steps.two.output.y}\"";
    same(&source(short), long);
}

#[test]
fn defaults_hold_for_whatever_uses_a_plugin_and_nothing_else() {
    let short = "
        pools.few = 2
        [defaults]
        retry   = { attempts = 3, delay = \"2s\" }
        timeout = \"1m\"
        pool    = \"few\"
        limit   = { memory = \"64MiB\" }
        [templates.slow]
        use     = \"any\"
        timeout = \"1h\"
        [steps.one]
        use   = \"any\"
        undo  = { use = \"any\", retry = { attempts = 1 } }
        limit = { output = \"1MiB\" }
        [steps.two]
        like = \"slow\"
        [steps.three]
        wait = \"2h\"
        [steps.four]
        timeout = \"9m\"
        [steps.four.steps.inner]
        use   = \"any\"
        retry = { attempts = 1 }
        [always.five]
        use = \"any\"";
    let long = "
        pools.few = 2
        [steps.one]
        use     = \"any\"
        retry   = { attempts = 3, delay = \"2s\" }
        timeout = \"1m\"
        pool    = \"few\"
        limit   = { memory = \"64MiB\", output = \"1MiB\" }
        undo    = { use = \"any\", timeout = \"1m\", pool = \"few\", limit = { memory = \"64MiB\" } }
        [steps.two]
        use     = \"any\"
        retry   = { attempts = 3, delay = \"2s\" }
        timeout = \"1h\"
        pool    = \"few\"
        limit   = { memory = \"64MiB\" }
        [steps.three]
        wait = \"2h\"
        [steps.four]
        timeout = \"9m\"
        [steps.four.steps.inner]
        use     = \"any\"
        timeout = \"1m\"
        pool    = \"few\"
        limit   = { memory = \"64MiB\" }
        [always.five]
        use     = \"any\"
        retry   = { attempts = 3, delay = \"2s\" }
        timeout = \"1m\"
        pool    = \"few\"
        limit   = { memory = \"64MiB\" }";
    same(&source(short), long);
}

#[test]
fn a_var_is_put_in_wherever_it_stands() {
    let short = r#"
        inputs.region = { type = "string" }
        pools.few = "${vars.places}"
        [vars]
        places = 2
        low    = -1
        host   = { name = "example.org", ports = [80, 443] }
        url    = "https://${vars.host.name}/${inputs.region}"
        where  = "${inputs.region}"
        quick  = "5s"
        odd    = "a \"b\" $${c}"
        [templates.tell]
        use   = "any"
        needs = ["${vars.step}.finished"]
        vars  = { level = "error" }
        with  = { level = "${vars.level}", text = "${steps[vars.step].status} in ${vars.where}" }
        [steps.one]
        use     = "any"
        pool    = "few"
        timeout = "${vars.quick}"
        when    = "vars.where != 'eu' && vars.low < 3 && 80 in vars.host.ports && vars.host.name.size() > 3"
        grant   = { http = ["${vars.host.name}:*"] }
        with    = { url = "${vars.url}", whole = "${vars.host}", first = "${vars.host.ports[0]}", odd = "${vars.odd}", odder = "${vars.odd == inputs.region}", n = "${vars.low}", text = "at ${vars.low}: ${vars.url}" }
        [steps.tell_one]
        like = "tell"
        vars = { step = "one" }
        [steps.tell-two]
        like = "tell"
        vars = { step = "tell_one", level = "info" }
        [steps.three]
        like = "tell"
        vars = { step = "tell-two" }"#;
    let long = r#"
        inputs.region = { type = "string" }
        pools.few = 2
        [steps.one]
        use     = "any"
        pool    = "few"
        timeout = "5s"
        when    = '''(inputs.region) != 'eu' && (-1) < 3 && 80 in [80, 443] && "example.org".size() > 3'''
        grant   = { http = ["example.org:*"] }
        with    = { url = "https://example.org/${inputs.region}", whole = { name = "example.org", ports = [80, 443] }, first = 80, odd = 'a "b" $${c}', odder = '${"a \"b\" ${c}" == inputs.region}', n = -1, text = "at -1: https://example.org/${inputs.region}" }
        [steps.tell_one]
        use   = "any"
        needs = ["one.finished"]
        with  = { level = "error", text = "${steps.one.status} in ${inputs.region}" }
        [steps.tell-two]
        use   = "any"
        needs = ["tell_one.finished"]
        with  = { level = "info", text = "${steps.tell_one.status} in ${inputs.region}" }
        [steps.three]
        use   = "any"
        needs = ["tell-two.finished"]
        with  = { level = "error", text = '${steps["tell-two"].status} in ${inputs.region}' }"#;
    same(&source(short), long);
}

#[test]
fn a_step_sees_its_own_vars_before_those_around_it() {
    let short = "
        vars.a = 1
        vars.b = \"${vars.a}\"
        [steps.one]
        vars = { a = 2 }
        [steps.one.steps.inner]
        use  = \"any\"
        vars = { c = \"${vars.a}\" }
        with = { a = \"${vars.a}\", b = \"${vars.b}\", c = \"${vars.c}\" }";
    let long = "
        [steps.one.steps.inner]
        use  = \"any\"
        with = { a = 2, b = 1, c = 2 }";
    same(&source(short), long);
}

#[test]
fn an_overlay_replaces_what_it_says_and_merges_tables() {
    let lowest = "
        plugins.tool = \"process.wasm\"
        vars.region = \"test\"
        [templates.base]
        use     = \"any\"
        timeout = \"1m\"
        [steps.build]
        like = \"base\"
        with = { region = \"${vars.region}\", list = [1, 2], deep = { a = 1, b = 2 } }
        [steps.approve]
        needs = [\"build\"]
        wait  = { approval = [\"ann\"], for = \"1d\" }
        [steps.deploy]
        use   = \"tool\"
        with  = { program = \"sh\" }
        grant = { process = [\"sh\"] }
        needs = [\"build\", \"approve\"]
        when  = \"vars.region == 'test'\"";
    let prod = "
        remove = [\"steps.approve\", \"steps.deploy.when\"]
        vars.region = \"eu\"
        templates.base.timeout = \"5m\"
        [steps.build.with]
        list = [3]
        deep = { b = 3 }
        [steps.deploy]
        needs = [\"build\"]
        grant = { workspace = true }
        [steps.tell]
        needs = [\"deploy\"]
        like  = \"base\"";
    let long = "
        plugins.tool = \"process.wasm\"
        [steps.build]
        use     = \"any\"
        timeout = \"5m\"
        with = { region = \"eu\", list = [3], deep = { a = 1, b = 3 } }
        [steps.deploy]
        use   = \"tool\"
        with  = { program = \"sh\" }
        needs = [\"build\"]
        grant = { workspace = true, process = [\"sh\"] }
        [steps.tell]
        needs = [\"deploy\"]
        use     = \"any\"
        timeout = \"5m\"";
    let over = source(lowest).with("prod.toml", prod);
    same(&over, long);
    let difference = Difference::of_plans(&plan(&source(lowest)), &plan(&over)).page();
    assert!(difference.contains('!') && difference.contains("workspace"), "{difference}");
}

#[test]
fn what_is_wrong_in_an_overlay_is_shown_there() {
    let lowest = "[steps.build]\nuse = \"any\"\ntimeout = \"1m\"\n";
    let over = source(lowest)
        .with("prod.toml", "\n[steps.biuld]\ntimeout = \"2m\"\n[steps.build]\nwen = \"x\"\ntimeout = \"2\"\n")
        .with("eu.toml", "remove = [\"steps.build.wehn\", 3]\n[steps.build]\nneeds = [\"nobody\"]\nwith = 3\n");
    let (plan, found) = components::check(&over);
    assert!(plan.is_none());
    let shown = render(&found, &over, false);
    for (place, code) in [
        ("prod.toml:2:8", "unknown-step"),
        ("prod.toml:5:1", "unknown-key"),
        ("prod.toml:6:11", "duration"),
        ("eu.toml:1:11", "unknown-key"),
        ("eu.toml:1:31", "wrong-type"),
        ("eu.toml:3:10", "unknown-step"),
        ("eu.toml:4:8", "wrong-type"),
    ] {
        let place = format!(" --> {place}\n");
        let at = shown.find(&place).unwrap_or_else(|| panic!("{place}{shown}"));
        let title = shown[..at].lines().last().unwrap();
        assert!(title.contains(code), "{place}{title}");
    }
    let findings = findings(&found, &over);
    assert!(findings.iter().any(|found| found.file == "eu.toml" && found.line == 3 && found.column == 10));
    let broken = source(lowest).with("prod.toml", "\nsteps = [\n");
    let (plan, found) = components::check(&broken);
    assert!(plan.is_none() && render(&found, &broken, false).contains(" --> prod.toml:"), "{found:?}");
}

#[test]
fn what_is_wrong_with_words_taken_over_is_told_once_with_its_takers() {
    let mut toml = "[templates.base]\nuse = \"any\"\npool = \"none\"\n".to_owned();
    for at in 0..100 {
        write!(toml, "[steps.s{at}]\nlike = \"base\"\n").unwrap();
    }
    let source = source(&toml);
    let (_, found) = components::check(&source);
    let [only] = &found[..] else { panic!("{}", render(&found, &source, false)) };
    assert_eq!(&source.text[only.span.clone()], "\"none\"");
    let takers: Vec<&str> = only.secondary.iter().map(|(span, _)| &source.text[span.clone()]).collect();
    assert_eq!(takers, ["\"base\""; 3]);
    assert_eq!(only.secondary[2].1, "taken over here, and in 97 more places");
}

#[test]
fn what_is_taken_over_is_bounded() {
    // A few lines that would be ten thousand million steps.
    let mut bomb = "[templates.t0]\nuse = \"any\"\n".to_owned();
    for at in 1..10 {
        for step in 0..10 {
            write!(bomb, "[templates.t{at}.steps.s{step}]\nlike = \"t{}\"\n", at - 1).unwrap();
        }
    }
    bomb += "[steps.all]\nlike = \"t9\"\n";
    assert!(told(&source(&bomb)).iter().any(|said| said.contains("more than 512 MiB")));

    let mut laughs = "[vars]\nv0 = \"ha\"\n".to_owned();
    for at in 1..12 {
        writeln!(laughs, "v{at} = \"{}\"", format!("${{vars.v{}}}", at - 1).repeat(10)).unwrap();
    }
    laughs += "[steps.all]\nuse = \"any\"\nwith.x = \"${vars.v11}\"\n";
    assert!(told(&source(&laughs)).iter().any(|said| said.contains("more than 512 MiB")));

    let chain = |length: usize| {
        let mut chain = "[templates.t0]\nuse = \"any\"\n".to_owned();
        for at in 1..length {
            write!(chain, "[templates.t{at}]\nlike = \"t{}\"\n", at - 1).unwrap();
        }
        write!(chain, "[steps.all]\nlike = \"t{}\"\n", length - 1).unwrap();
        chain
    };
    assert_eq!(told(&source(&chain(16))), Vec::<String>::new());
    assert!(told(&source(&chain(10_000))).iter().any(|said| said.contains("more than 16 templates")));
}

#[test]
fn ten_thousand_steps_that_say_little_are_read_as_soon_as_those_that_say_all() {
    let mut short = "vars.host = \"example.org\"\npools.few = 2\n[defaults]\nretry = { attempts = 3 }\ntimeout = \"1m\"\n\
        [templates.base]\nuse = \"any\"\npool = \"few\"\nwith = { url = \"https://${vars.host}/${vars.path}\", a = 1, b = [1, 2] }\n"
        .to_owned();
    let mut long = "pools.few = 2\n".to_owned();
    for at in 0..10_000 {
        write!(short, "[steps.s{at}]\nlike = \"base\"\nvars = {{ path = \"p{at}\" }}\n").unwrap();
        write!(
            long,
            "[steps.s{at}]\nuse = \"any\"\npool = \"few\"\nwith = {{ url = \"https://example.org/p{at}\", a = 1, b = [1, 2] }}\n\
             retry = {{ attempts = 3 }}\ntimeout = \"1m\"\n"
        )
        .unwrap();
    }
    let start = Instant::now();
    let long = plan(&source(&long));
    let written = start.elapsed();
    let short = plan(&source(&short));
    let taken_over = start.elapsed() - written;
    eprintln!("10,000 steps: {written:?} written out, {taken_over:?} for short");
    assert!(short.does_the_same(&long));
    assert!(taken_over < written * 10, "{written:?} {taken_over:?}");
}

/// The workflows of the repository, by path.
fn examples() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" {
                walk(&path, found);
            } else if name.ends_with(".toml") && !name.ends_with(".test.toml") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    walk(&root.join("workflows"), &mut found);
    walk(&root.join("tests/patterns"), &mut found);
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnostics"), &mut found);
    found.sort();
    found
}

/// With plugins that take and answer anything, and the sub-workflows beside it.
fn plan_of_example(source: &Source, directory: &str) -> (Option<Plan>, Vec<Diagnostic>) {
    let any = |spec: &Spec| -> BTreeMap<String, Result<Loaded, String>> {
        let loaded = plan(&self::source("[steps.a]\nuse = \"any\"\n")).plugins[0].clone();
        let loaded = Loaded { component: loaded.component, path: loaded.path };
        spec.plugin_paths().map(|(name, _)| (name.to_owned(), Ok(loaded.clone()))).collect()
    };
    let (Some(spec), mut found) = Spec::parse(source) else { return (None, Vec::new()) };
    let mut workflows = BTreeMap::new();
    let mut open: Vec<String> = spec.workflow_paths().into_iter().map(|path| beside(directory, path)).collect();
    while let Some(path) = open.pop() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let source = Source::new(path.clone(), text);
        let (spec, faults) = Spec::parse(&source);
        let directory = Path::new(&path).parent().unwrap().display().to_string();
        let inner = spec.iter().flat_map(Spec::workflow_paths).map(|inner| beside(&directory, inner));
        open.extend(inner.filter(|inner| *inner != path && !workflows.contains_key(inner)));
        let plugins = spec.as_ref().map(any).unwrap_or_default();
        workflows.insert(path, Ok(std::sync::Arc::new(File { source, spec, faults, directory, plugins })));
    }
    let surroundings = Surroundings { directory: directory.to_owned(), plugins: any(&spec), workflows };
    let resolution = resolve(source, &spec, &surroundings);
    found.extend(resolution.diagnostics);
    (resolution.plan, found)
}

#[test]
fn every_workflow_written_out_comes_to_the_same_plan() {
    let mut count = 0;
    for path in examples() {
        let source = Source::new(path.display().to_string(), std::fs::read_to_string(&path).unwrap());
        let directory = path.parent().unwrap().display().to_string();
        let (Some(before), _) = plan_of_example(&source, &directory) else { continue };
        let out = Source::new("out.toml", written_out(&source));
        let (after, found) = plan_of_example(&out, &directory);
        let after = after.unwrap_or_else(|| panic!("{}: {}", path.display(), render(&found, &out, false)));
        assert_eq!(before.to_json(), after.to_json(), "{}\n{}", path.display(), out.text);
        assert_eq!(written_out(&out), out.text, "{}: written out, it stays as it is", path.display());
        count += 1;
    }
    assert!(count > 40, "the examples are gone: {count}");
}

#[test]
fn origins_are_told_by_file_and_line() {
    let lowest = "vars.region = \"test\"\n[defaults]\ntimeout = \"1m\"\n[templates.base]\nuse = \"any\"\n\
        with = { a = 1, region = \"${vars.region}\" }\n[steps.build]\nlike = \"base\"\nretry = { attempts = 2 }\nwith = { b = 2 }\n";
    let over = source(lowest).with("prod.toml", "# over\nsteps.build.retry.attempts = 3\nvars.region = \"eu\"\n");
    let (text, _) = Spec::written_out(&over, true);
    let expected = "\
name = \"w\"

[plugins]
any = \"any.wasm\"

[steps.build]
use = \"any\"  # w.toml:7
with = { b = 2, a = 1, region = \"eu\" }  # prod.toml:3, w.toml:8
retry = { attempts = 3 }  # prod.toml:2
timeout = \"1m\"  # w.toml:5
";
    assert_eq!(text.unwrap(), expected);
}

#[test]
fn a_grant_is_written_where_its_words_stand_whoever_takes_them_over() {
    let lowest = "name = \"w\"\nplugins.all = \"all.wasm\"\n[templates.base]\nuse = \"all\"\ngrant = { process = [], http = [\"a.org\",\n  \"b.org\"], clock = true }\n\
        [steps.one]\nlike = \"base\"\n[steps.two]\nlike = \"base\"\ngrant = { process = [{ program = \"git\", args = [\"fetch\"] },\n  { program = \"git\", args = [\"push\"], env = [\"CI\"] }] }\n\
        limit = { memory = \"1GiB\" }\n";
    let prod = "\n[steps.one.grant]\nworkspace = true\n";
    let over = |lowest: &str| plan(&Source::new("flow/w.toml", lowest).with("flow/prod.with.toml", prod));
    let lines = |plan: &Plan, step: usize| -> Vec<String> {
        let uses = plan.steps[step].uses().unwrap();
        uses.grants.items().map(|grant| format!("{} {grant}", uses.place_of(&grant).unwrap())).collect()
    };
    let plan = over(lowest);
    let web = |clock: &str| format!("w.toml:5 http = [\"a.org\"]|w.toml:6 http = [\"b.org\"]|{clock}");
    assert_eq!(lines(&plan, 0).join("|"), web("w.toml:6 clock = true|prod.with.toml:3 workspace = true"));
    let programs = "w.toml:11 process = [{ program = \"git\", args = [\"fetch\"] }]|w.toml:12 process = [{ program = \"git\", args = [\"push\"], env = [\"CI\"] }]|";
    assert_eq!(lines(&plan, 1).join("|"), format!("{programs}{}", web("w.toml:6 clock = true")));
    let two = plan.steps[1].uses().unwrap();
    let variable = downbeat_workflow::capability::Grant::Env("CI".into());
    assert_eq!(two.place_of(&variable).unwrap().to_string(), "w.toml:12");
    assert_eq!(two.places.limit("memory").unwrap().to_string(), "w.toml:13");
    assert_eq!(two.places.step().unwrap().to_string(), "w.toml:9");
    // It is kept with the plan, and makes no other one of it.
    let kept = Plan::from_json(&plan.to_json().0).unwrap();
    assert_eq!((kept.to_json(), lines(&kept, 1)), (plan.to_json(), lines(&plan, 1)));
    let moved = over(&format!("# A word more.\n{lowest}"));
    assert!(moved.to_json().1 != plan.to_json().1 && moved.does_the_same(&plan) && plan.does_the_same(&moved));
    assert!(Difference::of_plans(&plan, &moved).is_empty());
    assert!(!over(&lowest.replace("\"CI\"", "\"CD\"")).does_the_same(&plan));
}
