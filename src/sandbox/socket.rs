//! What `nix` has no safe form of among socket calls.

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Dissolves the association of a datagram socket (`AF_UNSPEC`, connect(2)).
///
/// # Errors
/// As connect(2) says.
pub fn disconnect(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: all zeroes is a valid `sockaddr`, and its family is `AF_UNSPEC`.
    let nobody: libc::sockaddr = unsafe { mem::zeroed() };
    let length = mem::size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of a live structure.
    Errno::result(unsafe { libc::connect(fd.as_raw_fd(), &nobody, length) }).map(drop)
}
