//! A picture in DOT, the language of Graphviz: `dot -Tpdf`, or any program that reads it.

use std::fmt::Write as _;

use downbeat_workflow::event::NeedState;

use crate::picture::{Mark, Node, Picture, word};
use crate::text::duration;

/// What stands over always-steps.
pub(crate) const ALWAYS: &str = "always, once all steps are over";

/// The picture as a directed graph.
pub fn dot(picture: &Picture) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "digraph {} {{", quoted(&picture.name));
    let title = [&picture.name, &picture.caption].map(String::as_str).join("\n");
    let _ = writeln!(out, "  label={};", quoted(title.trim_end()));
    out.push_str("  labelloc=t;\n  node [shape=box, style=\"rounded,filled\", fillcolor=\"#f6f8fa\", fontname=\"sans-serif\"];\n");
    out.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    let (always, ordinary): (Vec<&Node>, Vec<&Node>) = picture.steps.iter().partition(|node| node.is_always);
    ordinary.into_iter().for_each(|node| draw_step(&mut out, picture, node));
    if !always.is_empty() {
        let _ =
            writeln!(out, "  subgraph cluster_always {{\n  label=\"{ALWAYS}\"; style=dotted; fontname=\"sans-serif\";");
        always.into_iter().for_each(|node| draw_step(&mut out, picture, node));
        out.push_str("  }\n");
    }
    for arrow in &picture.arrows {
        let (from, to) = (quoted(&picture.steps[arrow.from].name), quoted(&picture.steps[arrow.to].name));
        let mut facts = Vec::new();
        if arrow.state != NeedState::Succeeded {
            facts.push(format!("label={}", word(arrow.state)));
        }
        facts.extend(match arrow.state {
            NeedState::Succeeded => None,
            NeedState::Failed => Some("style=dashed, color=\"#cf222e\"".to_owned()),
            NeedState::Skipped => Some("style=dotted".to_owned()),
            NeedState::Finished => Some("color=\"#8c959f\", arrowhead=empty".to_owned()),
        });
        if arrow.is_critical {
            facts.push("penwidth=3".to_owned());
        }
        let facts = if facts.is_empty() { String::new() } else { format!(" [{}]", facts.join(", ")) };
        let _ = writeln!(out, "  {from} -> {to}{facts};");
    }
    out.push_str("}\n");
    out
}

fn draw_step(out: &mut String, picture: &Picture, node: &Node) {
    let mut facts = vec![format!("label={}", quoted(&label(picture, node)))];
    facts.push(format!("tooltip={}", quoted(&node.notes.join("\n"))));
    if let Some(life) = node.life {
        let (fill, style) = look(life.mark);
        facts.push(format!("fillcolor=\"{fill}\", style=\"{style}\""));
    }
    if node.is_critical {
        facts.push("penwidth=3".to_owned());
    }
    let _ = writeln!(out, "  {} [{}];", quoted(&node.name), facts.join(", "));
}

fn look(mark: Mark) -> (&'static str, &'static str) {
    match mark {
        Mark::Succeeded => ("#dafbe1", "rounded,filled"),
        Mark::Failed => ("#ffebe9", "rounded,filled,bold"),
        Mark::Cancelled | Mark::Interrupted => ("#fff8c5", "rounded,filled"),
        Mark::Running | Mark::Delayed | Mark::Queued => ("#ddf4ff", "rounded,filled"),
        Mark::Skipped | Mark::Waiting => ("#ffffff", "rounded,filled,dashed"),
    }
}

/// A line for the name, one for what uses it and how it went, one for its join and one for its rule.
pub(crate) fn label(picture: &Picture, node: &Node) -> String {
    let mut facts = vec![node.plugin.clone()];
    match node.life {
        Some(life) => {
            let took = life.took_ms.map(|took| format!(" in {}", duration(took)));
            facts.push(format!("{}{}", life.mark.word(), took.unwrap_or_default()));
            if life.attempts > 1 {
                facts.push(format!("{} attempts", life.attempts));
            }
        }
        None => {
            facts.extend(node.retries.map(|attempts| format!("up to {attempts} attempts")));
            facts.extend(node.timeout_ms.map(|ms| format!("at most {}", duration(ms))));
        }
    }
    facts.extend(node.pool.map(|pool| format!("pool {}", picture.pools[pool].0)));
    let mut lines = vec![node.name.clone(), facts.join(", ")];
    lines.extend(node.join.as_ref().map(|join| format!("join {}", join.short)));
    lines.extend(node.when.as_ref().map(|when| format!("when {when}")));
    lines.join("\n")
}

/// A quoted string: a backslash stands for itself.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
