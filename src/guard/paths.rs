//! Calls that change directories: create, remove, rename, link, truncate by path.
//!
//! Landlock decides inside what it grants. In trees that policy allows but Landlock
//! cannot express, the guard performs the call on directory descriptors of its own.
//! A call that would fail anyway (`EEXIST`, `ENOENT`) is left to the kernel, so that
//! programs see the error they would see outside.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, open, renameat2};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::resolve::{self, Found, LastLink, Object, Place};
use super::{Answer, Guard, Handled, PolicyPath, Request, process};
use crate::event::Kind;
use crate::policy::{Grant, Mode as PolicyMode, PathAction, Verdict};
use crate::sandbox::syscall::PathCall;

/// A directory with more entries than this is not moved by the guard.
const MOST_MOVED: usize = 16_384;

/// Who carries a permitted call out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Kernel,
    Guard,
    Nobody,
}

impl By {
    fn and(self, other: By) -> By {
        match (self, other) {
            (By::Nobody, _) | (_, By::Nobody) => By::Nobody,
            (By::Kernel, By::Kernel) => By::Kernel,
            _ => By::Guard,
        }
    }
}

impl Guard {
    pub(super) fn path_call(&mut self, request: &Request<'_>, call: PathCall) -> Handled {
        use PathCall as C;
        match call {
            C::Mkdir => self.mkdir(request, libc::AT_FDCWD, 0, request.arg(1)),
            C::Mkdirat => self.mkdir(request, request.fd(0), 1, request.arg(2)),
            C::Mknod => self.mknod(request, libc::AT_FDCWD, 0, request.arg(1)),
            C::Mknodat => self.mknod(request, request.fd(0), 1, request.arg(2)),
            C::Rmdir => self.unlink(request, libc::AT_FDCWD, 0, libc::AT_REMOVEDIR as u64),
            C::Unlink => self.unlink(request, libc::AT_FDCWD, 0, 0),
            C::Unlinkat => self.unlink(request, request.fd(0), 1, request.arg(2)),
            C::Rename => self.rename(request, (libc::AT_FDCWD, 0), (libc::AT_FDCWD, 1), 0),
            C::Renameat => self.rename(request, (request.fd(0), 1), (request.fd(2), 3), 0),
            C::Renameat2 => self.rename(request, (request.fd(0), 1), (request.fd(2), 3), request.arg(4)),
            C::Link => self.link(request, (libc::AT_FDCWD, 0), (libc::AT_FDCWD, 1), 0),
            C::Linkat => self.link(request, (request.fd(0), 1), (request.fd(2), 3), request.arg(4)),
            C::Symlink => self.symlink(request, 0, libc::AT_FDCWD, 1),
            C::Symlinkat => self.symlink(request, 0, request.fd(1), 2),
            C::Truncate => self.truncate(request),
        }
    }

    /// Decides on changing the entry at `path` of directory `parent`; logs what is to be logged.
    fn decide_entry(&self, request: &Request<'_>, parent: &Path, path: &Path, requested: &[u8]) -> By {
        let policy_path = match self.policy_path(path) {
            PolicyPath::Ordinary(path) => path,
            PolicyPath::Foreign => return By::Nobody,
        };
        let decision = self.decide(PathAction::Write, &policy_path);
        if decision.verdict != Verdict::Allow {
            let event =
                self.file_event(request, PathAction::Write, &decision, path, &policy_path, requested, false);
            self.log(event);
        }
        if decision.verdict == Verdict::Deny {
            return if self.domain.mode == PolicyMode::Audit { By::Kernel } else { By::Nobody };
        }
        if self.domain.mode == PolicyMode::Audit || self.domain.cover.writes(parent) {
            By::Kernel
        } else if self.domain.cover.writes(path) {
            // The root of a granted tree: its contents may change, the entry itself may not.
            let mut event = self.event(request, Kind::Write, Verdict::Deny);
            event.target = Some(super::files::target(&policy_path, requested, true));
            event.rule = Some(super::builtin_rule("the root of a granted tree"));
            event.errno = Some("EACCES");
            self.log(event);
            By::Nobody
        } else {
            By::Guard
        }
    }

    fn decide_place(&self, request: &Request<'_>, place: &Place, requested: &[u8]) -> By {
        self.decide_entry(request, &place.parent_path, &place.path(), requested)
    }

    /// Answers for `by`; `act` carries the call out for the script.
    fn settle(&self, request: &Request<'_>, by: By, act: impl FnOnce() -> Result<(), Errno>) -> Answer {
        match by {
            By::Kernel => Answer::Continue,
            By::Nobody => Answer::Fail(Errno::EACCES),
            By::Guard if !self.listener.is_valid(request.notification.id) => Answer::Later,
            By::Guard => match act() {
                Ok(()) => Answer::Value(0),
                Err(errno) => Answer::Fail(errno),
            },
        }
    }

    fn mode(&self, request: &Request<'_>, mode: u64) -> Result<Mode, Errno> {
        let umask = process::umask(request.notification.pid).ok_or(Errno::ESRCH)?;
        Ok(Mode::from_bits_truncate(mode as u32 & !umask))
    }

    fn mkdir(&mut self, request: &Request<'_>, dirfd: i32, path: usize, mode: u64) -> Handled {
        let requested = request.path(path)?;
        let Ok(place) = resolve::place(request.target(), dirfd, &requested) else {
            return Ok(Answer::Continue);
        };
        if place.entry().is_some() {
            return Ok(Answer::Continue);
        }
        let by = if self.leads_to_a_grant(&place.path()) {
            self.made.push(place.path());
            By::Guard
        } else {
            self.decide_place(request, &place, &requested)
        };
        let mode = self.mode(request, mode)?;
        Ok(self.settle(request, by, || mkdirat(&place.parent, place.name.as_os_str(), mode)))
    }

    /// A missing directory on the way to something the script may write: a grant of
    /// `~/.cache/tool/**` is of no use where there is no `~/.cache` yet.
    fn leads_to_a_grant(&self, path: &Path) -> bool {
        self.domain.mode != PolicyMode::Audit
            && self
                .domain
                .profile
                .kernel_grants()
                .write
                .iter()
                .map(Grant::path)
                .any(|granted| granted != path && granted.starts_with(path))
    }

    fn mknod(&mut self, request: &Request<'_>, dirfd: i32, path: usize, mode: u64) -> Handled {
        let requested = request.path(path)?;
        let Ok(place) = resolve::place(request.target(), dirfd, &requested) else {
            return Ok(Answer::Continue);
        };
        if place.entry().is_some() {
            return Ok(Answer::Continue);
        }
        let by = self.decide_place(request, &place, &requested);
        let kind = SFlag::from_bits_truncate(mode as u32 & libc::S_IFMT);
        let perm = self.mode(request, mode)?;
        Ok(self.settle(request, by, || {
            if [SFlag::S_IFCHR, SFlag::S_IFBLK].contains(&kind) {
                return Err(Errno::EPERM);
            }
            mknodat(&place.parent, place.name.as_os_str(), kind, perm, 0)
        }))
    }

    fn unlink(&mut self, request: &Request<'_>, dirfd: i32, path: usize, flags: u64) -> Handled {
        let requested = request.path(path)?;
        let Ok(place) = resolve::place(request.target(), dirfd, &requested) else {
            return Ok(Answer::Continue);
        };
        if place.entry().is_none() {
            return Ok(Answer::Continue);
        }
        let by = self.decide_place(request, &place, &requested);
        let how = if flags as i32 & libc::AT_REMOVEDIR != 0 {
            UnlinkatFlags::RemoveDir
        } else {
            UnlinkatFlags::NoRemoveDir
        };
        Ok(self.settle(request, by, || unlinkat(&place.parent, place.name.as_os_str(), how)))
    }

    fn rename(&mut self, request: &Request<'_>, from: (i32, usize), to: (i32, usize), flags: u64) -> Handled {
        let (old_text, new_text) = (request.path(from.1)?, request.path(to.1)?);
        let places = resolve::place(request.target(), from.0, &old_text)
            .and_then(|old| Ok((old, resolve::place(request.target(), to.0, &new_text)?)));
        let Ok((old, new)) = places else { return Ok(Answer::Continue) };
        let Some(stat) = old.entry() else { return Ok(Answer::Continue) };
        let by = self.decide_place(request, &old, &old_text).and(self.decide_place(request, &new, &new_text));
        let across = by == By::Kernel && !self.moves_as_one(&old.path(), &new.path());
        let is_dir = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let swaps = flags & u64::from(libc::RENAME_EXCHANGE) != 0;
        if by == By::Guard
            && ((is_dir && !self.may_move(request, &old.path(), &new.path()))
                || (swaps && !self.may_move(request, &new.path(), &old.path())))
        {
            return Ok(Answer::Fail(Errno::EACCES));
        }
        let flags = RenameFlags::from_bits_truncate(flags as u32);
        let by = if across { By::Guard } else { by };
        Ok(self.settle(request, by, || {
            renameat2(&old.parent, old.name.as_os_str(), &new.parent, new.name.as_os_str(), flags)
        }))
    }

    fn moves_as_one(&self, old: &Path, new: &Path) -> bool {
        self.domain.mode == PolicyMode::Audit || self.domain.cover.writes_as_one(old, new)
    }

    /// A directory may be moved only if everything in it may be changed at both places;
    /// otherwise a protected file could be carried out of its protection and back.
    fn may_move(&self, request: &Request<'_>, from: &Path, to: &Path) -> bool {
        let mut todo: VecDeque<PathBuf> = VecDeque::from([from.to_owned()]);
        let mut seen = 0;
        while let Some(dir) = todo.pop_front() {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                seen += 1;
                let path = entry.path();
                let Ok(rest) = path.strip_prefix(from) else { return false };
                let moved = to.join(rest);
                for end in [&path, &moved] {
                    let decision = self.decide(PathAction::Write, end);
                    if decision.verdict == Verdict::Deny || seen > MOST_MOVED {
                        let requested = std::os::unix::ffi::OsStrExt::as_bytes(from.as_os_str());
                        let event = self.file_event(
                            request,
                            PathAction::Write,
                            &decision,
                            end,
                            end,
                            requested,
                            false,
                        );
                        self.log(event);
                        return false;
                    }
                }
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    todo.push_back(path);
                }
            }
        }
        true
    }

    fn link(&mut self, request: &Request<'_>, from: (i32, usize), to: (i32, usize), flags: u64) -> Handled {
        let (old_text, new_text) = (request.path(from.1)?, request.path(to.1)?);
        let flags = flags as i32;
        let last = if flags & libc::AT_SYMLINK_FOLLOW != 0 { LastLink::Follow } else { LastLink::Keep };
        let old = if old_text.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            resolve::descriptor(request.target(), from.0)
        } else {
            match resolve::resolve(request.target(), from.0, &old_text, last) {
                Ok(Found::Object(object)) => Ok(object),
                _ => Err(Errno::ENOENT),
            }
        };
        let (Ok(old), Ok(new)) = (old, resolve::place(request.target(), to.0, &new_text)) else {
            return Ok(Answer::Continue);
        };
        if new.entry().is_some() || old.is_dir() {
            return Ok(Answer::Continue);
        }
        // A second name for a file gives the right to change it by that name.
        let parent = old.path.parent().unwrap_or(Path::new("/"));
        let mut by = self
            .decide_entry(request, parent, &old.path, &old_text)
            .and(self.decide_place(request, &new, &new_text));
        if by == By::Kernel && !self.moves_as_one(&old.path, &new.path()) {
            by = By::Guard;
        }
        Ok(self.settle(request, by, || {
            linkat(
                nix::fcntl::AT_FDCWD,
                old.reopen_path().as_str(),
                &new.parent,
                new.name.as_os_str(),
                LinkatFlags::AT_SYMLINK_FOLLOW,
            )
        }))
    }

    fn symlink(&mut self, request: &Request<'_>, text: usize, dirfd: i32, path: usize) -> Handled {
        let (content, requested) = (request.path(text)?, request.path(path)?);
        let Ok(place) = resolve::place(request.target(), dirfd, &requested) else {
            return Ok(Answer::Continue);
        };
        if place.entry().is_some() {
            return Ok(Answer::Continue);
        }
        let by = self.decide_place(request, &place, &requested);
        Ok(self.settle(request, by, || symlinkat(content.as_slice(), &place.parent, place.name.as_os_str())))
    }

    fn truncate(&mut self, request: &Request<'_>) -> Handled {
        let requested = request.path(0)?;
        let object: Object =
            match resolve::resolve(request.target(), libc::AT_FDCWD, &requested, LastLink::Follow) {
                Ok(Found::Object(object)) => object,
                _ => return Ok(Answer::Continue),
            };
        let mut by = self.decide_entry(request, &object.path, &object.path, &requested);
        if by == By::Guard && self.domain.cover.writes(&object.path) {
            by = By::Kernel;
        }
        let length = request.arg(1) as i64;
        Ok(self.settle(request, by, || {
            let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
            let fd = open(object.reopen_path().as_str(), flags, Mode::empty())?;
            nix::unistd::ftruncate(&fd, length)
        }))
    }
}
