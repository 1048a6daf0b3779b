//! The line in front of a pool: who gets the next place, and when. The one rule for it, which the live engine, rehearsals and
//! tests in virtual time share; who they are that wait, and how they are told, is theirs.
//!
//! Places are bounded by a size, starts by a rate, by a sliding log: a place is given out if fewer than `count` were within
//! the window that ends now, so that no window of that length, wherever it begins, holds more. (A bucket of tokens needs less
//! memory, and lets twice as many through in the window around the moment at which it is full.) Higher priorities are served
//! first, and first come, first served among equals; nobody gets ahead for having waited long.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::event::{Event, Record, Timestamp};
use crate::plan::{Plan, Pool, PoolId, Rate};

/// A line, and how much of its pool is taken.
#[derive(Clone, Debug)]
pub struct Line<T> {
    size: u32,
    rate: Option<Rate>,
    taken: u32,
    waiting: BTreeMap<(Reverse<i32>, u64), T>,
    /// How many have come so far.
    came: u64,
    /// When places were given out, the latest last: as many as the rate counts.
    starts: VecDeque<Timestamp>,
}

impl<T> Line<T> {
    /// An empty line before a free pool.
    pub fn new(pool: &Pool) -> Line<T> {
        Line { size: pool.size, rate: pool.rate, taken: 0, waiting: BTreeMap::new(), came: 0, starts: VecDeque::new() }
    }

    /// What holds when another workflow declares the pool differently: the smaller size, and the lower rate. A pool protects
    /// something, and the most careful author knows best how much it bears.
    pub fn narrow(&mut self, pool: &Pool) {
        self.size = self.size.min(pool.size);
        self.rate = match (self.rate, pool.rate) {
            (Some(known), Some(other)) if other.is_below(known) => Some(other),
            (known, other) => known.or(other),
        };
        self.forget();
    }

    /// Gets in line.
    pub fn join(&mut self, priority: i32, who: T) {
        self.waiting.insert((Reverse(priority), self.came), who);
        self.came += 1;
    }

    /// Gives the next one a place, if there is one now.
    pub fn serve(&mut self, now: Timestamp) -> Option<T> {
        if self.taken >= self.size || self.opens_at().is_some_and(|at| at > now) {
            return None;
        }
        let (_, who) = self.waiting.pop_first()?;
        self.taken += 1;
        self.started(now);
        Some(who)
    }

    /// When the rate lets the next one in, if anybody waits for nothing else.
    pub fn opens_at(&self) -> Option<Timestamp> {
        let Rate { count, window_ms } = self.rate?;
        let waits = !self.waiting.is_empty() && self.taken < self.size && self.starts.len() >= count as usize;
        waits.then(|| self.starts.front().map(|first| first.plus_ms(window_ms))).flatten()
    }

    /// A place is free again.
    pub fn give_back(&mut self) {
        self.taken -= 1;
    }

    /// A place that was given out at this time is free again, and nothing was started in it.
    pub fn decline(&mut self, at: Timestamp) {
        self.taken -= 1;
        if let Some(place) = self.starts.iter().rposition(|start| *start == at) {
            self.starts.remove(place);
        }
    }

    /// Somebody has a place already, from before this line was: a place too many, if there is none.
    pub fn hold(&mut self) {
        self.taken += 1;
    }

    /// Something was started at this time, before this line was.
    pub fn started(&mut self, at: Timestamp) {
        if self.rate.is_some() {
            let place = self.starts.partition_point(|start| *start <= at);
            self.starts.insert(place, at);
            self.forget();
        }
    }

    /// How many places are taken.
    pub fn taken(&self) -> u32 {
        self.taken
    }

    /// Leaves out what the rate does not count.
    fn forget(&mut self) {
        let count = self.rate.map_or(0, |rate| rate.count as usize);
        self.starts.drain(..self.starts.len().saturating_sub(count));
    }
}

/// When something was started in which pool, as a run's records say: what the lines of those that have a rate have to know
/// after a restart.
pub fn starts<'r>(records: impl IntoIterator<Item = &'r Record>) -> Vec<(PoolId, Timestamp)> {
    let mut queued = HashMap::new();
    let mut starts = Vec::new();
    for Record { at, event } in records {
        let started = match event {
            Event::AttemptQueued { step, pool, .. } | Event::WaitQueued { step, pool } => {
                queued.insert((*step, None), *pool);
                None
            }
            Event::ScopeQueued { step, index, pool } => {
                queued.insert((*step, Some(*index)), *pool);
                None
            }
            Event::AttemptStarted { step, .. } | Event::StepOpened { step } => queued.remove(&(*step, None)),
            Event::ScopeOpened { step, index } => queued.remove(&(*step, Some(*index))),
            _ => None,
        };
        starts.extend(started.map(|pool| (pool, *at)));
    }
    starts
}

/// When the rate of a pool lets the next one in, if what these records of a run say has used it up by `now`. What other runs
/// start in the pool is not known here.
pub fn used_up_until<'r>(
    plan: &Plan,
    pool: PoolId,
    records: impl IntoIterator<Item = &'r Record>,
    now: Timestamp,
) -> Option<Timestamp> {
    let Rate { count, window_ms } = plan.pools[pool.index()].rate?;
    let starts: Vec<Timestamp> = starts(records).into_iter().filter(|(of, _)| *of == pool).map(|(_, at)| at).collect();
    let first = starts.len().checked_sub(count as usize)?;
    Some(starts[first].plus_ms(window_ms)).filter(|next| *next > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(size: u32, rate: Option<(u32, u64)>) -> Line<&'static str> {
        let rate = rate.map(|(count, window_ms)| Rate { count, window_ms });
        Line::new(&Pool { name: "runner".to_owned(), size, rate })
    }

    /// Who is served at this time.
    fn served(line: &mut Line<&'static str>, now: u64) -> Vec<&'static str> {
        std::iter::from_fn(|| line.serve(Timestamp(now))).collect()
    }

    #[test]
    fn places_are_given_in_order_and_only_so_many() {
        let mut line = line(2, None);
        ["a", "b", "c"].into_iter().for_each(|who| line.join(0, who));
        assert_eq!(served(&mut line, 0), ["a", "b"]);
        line.give_back();
        assert_eq!(served(&mut line, 0), ["c"]);
    }

    #[test]
    fn higher_priorities_come_first_and_among_equals_who_came_first() {
        let mut line = line(9, None);
        for (priority, who) in [(0, "a"), (5, "b"), (-1, "c"), (5, "d"), (0, "e")] {
            line.join(priority, who);
        }
        assert_eq!(served(&mut line, 0), ["b", "d", "a", "e", "c"]);
    }

    #[test]
    fn no_window_wherever_it_begins_has_more_starts_than_the_rate() {
        let mut line = line(100, Some((3, 1_000)));
        (0..12).for_each(|_| line.join(0, "x"));
        let mut starts = Vec::new();
        // Somebody looks every 7 ms, and the first only after a while.
        for now in (500..5_000).step_by(7) {
            starts.extend(served(&mut line, now).iter().map(|_| now));
        }
        assert_eq!(starts.len(), 12);
        for begin in 0..5_000 {
            assert!(starts.iter().filter(|at| (begin..begin + 1_000).contains(*at)).count() <= 3, "from {begin}");
        }
        // And it does not wait longer than it has to: each start but the first three is one look after its window.
        assert!(starts.windows(4).all(|four| four[3] - four[0] < 1_007));
    }

    #[test]
    fn the_rate_says_when_to_look_again_only_if_somebody_waits_for_it() {
        let mut line = line(2, Some((1, 1_000)));
        assert_eq!(line.opens_at(), None);
        line.join(0, "a");
        line.join(0, "b");
        line.join(0, "c");
        assert_eq!((served(&mut line, 10), line.opens_at()), (vec!["a"], Some(Timestamp(1_010))));
        assert_eq!((served(&mut line, 1_010), line.opens_at()), (vec!["b"], None), "now it waits for a place");
        line.give_back();
        assert_eq!(line.opens_at(), Some(Timestamp(2_010)));
    }

    #[test]
    fn what_was_declined_does_not_count_as_a_start() {
        let mut line = line(1, Some((1, 1_000)));
        line.join(0, "gone");
        line.join(0, "b");
        assert_eq!(served(&mut line, 5), ["gone"]);
        line.decline(Timestamp(5));
        assert_eq!(served(&mut line, 6), ["b"]);
    }

    #[test]
    fn what_was_held_and_started_before_counts() {
        let mut line = line(1, Some((2, 1_000)));
        line.hold();
        line.join(0, "a");
        assert_eq!(served(&mut line, 0), [""; 0]);
        line.give_back();
        // In any order: they come from several runs.
        line.started(Timestamp(400));
        line.started(Timestamp(100));
        assert_eq!((served(&mut line, 500), line.opens_at()), (vec![], Some(Timestamp(1_100))));
        assert_eq!(served(&mut line, 1_100), ["a"]);
    }

    #[test]
    fn the_smaller_size_and_the_lower_rate_count() {
        let mut line = line(3, None);
        line.narrow(&Pool { name: "runner".to_owned(), size: 5, rate: Some(Rate { count: 60, window_ms: 60_000 }) });
        line.narrow(&Pool { name: "runner".to_owned(), size: 4, rate: Some(Rate { count: 2, window_ms: 1_000 }) });
        assert_eq!((line.size, line.rate), (3, Some(Rate { count: 60, window_ms: 60_000 })));
    }
}
