//! The types of one event. They hold text that is already escaped: who has bytes or
//! strings from a script passes them through [`escape`](super::escape()), once, as the
//! constructors here do. The log sanitizes and bounds every field again when it writes
//! it, so that a forgotten call cannot forge a line.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::actor::{Package, Process, Script, escape_path};
use super::escape::escape;
use super::line;

/// What kind of act an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A program was started, or was to be.
    Exec,
    /// Something was opened for reading.
    Read,
    /// Something was created, changed, renamed or removed.
    Write,
    /// Mode, owner, times or extended attributes.
    Metadata,
    /// A connection out of the process.
    Connect,
    /// A host name was looked up.
    Resolve,
    /// A socket was asked for that a script may not have.
    Socket,
    /// The variables that were kept from a script.
    Env,
    /// A signal to a process outside.
    Signal,
    /// Tracing, inspecting or reaching into another process.
    Process,
    /// A lifecycle script begins.
    ScriptStart,
    /// A lifecycle script ended.
    ScriptEnd,
    /// A process outlived its script and was ended.
    Leftover,
    /// A limit on time, processes, memory or size was reached.
    Limit,
    /// The first line of a run.
    RunStart,
    /// The last line of a run.
    RunEnd,
    /// Events that were counted and not written one by one.
    Lost,
}

impl Kind {
    /// The name used in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Exec => "exec",
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Metadata => "metadata",
            Kind::Connect => "connect",
            Kind::Resolve => "resolve",
            Kind::Socket => "socket",
            Kind::Env => "env",
            Kind::Signal => "signal",
            Kind::Process => "process",
            Kind::ScriptStart => "script_start",
            Kind::ScriptEnd => "script_end",
            Kind::Leftover => "leftover",
            Kind::Limit => "limit",
            Kind::RunStart => "run_start",
            Kind::RunEnd => "run_end",
            Kind::Lost => "lost",
        }
    }

    /// Whether repeats of this kind may share a line. What tells the story of a run or
    /// of a process never does.
    pub(super) const fn folds(self) -> bool {
        !matches!(
            self,
            Kind::ScriptStart
                | Kind::ScriptEnd
                | Kind::RunStart
                | Kind::RunEnd
                | Kind::Lost
                | Kind::Leftover
                | Kind::Limit
                | Kind::Env
        )
    }
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The policy allows it.
    Allowed,
    /// It went ahead, and the policy wants it known.
    Logged,
    /// It was refused.
    Denied,
    /// Audit mode: it went ahead and enforcement would have refused it.
    WouldDeny,
}

impl Verdict {
    /// The name used in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verdict::Allowed => "allowed",
            Verdict::Logged => "logged",
            Verdict::Denied => "denied",
            Verdict::WouldDeny => "would_deny",
        }
    }

    /// Denied, or would have been.
    pub const fn is_refusal(self) -> bool {
        matches!(self, Verdict::Denied | Verdict::WouldDeny)
    }
}

/// Whose rules applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Domain {
    /// A dependency's lifecycle script.
    Script,
    /// The project's own lifecycle script.
    Root,
    /// The package manager and git.
    Manager,
    /// A command under `npmguard run`, or the run as a whole.
    Run,
}

/// Which layer made the verdict true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EnforcedBy {
    /// Landlock, in the kernel.
    Landlock,
    /// The supervisor answered or performed the call.
    Supervisor,
    /// A BPF return value.
    Seccomp,
    /// The reaper ended a process.
    Reaper,
    /// The broker, before the script began.
    Broker,
    /// A resource limit.
    Rlimit,
    /// Nothing was enforced.
    #[default]
    None,
}

/// What kind of thing an act was aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TargetKind {
    /// A file, or a path where there is nothing yet.
    File,
    /// A directory.
    Dir,
    /// A program.
    Exec,
    /// A TCP endpoint.
    Tcp,
    /// A UDP endpoint.
    Udp,
    /// A Unix socket with a path.
    Unix,
    /// A Unix socket with an abstract name.
    Abstract,
    /// A kind of socket.
    Socket,
    /// A netlink socket.
    Netlink,
    /// An environment variable.
    Env,
    /// A process.
    Process,
    /// A system call that is refused as such.
    Syscall,
    /// A host name.
    Host,
    /// A resource limit.
    Limit,
    /// None of these; `detail` says what.
    Other,
}

/// What an act was aimed at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Target {
    /// What kind of thing it is.
    pub kind: TargetKind,
    /// The object that was reached, or a name for what has no address.
    #[serde(serialize_with = "line::path_opt")]
    pub path: Option<String>,
    /// The path as the script wrote it, when it differs.
    #[serde(serialize_with = "line::path_opt", skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// The host name it was known by.
    #[serde(serialize_with = "line::name_opt")]
    pub host: Option<String>,
    /// Address and port.
    #[serde(serialize_with = "line::name_opt")]
    pub address: Option<String>,
}

impl Target {
    /// A target of `kind` and nothing known about it yet.
    pub const fn new(kind: TargetKind) -> Target {
        Target { kind, path: None, requested: None, host: None, address: None }
    }

    /// A target with a raw path, which is escaped here.
    pub fn at(kind: TargetKind, path: &Path) -> Target {
        Target { path: Some(escape_path(path)), ..Target::new(kind) }
    }

    /// A target with a raw name (a system call, a variable), which is escaped here.
    pub fn named(kind: TargetKind, name: &[u8]) -> Target {
        Target { path: Some(escape(name)), ..Target::new(kind) }
    }
}

/// The rule behind a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Rule {
    /// The layer of policy, such as `preset:default` or a file.
    #[serde(serialize_with = "line::path")]
    pub source: String,
    /// The line in it, where there is one.
    pub line: Option<u32>,
    /// The place in it, such as `scripts.connect.default`.
    #[serde(serialize_with = "line::path")]
    pub pointer: String,
}

/// One act and its verdict. The log adds sequence, time, run and count.
#[derive(Clone, Debug)]
pub struct Event {
    /// What kind of act.
    pub kind: Kind,
    /// Whose rules applied.
    pub domain: Domain,
    /// The package whose script acted.
    pub package: Option<Arc<Package>>,
    /// The script that acted.
    pub script: Option<Arc<Script>>,
    /// The process that acted.
    pub process: Option<Process>,
    /// The system call that showed it.
    pub syscall: Option<&'static str>,
    /// What it was aimed at.
    pub target: Option<Target>,
    /// What became of it.
    pub verdict: Verdict,
    /// The rule that said so.
    pub rule: Option<Rule>,
    /// The layer that made it so.
    pub enforced_by: EnforcedBy,
    /// The error the script got.
    pub errno: Option<&'static str>,
    /// Time from the notification to the answer.
    pub latency_us: Option<u64>,
    /// MITRE ATT&CK techniques that this act can be part of.
    pub techniques: Vec<&'static str>,
    /// The policy lines that would allow it; may have several lines.
    pub hint: Option<String>,
    /// Facts of this kind of event. A key `verdict` in it is written as `outcome`, so that
    /// lines can be counted by their verdict.
    pub detail: Option<serde_json::Value>,
    /// What was measured or differs from one time to the next: written into `detail`, and
    /// no reason for a line of its own.
    pub measured: Option<serde_json::Map<String, serde_json::Value>>,
    /// A refusal that the policy expects: it is written (`detail.expected`) and is no
    /// violation.
    pub expected: bool,
}

impl Event {
    /// An event with everything else empty.
    pub const fn new(kind: Kind, domain: Domain, verdict: Verdict) -> Event {
        Event {
            kind,
            domain,
            package: None,
            script: None,
            process: None,
            syscall: None,
            target: None,
            verdict,
            rule: None,
            enforced_by: EnforcedBy::None,
            errno: None,
            latency_us: None,
            techniques: Vec::new(),
            hint: None,
            detail: None,
            measured: None,
            expected: false,
        }
    }
}
