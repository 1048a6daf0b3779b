//! A picture as SVG that stands for itself: no script, no font from elsewhere, text that can be selected and searched,
//! colours for light and dark screens, a shape or a word beside every colour, and a `<title>` on every step and arrow,
//! which browsers show as a tooltip and screen readers say.
//!
//! Steps that need the same and are needed by the same are drawn as one block with one arrow for all of them: a fan of
//! a hundred test suites is a hundred boxes and two arrows. The steps that a step opens are laid out by themselves, and then
//! placed as one box, within the box of the step: no arrow leads from one body of steps into another. How boxes and arrows are placed is `layout`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use downbeat_workflow::event::NeedState;
use downbeat_workflow::units::counted;

use crate::dot::ALWAYS;
use crate::layout::{Layout, Link, Point, Size, layout};
use crate::picture::{Arrow, JoinWords, Life, Mark, Node, Picture, is_faint, word};
use crate::text::{cut, duration, width, wrap, xml};

/// More steps than this are not drawn: nobody could read them, and laying them out would take seconds. 2,000 boxes fill
/// some forty screens.
pub const STEPS_DRAWN_MAX: usize = 2_000;

/// So many steps with the same needs and the same dependents become a block.
const BLOCK_MIN: usize = 4;

const NAME_PX: f64 = 13.0;
const SMALL_PX: f64 = 11.0;
const LABEL_PX: f64 = 10.0;
const LINE_PX: f64 = 16.0;
const BOX_PAD: f64 = 12.0;
const BOX_WIDTH: (f64, f64) = (104.0, 300.0);
const ICON: f64 = 22.0;
const BLOCK_PAD: f64 = 12.0;
const BLOCK_GAP: f64 = 10.0;
const BLOCK_TITLE: f64 = 14.0;
/// Between the box of a step and those of the steps that it opens.
const HULL_PAD: f64 = 18.0;
/// By how much the boxes stick out behind one that is done for items or in rounds.
const STACK: f64 = 3.5;
const MARGIN: f64 = 24.0;
/// Titles and the legend have at least this much room.
const WIDTH_MIN: f64 = 420.0;
/// As many colours as the style sheet has; more pools than that share them, and have their names beside.
const POOL_COLOURS: usize = 6;

/// Where arrows point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Downwards: for deep workflows.
    Down,
    /// To the right: for wide ones.
    Right,
}

/// The picture has more steps than [`STEPS_DRAWN_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// How many it has.
    pub steps: usize,
}

/// The picture as an SVG document. Without a direction, the one that fits a screen better.
pub fn svg(picture: &Picture, direction: Option<Direction>) -> Result<String, TooLarge> {
    if picture.steps.len() > STEPS_DRAWN_MAX {
        return Err(TooLarge { steps: picture.steps.len() });
    }
    let arrangement = match direction {
        Some(direction) => Arrangement::of(picture, direction),
        None => {
            let both = [Direction::Down, Direction::Right].map(|direction| Arrangement::of(picture, direction));
            let [down, right] = both;
            if right.on_screens() < down.on_screens() { right } else { down }
        }
    };
    Ok(draw(picture, &arrangement))
}

/// What is placed as one: a step, or a block of steps.
struct Unit {
    members: Vec<usize>,
    columns: usize,
    /// Of each member's cell; all of a block have the same.
    cell: (f64, f64),
    width: f64,
    height: f64,
    /// Of a step that opens others, their places.
    within: Option<Box<Arrangement>>,
}

impl Unit {
    fn is_block(&self) -> bool {
        self.members.len() > 1
    }
}

/// Units and arrows with their places.
struct Arrangement {
    direction: Direction,
    units: Vec<Unit>,
    /// Arrows between units, each standing for one or more of the picture's.
    arrows: Vec<Vec<Arrow>>,
    layout: Layout,
}

impl Arrangement {
    fn of(picture: &Picture, direction: Direction) -> Arrangement {
        let mut arrows: Vec<Vec<Arrow>> = vec![Vec::new(); picture.frames.len()];
        for &arrow in &picture.arrows {
            arrows[picture.steps[arrow.to].home].push(arrow);
        }
        Arrangement::of_frame(picture, direction, 0, &arrows)
    }

    /// `arrows`: of each frame.
    fn of_frame(picture: &Picture, direction: Direction, frame: usize, arrows: &[Vec<Arrow>]) -> Arrangement {
        let steps = picture.frames[frame].steps.clone();
        let first = steps.start;
        let units = units(picture, frame, &arrows[frame], &|within| {
            Box::new(Arrangement::of_frame(picture, direction, within, arrows))
        });
        let mut unit_of = vec![0; steps.len()];
        for (index, unit) in units.iter().enumerate() {
            unit.members.iter().for_each(|&step| unit_of[step - first] = index);
        }
        let mut merged: BTreeMap<Link, Vec<Arrow>> = BTreeMap::new();
        for &arrow in &arrows[frame] {
            let kind = arrow.state as usize;
            let link = Link { from: unit_of[arrow.from - first], to: unit_of[arrow.to - first], kind };
            merged.entry(link).or_default().push(arrow);
        }
        let size = |unit: &Unit| match direction {
            Direction::Down => Size { across: unit.width, along: unit.height },
            Direction::Right => Size { across: unit.height, along: unit.width },
        };
        let sizes: Vec<Size> = units.iter().map(size).collect();
        let links: Vec<Link> = merged.keys().copied().collect();
        let last: Vec<bool> = units.iter().map(|unit| picture.steps[unit.members[0]].is_always).collect();
        let layout = layout(&sizes, &links, &last);
        Arrangement { direction, units, arrows: merged.into_values().collect(), layout }
    }

    /// Width and height of everything but title and legend.
    fn extent(&self) -> (f64, f64) {
        self.flat(Point { across: self.layout.size.across, along: self.layout.size.along })
    }

    /// How much the worse of both directions is larger than a screen of 4:3.
    fn on_screens(&self) -> f64 {
        let (width, height) = self.extent();
        (width / 4.0).max(height / 3.0)
    }

    /// A point of the layout as x and y.
    fn flat(&self, point: Point) -> (f64, f64) {
        match self.direction {
            Direction::Down => (point.across, point.along),
            Direction::Right => (point.along, point.across),
        }
    }
}

/// The steps of a frame by themselves, and blocks of those with the same neighbours and the same join. `arrange` places what
/// is in a frame.
fn units(picture: &Picture, frame: usize, arrows: &[Arrow], arrange: &dyn Fn(usize) -> Box<Arrangement>) -> Vec<Unit> {
    type Neighbours = BTreeSet<(bool, usize, usize)>;
    let steps = picture.frames[frame].steps.clone();
    let first = steps.start;
    let mut neighbours: Vec<Neighbours> = vec![Neighbours::new(); steps.len()];
    for arrow in arrows {
        neighbours[arrow.to - first].insert((true, arrow.from, arrow.state as usize));
        neighbours[arrow.from - first].insert((false, arrow.to, arrow.state as usize));
    }
    let mut alike: BTreeMap<(&Neighbours, bool, Option<&JoinWords>), Vec<usize>> = BTreeMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (near, index) in neighbours.iter().zip(steps) {
        let step = &picture.steps[index];
        match picture.frame_of(index) {
            Some(_) => groups.push(vec![index]),
            None => alike.entry((near, step.is_always, step.join.as_ref())).or_default().push(index),
        }
    }
    for members in alike.into_values() {
        match members.len() >= BLOCK_MIN {
            true => groups.push(members),
            false => groups.extend(members.into_iter().map(|step| vec![step])),
        }
    }
    groups.sort();
    groups.into_iter().map(|members| unit(picture, members, arrange)).collect()
}

fn unit(picture: &Picture, members: Vec<usize>, arrange: &dyn Fn(usize) -> Box<Arrangement>) -> Unit {
    let sizes = members.iter().map(|&step| box_size(picture, &picture.steps[step]));
    let cell = sizes.fold((0.0_f64, 0.0_f64), |cell, size| (cell.0.max(size.0), cell.1.max(size.1)));
    if members.len() == 1 {
        let within = picture.frame_of(members[0]).map(arrange);
        let (width, height) = match &within {
            None => cell,
            Some(within) => {
                let (width, height) = within.extent();
                (cell.0.max(width + 2.0 * HULL_PAD), cell.1 + height + 1.5 * HULL_PAD)
            }
        };
        return Unit { members, columns: 1, cell, width, height, within };
    }
    let count = members.len();
    let shape = (count as f64 * 1.6 * (cell.1 + BLOCK_GAP) / (cell.0 + BLOCK_GAP)).sqrt();
    let columns = (shape.round() as usize).clamp(1, count);
    // As many columns as there are rows for: none stays nearly empty.
    let rows = count.div_ceil(columns);
    let columns = count.div_ceil(rows);
    let all = |count: usize, each: f64| count as f64 * (each + BLOCK_GAP) - BLOCK_GAP + 2.0 * BLOCK_PAD;
    let (width, height) = (all(columns, cell.0), all(rows, cell.1) + BLOCK_TITLE);
    Unit { members, columns, cell, width, height, within: None }
}

/// The second line of a step's box.
fn details(picture: &Picture, node: &Node) -> String {
    let mut parts = vec![node.plugin.clone()];
    if let Some(life) = node.life {
        match life.took_ms {
            Some(took) => parts.push(duration(took)),
            None if life.mark != Mark::Succeeded => parts.push(life.mark.word().to_owned()),
            None => (),
        }
        if life.attempts > 1 {
            parts.push(format!("{} attempts", life.attempts));
        }
    } else {
        parts.extend(node.retries.map(|attempts| format!("↻ {attempts}")));
        parts.extend(node.timeout_ms.map(|ms| format!("≤ {}", duration(ms))));
    }
    parts.extend(node.pool.map(|pool| format!("pool {}", picture.pools[pool].0)));
    parts.join(" · ")
}

/// The lines after the second.
fn conditions(node: &Node) -> impl Iterator<Item = String> {
    let join = node.join.as_ref().map(|join| format!("join {}", join.short));
    node.does.iter().cloned().chain(join).chain(node.when.as_ref().map(|when| format!("when {when}")))
}

fn icon_room(node: &Node) -> f64 {
    if node.life.is_some() { ICON } else { 0.0 }
}

fn box_size(picture: &Picture, node: &Node) -> (f64, f64) {
    let name = width(&node.name) * NAME_PX * 1.06;
    let small = conditions(node).map(|line| width(&line)).fold(width(&details(picture, node)), f64::max) * SMALL_PX;
    let (least, most) = BOX_WIDTH;
    let wide = (name.max(small) + icon_room(node) + 2.0 * BOX_PAD).clamp(least, most);
    let lines = 2.0 + conditions(node).count() as f64;
    (wide.ceil(), 14.0 + lines * LINE_PX)
}

fn draw(picture: &Picture, arrangement: &Arrangement) -> String {
    let (graph_width, graph_height) = arrangement.extent();
    let inner = graph_width.max(WIDTH_MIN);
    let caption = wrap(&picture.caption, inner / (SMALL_PX + 1.0));
    let top = MARGIN + 26.0 + caption.len() as f64 * LINE_PX + 18.0;
    let left = MARGIN + (inner - graph_width) / 2.0;
    let legend = Legend::of(picture);
    let (legend_text, legend_height) = legend.draw(inner, top + graph_height + 28.0);
    let (wide, high) = (inner + 2.0 * MARGIN, top + graph_height + 28.0 + legend_height + MARGIN - 8.0);
    let mut out = String::new();
    let (w, h) = (number(wide.ceil()), number(high.ceil()));
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"downbeat\" role=\"graphics-document document\" \
         width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\">"
    );
    let kind = if picture.is_run { "A run of the workflow" } else { "The workflow" };
    let _ = writeln!(out, "<title>{kind} {}</title>", xml(&picture.name));
    let _ = writeln!(out, "<desc>{}</desc>", xml(&picture.description()));
    let _ = writeln!(out, "<style>\n{}</style>", include_str!("svg.css"));
    let _ = writeln!(out, "<rect class=\"paper\" width=\"{w}\" height=\"{h}\"/>");
    let _ =
        writeln!(out, "<text class=\"heading\" x=\"{MARGIN}\" y=\"{}\">{}</text>", MARGIN + 18.0, xml(&picture.name));
    for (index, line) in caption.iter().enumerate() {
        let y = number(MARGIN + 26.0 + (index as f64 + 0.75) * LINE_PX);
        let _ = writeln!(out, "<text class=\"caption\" x=\"{MARGIN}\" y=\"{y}\">{}</text>", xml(line));
    }
    let _ = writeln!(out, "<g transform=\"translate({} {})\">", number(left), number(top));
    draw_arrangement(&mut out, picture, arrangement, (0.0, 0.0));
    out.push_str("</g>\n");
    out.push_str(&legend_text);
    out.push_str("</svg>\n");
    out
}

/// `origin`: the left upper corner.
fn draw_arrangement(out: &mut String, picture: &Picture, arrangement: &Arrangement, origin: (f64, f64)) {
    draw_arrows(out, picture, arrangement, origin);
    for (unit, &centre) in arrangement.units.iter().zip(&arrangement.layout.centres) {
        let (x, y) = arrangement.flat(centre);
        draw_unit(out, picture, unit, origin.0 + x - unit.width / 2.0, origin.1 + y - unit.height / 2.0);
    }
}

/// Faint ones first and critical ones last, so that what matters lies on top; then all labels.
fn draw_arrows(out: &mut String, picture: &Picture, arrangement: &Arrangement, origin: (f64, f64)) {
    let mut order: Vec<usize> = (0..arrangement.arrows.len()).collect();
    let any = |index: usize, is: fn(&Arrow) -> bool| arrangement.arrows[index].iter().any(is);
    let all = |index: usize, is: fn(&Arrow) -> bool| arrangement.arrows[index].iter().all(is);
    let is_faint = |index: usize| all(index, |arrow| arrow.is_unmet) || all(index, |arrow| arrow.is_implied);
    let is_critical = |index: usize| any(index, |arrow| arrow.is_critical);
    order.sort_by_key(|&index| (is_critical(index), !is_faint(index), index));
    let (mut labels, mut written) = (Labels::default(), String::new());
    for index in order {
        let arrows = &arrangement.arrows[index];
        let way: Vec<(f64, f64)> =
            arrangement.layout.ways[index].iter().map(|&at| moved(arrangement.flat(at), origin)).collect();
        let state = arrows[0].state;
        let mut class = format!("arrow {}", word(state));
        for (name, applies) in [("faint", is_faint(index)), ("critical", is_critical(index))] {
            if applies {
                class.push(' ');
                class.push_str(name);
            }
        }
        let _ = writeln!(out, "<g class=\"{class}\"><title>{}</title>", xml(&arrow_note(picture, arrows)));
        let _ = writeln!(out, "<path d=\"{}\"/>", path(&way, arrangement.direction));
        let _ = writeln!(out, "<path class=\"head\" d=\"{}\"/></g>", head(&way, arrangement.direction));
        if state != NeedState::Succeeded {
            let Some((x, y)) = labels.place(&way, arrangement.direction, word(state)) else { continue };
            let faint = if is_faint(index) { " faint" } else { "" };
            let (x, y, word) = (number(x), number(y), word(state));
            let _ = writeln!(written, "<text class=\"label {word}{faint}\" x=\"{x}\" y=\"{y}\">{word}</text>");
        }
    }
    out.push_str(&written);
}

fn moved(at: (f64, f64), by: (f64, f64)) -> (f64, f64) {
    (at.0 + by.0, at.1 + by.1)
}

/// Where words stand beside arrows, so that none covers another.
#[derive(Default)]
struct Labels {
    /// Left, top, right, bottom.
    taken: Vec<[f64; 4]>,
}

impl Labels {
    /// A place on the last curve of a way where nothing else stands; none if there is no room, when the line's look and
    /// its tooltip have to do.
    fn place(&mut self, way: &[(f64, f64)], direction: Direction, word: &str) -> Option<(f64, f64)> {
        let (from, to) = (way[way.len() - 3], way[way.len() - 2]);
        let half = width(word) * LABEL_PX / 2.0;
        // A cubic curve whose control points are half way along, each level with its end across.
        let on_curve = |t: f64| {
            let eased = t * t * (3.0 - 2.0 * t);
            let straight = 1.5 * t * (1.0 - t) + t * t * t;
            let mix = |a: f64, b: f64, share: f64| a + (b - a) * share;
            match direction {
                Direction::Down => (mix(from.0, to.0, eased), mix(from.1, to.1, straight)),
                Direction::Right => (mix(from.0, to.0, straight), mix(from.1, to.1, eased)),
            }
        };
        for t in [0.5, 0.35, 0.65, 0.2, 0.8] {
            let (x, y) = on_curve(t);
            let own = [x - half, y - 6.0, x + half, y + 6.0];
            let is_free =
                |other: &[f64; 4]| own[2] <= other[0] || other[2] <= own[0] || own[3] <= other[1] || other[3] <= own[1];
            if self.taken.iter().all(is_free) {
                self.taken.push(own);
                return Some((x, y + 3.5));
            }
        }
        None
    }
}

fn arrow_note(picture: &Picture, arrows: &[Arrow]) -> String {
    let name = |step: usize| &picture.steps[step].name;
    let (first, state) = (arrows[0], arrows[0].state);
    let from: BTreeSet<usize> = arrows.iter().map(|arrow| arrow.from).collect();
    let to: BTreeSet<usize> = arrows.iter().map(|arrow| arrow.to).collect();
    let named = |steps: &BTreeSet<usize>, one: usize| match steps.len() {
        1 => name(one).clone(),
        n => format!("{n} steps"),
    };
    let join = picture.steps[first.to].join.as_ref().filter(|join| !join.short.starts_with("all"));
    let verb = if to.len() == 1 { "needs" } else { "need" };
    let ending = match (state, from.len()) {
        (NeedState::Succeeded, 1) => "to have succeeded",
        (NeedState::Succeeded, _) if join.is_some() => "to have succeeded",
        (NeedState::Succeeded, _) => "to have succeeded, each of them",
        (NeedState::Failed, _) => "to have failed",
        (NeedState::Skipped, _) => "to be skipped",
        (NeedState::Finished, _) => "to be over, in any way",
        (NeedState::Started, _) => "to have begun",
    };
    let mut note = format!("{} {verb} {} {ending}", named(&to, first.to), named(&from, first.from));
    if arrows.iter().all(|arrow| arrow.is_unmet) {
        note.push_str("; this was not met");
    } else if arrows.iter().all(|arrow| arrow.is_implied) {
        note.push_str("; other needs imply it");
    }
    if let Some(join) = join {
        let _ = write!(note, "; {}", join.meaning);
    }
    note
}

/// Straight through layers, curved between them.
fn path(way: &[(f64, f64)], direction: Direction) -> String {
    let mut d = format!("M{} {}", number(way[0].0), number(way[0].1));
    for (index, pair) in way.windows(2).enumerate() {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        let (x, y) = (number(x1), number(y1));
        let is_straight = match direction {
            Direction::Down => x0 == x1,
            Direction::Right => y0 == y1,
        };
        if (x0, y0) == (x1, y1) {
            continue;
        }
        if index % 2 == 0 || is_straight {
            let _ = write!(d, "L{x} {y}");
            continue;
        }
        let (a, b) = match direction {
            Direction::Down => ((x0, (y0 + y1) / 2.0), (x1, (y0 + y1) / 2.0)),
            Direction::Right => (((x0 + x1) / 2.0, y0), ((x0 + x1) / 2.0, y1)),
        };
        let [ax, ay, bx, by] = [a.0, a.1, b.0, b.1].map(number);
        let _ = write!(d, "C{ax} {ay} {bx} {by} {x} {y}");
    }
    d
}

/// A triangle at the way's end.
fn head(way: &[(f64, f64)], direction: Direction) -> String {
    let (x, y) = way[way.len() - 1];
    let corners = match direction {
        Direction::Down => [(x, y), (x - 4.0, y - 8.0), (x + 4.0, y - 8.0)],
        Direction::Right => [(x, y), (x - 8.0, y - 4.0), (x - 8.0, y + 4.0)],
    };
    let corners = corners.map(|(x, y)| format!("{} {}", number(x), number(y)));
    format!("M{}Z", corners.join("L"))
}

fn draw_unit(out: &mut String, picture: &Picture, unit: &Unit, x: f64, y: f64) {
    if let Some(within) = &unit.within {
        draw_step(out, picture, &picture.steps[unit.members[0]], (x, y), (unit.width, unit.height), unit.cell.1);
        let left = x + (unit.width - within.extent().0) / 2.0;
        return draw_arrangement(out, picture, within, (left, y + unit.cell.1 + HULL_PAD / 2.0));
    }
    let mut top = y;
    if unit.is_block() {
        let (w, h) = (number(unit.width), number(unit.height));
        let (bx, by) = (number(x), number(y));
        let _ = writeln!(out, "<rect class=\"block\" x=\"{bx}\" y=\"{by}\" width=\"{w}\" height=\"{h}\" rx=\"10\"/>");
        let (tx, ty) = (number(x + BLOCK_PAD), number(y + 16.0));
        let _ = writeln!(
            out,
            "<text class=\"small\" x=\"{tx}\" y=\"{ty}\">{}</text>",
            counted(unit.members.len() as u64, "step")
        );
        top += BLOCK_TITLE + BLOCK_PAD;
    }
    let pad = if unit.is_block() { BLOCK_PAD } else { 0.0 };
    for (index, &step) in unit.members.iter().enumerate() {
        let (column, row) = (index % unit.columns, index / unit.columns);
        let at = |index: usize, each: f64| index as f64 * (each + BLOCK_GAP);
        draw_step(
            out,
            picture,
            &picture.steps[step],
            (x + pad + at(column, unit.cell.0), top + at(row, unit.cell.1)),
            unit.cell,
            unit.cell.1,
        );
    }
}

/// `head`: the height of its texts, less than that of the box if others are within it.
fn draw_step(out: &mut String, picture: &Picture, node: &Node, at: (f64, f64), size: (f64, f64), head: f64) {
    let mut class = "step".to_owned();
    if head < size.1 {
        class.push_str(" hull");
    }
    if let Some(Life { mark, .. }) = node.life {
        class.push(' ');
        class.push_str(mark_class(mark));
    }
    if is_faint(node.life) {
        class.push_str(" faint");
    }
    if node.is_critical {
        class.push_str(" critical");
    }
    let (x, y) = (number(at.0), number(at.1));
    let (w, h) = (number(size.0), number(size.1));
    let _ = writeln!(out, "<g class=\"{class}\" role=\"graphics-symbol img\" transform=\"translate({x} {y})\">");
    let _ = writeln!(out, "<title>{}</title>", xml(&node.notes.join("\n")));
    for behind in [2.0, 1.0].into_iter().filter(|_| node.is_many) {
        let shift = number(behind * STACK);
        let _ =
            writeln!(out, "<rect class=\"stack\" x=\"{shift}\" y=\"{shift}\" width=\"{w}\" height=\"{h}\" rx=\"6\"/>");
    }
    let _ = writeln!(out, "<rect class=\"box\" width=\"{w}\" height=\"{h}\" rx=\"6\"/>");
    if node.is_always {
        let (w, h) = (number(size.0 - 6.0), number(size.1 - 6.0));
        let _ = writeln!(out, "<rect class=\"frame\" x=\"3\" y=\"3\" width=\"{w}\" height=\"{h}\" rx=\"4\"/>");
    }
    if let Some(pool) = node.pool {
        let colour = pool % POOL_COLOURS;
        let _ = writeln!(out, "<path class=\"pool{colour}\" d=\"M2 8V{}\"/>", number(size.1 - 8.0));
    }
    if let Some(life) = node.life {
        let _ = writeln!(out, "{}", icon(life.mark, BOX_PAD + 8.0, head / 2.0));
    }
    let left = BOX_PAD + icon_room(node) + if node.life.is_some() { 4.0 } else { 0.0 };
    let room = size.0 - left - BOX_PAD + 6.0;
    let mut line = 7.0 + 12.5;
    let name = cut(&node.name, room / NAME_PX / 1.06);
    let _ = writeln!(out, "<text class=\"name\" x=\"{}\" y=\"{}\">{}</text>", number(left), number(line), xml(&name));
    line += LINE_PX;
    let small = cut(&details(picture, node), room / SMALL_PX);
    let _ = writeln!(out, "<text class=\"small\" x=\"{}\" y=\"{}\">{}</text>", number(left), number(line), xml(&small));
    for rule in conditions(node) {
        line += LINE_PX;
        let rule = cut(&rule, room / SMALL_PX);
        let _ =
            writeln!(out, "<text class=\"rule\" x=\"{}\" y=\"{}\">{}</text>", number(left), number(line), xml(&rule));
    }
    out.push_str("</g>\n");
}

fn mark_class(mark: Mark) -> &'static str {
    match mark {
        Mark::Running => "running",
        Mark::Interrupted => "cancelled",
        Mark::Reused => "succeeded",
        Mark::Unreached => "unreached",
        mark => mark.word(),
    }
}

/// A disc with a sign of its own for each state.
fn icon(mark: Mark, x: f64, y: f64) -> String {
    let sign = match mark {
        Mark::Succeeded => "M-3.5 .5L-1 3L3.5-2.5",
        Mark::Reused => "M3.4 .6A3.5 3.5 0 1 1 2.6-2.4M3-4.2V-2H.8",
        Mark::Failed => "M-3-3L3 3M3-3L-3 3",
        Mark::Skipped => "M-3.5 0H3.5",
        Mark::Cancelled | Mark::Interrupted => "M-2.5-2.5H2.5V2.5H-2.5Z",
        Mark::Running => "M-2-3.5L3.5 0L-2 3.5Z",
        Mark::Delayed => "M0-4V0L3 2",
        Mark::Queued => "M-2-3.5V3.5M2-3.5V3.5",
        Mark::Parked => "M-3-3.5H3L-3 3.5H3Z",
        Mark::Waiting => "M-3.6 0h.1M0 0h.1M3.5 0h.1",
        Mark::Unreached => "M-2 2L2-2",
    };
    let (x, y) = (number(x), number(y));
    format!("<g class=\"icon\" transform=\"translate({x} {y})\"><circle r=\"8\"/><path d=\"{sign}\"/></g>")
}

/// What the signs mean, of those that occur.
struct Legend {
    entries: Vec<(String, String)>,
}

impl Legend {
    fn of(picture: &Picture) -> Legend {
        let mut entries = Vec::new();
        for mark in Mark::ALL {
            if picture.steps.iter().any(|step| step.life.is_some_and(|life| life.mark == mark)) {
                let class = mark_class(mark);
                let sign = format!("<g class=\"step {class}\">{}</g>", icon(mark, 10.0, 0.0));
                entries.push((sign, mark.word().to_owned()));
            }
        }
        let states = [
            (NeedState::Succeeded, "needs its success"),
            (NeedState::Failed, "needs its failure"),
            (NeedState::Skipped, "needs that it was skipped"),
            (NeedState::Finished, "needs its end, whichever"),
            (NeedState::Started, "needs its begin"),
        ];
        let line = |class: &str| {
            format!("<g class=\"arrow {class}\"><path d=\"M0 0H22\"/><path class=\"head\" d=\"M26 0L18-4V4Z\"/></g>")
        };
        for (state, meaning) in states {
            if picture.arrows.iter().any(|arrow| arrow.state == state) {
                entries.push((line(word(state)), meaning.to_owned()));
            }
        }
        let any = |is: fn(&Arrow) -> bool| picture.arrows.iter().any(is);
        let faint = match (any(|arrow| arrow.is_implied && !arrow.is_unmet), any(|arrow| arrow.is_unmet)) {
            (true, true) => Some("not met, or implied by others"),
            (true, false) => Some("implied by others"),
            (false, true) => Some("not met"),
            (false, false) => None,
        };
        entries.extend(faint.map(|meaning| (line("succeeded faint"), meaning.to_owned())));
        if picture.steps.iter().any(|step| step.is_critical) {
            entries.push((line("succeeded critical"), "critical path".to_owned()));
        }
        if picture.steps.iter().any(|step| step.is_many) {
            let stack =
                |by: &str| format!("<rect class=\"stack\" x=\"{by}\" y=\"{by}\" width=\"18\" height=\"12\" rx=\"3\"/>");
            let front = "<rect class=\"box\" x=\"3\" y=\"-8\" width=\"18\" height=\"12\" rx=\"3\"/>";
            let sign = format!("<g transform=\"translate(3 -8)\">{}{}</g>{front}", stack("5"), stack("2.5"));
            entries.push((sign, "for items, or in rounds".to_owned()));
        }
        if picture.steps.iter().any(|step| step.is_always) {
            let sign = "<rect class=\"box\" x=\"3\" y=\"-8\" width=\"22\" height=\"16\" rx=\"4\"/>\
                        <rect class=\"frame\" x=\"5.5\" y=\"-5.5\" width=\"17\" height=\"11\" rx=\"2.5\"/>";
            entries.push((sign.to_owned(), ALWAYS.to_owned()));
        }
        for (index, (name, places)) in picture.pools.iter().enumerate() {
            let sign = format!("<path class=\"pool{}\" d=\"M13-8V8\"/>", index % POOL_COLOURS);
            entries.push((sign, format!("pool {name}, {places}")));
        }
        if !picture.is_run && picture.steps.iter().any(|step| step.retries.is_some()) {
            entries.push(("<text class=\"small\" x=\"8\" y=\"4\">↻</text>".to_owned(), "attempts at most".to_owned()));
        }
        if !picture.is_run && picture.steps.iter().any(|step| step.timeout_ms.is_some()) {
            entries
                .push(("<text class=\"small\" x=\"8\" y=\"4\">≤</text>".to_owned(), "time of an attempt".to_owned()));
        }
        Legend { entries }
    }

    /// The legend in rows, and how high it is.
    fn draw(&self, room: f64, top: f64) -> (String, f64) {
        let mut out = "<g class=\"legend\">\n".to_owned();
        let (mut x, mut y) = (0.0, 0.0);
        for (sign, meaning) in &self.entries {
            let wide = 34.0 + width(meaning) * SMALL_PX + 18.0;
            if x > 0.0 && x + wide > room {
                (x, y) = (0.0, y + 22.0);
            }
            let (at, down) = (number(MARGIN + x), number(top + y));
            let _ = writeln!(
                out,
                "<g transform=\"translate({at} {down})\">{sign}<text class=\"small\" x=\"34\" y=\"4\">{}</text></g>",
                xml(meaning)
            );
            x += wide;
        }
        out.push_str("</g>\n");
        let height = if self.entries.is_empty() { 0.0 } else { y + 16.0 };
        (out, height)
    }
}

/// With a decimal where it needs one; a tenth of a pixel can't be seen.
fn number(value: f64) -> String {
    let tenths = (value * 10.0).round() as i64;
    let sign = if tenths < 0 { "-" } else { "" };
    let (whole, tenth) = (tenths.abs() / 10, tenths.abs() % 10);
    if tenth == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{tenth}") }
}
