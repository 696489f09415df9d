//! The guard: one thread per domain that answers its notifications.
//!
//! It decides on copies and objects, never on strings that the target can still
//! change, and lets the kernel go on by itself only where Landlock or the filter
//! enforces the same decision (invariants I2–I5). Everything it refuses, and
//! everything that policy wants known, becomes an event of this one script.

mod address;
mod connect;
mod datagrams;
mod exec;
mod files;
mod metadata;
mod names;
mod paths;
mod process;
mod refused;
mod resolve;
mod serve;
mod socket_table;
mod sockets;
mod verified;

use refused::builtin_rule;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::event::{self, EnforcedBy, Event, EventLog, Kind, Target as EventTarget, TargetKind};
use crate::policy::{Decision, Mode, PathAction, Profile, RuleRef, Verdict};
use crate::resolver::Resolver;
use crate::sandbox::child::Step;
use crate::sandbox::creds::Identity;
use crate::sandbox::landlock::Cover;
use crate::sandbox::notify::{Listener, Notification, OnExec};
use crate::sandbox::process_memory::Memory;
use crate::sandbox::syscall::{self, Call, Entry};

pub use process::descends_from;
use resolve::Target;
pub use resolve::own_fd;
pub use serve::serve;

/// Whose rules a domain runs under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A dependency's lifecycle script.
    Script,
    /// The project's own lifecycle script.
    Root,
    /// The command of `npmguard run`.
    Run,
    /// The package manager and git.
    Manager,
}

/// A domain as the guard sees it.
pub struct Domain {
    /// Whose rules apply.
    pub role: Role,
    /// Enforce or observe.
    pub mode: Mode,
    /// The policy for this subject.
    pub profile: Profile,
    /// What Landlock grants it.
    pub cover: Cover,
    /// Who is to be named.
    pub package: Arc<event::Package>,
    /// Which script.
    pub script: Arc<event::Script>,
    /// Key under which the log folds this script's events.
    pub key: u64,
    /// Where events go.
    pub log: EventLog,
    /// Who the guard thread has to be to act for the script; `None`: who it is.
    pub identity: Option<Identity>,
    /// Its private temporary directory.
    pub tmp: PathBuf,
    /// npmguard's own files (the log, the policy): never changed, moved or linked by a
    /// script, whatever policy says.
    pub own_files: Arc<[PathBuf]>,
    /// For the manager: the files that Landlock lets it execute.
    pub programs: Vec<PathBuf>,
    /// Whether the domain runs under Landlock.
    pub landlocked: bool,
    /// Whether a signal to a process group reaches only members of the domain
    /// (Landlock's signal scope, ABI 6).
    pub groups_are_scoped: bool,
    /// Raised when the manager started something that npmguard cannot intercept.
    pub breach: Arc<Breach>,
    /// This program's own file.
    pub binary: PathBuf,
    /// Answers look-ups.
    pub resolver: Arc<Resolver>,
    /// resolv.conf(5), resolved, and what a script is shown in its place.
    pub resolv_conf: Option<(PathBuf, PathBuf)>,
    /// For the manager: which package asked for a host.
    pub asked_for: Option<AskedFor>,
}

/// Tells which package asked for a host.
pub type AskedFor = Arc<dyn Fn(&str) -> Option<Arc<event::Package>> + Send + Sync>;

/// A run that must not be reported as a success.
#[derive(Debug, Default)]
pub struct Breach {
    raised: AtomicBool,
    reason: std::sync::Mutex<Option<String>>,
}

impl Breach {
    /// Marks the run as broken; the first reason is kept.
    pub fn raise(&self, reason: String) {
        self.raised.store(true, Ordering::SeqCst);
        if let Ok(mut slot) = self.reason.lock() {
            slot.get_or_insert(reason);
        }
    }

    /// The first reason, if the run is broken.
    pub fn reason(&self) -> Option<String> {
        if !self.raised.load(Ordering::SeqCst) {
            return None;
        }
        self.reason.lock().ok().and_then(|slot| slot.clone()).or_else(|| Some("the guard failed".into()))
    }
}

/// How a confined tree came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The first process ended with this wait status.
    Status(i32),
    /// It never started.
    NotStarted(Option<Step>, Errno),
    /// The guard or the reaper broke; the tree is dead.
    Broken(String),
}

/// What to say to the kernel.
enum Answer {
    Continue,
    Fail(Errno),
    Value(i64),
    Inject(OwnedFd, OnExec),
    /// A worker answers.
    Later,
}

type Handled = Result<Answer, Errno>;

/// One call that waits for an answer.
struct Request<'a> {
    notification: Notification,
    entry: &'a Entry,
    received: Instant,
}

impl Request<'_> {
    fn target(&self) -> Target {
        Target { tid: self.notification.pid }
    }

    fn memory(&self) -> Memory {
        Memory::of(self.notification.pid)
    }

    fn arg(&self, index: usize) -> u64 {
        self.notification.args[index]
    }

    /// A descriptor argument; the kernel looks at 32 bits.
    fn fd(&self, index: usize) -> i32 {
        self.arg(index) as i32
    }

    fn path(&self, index: usize) -> Result<Vec<u8>, Errno> {
        self.memory().path(self.arg(index))
    }
}

struct Guard {
    domain: Arc<Domain>,
    listener: Arc<Listener>,
    root: i32,
    sockets: socket_table::Table,
    names: Arc<names::Names>,
    /// It was left UDP of its own, so its look-ups are not seen.
    resolves_alone: bool,
    relays: Vec<verified::Running>,
    datagrams: datagrams::PrivateUdp,
    /// Directories that were made on the way to a grant.
    made: Vec<PathBuf>,
    /// The listener has hung up: asking it again would only spin.
    deserted: bool,
}

impl Guard {
    fn answer_one(&mut self) -> std::io::Result<()> {
        let Some(notification) = self.listener.receive()? else { return Ok(()) };
        let received = Instant::now();
        let Some(entry) = syscall::lookup(notification.nr) else {
            return self.listener.fail(notification.id, libc::ENOSYS);
        };
        let request = Request { notification, entry, received };
        let answer = self.handle(&request);
        let id = notification.id;
        match answer {
            Answer::Continue => self.listener.continue_call(id),
            Answer::Fail(errno) => self.listener.fail(id, errno as i32),
            Answer::Value(value) => self.listener.succeed(id, value),
            Answer::Inject(fd, on_exec) => {
                self.listener.inject(id, std::os::fd::AsRawFd::as_raw_fd(&fd), on_exec)
            }
            Answer::Later => Ok(()),
        }
    }

    fn handle(&mut self, request: &Request<'_>) -> Answer {
        if self.domain.role == Role::Manager {
            return self.manager_call(request);
        }
        let handled = match request.entry.call {
            Call::Exec(call) => self.exec(request, call),
            Call::Open(call) => self.open(request, call),
            Call::Path(call) => self.path_call(request, call),
            Call::Metadata(call) => self.metadata(request, call),
            Call::Socket(call) => self.socket_call(request, call),
            Call::Process(call) => Ok(self.process_call(request, call)),
            Call::Refused(refusal) => Ok(self.refused(request, refusal)),
        };
        handled.unwrap_or_else(|errno| self.uninspected(request, errno))
    }

    /// An error on the way to a decision.
    fn uninspected(&self, request: &Request<'_>, errno: Errno) -> Answer {
        match errno {
            // The kernel says the same to a pointer it cannot read, or to no socket.
            Errno::EFAULT | Errno::ENAMETOOLONG | Errno::ESRCH | Errno::EBADF | Errno::ENOTSOCK => {
                Answer::Fail(errno)
            }
            errno => self.not_inspectable(request, errno),
        }
    }

    /// Invariant I5: what cannot be inspected is denied and logged.
    fn not_inspectable(&self, request: &Request<'_>, errno: Errno) -> Answer {
        let mut event = self.event(request, Kind::Process, Verdict::Deny);
        event.target = Some(EventTarget::named(TargetKind::Syscall, request.entry.name.as_bytes()));
        event.errno = Some("EACCES");
        event.detail =
            Some(serde_json::json!({ "why": "the call could not be inspected", "error": errno.desc() }));
        self.log(event);
        self.unless_audit(Answer::Fail(Errno::EACCES))
    }

    fn unless_audit(&self, refusal: Answer) -> Answer {
        if self.domain.mode == Mode::Audit { Answer::Continue } else { refusal }
    }

    /// An event about a call, with everything that every event has.
    fn event(&self, request: &Request<'_>, kind: Kind, verdict: Verdict) -> Event {
        let mut event = self.domain.event(kind, verdict);
        event.process = Some(process::describe(request.notification.pid, self.root));
        event.syscall = Some(request.entry.name);
        event.enforced_by = match event.verdict {
            event::Verdict::Denied => EnforcedBy::Supervisor,
            _ => EnforcedBy::None,
        };
        event.latency_us = Some(request.received.elapsed().as_micros() as u64);
        event
    }

    fn plain_event(&self, kind: Kind, verdict: event::Verdict) -> Event {
        self.domain.plain_event(kind, verdict)
    }

    fn log(&self, event: Event) {
        self.domain.log.record(self.domain.key, event);
    }

    /// An event about a decision of the policy.
    fn decided(&self, request: &Request<'_>, kind: Kind, decision: &Decision, target: EventTarget) -> Event {
        let mut event = self.event(request, kind, decision.verdict);
        event.target = Some(target);
        self.domain.explain(&mut event, decision);
        event
    }

    fn timed_out(&self, wall: Duration) {
        let mut event = self.plain_event(Kind::Limit, event::Verdict::Denied);
        event.enforced_by = EnforcedBy::Reaper;
        event.target = Some(EventTarget::named(TargetKind::Limit, b"wall"));
        event.detail = Some(serde_json::json!({ "limit_s": wall.as_secs_f64() }));
        self.log(event);
    }

    fn leftovers(&self, leftovers: &[crate::launch::spawn::Leftover]) {
        for leftover in leftovers {
            let mut event = self.plain_event(Kind::Leftover, event::Verdict::Logged);
            event.enforced_by = EnforcedBy::Reaper;
            event.techniques = vec!["T1036.009"];
            let mut process = event::Process {
                pid: leftover.pid,
                ppid: self.root,
                exe: event::escape(&leftover.exe),
                argv: Vec::new(),
                argv_truncated: false,
                cwd: String::new(),
                chain: Vec::new(),
            };
            process.set_argv(leftover.argv.iter().map(Vec::as_slice));
            event.target = Some(EventTarget::named(TargetKind::Process, &leftover.exe));
            event.process = Some(process);
            event.detail = Some(serde_json::json!({ "ended": true }));
            self.log(event);
        }
    }

    /// What policy says about a path, but for npmguard's own files.
    fn decide(&self, action: PathAction, path: &Path) -> Decision {
        // A directory above one of them could be moved with it.
        if action == PathAction::Write && self.domain.own_files.iter().any(|own| own.starts_with(path)) {
            let rule = RuleRef { source: "builtin".into(), line: 0, pointer: "npmguard's own files".into() };
            return Decision { verdict: Verdict::Deny, rule: Arc::new(rule) };
        }
        self.domain.profile.decide_path(action, path)
    }

    /// Path as policy sees it, or the foreign process that it is about.
    fn policy_path(&self, path: &Path) -> PolicyPath {
        match process::proc_path(path, self.root) {
            None | Some(process::ProcPath::Global) => PolicyPath::Ordinary(path.to_owned()),
            Some(process::ProcPath::Own(path)) => PolicyPath::Ordinary(path),
            Some(process::ProcPath::Foreign) => PolicyPath::Foreign,
        }
    }
}

impl Domain {
    /// An event of this domain's script about a decision of the policy.
    fn event(&self, kind: Kind, verdict: Verdict) -> Event {
        let verdict = match (verdict, self.mode) {
            (Verdict::Allow, _) => event::Verdict::Allowed,
            (Verdict::Log, _) => event::Verdict::Logged,
            (Verdict::Deny, Mode::Enforce) => event::Verdict::Denied,
            (Verdict::Deny, Mode::Audit) => event::Verdict::WouldDeny,
        };
        self.plain_event(kind, verdict)
    }

    fn plain_event(&self, kind: Kind, verdict: event::Verdict) -> Event {
        let mut event = Event::new(kind, self.role.event_domain(), verdict);
        event.package = Some(self.package.clone());
        event.script = Some(self.script.clone());
        event
    }

    /// Adds the rule of a decision and, if it refused, what would allow the act.
    fn explain(&self, event: &mut Event, decision: &Decision) {
        event.rule = Some(event::Rule {
            source: decision.rule.source.clone(),
            line: Some(decision.rule.line),
            pointer: decision.rule.pointer.clone(),
        });
        if decision.verdict != Verdict::Deny {
            return;
        }
        event.errno = Some("EACCES");
        let Some(target) = &event.target else { return };
        let hinted = match event.kind {
            Kind::Read => target.path.clone().map(|path| ("read", path)),
            Kind::Write | Kind::Metadata => target.path.clone().map(|path| ("write", path)),
            Kind::Exec => target.path.clone().map(|path| ("exec", path)),
            Kind::Resolve => target.host.clone().map(|host| ("connect", host)),
            Kind::Connect => connect_hint(target).map(|what| ("connect", what)),
            _ => None,
        };
        event.hint =
            hinted.map(|(action, what)| self.profile.hint(action, &what)).filter(|hint| !hint.is_empty());
    }

    /// Puts an act of the manager down to the package that asked for the host.
    fn attribute(&self, event: &mut Event, host: &str) {
        if event.verdict.is_refusal()
            && let Some(package) = self.asked_for.as_ref().and_then(|asked_for| asked_for(host))
        {
            event.package = Some(package);
        }
    }
}

/// What a `connect` list has to name so that a connection is allowed.
fn connect_hint(target: &EventTarget) -> Option<String> {
    let port = target.address.as_ref().and_then(|a| a.rsplit_once(':')).map(|(_, port)| port);
    match (&target.host, port) {
        // Granting a name server would open a channel for data in names.
        (_, Some("53")) => None,
        (Some(host), Some(port)) => Some(format!("{host}:{port}")),
        _ => target.address.clone().or_else(|| target.path.clone()),
    }
}

enum PolicyPath {
    Ordinary(PathBuf),
    Foreign,
}

impl Role {
    /// The name of these rules in the log.
    pub fn event_domain(self) -> event::Domain {
        match self {
            Role::Script => event::Domain::Script,
            Role::Root => event::Domain::Root,
            Role::Run => event::Domain::Run,
            Role::Manager => event::Domain::Manager,
        }
    }
}
