//! Signals of the supervisor: what it was started ignoring, and passing on what it is
//! sent. It never acts on a signal itself; the manager's end is what ends a run.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that this process was started ignoring (under `nohup`, say); what it starts
/// keeps ignoring them. SIGPIPE is left out: Rust's runtime ignores it by itself.
pub fn ignored() -> Vec<u64> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|l| l.strip_prefix("SigIgn:"))
        .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
        .unwrap_or(0);
    (1..=31).filter(|n| mask & (1 << (n - 1)) != 0 && *n != libc::SIGPIPE as u64).collect()
}

/// Takes over the signals of this process; the descriptor yields their numbers.
/// Must be called before other threads exist, so that none of them gets a signal.
pub fn take() -> io::Result<OwnedFd> {
    let mut mask = SigSet::empty();
    for sig in
        [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2]
    {
        mask.add(sig);
    }
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)?;
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        while let Ok(Some(info)) = signals.read_signal() {
            // What the terminal sends reaches the whole foreground group by itself.
            if info.ssi_code != libc::SI_KERNEL
                && nix::unistd::write(writer.as_fd(), &[info.ssi_signo as u8]).is_err()
            {
                return;
            }
        }
    })?;
    Ok(reader)
}
