//! The groups of runs that exclude each other as a whole: who is in each, in the order in which they came. Their lines are
//! those of pools of one place; this says who is ahead, for those that don't wait, or want the others gone.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use downbeat_workflow::event::RunId;
use downbeat_workflow::plan::Pool;

/// All groups of the process, by name: the run that has it, and those that wait for it.
#[derive(Default)]
pub(crate) struct Groups(Mutex<HashMap<String, Vec<RunId>>>);

impl Groups {
    /// Adds a run, unless it is there already. Answers who is ahead of it, the one that has the group first.
    pub(crate) fn join(&self, group: &str, run: &RunId) -> Vec<RunId> {
        let mut groups = self.lock();
        let members = groups.entry(group.to_owned()).or_default();
        let place = members.iter().position(|member| member == run).unwrap_or_else(|| {
            members.push(run.clone());
            members.len() - 1
        });
        members[..place].to_vec()
    }

    /// Adds a run if it would be alone; answers who has the group otherwise.
    pub(crate) fn join_alone(&self, group: &str, run: &RunId) -> Result<(), RunId> {
        let mut groups = self.lock();
        let members = groups.entry(group.to_owned()).or_default();
        match members.first() {
            Some(first) => Err(first.clone()),
            None => {
                members.push(run.clone());
                Ok(())
            }
        }
    }

    /// A run is over, or did not begin.
    pub(crate) fn leave(&self, group: &str, run: &RunId) {
        let mut groups = self.lock();
        let Some(members) = groups.get_mut(group) else { return };
        members.retain(|member| member != run);
        if members.is_empty() {
            groups.remove(group);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<RunId>>> {
        self.0.lock().expect("nothing panics while groups are locked")
    }
}

/// The pool in front of which runs of a group wait. No pool of a workflow can be called so: names have no colon.
pub(crate) fn pool(group: &str) -> Pool {
    Pool { name: format!("group:{group}"), size: 1, rate: None }
}
