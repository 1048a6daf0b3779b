//! Where things go: a layered layout of boxes and of the arrows between them, after Sugiyama, Tagawa and Toda (1981).
//!
//! Layers from the longest path, then shortened; crossings reduced by barycentres and by swapping neighbours; places within
//! a layer after Brandes and Köpf, "Fast and Simple Horizontal Coordinate Assignment" (2001). Arrows of one kind that leave
//! the same box share their way until they part, which is what keeps a large picture readable. Knows nothing of steps,
//! colours or texts; `across` is the direction of a layer, `along` the one in which arrows point. The same boxes and
//! arrows always get the same places.

use std::collections::{BTreeMap, BTreeSet};

/// Between two boxes of a layer.
const GAP_BOXES: f64 = 26.0;
/// Between an arrow that passes through a layer and its neighbours.
const GAP_LINES: f64 = 14.0;
/// Between two layers, at least, at most, and what each arrow between them adds.
const GAP_LAYERS: (f64, f64, f64) = (46.0, 110.0, 2.5);
/// Between two arrows that enter a box, at least: about as wide as a head. If there is less room, those of one kind enter
/// together.
const GAP_HEADS: f64 = 8.0;
/// Rounds of sorting by barycentres; pictures of 200 boxes stop getting better after some ten.
const SWEEPS: usize = 16;

/// A box's extent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size {
    pub(crate) across: f64,
    pub(crate) along: f64,
}

/// A place, or a point of an arrow's way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) across: f64,
    pub(crate) along: f64,
}

/// An arrow from one box to another. Those of the same kind may share their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) kind: usize,
}

/// Where everything is.
#[derive(Debug, PartialEq)]
pub(crate) struct Layout {
    /// The whole picture.
    pub(crate) size: Size,
    /// The boxes' centres.
    pub(crate) centres: Vec<Point>,
    /// The arrows' ways, in the order of the links. The first piece of a way is straight, out of the box's layer; from
    /// there on a piece through the space between two layers and a straight one through a layer take turns.
    pub(crate) ways: Vec<Vec<Point>>,
}

/// Places boxes so that every arrow points forward, and those of which `last` is true behind all others. The links have no
/// cycle, and none leads from a box to itself, nor from one of the last to another one.
pub(crate) fn layout(sizes: &[Size], links: &[Link], last: &[bool]) -> Layout {
    let mut graph = Layered::new(sizes, links, last);
    graph.reduce_crossings();
    let across = graph.places_across();
    graph.finish(sizes, links, &across)
}

/// Boxes and the bends of arrows that pass through a layer, in layers.
struct Layered {
    /// Of boxes first, then of bends.
    vertices: Vec<Vertex>,
    /// By layer, in the order across.
    layers: Vec<Vec<usize>>,
    /// For each link the vertices on its way, both its boxes included.
    chains: Vec<Vec<usize>>,
}

#[derive(Default)]
struct Vertex {
    is_bend: bool,
    width: f64,
    layer: usize,
    /// In its layer.
    place: usize,
    before: Vec<usize>,
    after: Vec<usize>,
}

impl Layered {
    fn new(sizes: &[Size], links: &[Link], last: &[bool]) -> Layered {
        let ranks = ranks(links, last);
        let mut vertices: Vec<Vertex> = sizes
            .iter()
            .zip(&ranks)
            .map(|(size, &layer)| Vertex { width: size.across, layer, ..Vertex::default() })
            .collect();
        // The bends that arrows of a kind from a box share, by layer.
        let mut shared: BTreeMap<(usize, usize, usize), usize> = BTreeMap::new();
        let mut joined: BTreeSet<(usize, usize)> = BTreeSet::new();
        let mut chains = Vec::with_capacity(links.len());
        for link in links {
            let mut chain = vec![link.from];
            for layer in ranks[link.from] + 1..ranks[link.to] {
                let bend = *shared.entry((link.from, link.kind, layer)).or_insert_with(|| {
                    vertices.push(Vertex { is_bend: true, layer, ..Vertex::default() });
                    vertices.len() - 1
                });
                chain.push(bend);
            }
            chain.push(link.to);
            for pair in chain.windows(2) {
                if joined.insert((pair[0], pair[1])) {
                    vertices[pair[0]].after.push(pair[1]);
                    vertices[pair[1]].before.push(pair[0]);
                }
            }
            chains.push(chain);
        }
        let mut graph = Layered { layers: Vec::new(), vertices, chains };
        graph.layers = graph.first_order();
        graph.number();
        graph
    }

    /// Depth first from the boxes without arrows to them, so that what belongs together starts together.
    fn first_order(&self) -> Vec<Vec<usize>> {
        let count = self.vertices.iter().map(|vertex| vertex.layer + 1).max().unwrap_or(0);
        let mut layers = vec![Vec::new(); count];
        let mut seen = vec![false; self.vertices.len()];
        let mut todo: Vec<usize> =
            (0..self.vertices.len()).rev().filter(|&vertex| self.vertices[vertex].before.is_empty()).collect();
        while let Some(vertex) = todo.pop() {
            if !std::mem::replace(&mut seen[vertex], true) {
                layers[self.vertices[vertex].layer].push(vertex);
                todo.extend(self.vertices[vertex].after.iter().rev());
            }
        }
        layers
    }

    /// Writes down who stands where.
    fn number(&mut self) {
        for layer in &self.layers {
            for (place, &vertex) in layer.iter().enumerate() {
                self.vertices[vertex].place = place;
            }
        }
    }

    fn reduce_crossings(&mut self) {
        let mut best = self.layers.clone();
        let mut fewest = self.crossings();
        for sweep in 0..SWEEPS {
            if fewest == 0 {
                break;
            }
            let forward = sweep % 2 == 0;
            for step in 1..self.layers.len() {
                let index = if forward { step } else { self.layers.len() - 1 - step };
                self.sort_layer(index, forward);
            }
            self.swap_neighbours();
            let crossings = self.crossings();
            if crossings < fewest {
                fewest = crossings;
                best.clone_from(&self.layers);
            }
        }
        self.layers = best;
        self.number();
    }

    /// Sorts a layer by where its neighbours in the layer before (or after) it stand on average; who has none stays.
    fn sort_layer(&mut self, index: usize, forward: bool) {
        let mut layer = std::mem::take(&mut self.layers[index]);
        let weight = |vertex: usize| {
            let near = self.neighbours(vertex, forward);
            match near.len() {
                0 => self.vertices[vertex].place as f64,
                n => near.iter().map(|&other| self.vertices[other].place as f64).sum::<f64>() / n as f64,
            }
        };
        // Places of layers of different lengths are comparable enough: those without neighbours are few.
        let mut weighted: Vec<(f64, usize)> = layer.iter().map(|&vertex| (weight(vertex), vertex)).collect();
        weighted.sort_by(|a, b| a.0.total_cmp(&b.0));
        layer = weighted.into_iter().map(|(_, vertex)| vertex).collect();
        for (place, &vertex) in layer.iter().enumerate() {
            self.vertices[vertex].place = place;
        }
        self.layers[index] = layer;
    }

    fn neighbours(&self, vertex: usize, before: bool) -> &[usize] {
        if before { &self.vertices[vertex].before } else { &self.vertices[vertex].after }
    }

    /// Swaps neighbours in a layer wherever that takes a crossing away, once through the picture.
    fn swap_neighbours(&mut self) {
        for index in 0..self.layers.len() {
            for place in 1..self.layers[index].len() {
                let (left, right) = (self.layers[index][place - 1], self.layers[index][place]);
                let now = self.crossings_of(left, right);
                if now > 0 && self.crossings_of(right, left) < now {
                    self.layers[index].swap(place - 1, place);
                    self.vertices[left].place = place;
                    self.vertices[right].place = place - 1;
                }
            }
        }
    }

    /// Crossings among the arrows of two vertices if `left` stands left of `right`.
    fn crossings_of(&self, left: usize, right: usize) -> usize {
        let count = |before: bool| {
            let place = |&other: &usize| self.vertices[other].place;
            let (left, right) = (self.neighbours(left, before), self.neighbours(right, before));
            let right: Vec<usize> = right.iter().map(place).collect();
            left.iter().map(place).map(|at| right.iter().filter(|&&other| other < at).count()).sum::<usize>()
        };
        count(true) + count(false)
    }

    /// All crossings: inversions between each two layers, counted with a Fenwick tree.
    fn crossings(&self) -> usize {
        let mut crossings = 0;
        for pair in self.layers.windows(2) {
            let mut tree = vec![0_usize; pair[1].len() + 1];
            let mut seen = 0;
            for &vertex in &pair[0] {
                let mut places: Vec<usize> =
                    self.vertices[vertex].after.iter().map(|&other| self.vertices[other].place).collect();
                places.sort_unstable();
                for &place in &places {
                    let mut at = place + 1;
                    let mut not_right = 0;
                    while at > 0 {
                        not_right += tree[at];
                        at &= at - 1;
                    }
                    crossings += seen - not_right;
                }
                for &place in &places {
                    seen += 1;
                    let mut at = place + 1;
                    while at < tree.len() {
                        tree[at] += 1;
                        at += at & at.wrapping_neg();
                    }
                }
            }
        }
        crossings
    }

    /// The balanced places across: the mean of the two middle ones of four extreme alignments.
    fn places_across(&self) -> Vec<f64> {
        let conflicts = self.conflicts();
        let mut variants: Vec<Vec<f64>> = Vec::with_capacity(4);
        for forward in [true, false] {
            for leftmost in [true, false] {
                variants.push(self.aligned(&conflicts, forward, leftmost));
            }
        }
        let extent = |places: &[f64]| {
            let ends = places.iter().zip(&self.vertices);
            ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (&at, vertex)| {
                (low.min(at - vertex.width / 2.0), high.max(at + vertex.width / 2.0))
            })
        };
        let width = |places: &[f64]| {
            let (low, high) = extent(places);
            high - low
        };
        let narrowest = variants.iter().min_by(|a, b| width(a).total_cmp(&width(b)));
        let Some((low, high)) = narrowest.map(|places| extent(places)) else { return Vec::new() };
        for (index, places) in variants.iter_mut().enumerate() {
            let (own_low, own_high) = extent(places);
            let shift = if index % 2 == 0 { low - own_low } else { high - own_high };
            places.iter_mut().for_each(|at| *at += shift);
        }
        let balance = |vertex: usize| {
            let mut four = [variants[0][vertex], variants[1][vertex], variants[2][vertex], variants[3][vertex]];
            four.sort_by(f64::total_cmp);
            (four[1] + four[2]) / 2.0
        };
        (0..self.vertices.len()).map(balance).collect()
    }

    /// Arrows that cross a straight piece of a long arrow: the long one is to stay straight, so these give way.
    fn conflicts(&self) -> BTreeSet<(usize, usize)> {
        let mut conflicts = BTreeSet::new();
        for layer in self.layers.iter().skip(1) {
            let is_inner = |&vertex: &usize| {
                let vertex = &self.vertices[vertex];
                vertex.is_bend && vertex.before.first().is_some_and(|&before| self.vertices[before].is_bend)
            };
            let inner: Vec<(usize, usize)> = layer
                .iter()
                .filter(|vertex| is_inner(vertex))
                .map(|&vertex| {
                    let before = self.vertices[vertex].before[0];
                    (self.vertices[before].place, self.vertices[vertex].place)
                })
                .collect();
            if inner.is_empty() {
                continue;
            }
            for &vertex in layer.iter().filter(|vertex| !is_inner(vertex)) {
                let place = self.vertices[vertex].place;
                for &before in &self.vertices[vertex].before {
                    let from = self.vertices[before].place;
                    if inner.iter().any(|&(top, bottom)| (top < from) != (bottom < place) && top != from) {
                        conflicts.insert((before, vertex));
                    }
                }
            }
        }
        conflicts
    }

    /// One of the four alignments: with the layer before or after, packed to the left or to the right.
    fn aligned(&self, conflicts: &BTreeSet<(usize, usize)>, forward: bool, leftmost: bool) -> Vec<f64> {
        let count = self.vertices.len();
        let mut layers = self.layers.clone();
        if !forward {
            layers.reverse();
        }
        if !leftmost {
            layers.iter_mut().for_each(|layer| layer.reverse());
        }
        let mut place = vec![0_usize; count];
        for layer in &layers {
            layer.iter().enumerate().for_each(|(at, &vertex)| place[vertex] = at);
        }
        // Blocks: vertices that get the same place, that of their root.
        let mut root: Vec<usize> = (0..count).collect();
        for layer in layers.iter().skip(1) {
            let mut free_from = 0;
            for &vertex in layer {
                let mut near = self.neighbours(vertex, forward).to_vec();
                near.sort_by_key(|&other| place[other]);
                if near.is_empty() {
                    continue;
                }
                for middle in [(near.len() - 1) / 2, near.len() / 2] {
                    let other = near[middle];
                    let pair = if forward { (other, vertex) } else { (vertex, other) };
                    if root[vertex] == vertex && place[other] >= free_from && !conflicts.contains(&pair) {
                        root[vertex] = root[other];
                        free_from = place[other] + 1;
                    }
                }
            }
        }
        let places = self.packed(&layers, &root);
        if leftmost { places } else { places.into_iter().map(|at| -at).collect() }
    }

    /// Packs blocks to the left, then pulls each towards its right neighbour as far as that costs nothing.
    fn packed(&self, layers: &[Vec<usize>], root: &[usize]) -> Vec<f64> {
        let count = self.vertices.len();
        let mut right: Vec<Vec<(usize, f64)>> = vec![Vec::new(); count];
        let mut lefts = vec![0_usize; count];
        for layer in layers {
            for pair in layer.windows(2) {
                let (a, b) = (&self.vertices[pair[0]], &self.vertices[pair[1]]);
                let gap = if a.is_bend || b.is_bend { GAP_LINES } else { GAP_BOXES };
                right[root[pair[0]]].push((root[pair[1]], (a.width + b.width) / 2.0 + gap));
                lefts[root[pair[1]]] += 1;
            }
        }
        let mut order: Vec<usize> = (0..count).filter(|&v| root[v] == v && lefts[v] == 0).collect();
        let mut at = vec![0.0_f64; count];
        let mut seen = 0;
        while seen < order.len() {
            let block = order[seen];
            seen += 1;
            for &(other, apart) in &right[block] {
                at[other] = at[other].max(at[block] + apart);
                lefts[other] -= 1;
                if lefts[other] == 0 {
                    order.push(other);
                }
            }
        }
        for &block in order.iter().rev() {
            let room = right[block].iter().map(|&(other, apart)| at[other] - apart).fold(f64::INFINITY, f64::min);
            if room.is_finite() {
                at[block] = at[block].max(room);
            }
        }
        (0..count).map(|vertex| at[root[vertex]]).collect()
    }

    /// Puts the layers behind each other, and leads the arrows.
    fn finish(&self, sizes: &[Size], links: &[Link], across: &[f64]) -> Layout {
        let mut depths = vec![0.0_f64; self.layers.len()];
        let mut arrows = vec![BTreeSet::new(); self.layers.len()];
        for (vertex, facts) in self.vertices.iter().enumerate() {
            if let Some(size) = sizes.get(vertex) {
                depths[facts.layer] = depths[facts.layer].max(size.along);
            }
            arrows[facts.layer].extend(facts.after.iter().map(|&other| (vertex, other)));
        }
        let mut tops = Vec::with_capacity(depths.len());
        let mut along = 0.0;
        for (index, depth) in depths.iter().enumerate() {
            tops.push(along);
            let (least, most, each) = GAP_LAYERS;
            along += depth + (least + each * arrows[index].len() as f64).min(most);
        }
        let edges = || self.vertices.iter().zip(across);
        let low = edges().map(|(vertex, at)| at - vertex.width / 2.0).fold(f64::INFINITY, f64::min);
        let high = edges().map(|(vertex, at)| at + vertex.width / 2.0).fold(f64::NEG_INFINITY, f64::max);
        let across: Vec<f64> = across.iter().map(|at| at - low).collect();
        let middle = |vertex: usize| {
            let layer = self.vertices[vertex].layer;
            tops[layer] + depths[layer] / 2.0
        };
        let centres: Vec<Point> =
            (0..sizes.len()).map(|index| Point { across: across[index], along: middle(index) }).collect();
        let ports = self.ports(links, &across);
        let ways = self.chains.iter().zip(&ports).map(|(chain, &(exit, entry))| {
            let (first, last) = (chain[0], chain[chain.len() - 1]);
            let mut way = vec![Point { across: exit, along: middle(first) + sizes[first].along / 2.0 }];
            for (index, &vertex) in chain.iter().enumerate() {
                let layer = self.vertices[vertex].layer;
                let (top, bottom) = (tops[layer], tops[layer] + depths[layer]);
                match index {
                    0 => way.push(Point { across: exit, along: bottom }),
                    _ if vertex == last => way.push(Point { across: entry, along: top }),
                    _ => way.extend([top, bottom].map(|along| Point { across: across[vertex], along })),
                }
            }
            way.push(Point { across: entry, along: middle(last) - sizes[last].along / 2.0 });
            way
        });
        let ways = ways.collect();
        let size = match sizes.is_empty() {
            true => Size { across: 0.0, along: 0.0 },
            false => Size { across: high - low, along: tops[tops.len() - 1] + depths[depths.len() - 1] },
        };
        Layout { size, centres, ways }
    }

    /// Where each arrow leaves its box and where it enters the other. Arrows that share their way leave together, side by
    /// side with those of other kinds; each enters by itself, in the order in which they come, where there is room for it.
    fn ports(&self, links: &[Link], across: &[f64]) -> Vec<(f64, f64)> {
        let mut exits: BTreeMap<usize, BTreeMap<usize, Vec<f64>>> = BTreeMap::new();
        let mut entries: BTreeMap<usize, Vec<(f64, usize)>> = BTreeMap::new();
        for (index, (link, chain)) in links.iter().zip(&self.chains).enumerate() {
            exits.entry(link.from).or_default().entry(link.kind).or_default().push(across[chain[1]]);
            entries.entry(link.to).or_default().push((across[chain[chain.len() - 2]], index));
        }
        let mut ports = vec![(0.0, 0.0); links.len()];
        let mut leaving: BTreeMap<(usize, usize), f64> = BTreeMap::new();
        for (from, kinds) in exits {
            let mean = |targets: &Vec<f64>| targets.iter().sum::<f64>() / targets.len() as f64;
            let mut order: Vec<(f64, usize)> = kinds.iter().map(|(&kind, targets)| (mean(targets), kind)).collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let offsets = spread(order.len(), self.vertices[from].width);
            for ((_, kind), offset) in order.into_iter().zip(offsets) {
                leaving.insert((from, kind), across[from] + offset);
            }
        }
        for (to, mut comers) in entries {
            comers.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let width = self.vertices[to].width;
            let mut entering: Vec<Vec<usize>> = comers.iter().map(|&(_, index)| vec![index]).collect();
            if apart(entering.len(), width) < GAP_HEADS {
                let mut kinds: BTreeMap<usize, (f64, Vec<usize>)> = BTreeMap::new();
                for (at, index) in comers {
                    let (sum, together) = kinds.entry(links[index].kind).or_default();
                    *sum += at;
                    together.push(index);
                }
                let mut order: Vec<(f64, Vec<usize>)> =
                    kinds.into_values().map(|(sum, together)| (sum / together.len() as f64, together)).collect();
                order.sort_by(|a, b| a.0.total_cmp(&b.0));
                entering = order.into_iter().map(|(_, together)| together).collect();
            }
            let offsets = spread(entering.len(), width);
            for (together, offset) in entering.into_iter().zip(offsets) {
                together.into_iter().for_each(|index| ports[index].1 = across[to] + offset);
            }
        }
        for (port, link) in ports.iter_mut().zip(links) {
            port.0 = leaving[&(link.from, link.kind)];
        }
        ports
    }
}

/// How far so many ports are apart on a side of this width.
fn apart(count: usize, width: f64) -> f64 {
    (width * 0.8 / count.max(1) as f64).min(18.0)
}

/// So many ports around the middle of a side of this width.
fn spread(count: usize, width: f64) -> impl Iterator<Item = f64> {
    let apart = apart(count, width);
    (0..count).map(move |index| (index as f64 - (count as f64 - 1.0) / 2.0) * apart)
}

/// The layer of each box: behind all boxes with an arrow to it, for the last ones behind all others, and where its arrows
/// are short.
fn ranks(links: &[Link], last: &[bool]) -> Vec<usize> {
    let boxes = last.len();
    let mut before = vec![Vec::new(); boxes];
    let mut after = vec![Vec::new(); boxes];
    for link in links {
        before[link.to].push(link.from);
        after[link.from].push(link.to);
    }
    let mut waits: Vec<usize> = before.iter().map(Vec::len).collect();
    let mut order: Vec<usize> = (0..boxes).filter(|&index| waits[index] == 0).collect();
    let mut rank = vec![0; boxes];
    let mut seen = 0;
    while seen < order.len() {
        let index = order[seen];
        seen += 1;
        for &other in &after[index] {
            rank[other] = rank[other].max(rank[index] + 1);
            waits[other] -= 1;
            if waits[other] == 0 {
                order.push(other);
            }
        }
    }
    let behind = (0..boxes).filter(|&index| !last[index]).map(|index| rank[index] + 1).max().unwrap_or(0);
    for &index in order.iter().filter(|&&index| last[index]) {
        rank[index] = before[index].iter().map(|&other| rank[other] + 1).fold(behind, usize::max);
    }
    // Whoever has more arrows onward than back follows those it leads to. It only ever moves on, so this ends.
    loop {
        let mut moved = false;
        for &index in order.iter().rev() {
            let Some(limit) = after[index].iter().map(|&other| rank[other] - 1).min() else { continue };
            if after[index].len() > before[index].len() && limit > rank[index] {
                rank[index] = limit;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let used: BTreeSet<usize> = rank.iter().copied().collect();
    let dense: BTreeMap<usize, usize> = used.into_iter().enumerate().map(|(index, rank)| (rank, index)).collect();
    rank.iter().map(|rank| dense[rank]).collect()
}
