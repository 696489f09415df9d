//! A seccomp listener: the supervisor's end of one domain's filter.
//!
//! Receives notifications and answers them with an error, a value, "continue" or an
//! injected descriptor. It never looks at memory and never decides. See
//! `seccomp_unotify(2)`.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// One system call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Notification {
    /// The kernel's cookie; unique as long as the listener lives.
    pub id: u64,
    /// The calling thread, in the supervisor's PID namespace; 0 if it is not visible.
    pub pid: i32,
    /// System call number.
    pub nr: i64,
    /// The six registers; pointers among them are addresses in the target.
    pub args: [u64; 6],
}

/// Whether an injected descriptor is closed on exec in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExec {
    /// `O_CLOEXEC` was asked for.
    Close,
    /// The descriptor survives exec.
    Keep,
}

/// The listening descriptor of one domain.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        let listener = Listener { fd };
        listener.prefer_synchronous_wake_up();
        listener
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`, Linux 6.6; not in `libc`.
const SYNC_WAKE_UP: u64 = 1;

impl Listener {
    /// Asks the scheduler to hand over on the same core; older kernels refuse, and
    /// nothing depends on it.
    fn prefer_synchronous_wake_up(&self) {
        // SAFETY: the ioctl takes its flags by value; the descriptor is ours and open.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SYNC_WAKE_UP) };
    }

    /// Takes the next notification. `None` when the caller went away meanwhile
    /// (`ENOENT`) or the wait was interrupted.
    pub fn receive(&self) -> io::Result<Option<Notification>> {
        // SAFETY: an all-zero `seccomp_notif` is valid, and the kernel demands zeroes.
        let mut raw: libc::seccomp_notif = unsafe { mem::zeroed() };
        // SAFETY: `raw` is a writable structure of the size the request number encodes.
        let rc = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut raw) };
        if rc < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        }
        Ok(Some(Notification {
            id: raw.id,
            pid: raw.pid as i32,
            nr: i64::from(raw.data.nr),
            args: raw.data.args,
        }))
    }

    /// Whether the caller still waits; to be asked after its memory was read and
    /// before anything is done for it.
    pub fn is_valid(&self, id: u64) -> bool {
        // SAFETY: the kernel reads eight bytes at the given address.
        unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0 }
    }

    /// Lets the kernel carry the call out as if it had not been reported.
    pub fn continue_call(&self, id: u64) -> io::Result<()> {
        self.send(id, 0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32)
    }

    /// The call fails with `errno` (a positive error number).
    pub fn fail(&self, id: u64, errno: i32) -> io::Result<()> {
        self.send(id, -errno, 0, 0)
    }

    /// The call returns `value`.
    pub fn succeed(&self, id: u64, value: i64) -> io::Result<()> {
        self.send(id, 0, value, 0)
    }

    fn send(&self, id: u64, error: i32, val: i64, flags: u32) -> io::Result<()> {
        let mut response = libc::seccomp_notif_resp { id, val, error, flags };
        // SAFETY: `response` is a structure of the size the request number encodes.
        let rc = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &mut response) };
        gone_is_fine(rc)
    }

    /// Gives the caller a copy of `fd` and lets its call return the new number, in
    /// one step (`SECCOMP_ADDFD_FLAG_SEND`, Linux 5.14). An exhausted descriptor
    /// table in the target becomes the call's own error.
    pub fn inject(&self, id: u64, fd: RawFd, on_exec: OnExec) -> io::Result<()> {
        let request = libc::seccomp_notif_addfd {
            id,
            flags: libc::SECCOMP_ADDFD_FLAG_SEND as u32,
            srcfd: fd as u32,
            newfd: 0,
            newfd_flags: if on_exec == OnExec::Close { libc::O_CLOEXEC as u32 } else { 0 },
        };
        // SAFETY: `request` is a structure of the size the request number encodes.
        let rc = unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &request) };
        if rc < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINPROGRESS) => Ok(()),
                Some(errno) => self.fail(id, errno),
                None => Err(error),
            };
        }
        Ok(())
    }
}

/// A caller that was killed needs no answer.
fn gone_is_fine(rc: i32) -> io::Result<()> {
    if rc < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
    }
    Ok(())
}
