//! Where events go: counted always, written to the log if there is one. Lines appear in
//! the order of their sequence numbers; what cannot be written leaves a gap in them, is
//! counted, and is announced by a `lost` line as soon as a line can be written again.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::Dispatch;
use ulid::Ulid;

use super::file::{LogFile, SinkError};
use super::fold::{Folds, Remainder, Step};
use super::layer::{EventLayer, Output, install_diagnostics, lock};
use super::line::{Stamp, render};
use super::model::{Domain, Event, Kind, Verdict};
use super::totals::{Ledger, Totals};

/// Sees each event as it is recorded, and whether it is the first of its kind.
pub type Observer = Box<dyn Fn(&Event, bool) + Send + Sync>;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Counts and rows.
    pub totals: Totals,
    /// Lines that could not be written.
    pub lost: u64,
}

/// Records events. Clones share one log.
#[derive(Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
}

struct Shared {
    run: String,
    began: Instant,
    output: Option<(Dispatch, Arc<Mutex<Output>>, PathBuf)>,
    state: Mutex<State>,
    observer: RwLock<Option<Arc<Observer>>>,
}

#[derive(Default)]
struct State {
    seq: u64,
    lines: u64,
    /// Lines lost since the last `lost` line.
    unreported: u64,
    folds: BTreeMap<u64, Folds>,
    ledger: Ledger,
    finished: bool,
}

/// Sets up the log and the diagnostics on stderr, once, for the whole process.
///
/// `verbosity` counts `-v`; `quiet` leaves errors only. A later call makes another log
/// and keeps the first call's diagnostics.
pub fn install(log: Option<LogFile>, verbosity: u8, quiet: bool) -> Result<EventLog, SinkError> {
    install_diagnostics(verbosity, quiet);
    let output = log.map(|file| {
        let path = file.path().to_owned();
        let output = Arc::new(Mutex::new(Output { file, result: None }));
        (EventLayer::dispatch(Arc::clone(&output)), output, path)
    });
    let mut state = State::default();
    state.ledger.totals.log = output.as_ref().map(|(_, _, path)| path.clone());
    Ok(EventLog {
        shared: Arc::new(Shared {
            run: Ulid::generate().to_string(),
            began: Instant::now(),
            output,
            state: Mutex::new(state),
            observer: RwLock::new(None),
        }),
    })
}

impl EventLog {
    /// Opens the log at `path`, or none, and installs the diagnostics.
    ///
    /// An unusable path is an error now, before a script runs; see [`LogFile::open`].
    pub fn open(path: Option<&Path>, verbosity: u8) -> Result<EventLog, SinkError> {
        install(path.map(LogFile::open).transpose()?, verbosity, false)
    }

    /// The identifier of this run, a ULID.
    pub fn run_id(&self) -> String {
        self.shared.run.clone()
    }

    /// Records `event` of the script `script_key`; 0 is for what belongs to no script.
    ///
    /// The first of identical events is written now, repeats are counted until
    /// [`EventLog::flush_script`]. Per script the memory of distinct events and the number
    /// of lines are bounded, separately for refusals and for the rest; past the bound events
    /// are counted by kind and verdict.
    pub fn record(&self, script_key: u64, event: Event) {
        let now = Timestamp::now();
        let first = {
            let mut state = lock(&self.shared.state);
            state.ledger.note(script_key, &event);
            let step = state.folds.entry(script_key).or_default().note(&event, now);
            if matches!(step, Step::First | Step::Untracked) {
                // A failure is counted; the caller learns it from `lost`.
                let _ = self.shared.write(&mut state, &event, 1, now, None);
            }
            step == Step::First
        };
        let observer = self.shared.observer.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(observer) = observer {
            observer(&event, first);
        }
    }

    /// Writes what is held back for a script: one line per event that was repeated, with the
    /// number of repeats, and one `lost` line per kind and verdict that went past the bound.
    pub fn flush_script(&self, script_key: u64) {
        let mut state = lock(&self.shared.state);
        if let Some(folds) = state.folds.remove(&script_key) {
            self.shared.drain(&mut state, folds);
        }
    }

    /// Writes `run_start`; the error says why the log cannot be written.
    pub fn start(&self, detail: Value) -> Result<(), SinkError> {
        let mut event = Event::new(Kind::RunStart, Domain::Run, Verdict::Allowed);
        event.detail = Some(detail);
        let mut state = lock(&self.shared.state);
        self.shared.write(&mut state, &event, 1, Timestamp::now(), None).map_err(|source| {
            let path = self.shared.output.as_ref().map(|(_, _, path)| path.clone()).unwrap_or_default();
            SinkError::Write { path, source }
        })
    }

    /// Flushes every script, writes `run_end` with the totals added to `detail`, and waits
    /// for the disk. Called again, it only gives the outcome again.
    pub fn finish(&self, detail: Map<String, Value>) -> Outcome {
        let mut state = lock(&self.shared.state);
        if !state.finished {
            state.finished = true;
            for (_, folds) in std::mem::take(&mut state.folds) {
                self.shared.drain(&mut state, folds);
            }
            let mut end = Event::new(Kind::RunEnd, Domain::Run, Verdict::Allowed);
            let mut merged = detail;
            merged.extend(state.ledger.totals.to_detail());
            merged.insert("lines".to_owned(), json!(state.lines));
            end.detail = Some(Value::Object(merged));
            let _ = self.shared.write(&mut state, &end, 1, Timestamp::now(), None);
            let synced =
                self.shared.output.as_ref().map_or(Ok(()), |(_, output, _)| lock(output).file.sync());
            // How much of it is not on the disk cannot be known: at least one line.
            state.ledger.totals.lost += u64::from(synced.is_err());
        }
        let totals = state.ledger.totals.clone();
        Outcome { lost: totals.lost, totals }
    }

    /// Lines that could not be written so far.
    pub fn lost(&self) -> u64 {
        lock(&self.shared.state).ledger.totals.lost
    }

    /// Counts and rows so far.
    pub fn totals(&self) -> Totals {
        lock(&self.shared.state).ledger.totals.clone()
    }

    /// Has `observer` called for each event, after it was recorded. It is told whether the
    /// event is the first of its kind; past the bound on distinct events it never is.
    pub fn set_observer(&self, observer: Observer) {
        *self.shared.observer.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(observer));
    }
}

impl Shared {
    /// Writes one line, after a `lost` line if there is something to say about earlier ones.
    fn write(
        &self,
        state: &mut State,
        event: &Event,
        count: u64,
        time: Timestamp,
        last_time: Option<Timestamp>,
    ) -> io::Result<()> {
        if state.unreported > 0 {
            let report = lost_event(Verdict::Logged, json!({"reason": "write_error"}));
            let count = state.unreported;
            if self.write_one(state, &report, count, time, None).is_ok() {
                state.unreported = 0;
            }
        }
        self.write_one(state, event, count, time, last_time).inspect_err(|_| {
            state.unreported += 1;
            state.ledger.totals.lost += 1;
        })
    }

    fn write_one(
        &self,
        state: &mut State,
        event: &Event,
        count: u64,
        time: Timestamp,
        last_time: Option<Timestamp>,
    ) -> io::Result<()> {
        let Some((dispatch, output, _)) = &self.output else { return Ok(()) };
        let mono_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let stamp = Stamp { seq: state.seq, time, mono_us, run: &self.run, count, last_time };
        state.seq += 1;
        let line = render(event, &stamp)?;
        tracing::dispatcher::with_default(dispatch, || {
            tracing::info!(target: "npmguard::event", line = line.as_str());
        });
        let result = lock(output).result.take();
        result.unwrap_or_else(|| Err(io::Error::other("the line did not reach the log")))?;
        state.lines += 1;
        Ok(())
    }

    fn drain(&self, state: &mut State, mut folds: Folds) {
        for remainder in folds.drain() {
            // Failures are counted where they happen.
            let _ = match remainder {
                Remainder::Repeats { event, count, first, last } => {
                    self.write(state, &event, count, first, Some(last))
                }
                Remainder::Lost { event, count } => self.write(state, &event, count, Timestamp::now(), None),
            };
        }
    }
}

fn lost_event(verdict: Verdict, detail: Value) -> Event {
    let mut event = Event::new(Kind::Lost, Domain::Run, verdict);
    event.detail = Some(detail);
    event
}

impl fmt::Debug for EventLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLog").field("run", &self.shared.run).finish_non_exhaustive()
    }
}
