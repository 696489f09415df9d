//! What npmguard costs, beside what it is compared with.
//!
//! ```text
//! cargo bench --bench npmguard                          startup, script, notify
//! cargo bench --bench npmguard -- install memory --project DIR --runs 5
//! cargo bench --bench npmguard -- connect lookup registry
//! cargo bench --bench npmguard -- startup --json startup.json
//! ```
//!
//! Every round runs all launchers once, in random order; the first round is thrown away.
//! Ratios and differences are taken within a round, and the median over the rounds is
//! shown, so that a machine that slows down over minutes does not decide the result.
//! A launcher that is not installed, or that fails, is reported and left out.

mod connect;
mod install;
mod lookup;
mod measure;
mod notify;
mod program;
mod registry;
mod report;
mod script;
mod startup;
mod world;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// `npmguard run -- true` against `true`
    Startup,
    /// `npm rebuild` of packages whose script is `true`
    Script,
    /// one open of a file, notified
    Notify,
    /// `npm ci` of a project, warm cache
    Install,
    /// the supervisor's peak memory during that install
    Memory,
    /// one TCP connection to a granted address of this machine
    Connect,
    /// one look-up of a granted name
    Lookup,
    /// `npm ci` from a local verdaccio, cold cache
    Registry,
}

/// Measures npmguard against plain npm, strace, bubblewrap and a bare notification loop.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench npmguard --")]
struct Options {
    /// What to measure [default: startup script notify]
    #[arg(value_enum)]
    subjects: Vec<Subject>,
    /// Rounds that count, beside one that warms up [default: 20 for startup, else 5]
    #[arg(long)]
    runs: Option<usize>,
    /// Also write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Project for install, memory and registry: a directory with package.json and
    /// package-lock.json [default for registry: one of about 100 packages]
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
    /// Packages with a script, for script
    #[arg(long, default_value_t = 40)]
    packages: usize,
    /// Opens in one run, for notify
    #[arg(long, default_value_t = 100_000)]
    opens: u64,
    /// Connections in one run, for connect
    #[arg(long, default_value_t = 2_000)]
    connections: u32,
    /// Look-ups in one run, for lookup; a script may ask 500 questions at once, and each
    /// look-up is two
    #[arg(long, default_value_t = 200)]
    lookups: u32,
    /// Where temporary projects are made [default: the system's temporary directory]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Serve names instead of measuring: what `lookup` starts in a world of its own
    #[arg(long, hide = true)]
    serve_names: bool,
    /// Passed by `cargo bench`, and by it alone
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn runs_or(&self, default: usize) -> usize {
        self.runs.unwrap_or(default).max(1)
    }

    fn project(&self) -> Result<&Path> {
        let project = self.project.as_deref();
        project.ok_or_else(|| "install and memory need `--project DIR`".into())
    }

    /// A fresh directory that is removed when it is dropped.
    fn scratch(&self) -> Result<tempfile::TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("npmguard-bench.");
        Ok(match &self.scratch {
            Some(base) => builder.tempdir_in(base)?,
            None => builder.tempdir()?,
        })
    }
}

/// The binary to measure: `NPMGUARD_BIN`, or the one that this bench was built with.
fn npmguard() -> PathBuf {
    std::env::var_os("NPMGUARD_BIN").map_or_else(|| env!("CARGO_BIN_EXE_npmguard").into(), PathBuf::from)
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        // `cargo test --all-targets` starts benches too, and wants no measurements.
        eprintln!("bench: nothing measured: start this with `cargo bench --bench npmguard`");
        return ExitCode::SUCCESS;
    }
    let result = if options.serve_names { world::serve_names() } else { run(&options) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let subjects = match options.subjects.as_slice() {
        [] => &[Subject::Startup, Subject::Script, Subject::Notify],
        chosen => chosen,
    };
    let mut tables = Vec::new();
    for subject in subjects {
        let table = match subject {
            Subject::Startup => startup::measure(options)?,
            Subject::Script => script::measure(options)?,
            Subject::Notify => notify::measure(options)?,
            Subject::Install => install::measure(options)?,
            Subject::Memory => install::memory(options)?,
            Subject::Connect => connect::measure(options)?,
            Subject::Lookup => lookup::measure(options)?,
            Subject::Registry => registry::measure(options)?,
        };
        println!("{table}");
        tables.push(table);
    }
    if let Some(path) = &options.json {
        report::write_json(path, &tables)?;
    }
    Ok(())
}
