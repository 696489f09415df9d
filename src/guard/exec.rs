//! `execve` and `execveat`: what is started, by whom, and whether it may be.
//!
//! Landlock decides where a program may lie; the guard names it, refuses early what
//! policy denies and logs every start. Arguments are copied before the start and so
//! are what the caller showed at that moment.

use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use super::resolve::{self, Found, LastLink, Object};
use super::{Answer, Guard, Handled, Request};
use crate::event::{Event, Kind, Target, TargetKind, escape};
use crate::policy::{PathAction, Verdict};
use crate::sandbox::syscall::ExecCall;

/// Bounds of the argument list that an event carries.
const MOST_ARGUMENTS: usize = 64;
const LONGEST_ARGUMENTS: usize = 16 << 10;

/// What is about to be started.
pub(super) struct Start {
    pub(super) object: Object,
    pub(super) requested: Vec<u8>,
    pub(super) argv: Vec<Vec<u8>>,
    pub(super) cut: bool,
}

impl Guard {
    pub(super) fn exec(&mut self, request: &Request<'_>, call: ExecCall) -> Handled {
        let Some(start) = start(request, call)? else { return Ok(Answer::Continue) };
        let mut decision = self.decide(PathAction::Exec, &start.object.path);
        let mut why = None;
        if start.object.stat.st_nlink == 0 || !start.object.is_named() {
            // Landlock still sees the deleted file's old place; the guard does not go by it.
            decision.verdict = Verdict::Deny;
            why = Some("the program has no name in the file system (deleted or in memory)");
        } else if is_loader(&start) {
            decision.verdict = Verdict::Deny;
            why = Some("starting a program through the dynamic loader hides what is run");
        }
        let mut event = self.exec_event(request, &start, decision.verdict);
        match why {
            Some(why) => {
                event.rule = Some(super::builtin_rule(why));
                event.techniques = vec!["T1620"];
            }
            None => self.domain.explain(&mut event, &decision),
        }
        if decision.verdict != Verdict::Deny && !self.kernel_reads(&start) {
            self.explain_unreadable(&mut event, &start);
            self.log(event);
            return Ok(Answer::Fail(Errno::EACCES));
        }
        self.log(event);
        if decision.verdict == Verdict::Deny {
            return Ok(self.unless_audit(Answer::Fail(Errno::EACCES)));
        }
        Ok(Answer::Continue)
    }

    /// The kernel reads a program before it runs it, so Landlock must grant both.
    fn kernel_reads(&self, start: &Start) -> bool {
        !self.domain.landlocked || self.domain.cover.reads(&start.object.path)
    }

    fn explain_unreadable(&self, event: &mut Event, start: &Start) {
        event.verdict = crate::event::Verdict::Denied;
        event.enforced_by = crate::event::EnforcedBy::Landlock;
        event.errno = Some("EACCES");
        event.rule = Some(super::builtin_rule("programs are readable when their script begins"));
        let path = &start.object.path;
        if self.decide(PathAction::Read, path).verdict == Verdict::Deny {
            event.hint = Some(self.domain.profile.hint("read", &path.to_string_lossy()));
            event.detail = Some(serde_json::json!({ "why": "a program must be readable to be started" }));
        } else {
            event.detail = Some(serde_json::json!({
                "why": "it was made after its script began, outside the directories that the kernel grants whole",
            }));
        }
    }

    pub(super) fn exec_event(&self, request: &Request<'_>, start: &Start, verdict: Verdict) -> Event {
        let mut event = self.event(request, Kind::Exec, verdict);
        let mut target = Target::at(TargetKind::Exec, &start.object.path);
        let spelled = escape(&start.requested);
        if target.path.as_deref() != Some(spelled.as_str()) {
            target.requested = Some(spelled);
        }
        if start.object.stat.st_nlink == 0
            && let Some(path) = &mut target.path
        {
            path.push_str(" (deleted)");
        }
        if let Some(process) = &mut event.process {
            process.exe = escape(start.object.path.as_os_str().as_bytes());
            process.set_argv(start.argv.iter().map(Vec::as_slice));
            process.argv_truncated |= start.cut;
        }
        if verdict == Verdict::Deny {
            event.errno = Some("EACCES");
        }
        event.target = Some(target);
        event
    }
}

/// What the call would start; `None` when the kernel refuses it by itself (a search
/// through `PATH`, a directory, a file without execute permission).
pub(super) fn start(request: &Request<'_>, call: ExecCall) -> Result<Option<Start>, Errno> {
    let (dirfd, path_at, argv_at, flags) = match call {
        ExecCall::Execve => (libc::AT_FDCWD, 0, 1, 0),
        ExecCall::Execveat => (request.fd(0), 1, 2, request.arg(4) as i32),
    };
    let requested = request.path(path_at)?;
    let last = if flags & libc::AT_SYMLINK_NOFOLLOW != 0 { LastLink::Keep } else { LastLink::Follow };
    let object = if requested.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
        resolve::descriptor(request.target(), dirfd)
    } else {
        match resolve::resolve(request.target(), dirfd, &requested, last) {
            Ok(Found::Object(object)) => Ok(object),
            _ => return Ok(None),
        }
    };
    let Ok(object) = object else { return Ok(None) };
    if object.kind() != libc::S_IFREG || object.stat.st_mode & 0o111 == 0 {
        return Ok(None);
    }
    let (argv, cut) =
        request.memory().string_array(request.arg(argv_at), MOST_ARGUMENTS, LONGEST_ARGUMENTS)?;
    let requested = if requested.is_empty() { format!("fd {dirfd}").into_bytes() } else { requested };
    Ok(Some(Start { object, requested, argv, cut }))
}

/// The dynamic loader started as a program, except for the questions `ldd` asks.
fn is_loader(start: &Start) -> bool {
    let name = start.object.path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let loader = name.starts_with(b"ld-linux") || name.starts_with(b"ld-musl") || name.starts_with(b"ld.so");
    let asks = start.argv.get(1).is_none_or(|a| {
        [&b"--list"[..], b"--verify", b"--version", b"--help", b"--list-tunables", b"--list-diagnostics"]
            .contains(&a.as_slice())
    });
    loader && !asks
}
