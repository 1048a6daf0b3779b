//! What the queue is made of, by names of its own: the model in `model/` compiles the queue's source with other things by
//! these names. Nothing else is to be added here.

pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
pub(crate) use std::time::Instant;
