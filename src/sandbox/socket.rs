//! Sockets of a kind of our own, and what `nix` has no safe form of among socket calls.

use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockProtocol, SockType, shutdown, socket};

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

/// A UDP socket that cannot send: shut down for sending, which Linux never takes back.
///
/// # Errors
/// As socket(2) and shutdown(2) say.
pub fn mute_udp(family: AddressFamily, flags: SockFlag) -> Result<OwnedFd, Errno> {
    let fd = socket(family, SockType::Datagram, flags, Some(SockProtocol::Udp))?;
    // "Not connected" is what the call says, and what it does is done all the same:
    // every send checks the flag (sock_alloc_send_pskb), and nothing clears it.
    match shutdown(fd.as_raw_fd(), Shutdown::Write) {
        Ok(()) | Err(Errno::ENOTCONN) => Ok(fd),
        Err(errno) => Err(errno),
    }
}
