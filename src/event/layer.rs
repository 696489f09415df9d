//! The two ways out through `tracing`: events to the log file, diagnostics to stderr.
//! They have subscribers of their own: an event never depends on a diagnostics filter,
//! and a write error comes back to whoever recorded the event.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{EnvFilter, Layer};

use super::escape::sanitize;
use super::file::LogFile;

/// The `tracing` target of events.
pub(super) const TARGET: &str = "npmguard::event";

/// The log and what happened to the last line.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) file: LogFile,
    /// None if the line did not reach the layer.
    pub(super) result: Option<io::Result<()>>,
}

/// Writes events to the log.
pub(super) struct EventLayer {
    output: Arc<Mutex<Output>>,
}

impl EventLayer {
    /// A subscriber that consists of this layer alone.
    pub(super) fn dispatch(output: Arc<Mutex<Output>>) -> Dispatch {
        Dispatch::new(tracing_subscriber::registry().with(EventLayer { output }))
    }
}

impl<S: Subscriber> Layer<S> for EventLayer {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.target() == TARGET { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == TARGET
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut LineVisitor(&mut lock(&self.output)));
    }
}

struct LineVisitor<'a>(&'a mut Output);

impl Visit for LineVisitor<'_> {
    fn record_str(&mut self, field: &Field, line: &str) {
        if field.name() == "line" {
            self.0.result = Some(self.0.file.write_line(line));
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Sends diagnostics of this program to stderr; the first call in a process wins.
pub(super) fn install_diagnostics(verbosity: u8, quiet: bool) {
    let level = match verbosity {
        _ if quiet => "error",
        0 => "warn",
        1 => "npmguard=info,warn",
        2 => "npmguard=debug,info",
        _ => "trace",
    };
    let filter = EnvFilter::new(format!("{level},{TARGET}=off"));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(|| Terminal)
        .with_ansi(false)
        .without_time()
        .with_target(verbosity > 1)
        .log_internal_errors(false);
    // A second log in one process, as in tests, keeps the diagnostics of the first.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(layer));
}

/// Stderr, with what a script could have put into a diagnostic made harmless.
struct Terminal;

impl io::Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut line = String::from("npmguard: ");
        line.push_str(&sanitize(text.trim()));
        line.push('\n');
        io::Write::write_all(&mut io::stderr(), line.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
