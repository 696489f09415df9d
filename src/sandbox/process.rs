//! Small process facilities that `nix` offers only as unsafe or not in full.

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::Pid;

/// Ignores a signal in this process.
pub fn ignore_signal(sig: Signal) -> Result<(), Errno> {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { signal(sig, SigHandler::SigIgn) }.map(drop)
}

/// Reaps any child that has ended, with its raw wait status; `None` when children
/// live but none has ended. `ECHILD` when there are none.
pub fn reap_any() -> Result<Option<(Pid, i32)>, Errno> {
    let mut status = 0;
    // SAFETY: `status` is a writable integer.
    let pid = Errno::result(unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) })?;
    Ok((pid != 0).then(|| (Pid::from_raw(pid), status)))
}

/// Gives a signal its default action.
pub fn default_signal(sig: Signal) -> Result<(), Errno> {
    // SAFETY: the default action runs no code of ours.
    unsafe { signal(sig, SigHandler::SigDfl) }.map(drop)
}
