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
    draw_frame(&mut out, picture, 0);
    for arrow in &picture.arrows {
        let (from, to) = (quoted(&picture.steps[arrow.from].path), quoted(&picture.steps[arrow.to].path));
        let mut facts = Vec::new();
        if arrow.state != NeedState::Succeeded {
            facts.push(format!("label={}", word(arrow.state)));
        }
        facts.extend(match arrow.state {
            NeedState::Succeeded => None,
            NeedState::Failed => Some("style=dashed, color=\"#cf222e\"".to_owned()),
            NeedState::Skipped => Some("style=dotted".to_owned()),
            NeedState::Finished => Some("color=\"#8c959f\", arrowhead=empty".to_owned()),
            NeedState::Started => Some("color=\"#0969da\", arrowhead=halfopen".to_owned()),
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

/// The steps of a frame; of those that open others, the box and all that it opens in a cluster.
fn draw_frame(out: &mut String, picture: &Picture, frame: usize) {
    let steps = picture.frames[frame].steps.clone();
    let (always, ordinary): (Vec<usize>, Vec<usize>) = steps.partition(|step| picture.steps[*step].is_always);
    ordinary.into_iter().for_each(|step| draw(out, picture, step));
    if !always.is_empty() {
        let name = if frame == 0 { "always".to_owned() } else { format!("always_{frame}") };
        let _ =
            writeln!(out, "  subgraph cluster_{name} {{\n  label=\"{ALWAYS}\"; style=dotted; fontname=\"sans-serif\";");
        always.into_iter().for_each(|step| draw(out, picture, step));
        out.push_str("  }\n");
    }
}

fn draw(out: &mut String, picture: &Picture, step: usize) {
    let node = &picture.steps[step];
    let Some(frame) = picture.frame_of(step) else { return draw_step(out, picture, node) };
    let _ = writeln!(out, "  subgraph cluster_{frame} {{\n  label={}; style=rounded;", quoted(&node.path));
    draw_step(out, picture, node);
    draw_frame(out, picture, frame);
    out.push_str("  }\n");
    // What begins with the step stands below it.
    for first in picture.frames[frame].steps.clone().filter(|first| picture.steps[*first].is_first) {
        let first = &picture.steps[first].path;
        let _ = writeln!(out, "  {} -> {} [style=dotted, arrowhead=none];", quoted(&node.path), quoted(first));
    }
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
    let _ = writeln!(out, "  {} [{}];", quoted(&node.path), facts.join(", "));
}

fn look(mark: Mark) -> (&'static str, &'static str) {
    match mark {
        Mark::Succeeded | Mark::Reused => ("#dafbe1", "rounded,filled"),
        Mark::Failed => ("#ffebe9", "rounded,filled,bold"),
        Mark::Cancelled | Mark::Interrupted => ("#fff8c5", "rounded,filled"),
        Mark::Running | Mark::Delayed | Mark::Queued | Mark::Parked => ("#ddf4ff", "rounded,filled"),
        Mark::Skipped | Mark::Waiting | Mark::Unreached => ("#ffffff", "rounded,filled,dashed"),
    }
}

/// A line for the name, one for what uses it and how it went, those for what else it does, for its join and its rule.
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
    lines.extend(node.does.iter().cloned());
    lines.extend(node.join.as_ref().map(|join| format!("join {}", join.short)));
    lines.extend(node.when.as_ref().map(|when| format!("when {when}")));
    lines.join("\n")
}

/// A quoted string: a backslash stands for itself.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
