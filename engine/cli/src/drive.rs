//! What `run` and `resume` have in common: a conductor, an audience, signals, requests of other processes, and the end.

use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Conductor, Ending, Handle, PrepareError, Sandboxed, StartError};
use downbeat_journal::Journal;
use downbeat_sandbox::Sandbox;
use downbeat_workflow::event::{Outcome, Record, RunId};
use downbeat_workflow::plan::Plan;
use owo_colors::OwoColorize as _;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::audience::{Audience, Board};
use crate::exit::{Exit, Fault};
use crate::follow::Follower;
use crate::place::Place;
use crate::screen::{Screen, Style};
use crate::talk;

/// How long a reader who does not take what a run has to tell keeps the state directory from other processes after the
/// run's end, and how long it keeps this process after a signal. A reader who reads at all needs milliseconds.
const READER_GRACE: Duration = Duration::from_secs(1);

/// A run to be driven.
pub(crate) struct Driven<'p> {
    /// Where things are kept.
    pub(crate) place: &'p Place,
    /// Of that place, opened to drive.
    pub(crate) journal: Journal,
    /// Where attempts are carried out.
    pub(crate) sandbox: Sandbox,
    /// The run's.
    pub(crate) plan: Arc<Plan>,
    /// How it is shown.
    pub(crate) style: Style,
    /// The records that it has already, if it is taken up again.
    pub(crate) before: Vec<Record>,
    /// Whether the cache is asked for the answers of steps that have `cache`, and keeps them.
    pub(crate) cache: bool,
}

/// Drives one run to its end. `begin` starts or resumes it.
pub(crate) fn drive<F: Future<Output = Result<Handle, StartError>>>(
    driven: Driven<'_>,
    begin: impl FnOnce(Conductor<Sandboxed>) -> F,
) -> Result<Exit, Fault> {
    let Driven { place, journal, sandbox, plan, style, before, cache } = driven;
    // Whoever drove before is gone: the journal is ours to drive.
    sandbox.sweep().map_err(|error| Fault::engine(format!("what a killed process left can't be removed: {error}")))?;
    let runtime =
        Builder::new_multi_thread().enable_all().build().map_err(|e| Fault::engine(format!("no threads: {e}")))?;
    let board = Arc::new(Board::default());
    let performer = Sandboxed::new(sandbox, place.components(), place.workspaces()).map_err(Fault::engine)?;
    let conductor = Conductor::new(journal.clone(), performer, board.clone(), Clock::system());
    let conductor = if cache { conductor.with_answers(place.answers()) } else { conductor };
    // Its own look at the file, so that a stalled reader does not keep the driver's lock. Taken before the run begins, so
    // that a file that can't be looked at leaves no run in flight.
    let (look, horizon) = (place.observe()?, journal.horizon().map_err(Fault::engine)?);
    let show = |run: &RunId, line: u64| -> Result<Audience, Fault> {
        let mut screen = Screen::new(style, plan, run.clone());
        if !before.is_empty() {
            screen.resumed(&before).map_err(Fault::engine)?;
        }
        let follower = Follower::new(look, run.clone(), &before, line);
        Audience::gather(screen, follower, horizon.clone(), board)
    };
    let driven = runtime.block_on(async {
        // Before the run begins, so that no signal finds nobody who listens.
        let mut signals = Signals::listen().map_err(signals_fault)?;
        let line = horizon.borrow().line;
        let handle = tokio::select! {
            handle = begin(conductor.clone()) => handle.map_err(start_fault)?,
            _ = signals.first() => {
                let fault = Fault::new(Exit::Interrupted, "interrupted while the run was begun");
                return Err(fault.hint("`downbeat list` shows whether it was"));
            }
        };
        let run = handle.id().clone();
        journal.announce(&run);
        let audience = show(&run, line).map_err(|fault| left_in_flight(&run, fault.message))?;
        if let Some(first) = handle.ahead().first() {
            audience.messenger().say(format!(
                "waits for run {first}, which has the group and is not over; `downbeat cancel {first}` ends it"
            ));
        }
        let requests = conductor.clone().serve_requests();
        let messenger = audience.messenger();
        let serving = tokio::spawn(async move {
            if let Err(error) = requests.await {
                messenger.say(format!("what other processes ask is not heard any more: {error}"));
            }
        });
        let ending = handle.ending();
        tokio::pin!(ending);
        let ended = tokio::select! {
            ended = &mut ending => ended,
            signal = signals.first() => {
                audience.stopping(signal == SignalKind::interrupt());
                conductor.stop();
                tokio::select! {
                    ended = &mut ending => ended,
                    _ = signals.first() => Ok(Ending::Stopped),
                }
            }
        };
        serving.abort();
        audience.over();
        Ok((run, ended, audience))
    });
    // An attempt that does not come home must not keep the process; the journal knows that it was in flight.
    runtime.shutdown_background();
    drop(conductor);
    let (run, ended, audience) = driven?;
    let interrupted = matches!(ended, Ok(Ending::Stopped));
    let shown = see_off(audience, journal, interrupted)?;
    let fault = match (ended, shown) {
        (Ok(Ending::Finished(outcome)), shown) => {
            match shown {
                Some(shown) => shown?,
                None => tell_unread(&run),
            }
            return Ok(match outcome {
                Outcome::Succeeded => Exit::Success,
                Outcome::Failed | Outcome::TimedOut => Exit::WorkflowFailed,
                Outcome::Cancelled => Exit::Cancelled,
            });
        }
        (Ok(Ending::Stopped), _) => Fault::new(Exit::Interrupted, format!("run {run} was stopped before its end"))
            .hint(format!("`downbeat resume {run}` goes on where it stopped")),
        (Err(error), _) => left_in_flight(&run, error),
    };
    // A reader who stalled may be the one of this, too.
    Err(fault.said_within(READER_GRACE))
}

/// Waits for whoever reads what we write, as long as nobody interrupts. `None` if they did not get all of it.
fn see_off(mut audience: Audience, journal: Journal, interrupted: bool) -> Result<Option<Result<(), Fault>>, Fault> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(Fault::engine)?;
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(signals_fault)?;
        tokio::select! {
            shown = audience.leave() => return Ok(Some(shown)),
            () = tokio::time::sleep(READER_GRACE) => (),
            _ = signals.first() => return Ok(None),
        }
        if interrupted {
            return Ok(None);
        }
        // Others may drive while this one waits.
        drop(journal);
        tokio::select! {
            shown = audience.leave() => Ok(Some(shown)),
            _ = signals.first() => Ok(None),
        }
    })
}

/// What ends the driving of a run that has begun and is not over.
fn left_in_flight(run: &RunId, cause: impl Display) -> Fault {
    Fault::engine(format!("run {run}: {cause}"))
        .hint(format!("once the cause is gone, `downbeat resume {run}` goes on where it stopped"))
}

/// Says that whoever was to read the story of a run that is over was interrupted. That is nothing of the run's.
fn tell_unread(run: &RunId) {
    let warning = "warning:".yellow().bold().to_string();
    let text = format!("{warning} run {run} is over, but not all of it was read here; `downbeat show {run}` has it");
    talk::say_within(READER_GRACE, text);
}

fn signals_fault(error: std::io::Error) -> Fault {
    Fault::engine(format!("can't listen to signals: {error}"))
}

fn start_fault(error: StartError) -> Fault {
    match error {
        StartError::Prepare(PrepareError::Component(_)) => Fault::refused(error),
        StartError::Begin(_) => crate::rerun::begin_fault(&error.to_string()),
        StartError::Over(_) | StartError::Driven(_) => Fault::new(Exit::Usage, error),
        StartError::Group(_) => Fault::refused(error),
        StartError::Busy { ref by, .. } => {
            let hint = format!("`downbeat resume {by}` takes it to its end, `downbeat cancel {by}` ends it");
            Fault::new(Exit::Rejected, format!("{error}; nothing was run")).hint(hint)
        }
        _ => Fault::engine(error),
    }
}

/// Ctrl-C, the polite request to end, and the end of the terminal.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn first(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hangup.recv() => SignalKind::hangup(),
        }
    }
}
