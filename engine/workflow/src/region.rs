//! Which steps serve nothing but a join that cancels its rest: those from which every way leads to it. They are what is
//! ended once the join is decided.
//!
//! Apart from the plan because it is an algorithm: joins nest, so that a step may serve several, one within the other;
//! each step is kept with the innermost alone, and the whole takes time in proportion to the plan (times the logarithm
//! of how deep joins nest).

use crate::plan::{BodyId, Plan, Rest, StepNo};

/// For each join the steps that it is the first to need the last of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regions {
    served: Vec<Vec<StepNo>>,
}

impl Regions {
    /// Those of a plan, whose dependents are known.
    pub(crate) fn of(plan: &Plan) -> Regions {
        if plan.steps.iter().all(|step| step.rest == Rest::Wait) {
            return Regions::default();
        }
        let count = plan.steps.len();
        let mut kept = vec![false; count];
        for body in (0..=plan.bodies.len() as u32).map(BodyId) {
            let outputs = plan.outputs_of(body).iter().flat_map(|output| output.value.steps());
            outputs.filter_map(|name| plan.named_in(body, name)).for_each(|step| kept[step.index()] = true);
        }
        let mut nest = Nest::of(count);
        let mut open: Vec<usize> = (0..count).map(|at| plan.dependents(StepNo(at as u32)).len()).collect();
        let mut ready: Vec<usize> = (0..count).filter(|at| open[*at] == 0).collect();
        let mut served = vec![Vec::new(); count];
        while let Some(at) = ready.pop() {
            let step = StepNo(at as u32);
            let mut joins = plan.dependents(step).iter().map(|(dependent, _)| {
                let by = plan.step(*dependent);
                match by.rest {
                    // It is decided when no ordinary step is left that could be ended.
                    _ if by.always && !plan.step(step).always => None,
                    Rest::Cancel => Some(dependent.index()),
                    Rest::Wait => nest.around[dependent.index()],
                }
            });
            let first = joins.next().flatten().filter(|_| !kept[at]);
            let join = joins.fold(first, |join, other| nest.innermost_around_both(join?, other?));
            nest.put(at, join);
            if let Some(join) = join {
                served[join].push(step);
            }
            for need in &plan.steps[at].needs {
                open[need.step.index()] -= 1;
                if open[need.step.index()] == 0 {
                    ready.push(need.step.index());
                }
            }
        }
        Regions { served }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.served.is_empty()
    }

    pub(crate) fn served_by(&self, join: StepNo) -> &[StepNo] {
        self.served.get(join.index()).map_or(&[], Vec::as_slice)
    }
}

/// Joins in joins, as a forest with jump pointers (E. Myers, An applicative random-access stack, 1983), by which a common
/// ancestor is found in logarithmic time.
struct Nest {
    /// The join that a step serves.
    around: Vec<Option<usize>>,
    depth: Vec<u32>,
    jump: Vec<Option<usize>>,
}

impl Nest {
    fn of(count: usize) -> Nest {
        Nest { around: vec![None; count], depth: vec![0; count], jump: vec![None; count] }
    }

    /// Puts a step into a join that has its place already.
    fn put(&mut self, at: usize, join: Option<usize>) {
        let Some(join) = join else { return };
        self.around[at] = Some(join);
        self.depth[at] = self.depth[join] + 1;
        let far = self.jump[join].and_then(|near| {
            let far = self.jump[near];
            let depth = |at: Option<usize>| at.map_or(0, |at| self.depth[at]);
            (self.depth[join] - self.depth[near] == self.depth[near] - depth(far)).then_some(far).flatten()
        });
        self.jump[at] = far.or(Some(join));
    }

    /// The innermost join that both are or are in.
    fn innermost_around_both(&self, a: usize, b: usize) -> Option<usize> {
        let (mut high, mut low) = if self.depth[a] < self.depth[b] { (a, b) } else { (b, a) };
        while self.depth[low] > self.depth[high] {
            low = match self.jump[low] {
                Some(jump) if self.depth[jump] >= self.depth[high] => jump,
                _ => self.around[low]?,
            };
        }
        while high != low {
            (high, low) = match (self.jump[high], self.jump[low]) {
                (Some(a), Some(b)) if a != b => (a, b),
                _ => (self.around[high]?, self.around[low]?),
            };
        }
        Some(high)
    }
}
