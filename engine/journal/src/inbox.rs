//! What other processes ask of the one that drives: durable rows, taken away in the transaction that acts on them.
//!
//! A request names its run; it waits through restarts until a driver answers it or its run ends. It can't reach another
//! run or be answered twice: ids are never used again, and an answer names both.

use downbeat_workflow::event::{Outcome, RunId};
use downbeat_workflow::json::Json;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::reader::ReadError;
use crate::record::outcome_of_word;
use crate::storage::{Database, StorageError, signed, unsigned};
use crate::{Horizon, Journal};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Request {
    /// End the run.
    Cancel {
        /// In the words of whoever asks.
        reason: String,
    },
    /// End one of its steps.
    CancelStep {
        /// Its path.
        step: String,
        /// In the words of whoever asks.
        reason: String,
    },
    /// End several of its steps, together.
    CancelSteps {
        /// Their paths.
        steps: Vec<String>,
        /// In the words of whoever asks.
        reason: String,
    },
    /// Start nothing new.
    Pause {
        /// Of these steps, by their paths; of the run without any.
        steps: Vec<String>,
        /// In the words of whoever asks.
        reason: String,
    },
    /// Go on after a pause.
    Unpause {
        /// Of these steps, by their paths; of the run without any.
        steps: Vec<String>,
    },
    /// Take in a signal.
    Signal {
        /// Its name.
        signal: String,
        /// What comes with it.
        data: Json,
    },
    /// Take in somebody's word on a step that waits for it.
    Answer {
        /// Its path.
        step: String,
        /// Whether it goes on.
        approved: bool,
        /// Who says so.
        by: String,
        /// What else they say.
        note: String,
        /// The operating system's number of the user whose process says it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<u32>,
    },
}

/// A request's id; later ones are greater, and none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A request that was not answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// To be named in the append that answers it.
    pub id: RequestId,
    /// Of which run.
    pub run: RunId,
    /// What.
    pub request: Request,
}

/// Why a request was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is no such run.
    #[error("the journal has no run {0}")]
    NoSuchRun(RunId),
    /// There is nothing left to ask of it.
    #[error("run {run} has already ended: {}", crate::record::outcome_word(*outcome))]
    Ended {
        /// The run.
        run: RunId,
        /// How it ended.
        outcome: Outcome,
    },
    /// The file.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The requests of a journal as they come in, each once. Made by [`Journal::inbox`].
pub struct Inbox {
    journal: Journal,
    horizon: watch::Receiver<Horizon>,
    seen: u64,
}

impl Inbox {
    pub(crate) fn new(journal: Journal, horizon: watch::Receiver<Horizon>) -> Inbox {
        Inbox { journal, horizon, seen: 0 }
    }

    /// Waits for requests that this inbox has not given out yet. The first call gives those that were waiting already.
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Vec<Pending>, ReadError> {
        loop {
            let reached = self.horizon.wait_for(|horizon| horizon.request > self.seen).await.map(|to| to.request);
            // The sender lives in the journal that this inbox holds: there always is one.
            let Ok(reached) = reached else { return std::future::pending().await };
            let requests = self.journal.requests_after(RequestId(self.seen))?;
            self.seen = requests.last().map_or(reached, |last| last.id.0.max(reached));
            // Answered or moot in the meantime: nothing to give out.
            if !requests.is_empty() {
                return Ok(requests);
            }
        }
    }
}

/// Puts `request` into the file, durably.
pub(crate) fn submit(database: &Database, run: &RunId, request: &Request) -> Result<RequestId, RequestError> {
    let mut connection = database.open_to_write()?;
    let body = serde_json::to_string(request).expect("a request holds nothing that JSON can't");
    insert(&mut connection, run, &body).map_err(|e| database.fault(e))?
}

fn insert(connection: &mut Connection, run: &RunId, body: &str) -> rusqlite::Result<Result<RequestId, RequestError>> {
    connection.pragma_update(None, "synchronous", "full")?;
    // Immediate: between the look at the run's end and the insertion no driver can end it.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = transaction
        .query_row("SELECT key, outcome FROM run WHERE id = ?1", [&*run.0], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?))
        })
        .optional()?;
    let key = match found {
        None => return Ok(Err(RequestError::NoSuchRun(run.clone()))),
        Some((_, Some(word))) => {
            let outcome = outcome_of_word(&word).ok_or(rusqlite::Error::InvalidQuery)?;
            return Ok(Err(RequestError::Ended { run: run.clone(), outcome }));
        }
        Some((key, None)) => key,
    };
    transaction.execute("INSERT INTO request (run, body) VALUES (?1, ?2)", (key, body))?;
    let id = RequestId(unsigned(transaction.last_insert_rowid()));
    transaction.commit()?;
    Ok(Ok(id))
}

/// The requests after `after`, oldest first; only `run`'s where one is given.
pub(crate) fn pending(
    database: &Database,
    connection: &Connection,
    run: Option<&RunId>,
    after: RequestId,
) -> Result<Vec<Pending>, ReadError> {
    let fault = |e| ReadError::Storage(database.fault(e));
    let mut statement = connection
        .prepare_cached(
            "SELECT request.id, run.id, body FROM request JOIN run ON run.key = request.run
             WHERE request.id > ?1 AND (?2 IS NULL OR run.id = ?2) ORDER BY request.id",
        )
        .map_err(fault)?;
    let mut rows = statement.query((signed(after.0), run.map(|run| &*run.0))).map_err(fault)?;
    let mut requests = Vec::new();
    while let Some(row) = rows.next().map_err(fault)? {
        let id = unsigned(row.get(0).map_err(fault)?);
        let run = RunId(row.get(1).map_err(fault)?);
        let body = row.get_ref(2).map_err(fault)?.as_str().unwrap_or_default();
        let request = serde_json::from_str(body).map_err(|error| ReadError::Unreadable {
            what: format!("request {id} for run {run}"),
            reason: error.to_string(),
        })?;
        requests.push(Pending { id: RequestId(id), run, request });
    }
    Ok(requests)
}
