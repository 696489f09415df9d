//! Taking on another user's identity in one thread.
//!
//! When the supervisor is root and npm runs a script as the owner of its directory,
//! the guard thread of that script becomes that user, so that what it opens on the
//! script's behalf is what the script could have opened (the C library would change
//! all threads; the raw calls change one, `credentials(7)`).

use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

/// Who a script runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: Uid,
    /// Primary group.
    pub gid: Gid,
    /// Supplementary groups.
    pub groups: Vec<Gid>,
}

/// Makes the calling thread run as `identity` for good.
///
/// # Errors
/// `EPERM` without the capabilities to do so.
pub fn assume_in_thread(identity: &Identity) -> Result<(), Errno> {
    let groups: Vec<libc::gid_t> = identity.groups.iter().map(|g| g.as_raw()).collect();
    let (uid, gid) = (identity.uid.as_raw(), identity.gid.as_raw());
    // SAFETY: plain system calls on integers and a live array; they change only the
    // credentials of the calling thread.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        Errno::result(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        Errno::result(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}
