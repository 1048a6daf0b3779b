//! Whether what waits for a pool may wait for ever: because it has the place itself that it waits for, or because pools are
//! taken in one order here and in another there. Looked at over all files of a workflow at once, as a block that has a place
//! may open a workflow that waits for one; told of the workflow's own file, where the way begins.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::draft::{File, beside};
use crate::diagnostic::{Collector, Diagnostic};
use crate::spec::{Entries, Spec, StepSpec};

/// Tells what may wait for ever.
pub(super) fn check(
    spec: &Spec,
    directory: &str,
    files: &BTreeMap<String, Result<Arc<File>, String>>,
    out: &mut Collector,
) {
    let mut walk = Walk { files, held: Vec::new(), site: None, seen: HashSet::new(), orders: Vec::new(), out };
    walk.steps(&spec.steps, directory);
    let Walk { orders, .. } = walk;
    tell_cycles(&orders, out);
}

/// A pool that is waited for while another one is held.
struct Order<'a> {
    held: &'a str,
    wanted: &'a str,
    /// The step that waits, and where that is told.
    step: &'a str,
    at: Range<usize>,
}

struct Walk<'a, 'o> {
    files: &'a BTreeMap<String, Result<Arc<File>, String>>,
    /// The pools that blocks around the place at hand have places in, and these blocks.
    held: Vec<(&'a str, &'a str)>,
    /// The step of the workflow's own file that opened the file at hand, if it is another.
    site: Option<Range<usize>>,
    /// The files that were looked at, each with the pools held then, and from where.
    seen: HashSet<(String, Vec<&'a str>, usize)>,
    orders: Vec<Order<'a>>,
    out: &'o mut Collector,
}

impl<'a> Walk<'a, '_> {
    fn steps(&mut self, steps: &'a Entries<StepSpec>, directory: &str) {
        for (name, step) in steps {
            let name = name.get_ref().as_str();
            self.waits(name, step);
            if let Some(undo) = &step.undo {
                self.waits(name, &undo.1);
            }
            let opens = step.block.is_some() || step.workflow.is_some();
            let pool = step.pool.as_ref().filter(|_| opens).map(|pool| pool.get_ref().as_str());
            let held = self.held.len();
            self.held.extend(pool.map(|pool| (pool, name)));
            if let Some(block) = &step.block {
                self.steps(&block.steps, directory);
            }
            if let Some(path) = &step.workflow {
                self.file(&beside(directory, path.get_ref()), path.span());
            }
            self.held.truncate(held);
        }
    }

    fn file(&mut self, path: &str, opened: Range<usize>) {
        let files = self.files;
        let Some(Ok(file)) = files.get(path) else { return };
        let Some(spec) = &file.spec else { return };
        let mut held: Vec<&str> = self.held.iter().map(|(pool, _)| *pool).collect();
        held.sort_unstable();
        held.dedup();
        let site = self.site.clone().unwrap_or(opened);
        if self.seen.insert((path.to_owned(), held, site.start)) {
            let before = self.site.replace(site);
            self.steps(&spec.steps, &file.directory);
            self.site = before;
        }
    }

    /// A step, or what undoes it, waits for its pool.
    fn waits(&mut self, step: &'a str, spec: &'a StepSpec) {
        let Some(pool) = &spec.pool else { return };
        let wanted = pool.get_ref().as_str();
        let at = self.site.clone().unwrap_or(pool.span());
        if let Some((_, block)) = self.held.iter().find(|(held, _)| *held == wanted) {
            let message = format!(
                "`{step}` waits for the pool `{wanted}` within `{block}`, which has a place in it until `{step}` is over"
            );
            let found = Diagnostic::error("pool-deadlock", at, message).label("may wait for ever");
            self.out.push(found.hint(format!(
                "what is within `{block}` has its place as well: leave out the inner `pool`, or use another one"
            )));
            return;
        }
        for (held, _) in &self.held {
            self.orders.push(Order { held, wanted, step, at: at.clone() });
        }
    }
}

/// Tells each set of pools once that are taken in a circle.
fn tell_cycles(orders: &[Order<'_>], out: &mut Collector) {
    let mut after: BTreeMap<&str, Vec<&Order<'_>>> = BTreeMap::new();
    for order in orders {
        after.entry(order.held).or_default().push(order);
    }
    let mut told: HashSet<&str> = HashSet::new();
    for order in orders {
        if told.contains(order.held) {
            continue;
        }
        let Some(back) = way(&after, order.wanted, order.held) else { continue };
        told.extend(back.iter().map(|order| order.held));
        told.insert(order.held);
        let message = format!(
            "`{}` waits for the pool `{}` with a place in `{}`, and elsewhere these pools are taken in another order",
            order.step, order.wanted, order.held
        );
        let mut found = Diagnostic::error("pool-order", order.at.clone(), message).label("may wait for ever");
        for other in back {
            found = found.also(
                other.at.clone(),
                format!("`{}` waits for `{}` with a place in `{}`", other.step, other.wanted, other.held),
            );
        }
        out.push(found.hint("each may have what the other waits for: take pools in the same order everywhere"));
    }
}

/// What leads from waiting for one pool to waiting for another, the shortest way.
fn way<'o, 'a>(after: &BTreeMap<&'a str, Vec<&'o Order<'a>>>, from: &'a str, to: &str) -> Option<Vec<&'o Order<'a>>> {
    let mut reached: BTreeMap<&str, Option<&Order<'_>>> = BTreeMap::from([(from, None)]);
    let mut next = std::collections::VecDeque::from([from]);
    while let Some(here) = next.pop_front() {
        if here == to {
            let mut way = Vec::new();
            let mut at = here;
            while let Some(Some(order)) = reached.get(at) {
                way.push(*order);
                at = order.held;
            }
            way.reverse();
            return Some(way);
        }
        for order in after.get(here).into_iter().flatten() {
            reached.entry(order.wanted).or_insert_with(|| {
                next.push_back(order.wanted);
                Some(order)
            });
        }
    }
    None
}
