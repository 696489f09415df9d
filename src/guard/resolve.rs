//! From a path in a target's memory to the object it means.
//!
//! Paths are resolved as the target would resolve them (its working directory, its
//! descriptors, its `/proc/self`) and end in an `O_PATH` descriptor, so that what is
//! decided on is what is acted on (invariant I3). The ordinary case is one
//! `openat2(2)`; paths through procfs, whose links depend on who looks, are walked
//! one component at a time.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

/// Symlinks followed before `ELOOP`, as in the kernel (path_resolution(7)).
const MOST_LINKS: u32 = 40;
/// Inode of the root directory of every procfs.
const PROC_ROOT_INODE: u64 = 1;

/// The thread whose view counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    /// Thread as the notification named it.
    pub(super) tid: i32,
}

/// Whether a symlink in the last place is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastLink {
    /// As `open` and `stat` do.
    Follow,
    /// As `lstat`, `O_NOFOLLOW`, `unlink` do.
    Keep,
}

/// An existing object.
#[derive(Debug)]
pub(super) struct Object {
    /// `O_PATH` descriptor of it.
    pub(super) fd: OwnedFd,
    /// Its name in the file system: the resolved path, or `pipe:[…]` and the like.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) stat: FileStat,
}

impl Object {
    fn of(fd: OwnedFd) -> Result<Object, Errno> {
        let path = PathBuf::from(readlinkat(nix::fcntl::AT_FDCWD, own_fd(&fd).as_str())?);
        let stat = fstat(&fd)?;
        let mut object = Object { fd, path, stat };
        if object.stat.st_nlink == 0 && !object.is_dir() {
            // The kernel marks unlinked objects; the mark is no part of the name.
            if let Some(name) = object.path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
                object.path = PathBuf::from(OsStr::from_bytes(name));
            }
        }
        Ok(object)
    }

    /// The file type bits of the mode.
    pub(super) fn kind(&self) -> u32 {
        self.stat.st_mode & libc::S_IFMT
    }

    /// Whether it is a directory.
    pub(super) fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    /// Whether it has a place in a file system, unlike pipes, sockets and memfds.
    pub(super) fn is_named(&self) -> bool {
        self.path.is_absolute() && !self.path.as_os_str().as_bytes().starts_with(b"/memfd:")
    }

    /// The path by which this process can reopen the very same object.
    pub(super) fn reopen_path(&self) -> String {
        own_fd(&self.fd)
    }
}

/// `/proc/self/fd/N` of a descriptor of ours.
pub fn own_fd(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// An entry of a directory that need not exist.
#[derive(Debug)]
pub(super) struct Place {
    /// `O_PATH` descriptor of the directory.
    pub(super) parent: OwnedFd,
    /// Resolved path of the directory.
    pub(super) parent_path: PathBuf,
    /// Name of the entry: one component, never `.` or `..`.
    pub(super) name: OsString,
}

impl Place {
    /// The path of the entry.
    pub(super) fn path(&self) -> PathBuf {
        self.parent_path.join(&self.name)
    }

    /// The entry itself, if it exists; a symlink is not followed.
    pub(super) fn entry(&self) -> Option<FileStat> {
        nix::sys::stat::fstatat(&self.parent, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()
    }
}

/// What a path led to.
#[derive(Debug)]
pub(super) enum Found {
    /// It exists.
    Object(Object),
    /// Only its directory exists.
    Missing(Place),
}

const WALK: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// The directory from which the target resolves: the root, its working directory or
/// one of its descriptors.
fn start(target: Target, dirfd: i32, path: &[u8]) -> Result<OwnedFd, Errno> {
    if path.first() == Some(&b'/') {
        return open("/", WALK, Mode::empty());
    }
    let link = if dirfd == libc::AT_FDCWD {
        format!("/proc/{}/cwd", target.tid)
    } else if dirfd < 0 {
        return Err(Errno::EBADF);
    } else {
        format!("/proc/{}/fd/{dirfd}", target.tid)
    };
    open(link.as_str(), WALK, Mode::empty()).map_err(|e| if e == Errno::ENOENT { Errno::EBADF } else { e })
}

/// The object that a descriptor of the target refers to.
pub(super) fn descriptor(target: Target, fd: i32) -> Result<Object, Errno> {
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    let link = format!("/proc/{}/fd/{fd}", target.tid);
    let fd = open(link.as_str(), WALK, Mode::empty()).map_err(|_| Errno::EBADF)?;
    Object::of(fd)
}

/// Resolves `path` as `target` would.
///
/// # Errors
/// What the kernel would say: `ENOENT` for a missing directory on the way, `ENOTDIR`,
/// `ELOOP`, `EACCES`, …
pub(super) fn resolve(target: Target, dirfd: i32, path: &[u8], last: LastLink) -> Result<Found, Errno> {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let mut flags = WALK;
    if last == LastLink::Keep {
        flags |= OFlag::O_NOFOLLOW;
    }
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // An absolute path needs no start.
    let absolute = path.first() == Some(&b'/');
    let from = if absolute { None } else { Some(start(target, dirfd, path)?) };
    let at = from.as_ref().map_or(nix::fcntl::AT_FDCWD, AsFd::as_fd);
    match openat2(at, OsStr::from_bytes(path), how) {
        Ok(fd) => {
            let object = Object::of(fd)?;
            if !lies_in_our_own_proc(&object.path) {
                return Ok(Found::Object(object));
            }
        }
        // The ordinary miss (a search through many directories) without a walk.
        Err(Errno::ENOENT) => match place(target, dirfd, path) {
            Ok(place) if place.entry().is_none() => return Ok(Found::Missing(place)),
            Ok(_) => {}
            Err(_) => return Err(Errno::ENOENT),
        },
        Err(Errno::ELOOP) => {}
        Err(error) => return Err(error),
    }
    let from = match from {
        Some(from) => from,
        None => start(target, dirfd, path)?,
    };
    walk(target, from, path, last)
}

fn lies_in_our_own_proc(path: &Path) -> bool {
    path.strip_prefix("/proc").is_ok_and(|rest| {
        let first = rest.components().next().map(|c| c.as_os_str());
        first.and_then(OsStr::to_str).and_then(|n| n.parse::<u32>().ok()) == Some(std::process::id())
    })
}

/// Resolves the directory of `path` and leaves the last component alone.
///
/// # Errors
/// `EEXIST`-like ends (`.`, `..`, `/`) are [`Errno::EBUSY`]: no call may create,
/// remove or rename those.
pub(super) fn place(target: Target, dirfd: i32, path: &[u8]) -> Result<Place, Errno> {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |i| i + 1);
    let trimmed = &path[..end];
    let (directory, name) = match trimmed.iter().rposition(|b| *b == b'/') {
        Some(0) => (&b"/"[..], &trimmed[1..]),
        Some(slash) => (&trimmed[..slash], &trimmed[slash + 1..]),
        None => (&b"."[..], trimmed),
    };
    if name.is_empty() || name == b"." || name == b".." {
        return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EBUSY });
    }
    match resolve(target, dirfd, directory, LastLink::Follow)? {
        Found::Object(object) if object.is_dir() => {
            Ok(Place { parent: object.fd, parent_path: object.path, name: OsString::from_vec(name.to_vec()) })
        }
        Found::Object(_) => Err(Errno::ENOTDIR),
        Found::Missing(_) => Err(Errno::ENOENT),
    }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = OsString> + '_ {
    path.split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".").map(|c| OsString::from_vec(c.to_vec()))
}

fn walk(target: Target, from: OwnedFd, path: &[u8], last: LastLink) -> Result<Found, Errno> {
    let mut here = from;
    let mut todo: VecDeque<OsString> = components(path).collect();
    let must_be_dir = path.ends_with(b"/") || path.ends_with(b"/.");
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        let is_last = todo.is_empty();
        let proc = proc_place(&here);
        if proc == ProcPlace::Root && (name == "self" || name == "thread-self") {
            if name == "thread-self" {
                todo.push_front(target.tid.to_string().into());
                todo.push_front("task".into());
            }
            todo.push_front(super::process::thread_group(target.tid).ok_or(Errno::ESRCH)?.to_string().into());
            continue;
        }
        let next = match openat(&here, name.as_os_str(), WALK | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::ENOENT) if is_last => {
                let parent = Object::of(here)?;
                return Ok(Found::Missing(Place { parent: parent.fd, parent_path: parent.path, name }));
            }
            Err(error) => return Err(error),
        };
        let stat = fstat(&next)?;
        let is_link = stat.st_mode & libc::S_IFMT == libc::S_IFLNK;
        if !is_link || (is_last && last == LastLink::Keep && !must_be_dir) {
            if !is_last && stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
                return Err(Errno::ENOTDIR);
            }
            here = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::ELOOP);
        }
        if proc == ProcPlace::Process {
            // A magic link: only the kernel can follow it.
            here = openat(&here, name.as_os_str(), WALK, Mode::empty())?;
            continue;
        }
        let text = readlinkat(&next, "")?.into_vec();
        if text.first() == Some(&b'/') {
            here = open("/", WALK, Mode::empty())?;
        }
        for part in components(&text).rev() {
            todo.push_front(part);
        }
    }
    let object = Object::of(here)?;
    if must_be_dir && !object.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    Ok(Found::Object(object))
}

#[derive(PartialEq, Eq)]
enum ProcPlace {
    /// Not procfs.
    None,
    /// The root of procfs.
    Root,
    /// Somewhere below `/proc/PID`.
    Process,
}

fn proc_place(dir: &OwnedFd) -> ProcPlace {
    match fstatfs(dir.as_fd()) {
        Ok(fs) if fs.filesystem_type() == PROC_SUPER_MAGIC => match fstat(dir) {
            Ok(stat) if stat.st_ino == PROC_ROOT_INODE => ProcPlace::Root,
            _ => ProcPlace::Process,
        },
        _ => ProcPlace::None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn me() -> Target {
        Target { tid: std::process::id() as i32 }
    }

    fn object(path: &str) -> Object {
        match resolve(me(), libc::AT_FDCWD, path.as_bytes(), LastLink::Follow).unwrap() {
            Found::Object(object) => object,
            Found::Missing(place) => panic!("{place:?}"),
        }
    }

    #[test]
    fn symlinks_dots_and_proc_aliases_lead_to_the_object() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap().join("secret");
        std::fs::write(&real, "x").unwrap();
        symlink(&real, dir.path().join("link")).unwrap();
        symlink("link", dir.path().join("again")).unwrap();
        let base = dir.path().display();
        for alias in [
            format!("{base}/link"),
            format!("{base}/again"),
            format!("{base}/./../{}/again", dir.path().file_name().unwrap().display()),
            format!("/proc/self/root{base}/link"),
            format!("/proc/thread-self/root{base}/again"),
        ] {
            assert_eq!(object(&alias).path, real, "{alias}");
        }
        let file = std::fs::File::open(&real).unwrap();
        assert_eq!(object(&format!("/dev/fd/{}", file.as_raw_fd())).path, real);
        assert_eq!(descriptor(me(), file.as_raw_fd()).unwrap().path, real);
    }

    #[test]
    fn proc_self_is_the_targets() {
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        let pid = child.id() as i32;
        let target = Target { tid: pid };
        for path in ["/proc/self/environ", "/proc/thread-self/environ", "/proc/mounts/../self/environ"] {
            let found = resolve(target, libc::AT_FDCWD, path.as_bytes(), LastLink::Follow);
            if let Ok(Found::Object(object)) = found {
                assert!(object.path.starts_with(format!("/proc/{pid}")), "{path} → {:?}", object.path);
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_missing_entry_names_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = format!("{}/new/", dir.path().display());
        let place = place(me(), libc::AT_FDCWD, path.as_bytes()).unwrap();
        assert_eq!(place.path(), dir.path().canonicalize().unwrap().join("new"));
        assert!(place.entry().is_none());
        assert!(super::place(me(), libc::AT_FDCWD, b"/").is_err());
    }

    #[test]
    fn loops_end() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let path = format!("{}/a", dir.path().display());
        assert_eq!(
            resolve(me(), libc::AT_FDCWD, path.as_bytes(), LastLink::Follow).unwrap_err(),
            Errno::ELOOP
        );
    }
}
