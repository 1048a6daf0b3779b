//! Starts runs, resumes them, hands them what others ask for, and stops them all in an orderly way.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use downbeat_journal::{Journal, ReadError, Request, RequestId};
use downbeat_workflow::description::Digest;
use downbeat_workflow::event::{Record, RunId, Timestamp};
use downbeat_workflow::json::Json;
use downbeat_workflow::plan::{Plan, WhenBusy};
use downbeat_workflow::run::Run;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::answers::Answers;
use crate::clock::Clock;
use crate::drive::{Asked, DriveError, Driver, Ending, Message, Shared, superseded_reason};
use crate::group::Groups;
use crate::holders::Holders;
use crate::name;
use crate::parked;
use crate::perform::{Perform, PrepareError, Watch};
use crate::pool::Pools;

/// Drives any number of runs over one journal. Cheap to clone.
pub struct Conductor<P> {
    shared: Arc<Shared<P>>,
    stop: Arc<watch::Sender<bool>>,
    mailboxes: Mailboxes,
}

/// Where messages for each run that is being driven go.
type Mailboxes = Arc<Mutex<HashMap<RunId, mpsc::UnboundedSender<Message>>>>;

/// Keeps a run's mailbox known: from before its first record, so that no request finds nobody, to its end.
struct Registration {
    mailboxes: Mailboxes,
    id: RunId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.mailboxes).remove(&self.id);
    }
}

impl<P> Clone for Conductor<P> {
    fn clone(&self) -> Conductor<P> {
        Conductor { shared: self.shared.clone(), stop: self.stop.clone(), mailboxes: self.mailboxes.clone() }
    }
}

/// A run that is being driven. Dropping it changes nothing: the run goes on.
pub struct Handle {
    id: RunId,
    mailbox: mpsc::UnboundedSender<Message>,
    ahead: Vec<RunId>,
    task: JoinHandle<Result<Ending, DriveError>>,
}

/// Why a run could not be started or resumed. Nothing of it was executed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A plugin can't be had.
    #[error(transparent)]
    Prepare(PrepareError),
    /// The journal can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The plan that the run keeps can't be read by this version of the engine.
    #[error("the plan of run {run} can't be read: {message}")]
    Plan {
        /// Which.
        run: RunId,
        /// Why.
        message: String,
    },
    /// A run that is not over may have places in the pools that this one has to do with, and can't be read.
    #[error("run {run}, which may have places in pools still, can't be read: {cause}")]
    Holder {
        /// Which.
        run: RunId,
        /// Why.
        cause: Box<StartError>,
    },
    /// The run is over.
    #[error("run {0} is already over; nothing is left to resume")]
    Over(RunId),
    /// This conductor drives it already.
    #[error("run {0} is already being driven")]
    Driven(RunId),
    /// The run has no group, though its workflow says that it has one.
    #[error("{0}")]
    Group(String),
    /// Another run of its group is not over, and the workflow says that a run is rejected then.
    #[error("the group `{group}` is busy: run {by} is not over")]
    Busy {
        /// Which.
        group: String,
        /// Who has it.
        by: RunId,
    },
    /// The system has no randomness to give.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// What it is to begin with can't be had.
    #[error("{0}")]
    Begin(String),
    /// The first records could not be made durable.
    #[error(transparent)]
    Drive(#[from] DriveError),
}

impl<P: Perform> Conductor<P> {
    /// A conductor over a journal that this process drives.
    pub fn new(journal: Journal, performer: P, watch: Arc<dyn Watch>, clock: Clock) -> Conductor<P> {
        let pools = Pools::new(clock.clone());
        let (plans, holders, groups) = (Plans::default(), Holders::default(), Groups::default());
        let shared = Shared { journal, performer, watch, clock, pools, plans, holders, groups, answers: None };
        let (stop, _) = watch::channel(false);
        Conductor { shared: Arc::new(shared), stop: Arc::new(stop), mailboxes: Arc::default() }
    }

    /// Asks these for the answers of steps with `cache`, and keeps more in them. Without, such steps are executed like any
    /// other.
    ///
    /// # Panics
    /// If the conductor was cloned or has started a run.
    pub fn with_answers(mut self, answers: Answers) -> Conductor<P> {
        let shared = Arc::get_mut(&mut self.shared).expect("a conductor that nobody else has yet");
        shared.answers = Some(Arc::new(answers));
        self
    }

    /// Starts a run. When this returns, the run is durable: it can be resumed whatever happens.
    ///
    /// `inputs` are those that [`inputs::accept`](downbeat_workflow::inputs::accept) returned for this plan.
    pub async fn start(&self, plan: Arc<Plan>, inputs: Json) -> Result<Handle, StartError> {
        self.start_at(plan, inputs, None).await
    }

    /// The same, with this priority in place of the workflow's.
    pub async fn start_at(&self, plan: Arc<Plan>, inputs: Json, priority: Option<i32>) -> Result<Handle, StartError> {
        let prepared = self.shared.performer.prepare(&plan).await.map_err(StartError::Prepare)?;
        let group = plan.group_of(&inputs).map_err(StartError::Group)?;
        self.find_holders(&plan)?;
        let random = || getrandom::u64().map_err(|error| StartError::Random(error.to_string()));
        let id = name::fresh(self.shared.clock.now(), random()?);
        let when_busy = plan.concurrency.as_ref().map_or(WhenBusy::Queue, |concurrency| concurrency.when_busy);
        let ahead = match &group {
            Some(group) if when_busy == WhenBusy::Reject => {
                let busy = |by| StartError::Busy { group: group.clone(), by };
                self.shared.groups.join_alone(group, &id).map_err(busy)?;
                Vec::new()
            }
            Some(group) => self.shared.groups.join(group, &id),
            None => Vec::new(),
        };
        let begun = async {
            let (mut driver, registration) = self.driver(Run::new(plan, id.clone()), prepared)?;
            driver.create(inputs, random()?, priority).await?;
            Ok::<_, StartError>((driver, registration))
        };
        let begun = async {
            let begun = begun.await?;
            if when_busy == WhenBusy::CancelRunning {
                self.supersede(&ahead, &id).await?;
            }
            Ok(begun)
        };
        // What is not driven from here on must not keep others waiting.
        let (driver, registration) = begun.await.inspect_err(|_: &StartError| {
            group.iter().for_each(|group| self.shared.groups.leave(group, &id));
        })?;
        Ok(self.spawn(driver, registration, ahead))
    }

    /// Asks for the end of runs that another one of their group wants gone. Some may be begun, taken up or ended by others at
    /// this moment: those see to it.
    async fn supersede(&self, runs: &[RunId], by: &RunId) -> Result<(), StartError> {
        for run in runs {
            let mailbox = lock(&self.mailboxes).get(run).cloned();
            match mailbox {
                Some(mailbox) => drop(mailbox.send(Message::Superseded { by: by.clone() })),
                None => {
                    let ended = match replay(&self.shared.journal, &self.shared.plans, run) {
                        Ok(parked) if !parked.may_be_superseded() => Ok(()),
                        Ok(parked) => self.end_superseded(run, superseded_reason(&parked, by)).await,
                        Err(error) => Err(error),
                    };
                    match ended {
                        Err(
                            StartError::Over(_) | StartError::Driven(_) | StartError::Read(ReadError::NoSuchRun(_)),
                        ) => (),
                        ended => ended?,
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends a run that nobody drives; what it does in any case is done here, as nobody else can.
    async fn end_superseded(&self, run: &RunId, reason: String) -> Result<(), StartError> {
        self.end_parked(run, reason, None).await?;
        match Box::pin(self.resume(run)).await {
            Err(StartError::Over(_)) => Ok(()),
            resumed => resumed.map(drop),
        }
    }

    /// Starts a run that begins with more than its creation: one that takes over what another one did. `begin` is given its
    /// id, a seed and the time, and answers its first records, which become durable together. Only of a workflow whose runs
    /// exclude no others.
    pub async fn start_with(
        &self,
        plan: Arc<Plan>,
        begin: impl FnOnce(&RunId, u64, Timestamp) -> Result<Vec<Record>, String>,
    ) -> Result<Handle, StartError> {
        let prepared = self.shared.performer.prepare(&plan).await.map_err(StartError::Prepare)?;
        let random = || getrandom::u64().map_err(|error| StartError::Random(error.to_string()));
        let now = self.shared.clock.now();
        let id = name::fresh(now, random()?);
        let records = begin(&id, random()?, now).map_err(StartError::Begin)?;
        let run = Run::replay(plan, id, &records).map_err(DriveError::from)?;
        self.find_holders(run.plan())?;
        let (mut driver, registration) = self.driver(run, prepared)?;
        driver.create_with(records).await?;
        Ok(self.spawn(driver, registration, Vec::new()))
    }

    /// Takes up a run that is not over: one that was stopped, or whose engine died.
    pub async fn resume(&self, id: &RunId) -> Result<Handle, StartError> {
        let run = replay(&self.shared.journal, &self.shared.plans, id)?;
        let prepared = self.shared.performer.prepare(run.plan()).await.map_err(StartError::Prepare)?;
        self.find_holders(run.plan())?;
        let ahead = run.group().map(|group| self.shared.groups.join(group, id)).unwrap_or_default();
        let in_line = run.group().filter(|_| run.is_in_line()).map(str::to_owned);
        let supersedes = in_line.is_some()
            && run
                .plan()
                .concurrency
                .as_ref()
                .is_some_and(|concurrency| concurrency.when_busy == WhenBusy::CancelRunning);
        let (mut driver, registration) = self.driver(run, prepared)?;
        let recovered = async {
            driver.recover(self.shared.journal.requests(id)?).await?;
            match supersedes {
                true => self.supersede(&ahead, id).await,
                false => Ok(()),
            }
        };
        // One that had the group has it still.
        recovered.await.inspect_err(|_: &StartError| {
            in_line.iter().for_each(|group| self.shared.groups.leave(group, id));
        })?;
        Ok(self.spawn(driver, registration, ahead))
    }

    /// Hands its runs what other processes ask of them through the journal, until it is dropped or the journal can't be
    /// read. A run that is not driven is ended right here: only this process can.
    pub async fn serve_requests(self) -> Result<(), ReadError> {
        let mut inbox = self.shared.journal.inbox()?;
        loop {
            for pending in inbox.next().await? {
                let mailbox = lock(&self.mailboxes).get(&pending.run).cloned();
                match (mailbox, pending.request) {
                    (Some(mailbox), request) => {
                        let _ = mailbox.send(Message::Asked(Box::new(Asked { request, id: Some(pending.id) })));
                    }
                    // It may have been taken up or come to its end in between; then somebody else has seen to it.
                    (None, Request::Cancel { reason }) => {
                        drop(self.end_parked(&pending.run, reason, Some(pending.id)).await);
                    }
                    // Whoever resumes the run is handed it.
                    (None, _) => (),
                }
            }
        }
    }

    async fn end_parked(&self, run: &RunId, reason: String, request: Option<RequestId>) -> Result<(), StartError> {
        let run = replay(&self.shared.journal, &self.shared.plans, run)?;
        let Shared { journal, watch, clock, .. } = &*self.shared;
        let driver = parked::driver(journal, run, watch.clone(), clock, self.shared.pools.clone());
        let _registration = self.register(&driver)?;
        let (id, group) = (driver.id().clone(), driver.group().map(str::to_owned));
        if let Ending::Finished(_) = driver.end_parked(reason, request).await? {
            group.iter().for_each(|group| self.shared.groups.leave(group, &id));
        }
        Ok(())
    }

    /// Stops driving: attempts in flight are ended, their runs stay resumable. Each [`Handle::ending`] tells when its run
    /// has come to rest.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn find_holders(&self, plan: &Plan) -> Result<(), StartError> {
        let Shared { journal, plans, pools, groups, clock, holders, .. } = &*self.shared;
        holders.find(plan, journal, plans, pools, groups, clock.now())
    }

    fn spawn(&self, driver: Driver<P>, registration: Registration, ahead: Vec<RunId>) -> Handle {
        let (id, mailbox) = (driver.id().clone(), driver.mailbox());
        let (shared, group) = (self.shared.clone(), driver.group().map(str::to_owned));
        let run = id.clone();
        let task = tokio::spawn(async move {
            let _registration = registration;
            let ended = driver.drive().await;
            if let (Some(group), Ok(Ending::Finished(_))) = (&group, &ended) {
                shared.groups.leave(group, &run);
            }
            ended
        });
        Handle { id, mailbox, task, ahead }
    }

    fn driver(&self, run: Run, prepared: P::Prepared) -> Result<(Driver<P>, Registration), StartError> {
        let driver = Driver::new(self.shared.clone(), run, prepared, self.stop.subscribe());
        let registration = self.register(&driver)?;
        Ok((driver, registration))
    }

    fn register<Q: Perform>(&self, driver: &Driver<Q>) -> Result<Registration, StartError> {
        let id = driver.id().clone();
        match lock(&self.mailboxes).entry(id.clone()) {
            Entry::Occupied(_) => Err(StartError::Driven(id)),
            Entry::Vacant(free) => {
                free.insert(driver.mailbox());
                Ok(Registration { mailboxes: self.mailboxes.clone(), id })
            }
        }
    }
}

impl Handle {
    /// The runs of its group that were ahead of it when it was begun, the one that had the group first.
    pub fn ahead(&self) -> &[RunId] {
        &self.ahead
    }

    /// The run's id.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// Asks the run for its end.
    pub fn cancel(&self, reason: &str) {
        // A run that is over has nobody who listens, which is as good as being cancelled.
        let request = Request::Cancel { reason: reason.to_owned() };
        let _ = self.mailbox.send(Message::Asked(Box::new(Asked { request, id: None })));
    }

    /// Waits until the run is over, or has come to rest after a stop.
    pub async fn ending(self) -> Result<Ending, DriveError> {
        self.task.await.unwrap_or_else(|panic| Err(DriveError::Broken(panic.to_string())))
    }
}

/// The plans of runs that were taken up, by digest, while some run keeps them: runs of one workflow share one, which is
/// read and compiled once.
#[derive(Default)]
pub(crate) struct Plans(Mutex<HashMap<Digest, Weak<Plan>>>);

impl Plans {
    pub(crate) fn of(&self, journal: &Journal, id: &RunId, digest: &Digest) -> Result<Arc<Plan>, StartError> {
        if let Some(plan) = lock(&self.0).get(digest).and_then(Weak::upgrade) {
            return Ok(plan);
        }
        let text = journal.plan(digest)?;
        let unreadable = |error: serde_json::Error| StartError::Plan { run: id.clone(), message: error.to_string() };
        let plan = Arc::new(Plan::from_json(&text).map_err(unreadable)?);
        let mut plans = lock(&self.0);
        plans.retain(|_, plan| plan.strong_count() > 0);
        plans.insert(digest.clone(), Arc::downgrade(&plan));
        Ok(plan)
    }
}

/// A run as the journal has it, if it is not over.
pub(crate) fn replay(journal: &Journal, plans: &Plans, id: &RunId) -> Result<Run, StartError> {
    let loaded = journal.load(id)?;
    let plan = plans.of(journal, id, &loaded.plan)?;
    let run = Run::replay(plan, id.clone(), &loaded.records).map_err(DriveError::from)?;
    match run.outcome() {
        Some(_) => Err(StartError::Over(id.clone())),
        None => Ok(run),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while mailboxes or plans are locked")
}
