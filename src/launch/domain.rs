//! Building domains: from a request and the policy to a confined tree that is being
//! guarded.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid};
use serde_json::json;

use super::confine::resource_limits;
use super::run_dir::{RunDir, remove_tmp};
use super::spawn::{Confined, Handles, Spec, exit_code};
use crate::event::{self, EnforcedBy, Event, EventLog, Kind};
use crate::guard::{self, AskedFor, Breach, Domain, Ended, Role};
use crate::manager::asked::asked_for;
use crate::manager::environment::{self, Caller};
use crate::manager::identity::{self, PackageId, Verified};
use crate::manager::lockfile::Lockfile;
use crate::manager::npm::find_program;
use crate::policy::{KnownHosts, Mode, Policy, PolicyError, Profile, Subject, Variables};
use crate::resolver::Resolver;
use crate::sandbox::child::{Capabilities, Step};
use crate::sandbox::creds::Identity;
use crate::sandbox::landlock::{ExecFence, LandlockError};
use crate::sandbox::probe;
use crate::sandbox::seccomp::{FilterKind, Signals};

/// How long processes that a script left behind may take to end by themselves.
const GRACE: Duration = Duration::from_millis(300);

/// What the manager took the stub for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsksFor {
    /// Its shell.
    Script,
    /// git.
    Git,
}

/// What a stub asked for, with what the kernel says about it.
#[derive(Debug)]
pub struct Request {
    /// By which name the stub was called.
    pub asks_for: AsksFor,
    /// Arguments after the shell's name: `-c`, the script.
    pub argv: Vec<OsString>,
    /// Environment as the manager gave it.
    pub environment: Vec<Vec<u8>>,
    /// File mode creation mask.
    pub umask: u32,
    /// Standard streams.
    pub stdio: [OwnedFd; 3],
    /// Working directory.
    pub cwd: OwnedFd,
    /// User of the stub.
    pub uid: u32,
    /// Group of the stub.
    pub gid: u32,
    /// The stub's process.
    pub pid: i32,
}

/// Why a domain could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// The policy does not fit this subject.
    #[error("{}", .0.render())]
    Policy(#[from] PolicyError),
    /// Landlock refused.
    #[error("landlock: {0}")]
    Landlock(#[from] LandlockError),
    /// A file or process operation failed.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
}

/// What a run is given by its maker.
pub struct Given {
    /// The policy.
    pub policy: Policy,
    /// The log.
    pub log: EventLog,
    /// What the kernel offers.
    pub kernel: probe::Capabilities,
    /// The project's directory, resolved.
    pub project: PathBuf,
    /// The user's home directory, resolved.
    pub home: Option<PathBuf>,
    /// `PATH` as the user has it.
    pub path: OsString,
    /// Node's binary and prefix.
    pub node: Vec<PathBuf>,
    /// Where the manager keeps its own things.
    pub manager_state: Vec<PathBuf>,
    /// The registries that the manager is told to use.
    pub registries: Vec<String>,
    /// The hosts that the manager is set up to use.
    pub hosts: KnownHosts,
    /// The project's lockfile as it was before the manager ran.
    pub lockfile: Option<Lockfile>,
    /// The log and the policy files, resolved.
    pub own_files: Arc<[PathBuf]>,
    /// The real git.
    pub git: Option<PathBuf>,
    /// What runs scripts: `/bin/sh`, or the shell that the user (not the project) chose.
    pub shell: PathBuf,
}

/// Everything that the domains of one run share.
pub struct Run {
    /// What it was given.
    pub given: Given,
    /// The run's directory.
    pub dir: RunDir,
    /// Device and inode of the stub's file.
    pub binary_inode: (u64, u64),
    /// Raised when the run must not count as a success.
    pub breach: Arc<Breach>,
    pub(super) fences: Mutex<HashMap<Vec<PathBuf>, Arc<ExecFence>>>,
    toolchain: Vec<PathBuf>,
    keys: AtomicU64,
    resolver: Arc<Resolver>,
    resolv_conf: Option<(PathBuf, PathBuf)>,
    lockfile: Arc<OnceLock<Lockfile>>,
}

/// What a confined tree is to run.
pub(super) struct Task<'a> {
    pub(super) role: Role,
    program: Vec<u8>,
    argv: Vec<Vec<u8>>,
    environment: Vec<Vec<u8>>,
    umask: u32,
    stdio: [std::os::fd::BorrowedFd<'a>; 3],
    cwd: std::os::fd::BorrowedFd<'a>,
    identity: Option<Identity>,
    ignored: Vec<u64>,
    pub(super) programs: Vec<PathBuf>,
    pub(super) tmp: PathBuf,
    key: u64,
    package: Arc<event::Package>,
    script: Arc<event::Script>,
}

/// A command that npmguard starts by itself: the manager, or what `run` was given.
pub struct Command {
    /// Absolute path of the program.
    pub program: PathBuf,
    /// Arguments, the name first.
    pub argv: Vec<OsString>,
    /// Environment.
    pub environment: Vec<Vec<u8>>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Signals that npmguard itself was started ignoring.
    pub ignored: Vec<u64>,
    /// For the manager: what it may execute.
    pub programs: Vec<PathBuf>,
}

impl Run {
    /// Prepares a run.
    ///
    /// # Errors
    /// When the run's directory cannot be made.
    pub fn new(mut given: Given) -> std::io::Result<Run> {
        let dir = RunDir::create()?;
        let binary = fs::metadata(&dir.binary)?;
        let lockfile = given.lockfile.take().map_or_else(OnceLock::new, OnceLock::from);
        let resolver = Resolver::system();
        let shown = dir.write_resolv_conf(&resolver.resolv_conf())?;
        let resolv_conf = fs::canonicalize("/etc/resolv.conf").ok().map(|real| (real, shown));
        Ok(Run {
            binary_inode: (binary.dev(), binary.ino()),
            resolver: Arc::new(resolver),
            resolv_conf,
            dir,
            toolchain: environment::toolchain(&given.path, given.home.as_deref()),
            given,
            breach: Arc::new(Breach::default()),
            keys: AtomicU64::new(1),
            lockfile: Arc::new(lockfile),
            fences: Mutex::new(HashMap::new()),
        })
    }

    /// Variables of the policy for a package.
    pub fn variables(&self, package: &Path, tmp: &Path) -> Variables {
        Variables {
            home: self.given.home.clone(),
            project: self.given.project.clone(),
            package: package.to_owned(),
            node_modules: identity::node_modules(package, &self.given.project),
            tmp: tmp.to_owned(),
            cache: std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute()),
            node: self.given.node.clone(),
            toolchain: self.toolchain.clone(),
            path_dirs: std::env::split_paths(&self.given.path).filter(|p| p.is_absolute()).collect(),
            manager_state: self.given.manager_state.clone(),
            hosts: self.given.hosts.clone(),
        }
    }

    /// Runs the script of a stub; its wait status, or why the run is broken.
    ///
    /// # Errors
    /// A sentence for the user; the run then ends with 125.
    pub fn script(&self, request: Request, client: OwnedFd) -> Result<i32, String> {
        let cwd = fs::read_link(guard::own_fd(&request.cwd))
            .map_err(|e| format!("a script's working directory is unknown: {e}"))?;
        let claims = environment::index(&request.environment);
        let lockfile = self.lockfile.get_or_init(|| Lockfile::load(&self.given.project));
        let id = identity::identify(&cwd, &self.given.project, lockfile, &claims, &self.given.registries);
        let claim = |name: &str| claims.get(name.as_bytes()).copied().unwrap_or_default();
        let command = request.argv.last().map(|a| a.as_bytes()).unwrap_or_default();
        let lifecycle = claim("npm_lifecycle_event");
        let script = Arc::new(event::Script::new(lifecycle, command));
        let package = Arc::new(package_of(&id));
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let role = if id.root { Role::Root } else { Role::Script };
        let owner = self.other_user(request.uid, request.gid);
        let tmp = self
            .dir
            .make_tmp(key, owner.as_ref().map(|o| (o.uid, o.gid)))
            .map_err(|e| format!("no temporary directory for {}: {e}", package.label()))?;
        let profile = self
            .given
            .policy
            .profile(&subject(&id), &self.variables(&id.directory, &tmp))
            .map_err(|e| e.render())?;
        if let Some(rule) = profile.never_run() {
            let mut event = self.event(Kind::ScriptStart, role, &package, &script, event::Verdict::Logged);
            event.rule = Some(rule_of(rule));
            event.enforced_by = EnforcedBy::Broker;
            event.detail = Some(json!({ "skipped": true }));
            self.given.log.record(key, event);
            self.given.log.flush_script(key);
            remove_tmp(&tmp);
            return Ok(0);
        }
        let scrubbed = environment::for_script(
            &request.environment,
            &profile,
            self.given.home.as_deref(),
            &tmp,
            Caller::Lifecycle,
        );
        let mut start = self.event(Kind::ScriptStart, role, &package, &script, event::Verdict::Allowed);
        let name_claim = String::from_utf8_lossy(claim("npm_package_name")).into_owned();
        start.detail = Some(json!({
            "cwd": event::escape(cwd.as_os_str().as_bytes()),
            "user": request.uid,
            "identity": match &id.verified {
                Verified::Yes => "verified".to_owned(),
                Verified::No(why) => format!("no grants by name: {}", event::escape(why.as_bytes())),
            },
            "claimed_name": (name_claim != id.name).then(|| event::escape(name_claim.as_bytes())),
        }));
        self.given.log.record(key, start);
        self.log_environment(key, role, &package, &script, &scrubbed.withheld);
        let name = self.given.shell.file_name().unwrap_or(OsStr::new("sh"));
        let mut argv = vec![name.as_bytes().to_vec()];
        argv.extend(request.argv.iter().map(|a| a.as_bytes().to_vec()));
        let task = Task {
            role,
            program: self.given.shell.as_os_str().as_bytes().to_vec(),
            argv,
            environment: scrubbed.entries,
            umask: request.umask,
            stdio: [request.stdio[0].as_fd(), request.stdio[1].as_fd(), request.stdio[2].as_fd()],
            cwd: request.cwd.as_fd(),
            identity: owner,
            ignored: Vec::new(),
            programs: Vec::new(),
            tmp: tmp.clone(),
            key,
            package: package.clone(),
            script: script.clone(),
        };
        let began = Instant::now();
        let ended = self.confine_and_serve(task, profile, Some(client), |_| ());
        let ended = ended.map_err(|e| format!("{} was not run: {e}", package.label()))?;
        let status = self.script_ended(key, role, &package, &script, &ended, began.elapsed());
        remove_tmp(&tmp);
        status
    }

    /// Runs git for the manager: beside the manager's domain and not in it, because git
    /// starts shells of its own (`git clone --recurse-submodules` does), which the
    /// manager's domain must not be able to. Its writes are those of the manager.
    ///
    /// # Errors
    /// A sentence for the user; the run then ends with 125.
    pub fn git(&self, request: Request, client: OwnedFd) -> Result<i32, String> {
        let git = self.given.git.clone().ok_or("npm asked for git, and there is none in PATH")?;
        let real = git.canonicalize().unwrap_or_else(|_| git.clone());
        let mut programs: Vec<PathBuf> =
            ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/nix/store"].map(PathBuf::from).to_vec();
        programs.extend(real.parent().and_then(Path::parent).map(Path::to_owned));
        programs.extend(find_program("ssh", &self.given.path));
        let programs = programs.into_iter().filter_map(|p| p.canonicalize().ok()).collect();
        let tmp = std::env::temp_dir().canonicalize().unwrap_or_else(|_| "/tmp".into());
        let profile = self
            .given
            .policy
            .profile(&Subject::Manager, &self.variables(&self.given.project, &tmp))
            .map_err(|e| e.render())?;
        let mut argv = vec![b"git".to_vec()];
        argv.extend(request.argv.iter().map(|a| a.as_bytes().to_vec()));
        let task = Task {
            role: Role::Manager,
            program: git.as_os_str().as_bytes().to_vec(),
            argv,
            environment: request.environment,
            umask: request.umask,
            stdio: [request.stdio[0].as_fd(), request.stdio[1].as_fd(), request.stdio[2].as_fd()],
            cwd: request.cwd.as_fd(),
            identity: self.other_user(request.uid, request.gid),
            ignored: Vec::new(),
            programs,
            tmp,
            key: 0,
            package: Arc::new(event::Package::new(b"npm", Path::new("(manager)"))),
            script: Arc::new(event::Script::new(b"git", &joined(&request.argv))),
        };
        match self.confine_and_serve(task, profile, Some(client), |_| ()) {
            Ok(Ended::Status(status)) => Ok(status),
            Ok(Ended::NotStarted(step, errno)) => {
                Err(format!("could not {} for git: {errno}", step.map_or("prepare", Step::describe)))
            }
            Ok(Ended::Broken(why)) => Err(format!("git: {why}")),
            Err(error) => Err(format!("git was not run: {error}")),
        }
    }

    fn script_ended(
        &self,
        key: u64,
        role: Role,
        package: &Arc<event::Package>,
        script: &Arc<event::Script>,
        ended: &Ended,
        duration: Duration,
    ) -> Result<i32, String> {
        let (status, shown) = match ended {
            Ended::Status(status) => (Ok(*status), describe_status(*status)),
            Ended::NotStarted(Some(Step::Exec), errno) => {
                let code = if *errno == nix::errno::Errno::ENOENT { 127 } else { 126 };
                (Ok(code << 8), format!("not executed: {errno}"))
            }
            Ended::NotStarted(step, errno) => {
                let what = step.map_or("prepare the script", Step::describe);
                let why = format!("could not {what} for {}: {errno}", package.label());
                (Err(why.clone()), why)
            }
            Ended::Broken(why) => (Err(format!("{}: {why}", package.label())), why.clone()),
        };
        let mut end = self.event(Kind::ScriptEnd, role, package, script, event::Verdict::Allowed);
        end.detail = Some(json!({ "duration_us": duration.as_micros() as u64, "status": shown }));
        self.given.log.record(key, end);
        self.given.log.flush_script(key);
        status
    }

    /// Runs the manager; `started` gets the reaper's process number.
    ///
    /// # Errors
    /// When the domain could not be built.
    pub fn manager(
        &self,
        command: Command,
        client: OwnedFd,
        started: impl FnOnce(i32),
    ) -> Result<Ended, DomainError> {
        let tmp = std::env::temp_dir().canonicalize().unwrap_or_else(|_| "/tmp".into());
        let profile =
            self.given.policy.profile(&Subject::Manager, &self.variables(&self.given.project, &tmp))?;
        let package = Arc::new(event::Package::new(b"npm", Path::new("(manager)")));
        let script = Arc::new(event::Script::new(b"manager", &joined(&command.argv)));
        self.start_command(command, Role::Manager, profile, package, script, tmp, 0, client, started)
    }

    /// Runs the command of `npmguard run` as the project itself, or as `name`.
    ///
    /// # Errors
    /// When the domain could not be built.
    pub fn command(
        &self,
        command: Command,
        name: Option<&str>,
        client: OwnedFd,
    ) -> Result<Ended, DomainError> {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let tmp = self.dir.make_tmp(key, None).map_err(|e| DomainError::Io("no temporary directory", e))?;
        let lockfile = Lockfile::default();
        let mut id =
            identity::identify(&self.given.project, &self.given.project, &lockfile, &HashMap::new(), &[]);
        let (role, subject) = match name {
            None => (Role::Run, Subject::Root { name: Some(id.name.clone()), version: version(&id) }),
            Some(name) => {
                id.name = name.to_owned();
                (Role::Run, Subject::Dependency { name: name.to_owned(), version: None, granted: true })
            }
        };
        let package = Arc::new(package_of(&id));
        let script = Arc::new(event::Script::new(b"run", &joined(&command.argv)));
        let profile = self.given.policy.profile(&subject, &self.variables(&self.given.project, &tmp))?;
        let scrubbed = environment::for_script(
            &command.environment,
            &profile,
            self.given.home.as_deref(),
            &tmp,
            Caller::Command,
        );
        let start = self.event(Kind::ScriptStart, role, &package, &script, event::Verdict::Allowed);
        self.given.log.record(key, start);
        self.log_environment(key, role, &package, &script, &scrubbed.withheld);
        let command = Command { environment: scrubbed.entries, ..command };
        let began = Instant::now();
        let ended = self.start_command(
            command,
            role,
            profile,
            package.clone(),
            script.clone(),
            tmp.clone(),
            key,
            client,
            |_| (),
        )?;
        let _ = self.script_ended(key, role, &package, &script, &ended, began.elapsed());
        remove_tmp(&tmp);
        Ok(ended)
    }

    #[allow(clippy::too_many_arguments)]
    fn start_command(
        &self,
        command: Command,
        role: Role,
        profile: Profile,
        package: Arc<event::Package>,
        script: Arc<event::Script>,
        tmp: PathBuf,
        key: u64,
        client: OwnedFd,
        started: impl FnOnce(i32),
    ) -> Result<Ended, DomainError> {
        let cwd = fs::File::open(&command.cwd).map_err(|e| DomainError::Io("the working directory", e))?;
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let task = Task {
            role,
            program: command.program.as_os_str().as_bytes().to_vec(),
            argv: command.argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
            environment: command.environment,
            umask: mask.bits(),
            stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            cwd: cwd.as_fd(),
            identity: None,
            ignored: command.ignored,
            programs: command.programs,
            tmp,
            key,
            package,
            script,
        };
        self.confine_and_serve(task, profile, Some(client), started)
    }

    fn confine_and_serve(
        &self,
        task: Task<'_>,
        profile: Profile,
        client: Option<OwnedFd>,
        started: impl FnOnce(i32),
    ) -> Result<Ended, DomainError> {
        let reaper = Confined::prepare(&self.dir.binary)
            .map_err(|e| DomainError::Io("the reaper could not be started", e))?;
        let confinement = self.confinement(&task, &profile)?;
        let limits = profile.limits();
        let enforce = self.given.policy.mode() == Mode::Enforce;
        let scoped = self.given.kernel.landlock_abi >= 6 && enforce;
        let spec = Spec {
            program: task.program,
            argv: task.argv,
            envp: task.environment,
            umask: task.umask,
            capabilities: if enforce && task.role != Role::Manager {
                Capabilities::DropAllButFileOwnership
            } else {
                Capabilities::Keep
            },
            identity: task.identity.clone(),
            filters: Some(match (task.role, enforce) {
                (Role::Manager, _) => FilterKind::Manager,
                (_, true) => FilterKind::Script,
                (_, false) => FilterKind::Audit,
            }),
            signals: if scoped || !enforce { Signals::ByLandlock } else { Signals::BySupervisor },
            wait_killable: self.given.kernel.wait_killable,
            limits: if enforce { resource_limits(&limits) } else { Vec::new() },
            ignored: task.ignored,
            grace_ms: GRACE.as_millis() as u64,
        };
        let mut rulesets: Vec<_> = confinement.fences.iter().map(AsFd::as_fd).collect();
        rulesets.extend(confinement.shared.iter().map(|s| s.fence.as_fd()));
        let handles = Handles { stdio: task.stdio, cwd: task.cwd, rulesets };
        let confined = reaper
            .run(&spec, &handles)
            .map_err(|e| DomainError::Io("the reaper did not take its task", e))?;
        started(confined.reaper_pid());
        let domain = Domain {
            role: task.role,
            mode: self.given.policy.mode(),
            profile,
            cover: confinement.cover,
            package: task.package,
            script: task.script,
            key: task.key,
            log: self.given.log.clone(),
            identity: task.identity.clone(),
            tmp: task.tmp,
            own_files: Arc::clone(&self.given.own_files),
            programs: task.programs,
            landlocked: enforce && self.given.kernel.landlock_abi > 0,
            groups_are_scoped: scoped,
            breach: Arc::clone(&self.breach),
            binary: self.dir.binary.clone(),
            resolver: Arc::clone(&self.resolver),
            resolv_conf: self.resolv_conf.clone(),
            asked_for: (task.role == Role::Manager).then(|| self.asked_for()),
        };
        let wall = limits.wall.filter(|_| enforce && task.role != Role::Manager);
        if task.identity.is_none() {
            return Ok(guard::serve(domain, confined, client, wall));
        }
        // The guard's thread becomes the script's user and cannot become root again.
        Ok(std::thread::scope(|scope| {
            scope
                .spawn(|| guard::serve(domain, confined, client, wall))
                .join()
                .unwrap_or_else(|_| Ended::Broken("the guard panicked".into()))
        }))
    }

    /// Tells for the manager which package asked for a host.
    fn asked_for(&self) -> AskedFor {
        let (project, lockfile) = (self.given.project.clone(), Arc::clone(&self.lockfile));
        // npm tries again, and every time for both kinds of address.
        let known: Mutex<HashMap<String, Arc<event::Package>>> = Mutex::default();
        Arc::new(move |host| {
            let mut known = known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(package) = known.get(host) {
                return Some(Arc::clone(package));
            }
            let lockfile = lockfile.get_or_init(|| Lockfile::load(&project));
            let asker = asked_for(host, &project, lockfile).into_iter().next()?;
            let mut package = event::Package::new(asker.name.as_bytes(), Path::new(&asker.place));
            package.root = asker.place.is_empty();
            package.version = asker.version.map(|v| event::escape(v.as_bytes()));
            package.dependency_of = asker.dependants.iter().map(|d| event::escape(d.as_bytes())).collect();
            let package = Arc::new(package);
            known.insert(host.to_owned(), Arc::clone(&package));
            Some(package)
        })
    }

    /// The identity to take on when the stub runs as somebody else, which only root's
    /// npm can arrange (libuv drops supplementary groups then).
    fn other_user(&self, uid: u32, gid: u32) -> Option<Identity> {
        let own = Uid::effective();
        (own.is_root() && uid != own.as_raw()).then(|| Identity {
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: Vec::new(),
        })
    }

    fn log_environment(
        &self,
        key: u64,
        role: Role,
        package: &Arc<event::Package>,
        script: &Arc<event::Script>,
        withheld: &[OsString],
    ) {
        if withheld.is_empty() {
            return;
        }
        let mut event = self.event(Kind::Env, role, package, script, event::Verdict::Allowed);
        event.enforced_by = EnforcedBy::Broker;
        // Many names, each by a rule of its own: `policy show` tells which.
        let names: Vec<String> = withheld.iter().map(|n| event::escape(n.as_bytes())).collect();
        event.detail = Some(json!({ "withheld": names }));
        self.given.log.record(key, event);
    }

    fn event(
        &self,
        kind: Kind,
        role: Role,
        package: &Arc<event::Package>,
        script: &Arc<event::Script>,
        verdict: event::Verdict,
    ) -> Event {
        let mut event = Event::new(kind, role.event_domain(), verdict);
        event.package = Some(Arc::clone(package));
        event.script = Some(Arc::clone(script));
        event
    }
}

fn joined(argv: &[OsString]) -> Vec<u8> {
    argv.iter().map(|a| a.as_bytes()).collect::<Vec<_>>().join(&b' ')
}

fn version(id: &PackageId) -> Option<semver::Version> {
    id.version.as_deref().and_then(|v| semver::Version::parse(v).ok())
}

fn subject(id: &PackageId) -> Subject {
    if id.root {
        return Subject::Root { name: Some(id.name.clone()), version: version(id) };
    }
    Subject::Dependency { name: id.name.clone(), version: version(id), granted: id.verified == Verified::Yes }
}

fn package_of(id: &PackageId) -> event::Package {
    let escape = |s: &String| event::escape(s.as_bytes());
    let mut package = event::Package::new(id.name.as_bytes(), Path::new(OsStr::new(&id.place)));
    package.version = id.version.as_ref().map(escape);
    if !id.root {
        let name = id.name.replace('@', "%40");
        package.purl = Some(match &id.version {
            Some(version) => event::escape(format!("pkg:npm/{name}@{version}").as_bytes()),
            None => event::escape(format!("pkg:npm/{name}").as_bytes()),
        });
    }
    package.root = id.root;
    package.dependency_of = id.dependants.iter().map(escape).collect();
    package.integrity = id.integrity.as_ref().map(escape);
    package.manifest_sha256.clone_from(&id.manifest_sha256);
    package
}

fn rule_of(rule: &crate::policy::RuleRef) -> event::Rule {
    event::Rule { source: rule.source.clone(), line: Some(rule.line), pointer: rule.pointer.clone() }
}

fn describe_status(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        format!("signal {}", libc::WTERMSIG(status))
    } else {
        format!("exit {}", exit_code(status))
    }
}
