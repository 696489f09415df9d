//! Calls that are refused as such, calls that name another process in a register,
//! and the few calls that the manager domain reports.

use nix::errno::Errno;

use super::address::Address;
use super::{Answer, Guard, Handled, Request, exec, process};
use crate::event::{Kind, Rule, Target, TargetKind};
use crate::policy::{Mode, Verdict};
use crate::sandbox::syscall::{Call, ProcessCall, Refusal, SocketCall};

/// The rule behind a refusal that no policy can lift.
pub(super) fn builtin_rule(what: &str) -> Rule {
    Rule { source: "builtin".into(), line: None, pointer: what.into() }
}

/// Name of the errors that refusals use.
pub(super) fn errno_name(errno: i32) -> &'static str {
    match errno {
        libc::EPERM => "EPERM",
        libc::EACCES => "EACCES",
        libc::ENOSYS => "ENOSYS",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        libc::ECONNREFUSED => "ECONNREFUSED",
        _ => "EINVAL",
    }
}

impl Guard {
    pub(super) fn refused(&self, request: &Request<'_>, refusal: Refusal) -> Answer {
        let mut event = self.event(request, Kind::Process, Verdict::Deny);
        event.target = Some(Target::named(TargetKind::Syscall, refusal.name.as_bytes()));
        event.rule = Some(builtin_rule("calls that leave a domain"));
        event.errno = Some(errno_name(refusal.errno));
        event.techniques = refusal.technique.into_iter().collect();
        self.log(event);
        self.unless_audit(Answer::Fail(Errno::from_raw(refusal.errno)))
    }

    /// The registers hold all there is to know, so "continue" is safe here.
    pub(super) fn process_call(&self, request: &Request<'_>, call: ProcessCall) -> Answer {
        use ProcessCall as C;
        let pid = match call {
            C::PidfdSendSignal => pidfd_target(request.notification.pid, request.fd(0)).unwrap_or(0),
            C::Setpriority | C::IoprioSet => request.fd(1),
            _ => request.fd(0),
        };
        let is_signal = !matches!(
            call,
            C::Prlimit64
                | C::Setpriority
                | C::SchedSetaffinity
                | C::SchedSetscheduler
                | C::SchedSetparam
                | C::SchedSetattr
                | C::IoprioSet
        );
        let own = if pid > 0 {
            match process::thread_group(pid) {
                // Nobody has that number: ESRCH.
                None => true,
                Some(group) => process::descends_from(group, self.root) && group != self.root,
            }
        } else {
            // A group: Landlock's scope delivers only to members of the domain.
            is_signal && self.domain.groups_are_scoped
        };
        if own {
            return Answer::Continue;
        }
        let kind = if is_signal { Kind::Signal } else { Kind::Process };
        let mut event = self.event(request, kind, Verdict::Deny);
        event.target = Some(Target::named(TargetKind::Process, format!("pid {pid}").as_bytes()));
        event.rule = Some(builtin_rule("processes outside the domain"));
        event.errno = Some("EPERM");
        if is_signal {
            event.detail = Some(serde_json::json!({ "signal": request.arg(1) as i32 }));
            event.techniques = vec!["T1489"];
        }
        self.log(event);
        self.unless_audit(Answer::Fail(Errno::EPERM))
    }

    /// What the package manager reports: programs it starts and connections it makes.
    pub(super) fn manager_call(&mut self, request: &Request<'_>) -> Answer {
        match request.entry.call {
            Call::Exec(call) => match exec::start(request, call) {
                Ok(Some(start)) => self.manager_exec(request, &start),
                Ok(None) => Answer::Continue,
                Err(errno) => self.not_inspectable(request, errno),
            },
            Call::Socket(call) => {
                let handled = match call {
                    SocketCall::Connect => self.manager_connect(request),
                    _ => self.socket_call(request, call),
                };
                handled.unwrap_or_else(|errno| self.uninspected(request, errno))
            }
            Call::Refused(refusal) => self.refused(request, refusal),
            _ => Answer::Continue,
        }
    }

    fn manager_exec(&self, request: &Request<'_>, start: &exec::Start) -> Answer {
        let path = &start.object.path;
        if self.domain.programs.iter().any(|p| path.starts_with(p)) {
            let event = self.exec_event(request, start, Verdict::Allow);
            self.log(event);
            return Answer::Continue;
        }
        let mut event = self.exec_event(request, start, Verdict::Deny);
        event.rule = Some(builtin_rule("programs that the package manager may start"));
        self.log(event);
        if self.domain.mode == Mode::Audit {
            return Answer::Continue;
        }
        self.domain.breach.raise(format!(
            "the package manager started `{}` by itself, where npmguard cannot see which package it runs for; \
             the start was refused",
            crate::event::escape(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))
        ));
        Answer::Fail(Errno::EACCES)
    }

    /// The manager's TCP is that of scripts. Its Unix sockets are its own business, but
    /// for those of name services: it is to ask the resolver.
    fn manager_connect(&mut self, request: &Request<'_>) -> Handled {
        match Address::read(request, 1, 2)? {
            Some(Address::Inet(address)) => self.connect_inet(request, address),
            Some(Address::Path(path)) if self.names_a_name_service(request, &path) => {
                Ok(self.unless_audit(Answer::Fail(Errno::ECONNREFUSED)))
            }
            Some(Address::Malformed) => Ok(Answer::Fail(Errno::EINVAL)),
            Some(Address::Other(family)) if i32::from(family) == libc::AF_UNSPEC => self.connect(request),
            _ => Ok(Answer::Continue),
        }
    }
}

/// The process behind a pidfd of the target (`Pid:` in its fdinfo, pidfd_open(2)).
fn pidfd_target(tid: i32, fd: i32) -> Option<i32> {
    let info = std::fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|v| v.trim().parse().ok())
}
