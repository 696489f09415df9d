//! Extended attributes by path (`setxattr(2)`), which `nix` does not offer.

use std::ffi::CStr;

use nix::errno::Errno;

/// Sets an attribute of the object that `path` leads to.
pub fn set(path: &CStr, name: &CStr, value: &[u8], flags: i32) -> Result<(), Errno> {
    // SAFETY: both strings end in zero, and the value is live for the length given.
    Errno::result(unsafe {
        libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags)
    })
    .map(drop)
}

/// Removes an attribute of the object that `path` leads to.
pub fn remove(path: &CStr, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both strings end in zero.
    Errno::result(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}
