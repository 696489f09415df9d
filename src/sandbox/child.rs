//! Starting a program inside its domain.
//!
//! Called in the reaper, which has one thread, so the child may run ordinary code
//! between fork and exec. The order matters: identity first (it needs privilege),
//! then `no_new_privs`, Landlock, the filter with the listener, the fixed filters,
//! exec. The listener's descriptor is handed over a socket before the exec, which is
//! itself the first notification.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, ForkResult, Pid};
use seccompiler::{BpfProgram, sock_filter};

use super::creds::Identity;
use super::seccomp::Filters;
use super::{capabilities, ipc, landlock};

/// Everything the child needs, prepared by its parent.
#[derive(Debug)]
pub struct Plan<'a> {
    /// Absolute path of the program.
    pub program: CString,
    /// Arguments, the name first.
    pub argv: Vec<CString>,
    /// Environment.
    pub envp: Vec<CString>,
    /// Standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Working directory.
    pub cwd: BorrowedFd<'a>,
    /// File mode creation mask.
    pub umask: Mode,
    /// Who to become; `None` stays who we are.
    pub identity: Option<Identity>,
    /// Whether capabilities beyond file ownership are dropped.
    pub capabilities: Capabilities,
    /// Landlock rulesets, applied in order.
    pub rulesets: Vec<BorrowedFd<'a>>,
    /// Seccomp programs.
    pub filters: Option<Filters>,
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` is available (Linux 5.19).
    pub wait_killable: bool,
    /// Resource limits.
    pub limits: Vec<(Resource, u64)>,
    /// Signals to ignore in the program; all others get their default action.
    pub ignored: Vec<Signal>,
    /// Where the listener and a failure are reported.
    pub report: BorrowedFd<'a>,
}

/// What happens to a root user's capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capabilities {
    /// Unchanged: the package manager, and audit mode.
    Keep,
    /// Only those of file ownership stay.
    DropAllButFileOwnership,
}

/// The step at which the child gave up; travels over the report socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Step {
    Stdio = 1,
    Directory = 2,
    Limits = 3,
    Identity = 4,
    NoNewPrivs = 5,
    Landlock = 6,
    Listener = 7,
    Filters = 8,
    Exec = 9,
}

impl Step {
    /// The step with this number.
    pub fn from_number(number: u8) -> Option<Step> {
        [
            Step::Stdio,
            Step::Directory,
            Step::Limits,
            Step::Identity,
            Step::NoNewPrivs,
            Step::Landlock,
            Step::Listener,
            Step::Filters,
            Step::Exec,
        ]
        .into_iter()
        .find(|s| *s as u8 == number)
    }

    /// What failed, for a sentence.
    pub fn describe(self) -> &'static str {
        match self {
            Step::Stdio => "hand over standard input and output",
            Step::Directory => "enter the working directory",
            Step::Limits => "set the resource limits",
            Step::Identity => "take on the script's user and capabilities",
            Step::NoNewPrivs => "give up new privileges",
            Step::Landlock => "apply the landlock ruleset",
            Step::Listener => "install the seccomp filter with its listener",
            Step::Filters => "install the fixed seccomp filters",
            Step::Exec => "execute the program",
        }
    }
}

/// First byte of the message that carries the listener.
pub const MESSAGE_LISTENER: u8 = b'L';
/// First byte of the message that says at which step the child failed.
pub const MESSAGE_FAILED: u8 = b'E';

/// Forks and starts the program of `plan` in its domain.
///
/// # Errors
/// Only a failed fork; later failures arrive on [`Plan::report`].
pub fn start(plan: &Plan<'_>) -> Result<Pid, Errno> {
    let reaper = unistd::getpid();
    // SAFETY: the reaper has a single thread, so the child may go on with ordinary code.
    match unsafe { unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let (step, errno) = match confine_and_exec(plan, reaper) {
                Ok(never) => match never {},
                Err(failure) => failure,
            };
            let mut message = vec![MESSAGE_FAILED, step as u8];
            message.extend_from_slice(&(errno as i32).to_le_bytes());
            let _ = ipc::send(plan.report, &message, &[]);
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(127) }
        }
    }
}

fn confine_and_exec(plan: &Plan<'_>, reaper: Pid) -> Result<std::convert::Infallible, (Step, Errno)> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    // The reaper is what ends this tree; without it nothing must go on.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(at(Step::NoNewPrivs))?;
    if unistd::getppid() != reaper {
        return Err((Step::NoNewPrivs, Errno::ESRCH));
    }
    unistd::fchdir(plan.cwd).map_err(at(Step::Directory))?;
    stdio(&plan.stdio).map_err(at(Step::Stdio))?;
    umask(plan.umask);
    for (resource, value) in &plan.limits {
        limit(*resource, *value).map_err(at(Step::Limits))?;
    }
    if let Some(identity) = &plan.identity {
        unistd::setgroups(&identity.groups).map_err(at(Step::Identity))?;
        unistd::setresgid(identity.gid, identity.gid, identity.gid).map_err(at(Step::Identity))?;
        unistd::setresuid(identity.uid, identity.uid, identity.uid).map_err(at(Step::Identity))?;
        // Changing the user cleared the parent-death signal (prctl(2)).
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(at(Step::Identity))?;
        // It also made the process unreadable, for the guard as well, until the exec.
        nix::sys::prctl::set_dumpable(true).map_err(at(Step::Identity))?;
    }
    if plan.capabilities == Capabilities::DropAllButFileOwnership {
        capabilities::drop_all_but_file_ownership().map_err(|_| (Step::Identity, Errno::EPERM))?;
    }
    signals(&plan.ignored).map_err(at(Step::Stdio))?;
    nix::sys::prctl::set_no_new_privs().map_err(at(Step::NoNewPrivs))?;
    for ruleset in &plan.rulesets {
        landlock::restrict_self(*ruleset).map_err(at(Step::Landlock))?;
    }
    if let Some(filters) = &plan.filters {
        let listener =
            install_with_listener(&filters.notify, plan.wait_killable).map_err(at(Step::Listener))?;
        ipc::send(plan.report, &[MESSAGE_LISTENER], &[listener.as_raw_fd()]).map_err(at(Step::Listener))?;
        drop(listener);
        for program in &filters.fixed {
            set_filter(program, 0).map_err(at(Step::Filters))?;
        }
    }
    unistd::execve(&plan.program, &plan.argv, &plan.envp).map_err(at(Step::Exec))
}

/// Makes the three descriptors 0, 1 and 2 and marks everything above close-on-exec.
fn stdio(fds: &[BorrowedFd<'_>; 3]) -> Result<(), Errno> {
    // Copies above 2 first, so that no source is overwritten before it is used.
    let copies = fds.iter().map(nix::unistd::dup).collect::<Result<Vec<_>, _>>()?;
    unistd::dup2_stdin(&copies[0])?;
    unistd::dup2_stdout(&copies[1])?;
    unistd::dup2_stderr(&copies[2])?;
    // SAFETY: marks descriptors of this process; nothing is closed before the exec.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

fn limit(resource: Resource, value: u64) -> Result<(), Errno> {
    let (_, hard) = nix::sys::resource::getrlimit(resource)?;
    let value = value.min(hard);
    setrlimit(resource, value, value)
}

fn signals(ignored: &[Signal]) -> Result<(), Errno> {
    for sig in Signal::iterator() {
        if matches!(sig, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        let action = if ignored.contains(&sig) { SigHandler::SigIgn } else { SigHandler::SigDfl };
        // SAFETY: neither action runs code of ours.
        unsafe { signal(sig, action) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Installs a program together with a listener on the calling process.
pub fn install_with_listener(program: &BpfProgram, wait_killable: bool) -> Result<OwnedFd, Errno> {
    let extra = if wait_killable { libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV } else { 0 };
    let fd = set_filter(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | extra)?;
    // SAFETY: with NEW_LISTENER the call returned a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn set_filter(program: &BpfProgram, flags: libc::c_ulong) -> Result<i64, Errno> {
    let fprog = libc::sock_fprog {
        len: program.len() as u16,
        // `sock_filter` of seccompiler and of libc are the same C structure.
        filter: program.as_ptr().cast::<sock_filter>().cast_mut().cast(),
    };
    // SAFETY: `fprog` points to `len` live instructions, which the kernel copies.
    let rc = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &fprog) };
    Errno::result(rc)
}

/// Runs `probe` in a forked child and returns its exit status: the honest way to ask
/// what a kernel does without changing this process. Must be called while the
/// process has one thread.
///
/// # Errors
/// When fork or wait fails.
pub fn in_child(probe: impl FnOnce() -> u8) -> io::Result<u8> {
    // SAFETY: the caller has one thread; the child ends in `_exit`.
    match unsafe { unistd::fork() }? {
        ForkResult::Child => {
            let code = probe();
            // SAFETY: ends the child without running exit handlers.
            unsafe { libc::_exit(i32::from(code)) }
        }
        ForkResult::Parent { child } => loop {
            match nix::sys::wait::waitpid(child, None) {
                Ok(nix::sys::wait::WaitStatus::Exited(_, code)) => return Ok(code as u8),
                Ok(_) => return Ok(255),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        },
    }
}
