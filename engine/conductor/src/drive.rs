//! The life of one run: one task owns it, and everything that reaches it is a [`Message`].
//!
//! A turn is always the same: take in all messages that are there, let the run decide, make the new records durable in
//! one commit (so that the record of a step's end and of the next one's start share it), and only then carry the decisions
//! out. Taking in a message never waits. What the decisions are is none of this file's business: that is `Run`.

mod cached;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use downbeat_journal::{Append, AppendError, Create, Journal, LogLine, Pending, Request, RequestId};
use downbeat_sandbox::{End, Ended, Observer};
use downbeat_workflow::cache::Entry;
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{
    Event, Failure, FailureKind, Interruption, Outcome, Record, RunId, Timestamp, Usage, Used,
};
use downbeat_workflow::json::Json;
use downbeat_workflow::log::Level;
use downbeat_workflow::plan::{PoolId, StepId};
use downbeat_workflow::run::{Action, Attempt, Claim, Misplaced, Run, StepStatus};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::answers::Answers;
use crate::ask::{Answer, Key};
use crate::clock::Clock;
use crate::conductor::Plans;
use crate::group::{self, Groups};
use crate::holders::Holders;
use crate::perform::{Order, Perform, Watch};
use crate::pool::{Place, Pools};

/// Attempts that a run has in flight when it starts another one without a pool, at most. As many as the sandbox has
/// instances, and a few that wait for one: what the journal calls started really is about to run. A pool's size bounds
/// the attempts in it.
const ATTEMPTS_IN_FLIGHT_MAX: usize = 1024;

/// A run that waits for a time looks at the clock again after this long: timers stand still while the machine sleeps,
/// the clock does not.
pub(crate) const CLOCK_LOOK_MAX: Duration = Duration::from_secs(60);

/// How long an orderly stop waits for cancelled attempts to come home. They are recorded as interrupted by a crash
/// when the run is resumed otherwise.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// What reaches a run.
pub(crate) enum Message {
    /// An attempt came home. Boxed: a mailbox keeps room for 32 messages, also while its run only waits.
    Ended { step: StepId, attempt: u32, home: Box<Home> },
    /// The cache says what it has for a step, and to which ask. Boxed, likewise.
    Answered { step: StepId, ask: u64, answer: Box<Answer> },
    /// Somebody in line has their place.
    Granted { claim: Claim, place: Place },
    /// Somebody asks something of the run.
    Asked(Box<Asked>),
    /// A later run of its group wants it gone.
    Superseded { by: RunId },
    /// An attempt appends to its list.
    Items(Box<Appended>),
    /// An attempt is about to do something that leaves the engine.
    Used(Box<Use>),
}

/// What an attempt is about to do, and who waits until that is durable.
pub(crate) struct Use {
    step: StepId,
    attempt: u32,
    used: Box<Used>,
    kept: oneshot::Sender<()>,
}

/// What an attempt appends, and who waits until it is durable.
pub(crate) struct Appended {
    step: StepId,
    attempt: u32,
    /// How many items the attempt has appended before.
    from: u32,
    items: Vec<Json>,
    kept: oneshot::Sender<()>,
}

/// How an attempt came home.
pub(crate) struct Home {
    ended: Ended,
    /// Under which its answer is to be kept, if that is known to depend on nothing else.
    key: Option<Digest>,
}

impl From<Ended> for Home {
    fn from(ended: Ended) -> Home {
        Home { ended, key: None }
    }
}

/// What somebody asks of a run.
pub(crate) struct Asked {
    pub(crate) request: Request,
    /// `None` if it did not come through the journal.
    pub(crate) id: Option<RequestId>,
}

/// How the driving of a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// The run is over.
    Finished(Outcome),
    /// The engine was stopped; the run can be resumed.
    Stopped,
}

/// Why a run could not be driven on. It can be resumed once the cause is gone.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// Nothing after the last acknowledged record has happened.
    #[error("the journal can't be written: {0}")]
    Journal(#[from] AppendError),
    /// The journal holds something that this run can't have done.
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    /// The task that drives the run broke down.
    #[error("the task that drives the run broke down: {0}")]
    Broken(String),
}

/// Which attempts are to be ended.
#[derive(Default)]
struct Cut {
    all: bool,
    /// Those that the run does not want any more. None of their steps starts again.
    steps: BTreeSet<StepId>,
}

impl Cut {
    fn ends(&self, step: StepId) -> bool {
        self.all || self.steps.contains(&step)
    }
}

/// What all runs of a conductor have in common.
pub(crate) struct Shared<P> {
    pub(crate) journal: Journal,
    pub(crate) performer: P,
    pub(crate) watch: Arc<dyn Watch>,
    pub(crate) clock: Clock,
    pub(crate) pools: Pools,
    pub(crate) plans: Plans,
    pub(crate) holders: Holders,
    pub(crate) groups: Groups,
    /// Those that are asked for the answers of steps with `cache`.
    pub(crate) answers: Option<Arc<Answers>>,
}

pub(crate) struct Driver<P: Perform> {
    shared: Arc<Shared<P>>,
    prepared: P::Prepared,
    /// The time of this run: no record is stamped before the one that precedes it, whoever wrote that.
    clock: Clock,
    /// On the heap: each async function that the driver is handed through would keep it twice.
    run: Box<Run>,
    /// The plan's digest and text, while the journal does not know the run.
    unknown: Option<(Digest, Arc<str>)>,
    /// Applied, not yet durable.
    batch: Vec<Record>,
    /// Requests that the batch answers.
    answers: Vec<RequestId>,
    last_request: Option<RequestId>,
    /// Those that wait until the batch is durable.
    waiting: Vec<oneshot::Sender<()>>,
    /// Places that came in since the last turn.
    granted: Vec<(Claim, Place)>,
    /// Whose places the batch makes free.
    freed: Vec<Claim>,
    /// How often the cache was asked, and which was the latest ask about a step: no other is answered.
    asks: u64,
    latest_asks: BTreeMap<StepId, u64>,
    /// Steps that the cache had nothing for, since the last turn.
    missed: Vec<StepId>,
    /// Under which the answers of these steps are to be kept.
    keys: BTreeMap<StepId, Key>,
    /// Answers to be kept once their records are durable.
    to_keep: Vec<Entry<'static>>,
    /// Those that are being written.
    keeping: Vec<JoinHandle<()>>,
    inbox: mpsc::UnboundedReceiver<Message>,
    outbox: mpsc::UnboundedSender<Message>,
    in_flight: usize,
    /// The attempt in flight that this task carries out itself.
    own: Option<Own>,
    /// Which attempts in flight are ended; all of them when it is dropped.
    cut: watch::Sender<Cut>,
    /// True once the engine is to stop.
    stop: watch::Receiver<bool>,
}

impl<P: Perform> Driver<P> {
    /// A driver of a run whose records are all durable.
    pub(crate) fn new(
        shared: Arc<Shared<P>>,
        run: Run,
        prepared: P::Prepared,
        stop: watch::Receiver<bool>,
    ) -> Driver<P> {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let (cut, _) = watch::channel(Cut::default());
        Driver {
            clock: shared.clock.not_before(run.latest()),
            shared,
            prepared,
            run: Box::new(run),
            unknown: None,
            batch: Vec::new(),
            answers: Vec::new(),
            last_request: None,
            waiting: Vec::new(),
            granted: Vec::new(),
            freed: Vec::new(),
            asks: 0,
            latest_asks: BTreeMap::new(),
            missed: Vec::new(),
            keys: BTreeMap::new(),
            to_keep: Vec::new(),
            keeping: Vec::new(),
            inbox,
            outbox,
            in_flight: 0,
            own: None,
            cut,
            stop,
        }
    }

    /// The group whose other runs it excludes.
    pub(crate) fn group(&self) -> Option<&str> {
        self.run.group()
    }

    /// The run's id.
    pub(crate) fn id(&self) -> &RunId {
        self.run.id()
    }

    /// Where messages for this run go.
    pub(crate) fn mailbox(&self) -> mpsc::UnboundedSender<Message> {
        self.outbox.clone()
    }

    /// Begins a run that the journal does not know yet.
    pub(crate) async fn create(&mut self, inputs: Json, seed: u64, at: Option<i32>) -> Result<(), DriveError> {
        let mut created = Run::creation(self.run.plan(), self.run.plan().to_json().1, inputs, seed);
        if let (Event::RunCreated { priority, .. }, Some(at)) = (&mut created, at) {
            *priority = at;
        }
        self.record(created)?;
        let records = std::mem::take(&mut self.batch);
        self.create_with(records).await
    }

    /// The same with its first records, which the run has taken in.
    pub(crate) async fn create_with(&mut self, records: Vec<Record>) -> Result<(), DriveError> {
        let (text, digest) = self.run.plan().to_json();
        self.unknown = Some((digest, text));
        self.batch = records;
        self.turn().await?;
        self.join_group();
        Ok(())
    }

    /// Takes a run up again that something else drove before: what was in flight then is lost. `asked` is what was asked
    /// of it while nobody drove it; it counts before anything is started.
    pub(crate) async fn recover(&mut self, asked: Vec<Pending>) -> Result<(), DriveError> {
        self.take_up_places();
        self.interrupt_lost()?;
        for Pending { id, request, .. } in asked {
            self.asked(request, Some(id))?;
        }
        for (claim, pool) in self.run.queued() {
            self.enqueue(claim, pool);
        }
        self.ask_again();
        self.turn().await?;
        self.join_group();
        Ok(())
    }

    /// Takes a run up again only to end it: nothing is started. If it has always-steps that are still to run, it comes to
    /// rest before them, for whoever resumes it.
    pub(crate) async fn end_parked(mut self, reason: String, request: Option<RequestId>) -> Result<Ending, DriveError> {
        self.take_up_places();
        self.interrupt_lost()?;
        self.asked(Request::Cancel { reason }, request)?;
        match self.run.has_always_steps_left() {
            true => self.come_to_rest().await,
            false => self.drive().await,
        }
    }

    /// Nothing of a scope goes on without the place that it has.
    fn take_up_places(&self) {
        self.shared.pools.take_up(&self.run);
    }

    /// Gets in line for the group of the run, if it has to.
    fn join_group(&self) {
        if let Some(group) = self.run.group().filter(|_| self.run.is_in_line()) {
            let pool = self.shared.pools.named(&group::pool(group));
            pool.enqueue(self.outbox.clone(), Claim::Run, self.run.priority_of(Claim::Run));
        }
    }

    fn interrupt_lost(&mut self) -> Result<(), DriveError> {
        for (step, attempt) in self.run.in_flight() {
            self.record(Event::AttemptInterrupted { step, attempt, cause: Interruption::Crash })?;
        }
        Ok(())
    }

    /// Drives the run until it is over or the engine stops. When this returns, nothing of the run is in flight.
    pub(crate) async fn drive(mut self) -> Result<Ending, DriveError> {
        let driven = self.drive_on().await;
        if driven.is_err() {
            // Nothing can be recorded any more, but nothing may go on unseen either.
            self.cut();
            let deadline = tokio::time::Instant::now() + STOP_GRACE;
            while self.in_flight > 0 {
                match tokio::time::timeout_at(deadline, message(&mut self.inbox, &mut self.own)).await {
                    Ok(Some(Message::Ended { .. } | Message::Answered { .. })) => self.in_flight -= 1,
                    Ok(Some(_)) => (),
                    Ok(None) | Err(_) => break,
                }
            }
        }
        for keeping in std::mem::take(&mut self.keeping) {
            // What could not be kept is executed again another time.
            let _ = keeping.await;
        }
        driven
    }

    async fn drive_on(&mut self) -> Result<Ending, DriveError> {
        loop {
            if let Some(outcome) = self.run.outcome() {
                return Ok(Ending::Finished(outcome));
            }
            if *self.stop.borrow() {
                return self.come_to_rest().await;
            }
            let wake_at = self.turn().await?;
            if self.run.outcome().is_none() {
                self.wait(wake_at).await?;
            }
        }
    }

    /// Decides, commits, carries out. Returns when to look again.
    async fn turn(&mut self) -> Result<Option<Timestamp>, DriveError> {
        let now = self.clock.now();
        let mut chores = Vec::new();
        // In flight only once they are carried out: a commit that fails leaves nothing to wait for.
        let mut starting = 0;
        let wake_at = loop {
            let room = ATTEMPTS_IN_FLIGHT_MAX.saturating_sub(self.in_flight + starting);
            let mut wake_at = None;
            let mut decided = false;
            for action in self.run.next(now, room) {
                let action = match action {
                    Action::Ask(attempt) if self.shared.answers.is_none() => {
                        let Some(action) = self.run.missed(attempt.step) else { continue };
                        action
                    }
                    action => action,
                };
                if let Some(event) = action.event() {
                    decided = true;
                    self.note(now, event)?;
                }
                match action {
                    Action::WakeAt(at) => wake_at = Some(at),
                    Action::Start(attempt) => {
                        starting += 1;
                        chores.push(Chore::Start(attempt, None));
                    }
                    Action::Ask(attempt) => {
                        starting += 1;
                        chores.push(Chore::Ask(attempt));
                    }
                    Action::Queue { claim, pool } => chores.push(Chore::Queue(claim, pool)),
                    Action::Record(_) => (),
                }
            }
            for step in std::mem::take(&mut self.missed) {
                // Nothing follows for a step that was ended meanwhile.
                let Some(action) = self.run.missed(step) else { continue };
                if let Some(event) = action.event() {
                    decided = true;
                    self.note(now, event)?;
                }
                match action {
                    Action::Start(attempt) => {
                        starting += 1;
                        chores.push(Chore::Start(attempt, None));
                    }
                    Action::Queue { claim, pool } => chores.push(Chore::Queue(claim, pool)),
                    _ => (),
                }
            }
            for (claim, place) in std::mem::take(&mut self.granted) {
                // A place for a step that was ended meanwhile goes back by being dropped.
                let Some(action) = self.run.start(claim) else { continue };
                let event = action.event();
                let is_end = event.as_ref().is_some_and(|event| event.ended_step().is_some());
                if let Some(event) = event {
                    decided = true;
                    self.note(now, event)?;
                }
                match action {
                    Action::Start(attempt) => {
                        starting += 1;
                        chores.push(Chore::Start(attempt, Some(place.used())));
                    }
                    _ if !is_end => self.shared.pools.keep(self.run.id(), claim, place),
                    _ => (),
                }
            }
            if !decided {
                break wake_at;
            }
        };
        self.commit().await?;
        // An attempt that is gone meanwhile waits for nothing.
        for kept in self.waiting.drain(..) {
            let _ = kept.send(());
        }
        self.release();
        self.cut_unwanted();
        self.in_flight += starting;
        for chore in chores {
            match chore {
                Chore::Start(attempt, place) => self.start(attempt, place),
                Chore::Queue(claim, pool) => self.enqueue(claim, pool),
                Chore::Ask(attempt) => self.ask(attempt),
            }
        }
        Ok(wake_at)
    }

    /// Waits until something happens, then takes in all that has.
    async fn wait(&mut self, wake_at: Option<Timestamp>) -> Result<(), DriveError> {
        let pause = wake_at.map(|at| {
            let ms = at.0.saturating_sub(self.clock.now().0);
            Duration::from_millis(ms).min(CLOCK_LOOK_MAX)
        });
        let Driver { inbox, own, stop, .. } = self;
        let mut message = tokio::select! {
            biased;
            message = message(inbox, own) => message,
            () = sleep(pause) => None,
            () = stopped(stop) => None,
        };
        while let Some(taken) = message {
            self.take_in(taken)?;
            message = self.inbox.try_recv().ok();
        }
        Ok(())
    }

    fn take_in(&mut self, message: Message) -> Result<(), DriveError> {
        match message {
            Message::Ended { step, attempt, home } => self.came_home(step, attempt, *home),
            Message::Answered { step, ask, answer } => self.answered(step, ask, *answer),
            Message::Asked(asked) => self.asked(asked.request, asked.id),
            Message::Superseded { by } => self.superseded(&by),
            Message::Items(appended) => self.appended(*appended),
            Message::Used(used) => self.used(*used),
            Message::Granted { claim, place } => {
                self.granted.push((claim, place));
                Ok(())
            }
        }
    }

    fn asked(&mut self, request: Request, id: Option<RequestId>) -> Result<(), DriveError> {
        // A request that waited for its run comes twice: with the resumption, and out of the inbox.
        let known = id.is_some() && id <= self.last_request;
        if known || self.run.outcome().is_some() {
            return Ok(());
        }
        self.last_request = self.last_request.max(id);
        self.answers.extend(id);
        let run = &self.run;
        let open = |step: &str| run.step_at(step).filter(|step| !run.has_ended(*step));
        // What is asked too late is answered by what is there already.
        let events: Vec<Event> = match request {
            Request::Cancel { reason } => vec![Event::CancelRequested { reason }],
            Request::CancelStep { step, reason } => return self.end_steps(&[step], &reason),
            Request::CancelSteps { steps, reason } => return self.end_steps(&steps, &reason),
            Request::Pause { steps, reason } => {
                let event = |step| run.may_pause(step).then(|| Event::Paused { step, reason: reason.clone() });
                parts(&steps, open).filter_map(event).collect()
            }
            Request::Unpause { steps } => {
                // Of a step that is over there may be something left that it did not wait for.
                let paused = parts(&steps, |step| run.step_at(step)).filter(|step| run.is_paused(*step));
                paused.map(|step| Event::Unpaused { step }).collect()
            }
            Request::Signal { signal, data } => {
                run.has_signal(&signal).then_some(Event::SignalReceived { signal, data }).into_iter().collect()
            }
            Request::Answer { step, approved, by, note, uid } => {
                let step = open(&step).filter(|step| run.may_answer(*step, &by));
                step.map(|step| Event::ApprovalGiven { step, approved, by, note, uid }).into_iter().collect()
            }
        };
        events.into_iter().try_for_each(|event| self.record(event))
    }

    /// Steps that the end of another one among them has ended are over by then.
    fn end_steps(&mut self, paths: &[String], reason: &str) -> Result<(), DriveError> {
        for step in paths.iter().filter_map(|path| self.run.step_at(path)).collect::<Vec<_>>() {
            if !self.run.has_ended(step) {
                self.record(Event::StepCancelRequested { step, reason: reason.to_owned() })?;
            }
        }
        Ok(())
    }

    /// Asks for the run's end, once: what it always does is done.
    pub(crate) fn superseded(&mut self, by: &RunId) -> Result<(), DriveError> {
        match self.run.may_be_superseded() {
            true => self.record(Event::CancelRequested { reason: superseded_reason(&self.run, by) }),
            false => Ok(()),
        }
    }

    fn appended(&mut self, appended: Appended) -> Result<(), DriveError> {
        let Appended { step, attempt, from, mut items, kept } = appended;
        // One that is being ended may be over by now.
        if self.run.status(step) != (StepStatus::Running, attempt) {
            return Ok(());
        }
        // What an earlier attempt has appended is there.
        let known = self.run.items_of(step) as u32;
        items.drain(..items.len().min(known.saturating_sub(from) as usize));
        self.waiting.push(kept);
        match items.is_empty() {
            true => Ok(()),
            false => self.record(Event::ItemsAppended { step, from: known, items }),
        }
    }

    fn used(&mut self, Use { step, attempt, used, kept }: Use) -> Result<(), DriveError> {
        // One that is being ended may be over by now: what it was about to do does not happen.
        if self.run.status(step) != (StepStatus::Running, attempt) {
            return Ok(());
        }
        self.waiting.push(kept);
        self.record(Event::CapabilityUsed { step, attempt, used })
    }

    fn came_home(&mut self, step: StepId, attempt: u32, home: Home) -> Result<(), DriveError> {
        self.in_flight -= 1;
        let Home { ended: Ended { end, usage }, key } = home;
        if let (Some(key), End::Succeeded(output)) = (key, &end) {
            let entry = self.entry(step, key, output.clone());
            self.to_keep.push(entry);
        }
        self.record(match end {
            End::Succeeded(output) => Event::AttemptSucceeded { step, attempt, output, usage },
            End::Failed(failure) => Event::AttemptFailed { step, attempt, failure, usage },
            End::Cancelled if self.run.is_cut(step) => Event::AttemptCancelled { step, attempt, usage },
            End::Cancelled => Event::AttemptInterrupted { step, attempt, cause: Interruption::Stop },
        })
    }

    /// The engine stops: attempts in flight are ended and recorded as interrupted, nothing new is begun.
    async fn come_to_rest(&mut self) -> Result<Ending, DriveError> {
        self.cut();
        self.granted.clear();
        let deadline = tokio::time::Instant::now() + STOP_GRACE;
        while self.in_flight > 0 {
            let Ok(Some(message)) = tokio::time::timeout_at(deadline, message(&mut self.inbox, &mut self.own)).await
            else {
                break;
            };
            match message {
                Message::Ended { step, attempt, home } => self.came_home(step, attempt, *home)?,
                // It is asked again when the run is resumed.
                Message::Answered { .. } => self.in_flight -= 1,
                Message::Asked(asked) => self.asked(asked.request, asked.id)?,
                Message::Superseded { by } => self.superseded(&by)?,
                // Who appends is being ended, and appends again; nor does it do anything any more.
                Message::Granted { .. } | Message::Items(_) | Message::Used(_) => (),
            }
        }
        self.commit().await?;
        self.release();
        Ok(Ending::Stopped)
    }

    /// Ends what is in flight; told once.
    fn cut(&self) {
        self.cut.send_if_modified(|cut| !std::mem::replace(&mut cut.all, true));
    }

    /// Ends the attempts in flight that the run does not want any more: with their scope, because somebody asked, or because
    /// no join needs their steps. Each is told once.
    fn cut_unwanted(&self) {
        if self.run.unwanted().next().is_some() {
            self.cut.send_if_modified(|cut| {
                let before = cut.steps.len();
                cut.steps.extend(self.run.unwanted());
                before != cut.steps.len()
            });
        }
    }

    fn record(&mut self, event: Event) -> Result<(), DriveError> {
        self.note(self.clock.now(), event)
    }

    fn note(&mut self, at: Timestamp, event: Event) -> Result<(), DriveError> {
        let record = Record { at, event };
        self.run.apply(&record)?;
        self.freed.extend_from_slice(self.run.freed());
        self.batch.push(record);
        Ok(())
    }

    /// Makes what was noted durable.
    async fn commit(&mut self) -> Result<(), DriveError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.batch);
        let run = self.run.id().clone();
        let appended = match self.unknown.take() {
            Some((plan, text)) => {
                self.shared.journal.create(Create { run, plan, plan_json: text, records: records.clone() })
            }
            None => {
                let expected = self.run.version() - records.len() as u64;
                let answers = std::mem::take(&mut self.answers);
                self.shared.journal.append(Append { run, expected, records: records.clone(), answers })
            }
        };
        appended.await?;
        self.shared.watch.recorded(self.run.id(), &records);
        if !self.to_keep.is_empty() {
            self.keep();
        }
        Ok(())
    }

    fn enqueue(&self, claim: Claim, pool: PoolId) {
        let pool = self.shared.pools.named(&self.run.plan().pools[pool.index()]);
        pool.enqueue(self.outbox.clone(), claim, self.run.priority_of(claim));
    }

    /// Gives places back whose scopes and waits are over, by records that are durable.
    fn release(&mut self) {
        if !self.freed.is_empty() {
            self.shared.pools.release(self.run.id(), &std::mem::take(&mut self.freed));
        }
    }

    fn order(&self, Attempt { step, attempt, input }: Attempt) -> Order {
        Order {
            run: self.run.id().clone(),
            plan: self.run.plan().clone(),
            step,
            no: self.run.scopes().no(step),
            path: (step.index() >= self.run.plan().own_steps().len()).then(|| self.run.path(step)),
            attempt,
            idempotency_key: self.run.idempotency_key(step),
            input,
            seed: self.run.seed(),
        }
    }

    fn reporter(&self, step: StepId, attempt: u32) -> Reporter<P> {
        let (shared, clock, run) = (self.shared.clone(), self.clock.clone(), self.run.id().clone());
        Reporter { shared, clock, run, step, attempt, outbox: self.outbox.clone() }
    }

    /// Carries an attempt out: in this task if the run has nothing else to do meanwhile, which saves handing it over and
    /// back, a quarter of a short step's time; otherwise in one of its own, so that branches run side by side. A place in
    /// a pool may come at any time, and a busy guest gives way only every few milliseconds.
    fn start(&mut self, Attempt { step, attempt, input }: Attempt, place: Option<Place>) {
        let order = self.order(Attempt { step, attempt, input });
        let key = self.keys.remove(&step);
        let reporter = Arc::new(self.reporter(step, attempt));
        let mut cut = self.cut.subscribe();
        let (shared, prepared) = (self.shared.clone(), self.prepared.clone());
        let future = Guarded(Box::pin(async move {
            // The sender's end is a cut, too: then nobody is left who would take the attempt's end.
            let cancelled = async move { drop(cut.wait_for(|cut| cut.ends(step)).await) };
            let Some(key) = key else {
                let ended = shared.performer.perform(&prepared, order, reporter, cancelled).await;
                drop(place);
                return ended.into();
            };
            let ended = shared.performer.perform(&prepared, order.clone(), reporter, cancelled).await;
            drop(place);
            // What it depends on may have changed under the attempt: then nobody can tell which of it was seen.
            let is_same = match &ended.end {
                End::Succeeded(_) => shared.performer.key(&prepared, &order).await.as_ref() == Ok(&key),
                _ => false,
            };
            Home { ended, key: is_same.then_some(key.digest) }
        }));
        if self.in_flight == 1 && self.run.plan().pools.is_empty() {
            self.own = Some(Own { step, attempt, future });
        } else {
            let mut reply = Reply { outbox: self.outbox.clone(), step, attempt, sent: false };
            tokio::spawn(async move { reply.send(future.await) });
        }
    }
}

/// Why a run is cancelled, in the words of the one that does it.
pub(crate) fn superseded_reason(run: &Run, by: &RunId) -> String {
    format!("run {by} of the same group `{}` takes its place", run.group().unwrap_or_default())
}

/// What is meant by paths of steps: without any, the run.
fn parts(paths: &[String], find: impl Fn(&str) -> Option<StepId>) -> impl Iterator<Item = Option<StepId>> {
    let run = paths.is_empty().then_some(None);
    let mut steps: Vec<StepId> = paths.iter().filter_map(|path| find(path)).collect();
    steps.sort_unstable();
    steps.dedup();
    run.into_iter().chain(steps.into_iter().map(Some))
}

/// An attempt that the run's own task carries out.
struct Own {
    step: StepId,
    attempt: u32,
    future: Guarded,
}

/// The next message, be it the end of the attempt that this task carries out. Nothing is lost when this is dropped.
async fn message(inbox: &mut mpsc::UnboundedReceiver<Message>, own: &mut Option<Own>) -> Option<Message> {
    tokio::select! {
        biased;
        message = inbox.recv() => message,
        ended = ending(own) => Some(ended),
    }
}

/// The end of the attempt, as a message; never, without one.
async fn ending(own: &mut Option<Own>) -> Message {
    let Some(Own { step, attempt, future }) = own else { return std::future::pending().await };
    let (step, attempt) = (*step, *attempt);
    let home = future.await;
    *own = None;
    Message::Ended { step, attempt, home: Box::new(home) }
}

/// An attempt whose panic is its failure and nobody else's. On the heap from its beginning: it is some KiB, and each async
/// function that it is handed through would keep it twice.
struct Guarded(Pin<Box<dyn Future<Output = Home> + Send>>);

impl Future for Guarded {
    type Output = Home;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Home> {
        // What a panic leaves behind is never looked at again: the attempt is dropped.
        let polled = catch_unwind(AssertUnwindSafe(|| self.0.as_mut().poll(cx)));
        polled
            .unwrap_or_else(|_| Poll::Ready(Ended { end: End::Failed(broken_down()), usage: Usage::default() }.into()))
    }
}

fn broken_down() -> Failure {
    let message = "the engine broke down while it carried out this attempt; this is a defect of the engine".to_owned();
    Failure { kind: FailureKind::Host, message, details: None, backtrace: None, retry_after_ms: None }
}

/// What is carried out once it is durable.
enum Chore {
    Start(Attempt, Option<Place>),
    Queue(Claim, PoolId),
    Ask(Attempt),
}

/// Resolves when the engine is to stop; never, when nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Sends an attempt's end, whatever happens: if its task is dropped with the runtime, the run hears of an interruption
/// instead of waiting for ever.
struct Reply {
    outbox: mpsc::UnboundedSender<Message>,
    step: StepId,
    attempt: u32,
    sent: bool,
}

impl Reply {
    fn send(&mut self, home: Home) {
        self.sent = true;
        // A run that is gone (the engine stops) has no use for it.
        let _ = self.outbox.send(Message::Ended { step: self.step, attempt: self.attempt, home: Box::new(home) });
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            self.send(Ended { end: End::Cancelled, usage: Usage::default() }.into());
        }
    }
}

/// Takes an attempt's lines to the journal and to whoever watches.
struct Reporter<P> {
    shared: Arc<Shared<P>>,
    clock: Clock,
    run: RunId,
    step: StepId,
    attempt: u32,
    outbox: mpsc::UnboundedSender<Message>,
}

impl<P: Send + Sync> Observer for Reporter<P> {
    fn log(&self, level: Level, line: &str) {
        let Shared { journal, watch, .. } = &*self.shared;
        let at = self.clock.now();
        let kept = LogLine { step: self.step, attempt: self.attempt, at, level, message: line.to_owned() };
        journal.append_log(&self.run, vec![kept]);
        watch.logged(&self.run, self.step, self.attempt, level, line);
    }

    fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        self.shared.watch.progressed(&self.run, self.step, done, total, message);
    }

    fn items(&self, from: u32, items: Vec<Json>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (kept, is_kept) = oneshot::channel();
        let appended = Appended { step: self.step, attempt: self.attempt, from, items, kept };
        let _ = self.outbox.send(Message::Items(Box::new(appended)));
        Box::pin(durable(is_kept))
    }

    fn used(&self, used: Used) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (kept, is_kept) = oneshot::channel();
        let used = Use { step: self.step, attempt: self.attempt, used: Box::new(used), kept };
        let _ = self.outbox.send(Message::Used(Box::new(used)));
        Box::pin(durable(is_kept))
    }
}

/// Waits until a record is durable.
async fn durable(is_kept: oneshot::Receiver<()>) {
    // Nobody is left who would keep it: the attempt is about to be ended, and must not go on before.
    if is_kept.await.is_err() {
        std::future::pending().await
    }
}
