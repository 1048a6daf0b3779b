//! What `run` and `resume` have in common: a conductor, a screen, signals, requests of other processes, and the end.

use std::future::Future;
use std::sync::Arc;

use downbeat_conductor::clock::Clock;
use downbeat_conductor::{Conductor, DriveError, Ending, Handle, PrepareError, Sandboxed, StartError};
use downbeat_journal::Journal;
use downbeat_workflow::event::{Event, Outcome, RunId};
use downbeat_workflow::plan::Plan;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{Exit, Fault};
use crate::place::Place;
use crate::screen::{Screen, Style};
use crate::talk;

/// Drives one run to its end. `begin` starts or resumes it; `resumed` is the run that is taken up, if it is one.
pub(crate) fn drive<F: Future<Output = Result<Handle, StartError>>>(
    place: &Place,
    journal: &Journal,
    sandbox: downbeat_sandbox::Sandbox,
    plan: Arc<Plan>,
    style: Style,
    resumed: Option<&RunId>,
    begin: impl FnOnce(Conductor<Sandboxed>) -> F,
) -> Result<Exit, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Fault::engine(format!("no threads to run on: {error}")))?;
    let screen = Arc::new(Screen::new(style));
    screen.show(plan);
    if let Some(run) = resumed {
        screen.resumed(run, &journal.load(run).map_err(Fault::engine)?.records);
    }
    let performer = Sandboxed::new(sandbox, place.components(), place.workspaces()).map_err(Fault::engine)?;
    let conductor = Conductor::new(journal.clone(), performer, screen.clone(), Clock::system());
    let ended = runtime.block_on(async {
        // Before the run begins, so that no signal finds nobody who listens.
        let mut signals =
            Signals::listen().map_err(|error| Fault::engine(format!("can't listen to signals: {error}")))?;
        let handle = tokio::select! {
            handle = begin(conductor.clone()) => handle.map_err(start_fault)?,
            () = signals.first() => {
                let fault = Fault::new(Exit::Interrupted, "interrupted while the run was begun");
                return Err(fault.hint("`downbeat list` shows whether it was"));
            }
        };
        let run = handle.id().clone();
        let requests = conductor.clone().serve_requests();
        let serving = tokio::spawn(async {
            if let Err(error) = requests.await {
                talk::say(format_args!("what other processes ask is not heard any more: {error}"));
            }
        });
        let ending = handle.ending();
        tokio::pin!(ending);
        let ended = tokio::select! {
            ended = &mut ending => ended,
            () = signals.first() => {
                screen.stopping();
                conductor.stop();
                tokio::select! {
                    ended = &mut ending => ended,
                    () = signals.first() => Ok(Ending::Stopped),
                }
            }
        };
        serving.abort();
        Ok((run, ended))
    });
    // An attempt that does not come home must not keep the process; the journal knows that it was in flight.
    runtime.shutdown_background();
    screen.clear();
    let (run, ended) = ended?;
    screen.written()?;
    finish(journal, &run, ended, style)
}

fn finish(journal: &Journal, run: &RunId, ended: Result<Ending, DriveError>, style: Style) -> Result<Exit, Fault> {
    match ended {
        Ok(Ending::Finished(outcome)) => {
            if style != Style::Json {
                print_outputs(journal, run)?;
            }
            Ok(match outcome {
                Outcome::Succeeded => Exit::Success,
                Outcome::Failed | Outcome::TimedOut => Exit::WorkflowFailed,
                Outcome::Cancelled => Exit::Cancelled,
            })
        }
        Ok(Ending::Stopped) => {
            let fault = Fault::new(Exit::Interrupted, format!("run {run} was stopped before its end"));
            Err(fault.hint(format!("`downbeat resume {run}` goes on where it stopped")))
        }
        Err(error) => Err(Fault::engine(format!("run {run}: {error}"))
            .hint(format!("once the cause is gone, `downbeat resume {run}` goes on where it stopped"))),
    }
}

/// The workflow's outputs, as JSON on standard output.
fn print_outputs(journal: &Journal, run: &RunId) -> Result<(), Fault> {
    let records = journal.load(run).map_err(Fault::engine)?.records;
    let Some(Event::RunFinished { outputs, .. }) = records.last().map(|record| &record.event) else { return Ok(()) };
    let value = outputs.value();
    if value.as_object().is_some_and(|outputs| !outputs.is_empty()) {
        let text = serde_json::to_string_pretty(&value).expect("a value is valid JSON");
        talk::put_json(&text)?;
    }
    Ok(())
}

fn start_fault(error: StartError) -> Fault {
    match error {
        StartError::Prepare(PrepareError::Component(_)) => Fault::refused(error),
        StartError::Over(_) | StartError::Driven(_) => Fault::new(Exit::Usage, error),
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

    async fn first(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => (),
            _ = self.terminate.recv() => (),
            _ = self.hangup.recv() => (),
        }
    }
}
