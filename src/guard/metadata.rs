//! Calls that change mode, owner, times or extended attributes.
//!
//! Landlock does not cover them, so the kernel is never let go on by itself: the
//! guard decides on the object and changes it through its own descriptor
//! (invariant I2).

use std::ffi::CString;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};

use super::resolve::{self, Found, LastLink, Object};
use super::{Answer, Guard, Handled, PolicyPath, Request};
use crate::event::Kind;
use crate::policy::{Mode as PolicyMode, PathAction, Verdict};
use crate::sandbox::syscall::MetadataCall;
use crate::sandbox::xattr;

/// Largest attribute value the kernel takes (`XATTR_SIZE_MAX`).
const LARGEST_VALUE: usize = 64 << 10;
/// Longest attribute name (`XATTR_NAME_MAX`) and its zero.
const LONGEST_NAME: usize = 256;

/// What is to be changed.
enum Change {
    Mode(u32),
    Owner(u32, u32),
    Times([libc::timespec; 2]),
    SetAttribute { name: CString, value: Vec<u8>, flags: i32 },
    RemoveAttribute(CString),
}

/// How the object is named.
enum Named {
    Path { dirfd: i32, path: usize, last: LastLink },
    Descriptor(i32),
}

fn path(path: usize) -> Named {
    Named::Path { dirfd: libc::AT_FDCWD, path, last: LastLink::Follow }
}

fn link(path: usize) -> Named {
    Named::Path { dirfd: libc::AT_FDCWD, path, last: LastLink::Keep }
}

impl Guard {
    pub(super) fn metadata(&mut self, request: &Request<'_>, call: MetadataCall) -> Handled {
        use MetadataCall as C;
        let at = |path: usize, flags: u64| {
            let flags = flags as i32;
            let last = if flags & libc::AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
            Named::Path { dirfd: request.fd(0), path, last }
        };
        let mode = |index: usize| Change::Mode(request.arg(index) as u32);
        let owner = |index: usize| Change::Owner(request.arg(index) as u32, request.arg(index + 1) as u32);
        let (named, change) = match call {
            C::Chmod => (path(0), mode(1)),
            C::Fchmod => (Named::Descriptor(request.fd(0)), mode(1)),
            C::Fchmodat => (at(1, 0), mode(2)),
            C::Fchmodat2 => (at(1, request.arg(3)), mode(2)),
            C::Chown => (path(0), owner(1)),
            C::Lchown => (link(0), owner(1)),
            C::Fchown => (Named::Descriptor(request.fd(0)), owner(1)),
            C::Fchownat => (at(1, request.arg(4)), owner(2)),
            C::Utime => (path(0), utime(request, 1)?),
            C::Utimes => (path(0), utimes(request, 1)?),
            C::Futimesat => (or_descriptor(request, at(1, 0), 1), utimes(request, 2)?),
            C::Utimensat => (or_descriptor(request, at(1, request.arg(3)), 1), utimens(request, 2)?),
            C::Setxattr => (path(0), set_attribute(request)?),
            C::Lsetxattr => (link(0), set_attribute(request)?),
            C::Fsetxattr => (Named::Descriptor(request.fd(0)), set_attribute(request)?),
            C::Removexattr => (path(0), Change::RemoveAttribute(attribute_name(request)?)),
            C::Lremovexattr => (link(0), Change::RemoveAttribute(attribute_name(request)?)),
            C::Fremovexattr => {
                (Named::Descriptor(request.fd(0)), Change::RemoveAttribute(attribute_name(request)?))
            }
            // Too new for the C libraries in use; they fall back to the older calls.
            C::Setxattrat | C::Removexattrat | C::FileSetattr => return Ok(Answer::Fail(Errno::ENOSYS)),
        };
        let (object, requested) = match self.named(request, &named)? {
            Ok(found) => found,
            // Never "continue": the descriptor table or the path may change before the
            // kernel looks, and nothing else would stop it there.
            Err(errno) => return Ok(Answer::Fail(errno)),
        };
        if object.is_named() {
            let policy_path = match self.policy_path(&object.path) {
                PolicyPath::Ordinary(path) => path,
                PolicyPath::Foreign => return Ok(Answer::Fail(Errno::EACCES)),
            };
            let decision = self.decide(PathAction::Write, &policy_path);
            if decision.verdict != Verdict::Allow {
                let target = super::files::target(&policy_path, &requested, object.is_dir());
                let mut event = self.decided(request, Kind::Metadata, &decision, target);
                event.techniques = vec!["T1222.002"];
                self.log(event);
            }
            if decision.verdict == Verdict::Deny {
                return Ok(self.unless_audit(Answer::Fail(Errno::EACCES)));
            }
        }
        if self.domain.mode == PolicyMode::Audit {
            return Ok(Answer::Continue);
        }
        if !self.listener.is_valid(request.notification.id) {
            return Ok(Answer::Later);
        }
        Ok(match change.apply(&object) {
            Ok(()) => Answer::Value(0),
            Err(errno) => Answer::Fail(errno),
        })
    }

    /// The object, and its name as the script wrote it; or the error that the kernel would
    /// have for it. The outer error means that the caller could not be read.
    fn named(&self, request: &Request<'_>, named: &Named) -> Result<Result<(Object, Vec<u8>), Errno>, Errno> {
        let descriptor = |fd: i32| {
            resolve::descriptor(request.target(), fd).map(|object| (object, format!("fd {fd}").into_bytes()))
        };
        Ok(match *named {
            Named::Descriptor(fd) => descriptor(fd),
            Named::Path { dirfd, path, last } => {
                let text = request.path(path)?;
                if text.is_empty() {
                    return Ok(descriptor(dirfd));
                }
                match resolve::resolve(request.target(), dirfd, &text, last) {
                    Ok(Found::Object(object)) => Ok((object, text)),
                    Ok(Found::Missing(_)) => Err(Errno::ENOENT),
                    Err(errno) => Err(errno),
                }
            }
        })
    }
}

/// With a null path these calls mean the descriptor itself.
fn or_descriptor(request: &Request<'_>, named: Named, path: usize) -> Named {
    if request.arg(path) == 0 { Named::Descriptor(request.fd(0)) } else { named }
}

const NOW: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW };

fn utimens(request: &Request<'_>, index: usize) -> Result<Change, Errno> {
    match request.arg(index) {
        0 => Ok(Change::Times([NOW; 2])),
        address => request.memory().value(address).map(Change::Times),
    }
}

fn utimes(request: &Request<'_>, index: usize) -> Result<Change, Errno> {
    if request.arg(index) == 0 {
        return Ok(Change::Times([NOW; 2]));
    }
    let times: [libc::timeval; 2] = request.memory().value(request.arg(index))?;
    if times.iter().any(|t| !(0..1_000_000).contains(&t.tv_usec)) {
        return Err(Errno::EINVAL);
    }
    Ok(Change::Times(times.map(|t| libc::timespec { tv_sec: t.tv_sec, tv_nsec: t.tv_usec * 1000 })))
}

fn utime(request: &Request<'_>, index: usize) -> Result<Change, Errno> {
    if request.arg(index) == 0 {
        return Ok(Change::Times([NOW; 2]));
    }
    let times: libc::utimbuf = request.memory().value(request.arg(index))?;
    let at = |tv_sec| libc::timespec { tv_sec, tv_nsec: 0 };
    Ok(Change::Times([at(times.actime), at(times.modtime)]))
}

fn attribute_name(request: &Request<'_>) -> Result<CString, Errno> {
    let name = request.memory().c_string(request.arg(1), LONGEST_NAME).map_err(|e| match e {
        Errno::ENAMETOOLONG => Errno::ERANGE,
        other => other,
    })?;
    CString::new(name).map_err(|_| Errno::EINVAL)
}

fn set_attribute(request: &Request<'_>) -> Result<Change, Errno> {
    let len = usize::try_from(request.arg(3)).ok().filter(|len| *len <= LARGEST_VALUE).ok_or(Errno::E2BIG)?;
    let value = if len == 0 { Vec::new() } else { request.memory().bytes(request.arg(2), len)? };
    Ok(Change::SetAttribute { name: attribute_name(request)?, value, flags: request.arg(4) as i32 })
}

impl Change {
    fn apply(&self, object: &Object) -> Result<(), Errno> {
        let path = object.reopen_path();
        let c_path = || CString::new(path.as_str()).map_err(|_| Errno::EINVAL);
        let id = |n: u32| (n != u32::MAX).then_some(n);
        match self {
            Change::Mode(_) if object.kind() == libc::S_IFLNK => Err(Errno::EOPNOTSUPP),
            Change::Mode(mode) => fchmodat(
                AT_FDCWD,
                path.as_str(),
                Mode::from_bits_truncate(*mode),
                FchmodatFlags::FollowSymlink,
            ),
            Change::Owner(uid, gid) => fchownat(
                &object.fd,
                "",
                id(*uid).map(Uid::from_raw),
                id(*gid).map(Gid::from_raw),
                AtFlags::AT_EMPTY_PATH,
            ),
            Change::Times([access, modification]) => utimensat(
                AT_FDCWD,
                path.as_str(),
                &TimeSpec::from_timespec(*access),
                &TimeSpec::from_timespec(*modification),
                UtimensatFlags::FollowSymlink,
            ),
            Change::SetAttribute { name, value, flags } => xattr::set(&c_path()?, name, value, *flags),
            Change::RemoveAttribute(name) => xattr::remove(&c_path()?, name),
        }
    }
}
