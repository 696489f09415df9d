//! What happened, who did it, and what was decided: one event, one line of the log.
//!
//! Guards hand an [`Event`] to the [`EventLog`]; it escapes, folds, counts, writes
//! and keeps the totals for the summary. It never drops anything without saying so:
//! what could not be written is counted and makes the run fail.

mod actor;
pub mod escape;
mod file;
mod fold;
mod layer;
mod line;
mod model;
mod sink;
mod totals;

pub use actor::{Package, Process, Script};
pub use escape::{escape, escape_bounded, unescape};
pub use file::{LogFile, SinkError};
pub use line::SCHEMA;
pub use model::{Domain, EnforcedBy, Event, Kind, Rule, Target, TargetKind, Verdict};
pub use sink::{EventLog, Observer, Outcome, install};
pub use totals::{ScriptRow, Totals};
