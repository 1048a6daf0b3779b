//! Between a run and those who watch it: a thread that reads the run's story from the journal and shows it.
//!
//! Whoever reads our outputs may stall or go away, and writing then blocks; that must not hold the run, its time-outs or
//! Ctrl-C. So the tasks that drive write nothing: they leave the journal, which is there anyway, and the latest progress
//! of each attempt on a board. This thread alone waits for the reader, and the process's end may leave it waiting.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use downbeat_conductor::Watch;
use downbeat_journal::Horizon;
use downbeat_workflow::event::RunId;
use downbeat_workflow::plan::StepId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::exit::Fault;
use crate::follow::Follower;
use crate::screen::{Progress, Screen};

/// How often progress is drawn. The eye takes ten pictures a second for motion.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The latest that each step's attempt said of its progress. What nobody has looked at is replaced, so that it holds no
/// more than one word for each step.
#[derive(Default)]
pub(crate) struct Board(Mutex<HashMap<StepId, Progress>>);

impl Board {
    fn take(&self) -> HashMap<StepId, Progress> {
        mem::take(&mut *self.latest())
    }

    fn latest(&self) -> MutexGuard<'_, HashMap<StepId, Progress>> {
        self.0.lock().expect("nothing panics while the board is written")
    }
}

impl Watch for Board {
    fn progressed(&self, _run: &RunId, step: StepId, done: u64, total: Option<u64>, message: &str) {
        self.latest().insert(step, Progress { done, total, message: message.to_owned() });
    }
}

/// What those who drive tell those who watch.
enum Notice {
    /// The engine is stopping; with whether Ctrl-C was typed.
    Stopping(bool),
    /// Something that is no part of the run's story.
    Said(String),
    /// Nothing more will happen to the run.
    Over,
}

/// The thread that shows a run.
pub(crate) struct Audience {
    notices: mpsc::UnboundedSender<Notice>,
    done: oneshot::Receiver<Result<(), Fault>>,
}

/// Tells those who watch something, from any task, without waiting for them.
#[derive(Clone)]
pub(crate) struct Messenger(mpsc::UnboundedSender<Notice>);

impl Messenger {
    /// Says a line.
    pub(crate) fn say(&self, line: String) {
        // Nobody is left when everything has been shown.
        let _ = self.0.send(Notice::Said(line));
    }
}

impl Audience {
    /// Shows on `screen` what `follower` finds, whenever `horizon` says that there may be more.
    pub(crate) fn gather(
        screen: Screen,
        follower: Follower,
        horizon: watch::Receiver<Horizon>,
        board: Arc<Board>,
    ) -> Result<Audience, Fault> {
        let no_thread = |error: std::io::Error| Fault::engine(format!("no thread to show the run on: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(no_thread)?;
        let (notices, noticed) = mpsc::unbounded_channel();
        let (shown, done) = oneshot::channel();
        let thread = std::thread::Builder::new().name("audience".to_owned());
        let show = move || {
            let mut show = Show { screen, follower, horizon, board, noticed, over: false };
            let result = runtime.block_on(show.run()).or_else(Fault::unless_enough);
            show.screen.end_live();
            // Closes the journal before anybody hears that this is done.
            drop(show);
            let _ = shown.send(result);
        };
        thread.spawn(show).map_err(no_thread)?;
        Ok(Audience { notices, done })
    }

    /// For tasks with something to say.
    pub(crate) fn messenger(&self) -> Messenger {
        Messenger(self.notices.clone())
    }

    /// Says that the engine is stopping; `typed` is whether a terminal's Ctrl-C is the reason.
    pub(crate) fn stopping(&self, typed: bool) {
        let _ = self.notices.send(Notice::Stopping(typed));
    }

    /// Says that nothing more will happen to the run.
    pub(crate) fn over(&self) {
        let _ = self.notices.send(Notice::Over);
    }

    /// Resolves when everything has been shown: to what went wrong with that. May be dropped and called again.
    pub(crate) async fn leave(&mut self) -> Result<(), Fault> {
        (&mut self.done).await.unwrap_or_else(|_| Err(Fault::engine("the thread that shows the run broke down")))
    }
}

struct Show {
    screen: Screen,
    follower: Follower,
    horizon: watch::Receiver<Horizon>,
    board: Arc<Board>,
    noticed: mpsc::UnboundedReceiver<Notice>,
    over: bool,
}

impl Show {
    async fn run(&mut self) -> Result<(), Fault> {
        loop {
            // Before the look, so that what comes in between is looked at again.
            self.horizon.mark_unchanged();
            let last = self.over;
            while let Some(item) = self.follower.next().map_err(Fault::engine)? {
                self.hear_notices();
                self.screen.take_in(&item)?;
                if item.is_end() {
                    return Ok(());
                }
            }
            if last {
                return Ok(());
            }
            // Heard between two items: nothing will wake this thread any more.
            if self.over {
                continue;
            }
            for (step, progress) in self.board.take() {
                self.screen.progressed(step, &progress);
            }
            let live = self.screen.is_live();
            tokio::select! {
                notice = self.noticed.recv() => self.hear(notice.unwrap_or(Notice::Over)),
                // A journal that is closed gets no more records.
                changed = self.horizon.changed() => self.over |= changed.is_err(),
                () = tokio::time::sleep(PROGRESS_INTERVAL), if live => (),
            }
        }
    }

    fn hear_notices(&mut self) {
        while let Ok(notice) = self.noticed.try_recv() {
            self.hear(notice);
        }
    }

    fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Stopping(typed) => self.screen.stopping(typed),
            Notice::Said(line) => self.screen.say(&line),
            Notice::Over => self.over = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use downbeat_journal::{Create, Journal};
    use downbeat_workflow::description::Digest;
    use downbeat_workflow::event::{Event, Record, Timestamp};
    use downbeat_workflow::json::Json;
    use downbeat_workflow::plan::Plan;

    use super::*;
    use crate::screen::Style;

    #[test]
    fn the_end_is_heard_between_two_items_too() {
        let journal = Journal::in_memory();
        let run = RunId("abc".into());
        let (plan, inputs) = (Digest::of(b"{}"), Json::from(serde_json::json!({})));
        let created = Event::RunCreated {
            workflow: "w".into(),
            plan: plan.clone(),
            inputs,
            seed: 1,
            priority: 0,
            group: None,
            rerun_of: None,
        };
        let records = vec![Record { at: Timestamp(1), event: created }];
        journal.create(Create { run: run.clone(), plan, plan_json: Arc::from("{}"), records }).wait().unwrap();
        let plan = Plan::from_json(r#"{"name": "w", "directory": "/", "plugins": [], "steps": []}"#).unwrap();
        let (notices, noticed) = mpsc::unbounded_channel();
        // There before the first item is, so that it is found after it; and nothing wakes the thread later.
        assert!(notices.send(Notice::Over).is_ok());
        let mut show = Show {
            screen: Screen::new(Style::Json, Arc::new(plan), run.clone()),
            horizon: journal.horizon().unwrap(),
            follower: Follower::new(journal, run, &[], 0),
            board: Arc::new(Board::default()),
            noticed,
            over: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let shown = async { tokio::time::timeout(Duration::from_secs(10), show.run()).await };
        runtime.block_on(shown).expect("it does not wait for more").unwrap();
    }
}
