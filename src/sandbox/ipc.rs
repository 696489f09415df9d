//! Messages with descriptors over Unix sockets (`SCM_RIGHTS`, `unix(7)`).
//!
//! Received descriptors become owned at once, so none can leak or be used twice.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Most descriptors one message carries here.
pub const MOST_DESCRIPTORS: usize = 32;

/// Marks messages of npmguard's own: the child hands the listener over while it is
/// already under the filter, and nobody could answer a report of that call. Unix sockets
/// do not look at the flag. A script that sets it gains nothing: no socket of its domain
/// can carry what sendmsg(2) addresses.
pub const UNREPORTED: i32 = libc::MSG_CONFIRM;

/// Sends `data` (at least one byte) with `fds`; returns how many bytes went.
pub fn send(socket: BorrowedFd<'_>, data: &[u8], fds: &[RawFd]) -> Result<usize, Errno> {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::from_bits_retain(UNREPORTED);
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(data)], rights, flags, None)
}

/// Receives into `buffer`; zero bytes mean the other end is gone.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut space = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel just created these descriptors for us in recvmsg(2).
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, fds))
}
