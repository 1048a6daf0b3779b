//! A picture as a Mermaid flowchart, which code hosts draw in Markdown. Steps are called `s0`, `s1`, … in the plan's order,
//! as Mermaid reserves some words that steps may be called.

use std::fmt::Write as _;

use downbeat_workflow::event::NeedState;

use crate::dot::{ALWAYS, label};
use crate::picture::{Arrow, Mark, Node, Picture, word};

/// The picture as a flowchart.
pub fn mermaid(picture: &Picture) -> String {
    let mut out = String::from("flowchart TD\n");
    let _ = writeln!(out, "  accTitle: {}", directive(&picture.name));
    let _ = writeln!(out, "  accDescr: {}", directive(&picture.description()));
    draw_frame(&mut out, picture, 0, "  ");
    for arrow in &picture.arrows {
        let line = match arrow.state {
            NeedState::Succeeded => "-->".to_owned(),
            NeedState::Failed | NeedState::Skipped => format!("-. {} .->", word(arrow.state)),
            NeedState::Finished | NeedState::Started => format!("-- {} -->", word(arrow.state)),
        };
        let _ = writeln!(out, "  s{} {line} s{}", arrow.from, arrow.to);
    }
    let mut style = |which: fn(&Arrow) -> bool, look: &str| {
        let arrows = picture.arrows.iter().enumerate().filter(|(_, arrow)| which(arrow));
        let arrows: Vec<String> = arrows.map(|(index, _)| index.to_string()).collect();
        if !arrows.is_empty() {
            let _ = writeln!(out, "  linkStyle {} {look}", arrows.join(","));
        }
    };
    style(|arrow| arrow.state == NeedState::Failed && !arrow.is_critical, "stroke:#cf222e");
    style(|arrow| arrow.state == NeedState::Failed && arrow.is_critical, "stroke:#cf222e,stroke-width:4px");
    style(|arrow| arrow.state != NeedState::Failed && arrow.is_critical, "stroke-width:4px");
    for mark in Mark::ALL {
        let of_mark = |(index, node): (usize, &Node)| {
            node.life.is_some_and(|life| life.mark == mark).then(|| format!("s{index}"))
        };
        let steps: Vec<String> = picture.steps.iter().enumerate().filter_map(of_mark).collect();
        if !steps.is_empty() {
            let name = mark.word().replace(' ', "-");
            let _ = writeln!(out, "  classDef {name} {}", look(mark));
            let _ = writeln!(out, "  class {} {name}", steps.join(","));
        }
    }
    out
}

/// The steps of a frame; those that open others are subgraphs.
fn draw_frame(out: &mut String, picture: &Picture, frame: usize, margin: &str) {
    let steps = picture.frames[frame].steps.clone();
    let (always, ordinary): (Vec<usize>, Vec<usize>) = steps.partition(|step| picture.steps[*step].is_always);
    let draw = |out: &mut String, step: usize| {
        let text = escaped(&label(picture, &picture.steps[step]));
        match picture.frame_of(step) {
            None => drop(writeln!(out, "{margin}s{step}[\"{text}\"]")),
            Some(frame) => {
                let _ = writeln!(out, "{margin}subgraph s{step}[\"{text}\"]");
                draw_frame(out, picture, frame, &format!("{margin}  "));
                let _ = writeln!(out, "{margin}end");
            }
        }
    };
    ordinary.into_iter().for_each(|step| draw(out, step));
    if !always.is_empty() {
        let name = if frame == 0 { "always".to_owned() } else { format!("always{frame}") };
        let _ = writeln!(out, "{margin}subgraph {name}[\"{ALWAYS}\"]");
        always.into_iter().for_each(|step| draw(out, step));
        let _ = writeln!(out, "{margin}end");
    }
}

/// Colours that can be read on light and dark pages.
fn look(mark: Mark) -> &'static str {
    match mark {
        Mark::Succeeded | Mark::Reused => "fill:#dafbe1,stroke:#1a7f37,color:#1f2328",
        Mark::Failed => "fill:#ffebe9,stroke:#cf222e,color:#1f2328,stroke-width:3px",
        Mark::Cancelled | Mark::Interrupted => "fill:#fff8c5,stroke:#9a6700,color:#1f2328",
        Mark::Running | Mark::Delayed | Mark::Queued | Mark::Parked => "fill:#ddf4ff,stroke:#0969da,color:#1f2328",
        Mark::Skipped | Mark::Waiting | Mark::Unreached => {
            "fill:#ffffff,stroke:#6e7781,color:#59636e,stroke-dasharray:4 3"
        }
    }
}

/// A line of a directive, in which nothing can be escaped: what has a meaning is left out.
fn directive(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '#' | ';' | '{' | '}' | '%') { ' ' } else { c }).collect()
}

/// Within a quoted label; Mermaid's entities are written with `#`. `%`, `{` and `}` as well: Mermaid looks for comments
/// (`%%`) and directives (`%%{init: …}%%`) before it knows of labels.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '#' => out.push_str("#35;"),
            '"' => out.push_str("#quot;"),
            '&' => out.push_str("#amp;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            '`' => out.push_str("#96;"),
            '%' => out.push_str("#37;"),
            '{' => out.push_str("#123;"),
            '}' => out.push_str("#125;"),
            '\n' => out.push_str("<br/>"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn a_label_is_no_directive() {
        let label = escaped("%%{init: {'theme': 'forest'}}%% \"x\"");
        assert_eq!(label, "#37;#37;#123;init: #123;'theme': 'forest'#125;#125;#37;#37; #quot;x#quot;");
    }
}
