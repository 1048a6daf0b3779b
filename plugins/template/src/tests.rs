use downbeat_sdk::Kind;
use downbeat_sdk::testing::{self, Host};
use serde_json::json;

use super::*;

fn run(input: Value) -> Result<Value, Failure> {
    testing::run::<template>(input)
}

fn text(template: &str, data: Value) -> String {
    let output = run(json!({ "template": template, "data": data })).expect("it renders");
    output["text"].as_str().expect("a text comes out").to_owned()
}

fn failure(input: Value) -> (Kind, String) {
    let failure = run(input).expect_err("it fails");
    (failure.kind, failure.message)
}

#[test]
fn text_is_made_from_data() {
    let data = json!({ "release": "1.4.0", "changes": [{ "title": "Faster", "by": "Ada" }, { "title": "Smaller", "by": "Bo" }] });
    assert_eq!(
        text(
            "# {{ release }}\n{% for c in changes %}{{ loop.index }}. {{ c.title }} ({{ c.by | upper }})\n{% endfor %}",
            data
        ),
        "# 1.4.0\n1. Faster (ADA)\n2. Smaller (BO)\n"
    );
    assert_eq!(text("{% if n > 2 %}many{% else %}few{% endif %}", json!({ "n": 3 })), "many");
    assert_eq!(
        text("{{ x | tojson }}", json!({ "x": { "b": 1, "a": [true, null] } })),
        r#"{"b": 1, "a": [true, null]}"#
    );
    assert_eq!(
        text(
            "{{ x }} {{ x | tojson }} {{ none }} {{ none | tojson }} {{ list }}",
            json!({ "x": true, "none": null, "list": ["a", 1] })
        ),
        "True true None null ['a', 1]"
    );
    assert_eq!(text("{{ price | round(1) }}\n", json!({ "price": 2.26 })), "2.3\n");
    assert_eq!(run(json!({ "template": "no data" })).expect("it renders"), json!({ "text": "no data" }));
}

#[test]
fn one_template_may_include_extend_and_import_others() {
    let output = run(json!({
        "template": "{% extends \"page\" %}{% import \"parts\" as parts %}{% block body %}{{ parts.item(\"a\") }}{% include \"foot\" %}{% endblock %}",
        "templates": {
            "page": "<{% block body %}{% endblock %}>",
            "foot": "by {{ who }}",
            "parts": "{% macro item(x) %}- {{ x }} {% endmacro %}",
        },
        "data": { "who": "Ada" },
    }));
    assert_eq!(output.expect("it renders")["text"], "<- a by Ada>");
}

#[test]
fn escaping_is_chosen() {
    let escaped = |escape: &str| {
        let input = json!({ "template": "{{ x }} {{ x | safe }}", "data": { "x": "<a & \"b\">" }, "escape": escape });
        run(input).expect("it renders")["text"].clone()
    };
    assert_eq!(escaped("none"), r#"<a & "b"> <a & "b">"#);
    assert_eq!(escaped("html"), r#"&lt;a &amp; &quot;b&quot;&gt; <a & "b">"#);
    assert_eq!(escaped("json"), r#""<a & \"b\">" <a & "b">"#);
}

#[test]
fn a_name_that_is_not_there_is_an_error_that_shows_it() {
    let input = json!({ "template": "Dear {{ user.name }},\n\tyou owe {{ amuont }} €.", "data": { "amount": 5, "user": { "name": "Bo" } } });
    assert_eq!(
        failure(input),
        (
            Kind::Permanent,
            "`template`, line 2: undefined value: `amuont` is undefined\n\
             2 | \tyou owe {{ amuont }} €.\n\
             \x20 | \t           ^^^^^^\n\
             hint: `data` has `amount`, `user`; where a value may be missing, write `{{ amuont | default(\"…\") }}`"
                .to_owned()
        )
    );
    assert_eq!(text("{{ x | default(\"none\") }}", json!({})), "none");
    // Whatever was tried with it.
    for template in ["{{ user.nmae + 1 }}", "{{ user.nmae.x }}", "{% for x in user.nmae %}{% endfor %}"] {
        let (_, text) = failure(json!({ "template": template, "data": { "user": { "name": "Bo" } } }));
        let hint = "hint: `data` has `user`; where a value may be missing, write `{{ user.nmae | default(\"…\") }}`";
        assert!(text.ends_with(hint), "{template}:\n{text}");
    }
}

#[test]
fn a_template_that_is_none_is_invalid_input_with_its_place() {
    for (template, message) in [
        ("a\n{% if x %}\nb", "`template`, line 2: syntax error: unexpected end of input"),
        ("{{ 1 + }}", "`template`, line 1: syntax error: unexpected end of variable block\n1 | {{ 1 + }}"),
        ("{{ x | shout }}", "`template`, line 1: unknown filter: filter shout is unknown\n1 | {{ x | shout }}"),
        ("{{ shout(1) }}", "`template`, line 1: unknown function: shout is unknown"),
        ("{% include \"foot\" %}", "`template`, line 1: template not found"),
    ] {
        let (kind, text) = failure(json!({ "template": template, "data": { "x": 1 } }));
        assert_eq!(kind, Kind::InvalidInput, "{text}");
        assert!(text.starts_with(message), "{template}:\n{text}");
    }
}

#[test]
fn an_error_in_an_included_template_is_shown_there() {
    let input = json!({ "template": "a\n{% include \"foot\" %}", "templates": { "foot": "\n{{ 1 / zero }}" }, "data": { "zero": "0" } });
    let (kind, text) = failure(input);
    assert_eq!(kind, Kind::Permanent);
    assert!(text.starts_with("`foot`, line 2: invalid operation"), "{text}");
    assert!(text.contains("2 | {{ 1 / zero }}"), "{text}");
}

#[test]
fn work_depth_and_length_are_bounded() {
    let endless = "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}";
    let (kind, text) = failure(json!({ "template": endless }));
    assert_eq!(kind, Kind::Permanent);
    assert!(text.contains("the template does more than it may"), "{text}");
    assert!(text.ends_with("hint: `fuel` is 2000000; raise it if that much is meant"), "{text}");

    let (_, text) = failure(
        json!({ "template": "{% set x = \"abcdefgh\" * 100000 %}{% for a in range(100) %}{{ x }}{% endfor %}" }),
    );
    assert_eq!(text, "the text gets longer than 16777216 bytes; write it in pieces");

    let (_, text) = failure(json!({ "template": "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}" }));
    assert!(text.contains("recursion"), "{text}");
    let (_, text) = failure(json!({ "template": "{% include \"a\" %}", "templates": { "a": "{% include \"a\" %}" } }));
    assert!(text.contains("recursion"), "{text}");

    let (kind, text) = failure(json!({ "template": "x".repeat((1 << 20) + 1) }));
    assert_eq!(kind, Kind::InvalidInput);
    assert!(text.starts_with("the template `template` is longer than 1048576 bytes"), "{text}");
}

#[test]
fn a_template_is_read_from_a_granted_file() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("mail.txt"), "Hi {{ who }},\n{% include \"foot\" %}").expect("it can be written");
    std::fs::write(path("foot.txt"), "bye").expect("it can be written");
    std::fs::write(path("latin1.txt"), b"\xe4").expect("it can be written");
    let input = |name: &str| json!({ "template": { "file": path(name) }, "templates": { "foot": { "file": path("foot.txt") } }, "data": { "who": "Bo" } });

    let refused = run(input("mail.txt")).expect_err("nothing is granted");
    assert_eq!((refused.kind, &refused.details.expect("set")["capability"]), (Kind::Permanent, &json!("files")));
    let host = Host::new();
    host.grant_files(folder.path().display().to_string(), false);
    assert_eq!(run(input("mail.txt")).expect("it is granted")["text"], "Hi Bo,\nbye");
    assert!(failure(input("none.txt")).1.contains("none.txt` can't be read: "));
    // Read by the one path that the sandbox finds.
    let none = format!("`{}` can't be read: ", path("none.txt"));
    assert!(failure(input(".//./none.txt")).1.contains(&none));
    assert!(failure(input("latin1.txt")).1.ends_with("it is no UTF-8 after byte 0"));
}

#[test]
fn input_that_could_mean_two_things_is_refused() {
    let (kind, text) = failure(json!({ "template": "a", "templates": { "template": "b" } }));
    assert_eq!(kind, Kind::InvalidInput);
    assert!(text.contains("give it another name"), "{text}");
    let (_, text) = failure(json!({ "template": { "path": "a" } }));
    assert!(text.ends_with("a template is a text, or `{ file = \"path\" }`"), "{text}");
}

#[test]
fn the_schemas_are_what_the_checker_needs() {
    let (input, output) = testing::schemas::<template>();
    assert_eq!(input["required"], json!(["template"]));
    assert_eq!(input["properties"]["data"]["type"], "object");
    assert_eq!(input["$defs"]["File"]["required"], json!(["file"]));
    assert_eq!(output["required"], json!(["text"]));
}
