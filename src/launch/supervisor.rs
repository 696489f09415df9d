//! One run from beginning to end: log, broker, manager or command, summary, exit code.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::broker::Broker;
use super::domain::{Command, DomainError, Given, Run};
use super::signals;
use super::spawn::{exit_code, own_environment};
use crate::event::{EventLog, SinkError};
use crate::guard::Ended;
use crate::manager::hosts::{Known, known_hosts, known_hosts_of};
use crate::manager::lockfile::Lockfile;
use crate::manager::npm::{self, Npm, NpmError, find_program};
use crate::manager::npmrc::NpmConfig;
use crate::policy::{self, FailOn, Mode, Policy, PolicyError};
use crate::report;
use crate::sandbox::child::Step;
use crate::sandbox::{landlock, probe};

/// Exit codes of npmguard's own making (DESIGN, command line).
pub mod exit {
    /// Usage or policy error.
    pub const USAGE: i32 = 2;
    /// Violations although the manager succeeded.
    pub const VIOLATIONS: i32 = 9;
    /// The guard could not be set up or broke.
    pub const GUARD: i32 = 125;
    /// The command cannot be executed.
    pub const NOT_EXECUTABLE: i32 = 126;
    /// The command was not found.
    pub const NOT_FOUND: i32 = 127;
}

/// A run that could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The policy is unusable.
    #[error("{}", .0.render())]
    Policy(#[from] PolicyError),
    /// The log cannot be written.
    #[error("{0}")]
    Log(#[from] SinkError),
    /// npm is not there.
    #[error("{0}")]
    Npm(#[from] NpmError),
    /// A domain could not be built.
    #[error("{0}")]
    Domain(#[from] DomainError),
    /// This kernel lacks a layer.
    #[error(
        "{what}\n\nhint: `npmguard doctor` shows what is missing; `--allow-degraded {layer}` runs without it"
    )]
    Layer {
        /// What is missing.
        what: String,
        /// The layer's name on the command line.
        layer: &'static str,
    },
    /// This kernel cannot report system calls at all.
    #[error("{0}")]
    NoGuard(String),
    /// A command that is not there.
    #[error("`{}` was not found in PATH", crate::event::escape(.0.as_bytes()))]
    NotFound(OsString),
    /// The environment does not fit.
    #[error("{0}")]
    Usage(String),
    /// A file or process operation failed.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] io::Error),
}

impl RunError {
    /// The exit code for it.
    pub fn exit_code(&self) -> i32 {
        match self {
            RunError::Policy(_) | RunError::Usage(_) | RunError::Domain(DomainError::Policy(_)) => {
                exit::USAGE
            }
            RunError::NotFound(_) | RunError::Npm(NpmError::NotFound(_)) => exit::NOT_FOUND,
            RunError::Npm(_) => exit::NOT_EXECUTABLE,
            _ => exit::GUARD,
        }
    }
}

/// A layer that a run may do without when the user names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// Landlock; the supervisor then performs every file operation itself.
    Landlock,
}

/// What the command line says about a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--policy`.
    pub policies: Vec<PathBuf>,
    /// `--mode`.
    pub mode: Option<Mode>,
    /// `--log`.
    pub log: Option<PathBuf>,
    /// `--fail-on`; `None` is what the policy says.
    pub fail_on: Option<Vec<FailOn>>,
    /// `--allow-degraded`.
    pub allow_degraded: Vec<Layer>,
    /// `-q`: nothing on stderr but errors.
    pub quiet: bool,
    /// `-v`.
    pub verbosity: u8,
}

/// Where the user's own policy is.
pub fn user_policy(home: Option<&Path>) -> Option<PathBuf> {
    std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .or_else(|| home.map(|h| h.join(".config")))
        .map(|c| c.join("npmguard/policy.yaml"))
}

/// HOME, resolved; `None` when it is unset, empty or not there.
pub fn home() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .and_then(|p| p.canonicalize().ok())
}

/// Loads the policy as every command does.
///
/// # Errors
/// [`PolicyError`], ready to be shown.
pub fn load_policy(options: &Options, project: &Path) -> Result<Policy, PolicyError> {
    policy::load(&policy::Sources {
        project: project.to_owned(),
        policies: options.policies.clone(),
        user_config: user_policy(home().as_deref()),
        mode: options.mode,
    })
}

/// `npmguard install` and its siblings: npm in the manager domain, scripts in theirs.
///
/// # Errors
/// Only for what kept npm from being started; everything later is in the exit code.
pub fn npm(options: &Options, project: &Path, command: &str, rest: &[OsString]) -> Result<i32, RunError> {
    let path = search_path();
    let npm = Npm::locate(&path)?;
    let home = home();
    let config = NpmConfig::load(project, home.as_deref(), &npm.prefix());
    let mut state = npm.state(&config, home.as_deref());
    if rest.iter().any(|a| a == "-g" || a == "--global" || a == "--location=global") {
        let prefix = config.path("prefix").unwrap_or_else(|| npm.prefix());
        state.extend([prefix.join("lib/node_modules"), prefix.join("bin"), prefix.join("share/man")]);
    }
    let node = vec![npm.node.clone(), npm.prefix()];
    let ignored = signals::ignored();
    let signals = signals::take().map_err(|e| RunError::Io("signals", e))?;
    state.extend(crate::manager::project::linked_directories(project));
    let mut registries = config.registries();
    let default_registry = npm.default_registry();
    registries.extend(default_registry.clone());
    let lockfile = Lockfile::load(project);
    let known = known_hosts(project, &config, &lockfile, default_registry, rest);
    registries.extend(crate::manager::project::registries_of(rest));
    let manager = ManagerSide {
        state,
        registries,
        known,
        lockfile: Some(lockfile),
        shell: config.users_shell(),
        git: npm.git.clone(),
    };
    let policy = load_policy(options, project)?;
    let run = begin(options, policy, project, path.clone(), home, node, manager)?;
    // A rule of Landlock needs a place that exists, and npm makes these at its first start.
    for dir in &run.given.manager_state {
        let _ = std::fs::create_dir_all(dir);
    }
    let mut programs = npm.programs();
    programs.extend(run.dir.binary.canonicalize());
    let stubs = npm::Stubs { shell: run.dir.stub(), git: run.dir.git_stub() };
    let command = Command {
        program: npm.node.clone(),
        argv: npm.arguments(&stubs, command, rest),
        environment: npm.environment(&stubs, &own_environment()),
        cwd: std::env::current_dir().map_err(|e| RunError::Io("the working directory", e))?,
        ignored,
        programs,
    };
    let broker =
        Broker::start(Arc::clone(&run)).map_err(|e| RunError::Io("the broker could not listen", e))?;
    let ended = run.manager(command, signals, |reaper| broker.trust(reaper));
    broker.finish();
    finish(options, &run, ended?)
}

/// `npmguard run -- COMMAND`.
///
/// # Errors
/// What kept the command from being started.
pub fn command(
    options: &Options,
    project: &Path,
    argv: &[OsString],
    name: Option<&str>,
) -> Result<i32, RunError> {
    let path = search_path();
    let first = argv.first().ok_or_else(|| RunError::Usage("no command was given".into()))?;
    let program = if first.as_bytes().contains(&b'/') {
        std::path::absolute(first).ok()
    } else {
        find_program(&first.to_string_lossy(), &path)
    };
    let program = program.filter(|p| p.exists()).ok_or_else(|| RunError::NotFound(first.clone()))?;
    let node = find_program("node", &path);
    let prefix = node.as_ref().and_then(|n| n.canonicalize().ok());
    let prefix = prefix.as_deref().and_then(Path::parent).and_then(Path::parent).map(Path::to_owned);
    let node = node.into_iter().chain(prefix).collect();
    let ignored = signals::ignored();
    let signals = signals::take().map_err(|e| RunError::Io("signals", e))?;
    let home = home();
    let policy = load_policy(options, project)?;
    // Reading npm's configuration and the lockfile takes time that most commands can save.
    let known = if policy.needs_hosts() {
        known_hosts_of(project, home.as_deref(), &path).unwrap_or_default()
    } else {
        Known::default()
    };
    // The notes are about what npm may reach.
    let manager = ManagerSide { known: Known { notes: Vec::new(), ..known }, ..ManagerSide::default() };
    let run = begin(options, policy, project, path, home, node, manager)?;
    let command = Command {
        program,
        argv: argv.to_vec(),
        environment: own_environment(),
        cwd: std::env::current_dir().map_err(|e| RunError::Io("the working directory", e))?,
        ignored,
        programs: Vec::new(),
    };
    let ended = run.command(command, name, signals)?;
    finish(options, &run, ended)
}

fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into())
}

/// What is known about the manager before it runs.
#[derive(Default)]
struct ManagerSide {
    state: Vec<PathBuf>,
    registries: Vec<String>,
    known: Known,
    lockfile: Option<Lockfile>,
    shell: Option<PathBuf>,
    git: Option<PathBuf>,
}

fn begin(
    options: &Options,
    policy: Policy,
    project: &Path,
    path: OsString,
    home: Option<PathBuf>,
    node: Vec<PathBuf>,
    manager: ManagerSide,
) -> Result<Arc<Run>, RunError> {
    let mut kernel = probe::quick();
    if policy.mode() == Mode::Enforce {
        check_kernel(&kernel, &options.allow_degraded)?;
        if options.allow_degraded.contains(&Layer::Landlock) && kernel.landlock_abi < landlock::LOWEST_ABI {
            kernel.landlock_abi = 0;
        }
    }
    let log = EventLog::open(options.log.as_deref(), options.verbosity)?;
    if !options.quiet {
        let home = home.clone();
        let verbose = options.verbosity > 0;
        log.set_observer(Box::new(move |event, first| {
            if first && event.verdict.is_refusal() && (verbose || !event.expected) {
                report::print_denial(event, home.as_deref());
            }
        }));
    }
    // The supervisor's memory holds the user's environment; nobody below may look.
    nix::sys::prctl::set_dumpable(false).map_err(|e| RunError::Io("the supervisor", e.into()))?;
    let own_files: Vec<PathBuf> =
        policy.files().into_iter().chain(options.log.clone()).filter_map(|p| p.canonicalize().ok()).collect();
    let given = Given {
        policy,
        log,
        kernel,
        project: project.to_owned(),
        home,
        path,
        node,
        manager_state: manager.state,
        registries: manager.registries,
        hosts: manager.known.hosts.clone(),
        lockfile: manager.lockfile,
        own_files: own_files.into(),
        git: manager.git,
        shell: manager.shell.unwrap_or_else(|| "/bin/sh".into()),
    };
    let run = Run::new(given).map_err(|e| RunError::Io("no directory for the run could be made", e))?;
    run.given.log.start(start_detail(&run))?;
    if !options.quiet {
        for note in &manager.known.notes {
            report::print_line(&format!("npmguard: note: {note}"));
        }
        report::print_line(&format!("npmguard: {}", banner(&run)));
    }
    Ok(Arc::new(run))
}

fn check_kernel(kernel: &probe::Capabilities, allowed: &[Layer]) -> Result<(), RunError> {
    if !kernel.notify {
        return Err(RunError::NoGuard(
            "seccomp listeners cannot be installed here, so no system call can be guarded\n\n\
             hint: `npmguard doctor` shows why"
                .into(),
        ));
    }
    if kernel.landlock_abi < landlock::LOWEST_ABI && !allowed.contains(&Layer::Landlock) {
        return Err(RunError::Layer {
            what: format!(
                "landlock ABI {} is too old to enforce the policy (at least {} is needed, Linux 6.2)",
                kernel.landlock_abi,
                landlock::LOWEST_ABI
            ),
            layer: "landlock",
        });
    }
    Ok(())
}

fn layers(run: &Run) -> Vec<String> {
    if run.given.policy.mode() == Mode::Audit {
        return vec!["seccomp notify (observing)".into()];
    }
    let landlock = match run.given.kernel.landlock_abi {
        0 => "no landlock (degraded: the supervisor opens every file itself)".to_owned(),
        abi => format!("landlock ABI {abi}"),
    };
    vec![landlock, "seccomp notify".into(), "reaper per script".into()]
}

fn banner(run: &Run) -> String {
    let what = match run.given.policy.mode() {
        Mode::Enforce => "enforcing",
        Mode::Audit => "observing only (audit mode protects nothing):",
    };
    format!("{what} the {} with {}", run.given.policy.summary(), layers(run).join(", "))
}

fn start_detail(run: &Run) -> Value {
    let kernel =
        nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    json!({
        "npmguard": env!("CARGO_PKG_VERSION"),
        "kernel": kernel,
        "landlock_abi": run.given.kernel.landlock_abi,
        "layers": layers(run),
        "mode": match run.given.policy.mode() { Mode::Enforce => "enforce", Mode::Audit => "audit" },
        "policy": run.given.policy.layers(),
        "policy_digest": run.given.policy.digest(),
        "project": crate::event::escape(run.given.project.as_os_str().as_bytes()),
    })
}

fn finish(options: &Options, run: &Run, ended: Ended) -> Result<i32, RunError> {
    let breach = run.breach.reason();
    let (mut code, problem) = match &ended {
        Ended::Status(status) => (exit_code(*status), None),
        // That it exists was seen before, so what is missing now is its interpreter.
        Ended::NotStarted(Some(Step::Exec), errno) => {
            (exit::NOT_EXECUTABLE, Some(format!("the command could not be executed: {errno}")))
        }
        Ended::NotStarted(step, errno) => {
            let what = step.map_or("prepare the command", Step::describe);
            (exit::GUARD, Some(format!("could not {what}: {errno}")))
        }
        Ended::Broken(why) => (exit::GUARD, Some(why.clone())),
    };
    if breach.is_some() {
        code = exit::GUARD;
    }
    let violations = if code == 0 { violations(options, run) } else { 0 };
    if violations > 0 {
        code = exit::VIOLATIONS;
    }
    let mut detail = Map::new();
    detail.insert("exit".into(), json!(code));
    if let Some(reason) = &breach {
        detail.insert("breach".into(), json!(crate::event::escape(reason.as_bytes())));
    }
    let outcome = run.given.log.finish(detail);
    if !options.quiet {
        report::print_summary(&outcome.totals.rows, &outcome.totals, terminal_width());
    } else if violations > 0 {
        report::print_line(&format!(
            "npmguard: error: {violations} violations of the policy; without -q they are named"
        ));
    }
    for problem in problem.into_iter().chain(breach) {
        report::print_line(&format!("npmguard: error: {problem}"));
    }
    if outcome.lost > 0 {
        report::print_line(&format!(
            "npmguard: error: {} lines of the log could not be written, so this run is not proven",
            outcome.lost
        ));
        code = exit::GUARD;
    }
    Ok(code)
}

/// Acts of the kinds that make a run fail.
fn violations(options: &Options, run: &Run) -> u64 {
    let totals = run.given.log.totals();
    let fail_on = options.fail_on.as_deref().unwrap_or_else(|| run.given.policy.fail_on());
    fail_on
        .iter()
        .map(|kind| match kind {
            FailOn::Denied => totals.denied.saturating_sub(totals.expected),
            FailOn::WouldDeny => totals.would_deny.saturating_sub(totals.expected),
            FailOn::Logged => totals.logged,
            FailOn::Leftover => totals.leftovers,
            FailOn::Drift => 0,
        })
        .sum()
}

fn terminal_width() -> usize {
    std::env::var("COLUMNS")
        .ok()
        .and_then(|c| c.parse().ok())
        .filter(|w| (40..=400).contains(w))
        .unwrap_or(100)
}
