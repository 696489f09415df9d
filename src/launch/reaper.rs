//! The reaper: a small process between the supervisor and one confined tree.
//!
//! It is the tree's nearest subreaper, so every process of the tree is its
//! descendant until the end; when the first process has ended, or the supervisor is
//! gone, it leaves none of them alive. It runs no package code and has one thread.

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::spawn::{Leftover, Spec, encode_leftovers, resource};
use crate::sandbox::child::{self, MESSAGE_FAILED, Plan};
use crate::sandbox::{ipc, process, seccomp};

/// How long the reaper keeps trying to empty a tree that will not end (processes in
/// uninterruptible sleep), before it reports what it could do.
const GIVE_UP: Duration = Duration::from_secs(20);

/// Runs the reaper; standard input is the control socket. Returns an exit code.
pub fn main() -> u8 {
    // Away from 0, which becomes the script's own standard input.
    let control = std::io::stdin().as_fd().try_clone_to_owned();
    match control.map(|control| run(control.as_fd())) {
        Ok(Ok(())) => 0,
        _ => 125,
    }
}

fn run(control: BorrowedFd<'_>) -> Result<(), Errno> {
    nix::sys::prctl::set_child_subreaper(true)?;
    for sig in
        [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2]
    {
        process::ignore_signal(sig)?;
    }
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let Some((spec, fds)) = receive_spec(control)? else { return Ok(()) };
    let main = match start(control, &spec, &fds) {
        Ok(pid) => pid,
        Err(errno) => {
            let mut message = vec![MESSAGE_FAILED, 0];
            message.extend_from_slice(&(errno as i32).to_le_bytes());
            tell(control, &message);
            tell(control, b"D");
            return Ok(());
        }
    };
    drop(fds);
    watch(control, &children, main, Duration::from_millis(spec.grace_ms))
}

fn tell(control: BorrowedFd<'_>, message: &[u8]) {
    let _ = ipc::send(control, message, &[]);
}

fn receive_spec(control: BorrowedFd<'_>) -> Result<Option<(Spec, Vec<OwnedFd>)>, Errno> {
    let (len, mut fds) = ipc::receive(control, &mut [0u8; 1])?;
    if len == 0 {
        return Ok(None);
    }
    if fds.len() < 5 {
        return Err(Errno::EBADMSG);
    }
    let mut data = Vec::new();
    fs::File::from(fds.remove(0)).read_to_end(&mut data).map_err(|_| Errno::EIO)?;
    Ok(Some((Spec::decode(&data)?, fds)))
}

fn start(control: BorrowedFd<'_>, spec: &Spec, fds: &[OwnedFd]) -> Result<Pid, Errno> {
    let strings = |list: &[Vec<u8>]| -> Result<Vec<CString>, Errno> {
        list.iter().map(|s| CString::new(s.as_slice()).map_err(|_| Errno::EINVAL)).collect()
    };
    let filters = match spec.filters {
        None => None,
        Some(kind) => Some(seccomp::filters(kind, spec.signals).map_err(|_| Errno::EINVAL)?),
    };
    child::start(&Plan {
        program: CString::new(spec.program.as_slice()).map_err(|_| Errno::EINVAL)?,
        argv: strings(&spec.argv)?,
        envp: strings(&spec.envp)?,
        stdio: [fds[0].as_fd(), fds[1].as_fd(), fds[2].as_fd()],
        cwd: fds[3].as_fd(),
        umask: Mode::from_bits_truncate(spec.umask),
        identity: spec.identity.clone(),
        capabilities: spec.capabilities,
        rulesets: fds[4..].iter().map(AsFd::as_fd).collect(),
        filters,
        wait_killable: spec.wait_killable,
        limits: spec.limits.iter().filter_map(|(r, v)| resource(*r).map(|r| (r, *v))).collect(),
        ignored: spec.ignored.iter().filter_map(|n| Signal::try_from(*n as i32).ok()).collect(),
        report: control,
    })
}

/// Serves the tree until nothing of it is left.
fn watch(control: BorrowedFd<'_>, children: &SignalFd, main: Pid, grace: Duration) -> Result<(), Errno> {
    let mut ended: Option<Instant> = None;
    let mut end_now = false;
    loop {
        let reaped = reap(control, main)?;
        if reaped.main_ended && ended.is_none() {
            ended = Some(Instant::now());
        }
        if reaped.tree_is_empty {
            tell(control, b"D");
            return Ok(());
        }
        if end_now || ended.is_some_and(|at| at.elapsed() >= grace) {
            if ended.is_some() && !end_now {
                report_leftovers(control);
            }
            empty_the_tree(control, main);
            tell(control, b"D");
            return Ok(());
        }
        let timeout = match ended {
            Some(at) => PollTimeout::try_from(grace.saturating_sub(at.elapsed()) + Duration::from_millis(1))
                .unwrap_or(PollTimeout::ZERO),
            None => PollTimeout::NONE,
        };
        let mut fds =
            [PollFd::new(children.as_fd(), PollFlags::POLLIN), PollFd::new(control, PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
        while let Ok(Some(_)) = children.read_signal() {}
        if fds[1].any().unwrap_or(false) {
            end_now |= obey(control, main);
        }
    }
}

/// Carries out one message of the supervisor; true when the tree is to end. The end
/// of the socket means that the supervisor is dead.
fn obey(control: BorrowedFd<'_>, main: Pid) -> bool {
    let mut buffer = [0u8; 16];
    match ipc::receive(control, &mut buffer).map(|(len, _)| len) {
        Ok(2) if buffer[0] == b's' => {
            if let Ok(sig) = Signal::try_from(i32::from(buffer[1])) {
                let _ = kill(main, sig);
            }
            false
        }
        Err(Errno::EINTR | Errno::EAGAIN) => false,
        _ => true,
    }
}

struct Reaped {
    main_ended: bool,
    tree_is_empty: bool,
}

fn reap(control: BorrowedFd<'_>, main: Pid) -> Result<Reaped, Errno> {
    let mut main_ended = false;
    loop {
        match process::reap_any() {
            Ok(Some((pid, status))) => {
                if pid == main {
                    main_ended = true;
                    let mut message = vec![b'X'];
                    message.extend_from_slice(&status.to_le_bytes());
                    tell(control, &message);
                }
            }
            Ok(None) => return Ok(Reaped { main_ended, tree_is_empty: false }),
            Err(Errno::ECHILD) => return Ok(Reaped { main_ended, tree_is_empty: true }),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn report_leftovers(control: BorrowedFd<'_>) {
    let leftovers: Vec<Leftover> = descendants()
        .into_iter()
        .filter(|pid| !is_zombie(*pid))
        .map(|pid| Leftover {
            pid,
            exe: fs::read_link(format!("/proc/{pid}/exe"))
                .map(|p| std::os::unix::ffi::OsStringExt::into_vec(p.into_os_string()))
                .unwrap_or_default(),
            argv: fs::read(format!("/proc/{pid}/cmdline"))
                .unwrap_or_default()
                .split(|b| *b == 0)
                .filter(|a| !a.is_empty())
                .take(16)
                .map(|a| a[..a.len().min(512)].to_vec())
                .collect(),
        })
        .collect();
    if leftovers.is_empty() {
        return;
    }
    let mut message = vec![b'K'];
    message.extend(encode_leftovers(&leftovers));
    tell(control, &message);
}

/// Kills until no descendant is left. Everything is stopped first, so that a tree
/// that forks faster than it is killed comes to rest.
fn empty_the_tree(control: BorrowedFd<'_>, main: Pid) {
    let deadline = Instant::now() + GIVE_UP;
    while Instant::now() < deadline {
        let mut stopped: Vec<i32> = Vec::new();
        for _ in 0..64 {
            let fresh: Vec<i32> = descendants().into_iter().filter(|pid| !stopped.contains(pid)).collect();
            if fresh.is_empty() {
                break;
            }
            for pid in &fresh {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGSTOP);
            }
            stopped.extend(fresh);
        }
        for pid in &stopped {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        match reap(control, main) {
            Ok(reaped) if reaped.tree_is_empty => return,
            _ => std::thread::sleep(Duration::from_micros(500)),
        }
    }
}

/// Every living or dying process below this one.
fn descendants() -> Vec<i32> {
    let own = std::process::id() as i32;
    let mut parents: Vec<(i32, i32)> = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if let Some(parent) = parent_of(pid) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![own];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        next += 1;
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
    }
    found.split_off(1)
}

fn stat_fields(pid: i32) -> Option<(u8, i32)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so count from its last parenthesis.
    let after = stat.iter().rposition(|b| *b == b')')? + 2;
    let mut fields = stat.get(after..)?.split(|b| *b == b' ');
    let state = *fields.next()?.first()?;
    let parent = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    Some((state, parent))
}

fn parent_of(pid: i32) -> Option<i32> {
    stat_fields(pid).map(|(_, parent)| parent)
}

fn is_zombie(pid: i32) -> bool {
    stat_fields(pid).is_none_or(|(state, _)| state == b'Z')
}
