//! The stub: what the package manager takes for its shell, and for git.
//!
//! It hands arguments, environment, standard streams, working directory and umask to
//! the broker, passes signals on, waits, and ends as the script ended. It runs inside
//! the manager's domain and decides nothing.

use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};

use super::run_dir::{GIT_STUB_NAME, SOCKET_NAME, STUB_NAME};
use super::spawn::own_environment;
use super::wire::Writer;
use crate::sandbox::{ipc, process};

/// Exit code when the guard cannot be reached or breaks.
const GUARD_BROKE: i32 = 125;
/// Signals whose default action would end the stub before its script.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Whether this process was started under the stub's name.
pub fn is_stub(argv0: Option<&OsString>) -> bool {
    argv0
        .is_some_and(|name| Path::new(name).file_name().is_some_and(|n| n == STUB_NAME || n == GIT_STUB_NAME))
}

/// Runs the stub; returns the exit code (or ends by the script's signal).
pub fn main(argv: Vec<OsString>) -> i32 {
    match run(argv) {
        Ok(status) => end_like(status),
        Err(errno) => {
            eprintln!("npmguard: the script was not started: the supervisor cannot be reached ({errno})");
            GUARD_BROKE
        }
    }
}

fn run(argv: Vec<OsString>) -> Result<i32, Errno> {
    let name = Path::new(argv.first().ok_or(Errno::EINVAL)?);
    let socket = name.parent().ok_or(Errno::EINVAL)?.join(SOCKET_NAME);
    let mut mask = SigSet::empty();
    for sig in PASSED_ON {
        mask.add(sig);
    }
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let broker = UnixStream::connect(socket).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    send_request(&broker, &argv)?;
    let mut reply = Vec::new();
    loop {
        let mut fds =
            [PollFd::new(broker.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let answered = fds[0].any().unwrap_or(false);
        while let Ok(Some(info)) = signals.read_signal() {
            // The terminal signals the whole foreground group, the script included.
            if info.ssi_code != libc::SI_KERNEL {
                let _ = ipc::send(broker.as_fd(), &[info.ssi_signo as u8], &[]);
            }
        }
        if answered {
            let mut buffer = [0u8; 4];
            match ipc::receive(broker.as_fd(), &mut buffer) {
                Ok((0, _)) => return Err(Errno::ECONNRESET),
                Ok((n, _)) => reply.extend_from_slice(&buffer[..n]),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            if let Ok(status) = <[u8; 4]>::try_from(reply.as_slice()) {
                return Ok(i32::from_le_bytes(status));
            }
        }
    }
}

fn send_request(broker: &UnixStream, argv: &[OsString]) -> Result<(), Errno> {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    let cwd = open(".", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let is_open = |fd: i32| nix::sys::stat::stat(format!("/proc/self/fd/{fd}").as_str()).is_ok();
    let stdio = [0, 1, 2].map(|fd| if is_open(fd) { fd } else { null.as_raw_fd() });
    let mask = umask(Mode::empty());
    umask(mask);
    let mut request = Writer::new();
    let name = argv.first().and_then(|a| Path::new(a).file_name()).unwrap_or_default();
    let argv: Vec<&[u8]> = argv.iter().skip(1).map(|a| a.as_bytes()).collect();
    request.bytes(name.as_bytes()).list(&argv).list(&own_environment()).number(u64::from(mask.bits()));
    let request = request.finish();
    let fds = [stdio[0], stdio[1], stdio[2], cwd.as_raw_fd()];
    ipc::send(broker.as_fd(), &(request.len() as u64).to_le_bytes(), &fds)?;
    let mut sent = 0;
    while sent < request.len() {
        match ipc::send(broker.as_fd(), &request[sent..], &[]) {
            Ok(n) => sent += n,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Ends as the script did, so that the manager sees the same status.
fn end_like(status: i32) -> i32 {
    if libc::WIFSIGNALED(status)
        && let Ok(sig) = Signal::try_from(libc::WTERMSIG(status))
    {
        // No core file for a death that happened elsewhere.
        let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
        let _ = process::default_signal(sig);
        let mut mask = SigSet::empty();
        mask.add(sig);
        let _ = mask.thread_unblock();
        let _ = raise(sig);
        return 128 + sig as i32;
    }
    libc::WEXITSTATUS(status)
}
