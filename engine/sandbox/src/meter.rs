//! Counts what an attempt takes of memory and tables, across all of its component's memories and tables, and says no
//! beyond the limits. Remembers that it did: a guest whose allocation fails mostly traps a moment later, and the trap
//! alone would not tell why.

use downbeat_workflow::capability::Limits;
use wasmtime::ResourceLimiter;

/// Core instances, memories and tables of one component. A Rust component has 3 core instances, 1 memory and 2 tables,
/// a CPython one with its native modules some 40, 1 and 4; adapters add a few. More than these is an attack.
const INSTANCES_MAX: usize = 1_000;
const MEMORIES_MAX: usize = 32;
const TABLES_MAX: usize = 1_000;

/// One attempt's account.
pub(crate) struct Meter {
    pub(crate) memory: Gauge,
    pub(crate) tables: Gauge,
}

/// One quantity: what is taken now, its peak, its bound.
#[derive(Default)]
pub(crate) struct Gauge {
    now: u64,
    pub(crate) peak: u64,
    max: u64,
    /// The bound has said no.
    pub(crate) denied: bool,
    /// The last growth allowed, to be taken back if the allocator fails.
    pending: u64,
}

impl Gauge {
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        self.pending = 0;
        if maximum.is_some_and(|maximum| desired > maximum) {
            return false; // the component's own maximum: its own business
        }
        let growth = (desired as u64).saturating_sub(current as u64);
        let after = self.now.saturating_add(growth);
        if after > self.max {
            self.denied = true;
            return false;
        }
        self.now = after;
        self.pending = growth;
        self.peak = self.peak.max(after);
        true
    }

    fn take_back(&mut self) {
        self.now -= std::mem::take(&mut self.pending);
    }
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Meter {
        Meter {
            memory: Gauge { max: limits.memory, ..Gauge::default() },
            tables: Gauge { max: limits.table_elements, ..Gauge::default() },
        }
    }

    /// The limit that said no, by its name in the workflow.
    pub(crate) fn denied(&self) -> Option<&'static str> {
        if self.memory.denied {
            Some("memory")
        } else if self.tables.denied {
            Some("table-elements")
        } else {
            None
        }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.memory.grow(current, desired, maximum))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory.take_back();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.tables.grow(current, desired, maximum))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.tables.take_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_memories_count_together_and_a_failed_growth_is_taken_back() {
        let mut meter = Meter::new(&Limits { memory: 100, ..Limits::default() });
        assert!(meter.memory_growing(0, 60, None).unwrap());
        assert!(meter.memory_growing(0, 40, None).unwrap());
        meter.memory_grow_failed(wasmtime::Error::msg("no")).unwrap();
        assert_eq!(meter.denied(), None);
        assert!(meter.memory_growing(0, 40, None).unwrap());
        assert!(!meter.memory_growing(40, 41, None).unwrap());
        assert_eq!((meter.memory.peak, meter.denied()), (100, Some("memory")));
    }

    #[test]
    fn a_components_own_maximum_is_not_the_limits_doing() {
        let mut meter = Meter::new(&Limits::default());
        assert!(!meter.table_growing(0, 10, Some(5)).unwrap());
        assert_eq!(meter.denied(), None);
    }
}
