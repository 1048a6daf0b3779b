//! Times, durations and sizes as people read them: as they are written in the pure core, which tells of them as well.

pub(crate) use downbeat_workflow::units::{counted, duration, micros, size, time};
