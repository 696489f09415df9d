//! `open` and its family.
//!
//! Inside what Landlock grants, the kernel opens by itself and the notification only
//! explains. Where policy allows an object that Landlock cannot express (a tree with
//! denied parts, procfs), the guard opens it with the caller's flags and injects the
//! descriptor. Everything else is refused.

use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::resolve::{self, Found, LastLink, Object, Place};
use super::{Answer, Guard, Handled, PolicyPath, Request, process};
use crate::event::{Event, Kind, Target, TargetKind, escape};
use crate::policy::{Decision, PathAction, Verdict};
use crate::sandbox::notify::OnExec;
use crate::sandbox::process_memory::OpenHow;
use crate::sandbox::syscall::OpenCall;

/// The arguments of any form of open.
struct Arguments {
    dirfd: i32,
    path: Vec<u8>,
    flags: OFlag,
    mode: u32,
    resolve: u64,
}

/// `RESOLVE_*` bits that openat2(2) defines today.
const KNOWN_RESOLVE: u64 = 0x3f;
/// `RESOLVE_BENEATH | RESOLVE_IN_ROOT`: another meaning of "absolute", which the
/// guard does not imitate where it would have to open by itself.
const REROOTING: u64 = 0x08 | 0x10;

impl Guard {
    pub(super) fn open(&mut self, request: &Request<'_>, call: OpenCall) -> Handled {
        let args = arguments(request, call)?;
        if args.flags.contains(OFlag::O_PATH) {
            // Locates without opening; the later open through it is reported by itself.
            return Ok(Answer::Continue);
        }
        let creates = args.flags.contains(OFlag::O_CREAT);
        let exclusive = creates && args.flags.contains(OFlag::O_EXCL);
        let last = if exclusive || args.flags.contains(OFlag::O_NOFOLLOW) {
            LastLink::Keep
        } else {
            LastLink::Follow
        };
        match resolve::resolve(request.target(), args.dirfd, &args.path, last) {
            Ok(Found::Object(_)) if exclusive => Ok(Answer::Fail(Errno::EEXIST)),
            Ok(Found::Object(object)) => self.open_existing(request, &args, object),
            Ok(Found::Missing(place)) if creates => self.open_new(request, &args, place),
            // The kernel finds the same error, or an object that Landlock judges.
            Ok(Found::Missing(_)) | Err(_) => Ok(Answer::Continue),
        }
    }

    fn open_existing(&mut self, request: &Request<'_>, args: &Arguments, object: Object) -> Handled {
        let (reads, writes) = accesses(args.flags);
        if !object.is_named()
            || object.kind() == libc::S_IFLNK
            || (writes && object.is_dir() && !is_tmpfile(args.flags))
        {
            // Pipes and sockets of its own; a symlink that must not be followed (ELOOP);
            // a directory opened for writing (EISDIR).
            return Ok(Answer::Continue);
        }
        let path = match self.policy_path(&object.path) {
            PolicyPath::Ordinary(path) => path,
            PolicyPath::Foreign => return Ok(self.foreign_process(request, &args.path, &object)),
        };
        let mut decision: Option<(PathAction, Decision)> = None;
        for (wanted, action) in [(reads, PathAction::Read), (writes, PathAction::Write)] {
            if wanted {
                let mut next = self.decide(action, &path);
                if object.is_dir() && next.verdict == Verdict::Deny {
                    // Who may make and remove entries may list them.
                    let write = self.decide(PathAction::Write, &path);
                    next = if write.verdict == Verdict::Deny { next } else { write };
                }
                if decision.as_ref().is_none_or(|(_, worst)| next.verdict > worst.verdict) {
                    decision = Some((action, next));
                }
            }
        }
        let Some((action, decision)) = decision else { return Ok(Answer::Continue) };
        if decision.verdict == Verdict::Deny && !writes && self.made.contains(&object.path) {
            // Made by this script on the way to a grant: there is nothing else in it to see.
            return self.open_for(request, args, object);
        }
        if decision.verdict != Verdict::Allow {
            let event =
                self.file_event(request, action, &decision, &object.path, &path, &args.path, object.is_dir());
            self.log(event);
        }
        if decision.verdict == Verdict::Deny {
            return Ok(self.unless_audit(Answer::Fail(Errno::EACCES)));
        }
        if !writes && self.domain.resolv_conf.as_ref().is_some_and(|(real, _)| *real == object.path) {
            return Ok(self.show_resolv_conf(args));
        }
        let covered = (!reads || self.domain.cover.reads(&object.path))
            && (!writes || self.domain.cover.writes(&object.path));
        if covered || self.domain.mode == crate::policy::Mode::Audit {
            return Ok(Answer::Continue);
        }
        if args.resolve & REROOTING != 0 {
            return Ok(Answer::Fail(Errno::EXDEV));
        }
        self.open_for(request, args, object)
    }

    /// The same name servers, and word that they are to be asked over TCP: programs that
    /// resolve by themselves (Go's) do not look at `RES_OPTIONS`.
    fn show_resolv_conf(&self, args: &Arguments) -> Answer {
        let Some((_, shown)) = &self.domain.resolv_conf else { return Answer::Continue };
        match open(shown.as_path(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(fd) => Answer::Inject(fd, on_exec(args.flags)),
            Err(_) => Answer::Continue,
        }
    }

    /// Opens on behalf of the script and hands the descriptor over.
    fn open_for(&mut self, request: &Request<'_>, args: &Arguments, object: Object) -> Handled {
        let ordinary = matches!(object.kind(), libc::S_IFREG | libc::S_IFDIR);
        let flags = (args.flags & !(OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW))
            | OFlag::O_CLOEXEC
            | OFlag::O_NOCTTY;
        let mode = Mode::from_bits_truncate(args.mode);
        if !self.listener.is_valid(request.notification.id) {
            return Ok(Answer::Later);
        }
        if ordinary {
            return Ok(match open(object.reopen_path().as_str(), flags, mode) {
                Ok(fd) => Answer::Inject(fd, on_exec(args.flags)),
                Err(errno) => Answer::Fail(errno),
            });
        }
        // A FIFO or a device may block until somebody opens the other end.
        let (listener, id, keep) = (Arc::clone(&self.listener), request.notification.id, on_exec(args.flags));
        std::thread::spawn(move || {
            let _ = match open(object.reopen_path().as_str(), flags, mode) {
                Ok(fd) => listener.inject(id, std::os::fd::AsRawFd::as_raw_fd(&fd), keep),
                Err(errno) => listener.fail(id, errno as i32),
            };
        });
        Ok(Answer::Later)
    }

    fn open_new(&mut self, request: &Request<'_>, args: &Arguments, place: Place) -> Handled {
        let path = place.path();
        let decision = match self.policy_path(&path) {
            PolicyPath::Ordinary(path) => self.decide(PathAction::Write, &path),
            PolicyPath::Foreign => return Ok(Answer::Continue),
        };
        if decision.verdict != Verdict::Allow {
            let event =
                self.file_event(request, PathAction::Write, &decision, &path, &path, &args.path, false);
            self.log(event);
        }
        if decision.verdict == Verdict::Deny {
            return Ok(self.unless_audit(Answer::Fail(Errno::EACCES)));
        }
        if self.domain.cover.writes(&place.parent_path) || self.domain.mode == crate::policy::Mode::Audit {
            return Ok(Answer::Continue);
        }
        let umask = process::umask(request.notification.pid).ok_or(Errno::ESRCH)?;
        if !self.listener.is_valid(request.notification.id) {
            return Ok(Answer::Later);
        }
        let flags = args.flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let mode = Mode::from_bits_truncate(args.mode & !umask);
        Ok(match openat(&place.parent, place.name.as_os_str(), flags, mode) {
            Ok(fd) => Answer::Inject(fd, on_exec(args.flags)),
            Err(errno) => Answer::Fail(errno),
        })
    }

    /// A process outside the domain: nothing of it may be opened.
    fn foreign_process(&self, request: &Request<'_>, requested: &[u8], object: &Object) -> Answer {
        let mut event = self.event(request, Kind::Read, Verdict::Deny);
        event.target = Some(target(&object.path, requested, object.is_dir()));
        event.errno = Some("EACCES");
        event.rule = Some(super::builtin_rule("scripts.read: processes outside the domain"));
        event.techniques = vec!["T1057"];
        self.log(event);
        self.unless_audit(Answer::Fail(Errno::EACCES))
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn file_event(
        &self,
        request: &Request<'_>,
        action: PathAction,
        decision: &Decision,
        path: &std::path::Path,
        policy_path: &std::path::Path,
        requested: &[u8],
        is_dir: bool,
    ) -> Event {
        let kind = if action == PathAction::Read { Kind::Read } else { Kind::Write };
        let mut event = self.decided(request, kind, decision, target(policy_path, requested, is_dir));
        event.techniques = techniques(path, kind);
        event
    }
}

/// The target of a file event: the object, and how the script spelled it.
pub(super) fn target(path: &std::path::Path, requested: &[u8], is_dir: bool) -> Target {
    let mut target = Target::at(if is_dir { TargetKind::Dir } else { TargetKind::File }, path);
    let spelled = escape(requested);
    if target.path.as_deref() != Some(spelled.as_str()) {
        target.requested = Some(spelled);
    }
    target
}

/// ATT&CK techniques that touching this path belongs to.
fn techniques(path: &std::path::Path, kind: Kind) -> Vec<&'static str> {
    let text = path.to_string_lossy();
    let has = |needles: &[&str]| needles.iter().any(|n| text.contains(n));
    match kind {
        Kind::Read if text.starts_with("/proc/") => vec!["T1057"],
        Kind::Read if has(&["/.ssh/", ".pem", "id_rsa", "id_ed25519", "/.gnupg/"]) => vec!["T1552.004"],
        Kind::Read if has(&["Cookies", "Login Data", "logins.json"]) => vec!["T1555.003"],
        Kind::Read if has(&["_history"]) => vec!["T1552.003"],
        Kind::Read => vec!["T1552.001"],
        Kind::Write if has(&["/.git/hooks/", "/.git/config", "/.husky/"]) => vec!["T1546"],
        Kind::Write if has(&[".bashrc", ".profile", ".zshrc", ".zprofile", ".bash_profile"]) => {
            vec!["T1546.004"]
        }
        Kind::Write if has(&["authorized_keys"]) => vec!["T1098.004"],
        Kind::Write if has(&["cron"]) => vec!["T1053.003"],
        Kind::Write if has(&["autostart"]) => vec!["T1547.013"],
        Kind::Write if has(&["/node_modules/", "package.json"]) => vec!["T1195.001"],
        Kind::Write => vec!["T1565.001"],
        _ => Vec::new(),
    }
}

fn arguments(request: &Request<'_>, call: OpenCall) -> Result<Arguments, Errno> {
    let flags = |bits: u64| OFlag::from_bits_retain(bits as i32);
    Ok(match call {
        OpenCall::Open => Arguments {
            dirfd: libc::AT_FDCWD,
            path: request.path(0)?,
            flags: flags(request.arg(1)),
            mode: request.arg(2) as u32,
            resolve: 0,
        },
        OpenCall::Creat => Arguments {
            dirfd: libc::AT_FDCWD,
            path: request.path(0)?,
            flags: OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_TRUNC,
            mode: request.arg(1) as u32,
            resolve: 0,
        },
        OpenCall::Openat => Arguments {
            dirfd: request.fd(0),
            path: request.path(1)?,
            flags: flags(request.arg(2)),
            mode: request.arg(3) as u32,
            resolve: 0,
        },
        OpenCall::Openat2 => {
            // A later version of the structure may carry a meaning nobody here knows.
            if request.arg(3) != size_of::<OpenHow>() as u64 {
                return Err(Errno::E2BIG);
            }
            let how: OpenHow = request.memory().value(request.arg(2))?;
            if how.resolve & !KNOWN_RESOLVE != 0 {
                return Err(Errno::EINVAL);
            }
            Arguments {
                dirfd: request.fd(0),
                path: request.path(1)?,
                flags: flags(how.flags),
                mode: how.mode as u32,
                resolve: how.resolve,
            }
        }
    })
}

fn is_tmpfile(flags: OFlag) -> bool {
    flags.contains(OFlag::O_TMPFILE)
}

/// Whether an open with these flags reads and whether it changes anything.
fn accesses(flags: OFlag) -> (bool, bool) {
    let mode = flags & OFlag::O_ACCMODE;
    let writes = mode == OFlag::O_WRONLY || mode == OFlag::O_RDWR;
    (mode != OFlag::O_WRONLY, writes || flags.contains(OFlag::O_TRUNC) || is_tmpfile(flags))
}

fn on_exec(flags: OFlag) -> OnExec {
    if flags.contains(OFlag::O_CLOEXEC) { OnExec::Close } else { OnExec::Keep }
}
