//! Connections that run through a relay in the supervisor: those whose grant says
//! `verify: sni`, which may begin only with a server name that policy grants, and those
//! to a proxy, which may ask it only for hosts that policy grants. The relay counts what
//! goes through.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use serde_json::json;

use super::Domain;
use super::connect::{connect_techniques, errno_text, set_result};
use crate::event::{self, Event};
use crate::policy::{ConnectDecision, Verdict};
use crate::relay::{self, Spoken};

/// The kernel's own patience with a connection that nobody answers is about as long
/// (`tcp_syn_retries`, tcp(7)).
const UPSTREAM_CONNECT: Duration = Duration::from_secs(130);

/// Where the connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Through {
    /// To the host itself.
    Relay,
    /// To a proxy of the package manager.
    Proxy,
}

/// A connection that is to be verified.
pub(super) struct Pending {
    pub(super) domain: Arc<Domain>,
    pub(super) address: SocketAddr,
    pub(super) through: Through,
    /// The event for a connection that passes.
    pub(super) event: Event,
    pub(super) started: Instant,
}

/// A relay at work.
pub(super) struct Running {
    upstream: TcpStream,
    thread: JoinHandle<()>,
}

impl Running {
    pub(super) fn new(upstream: TcpStream, thread: JoinHandle<()>) -> Running {
        Running { upstream, thread }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the relay and waits until it has written its event.
    pub(super) fn end(self) {
        let _ = self.upstream.shutdown(std::net::Shutdown::Both);
        let _ = self.thread.join();
    }
}

impl Pending {
    /// Serves the connection to its end and writes its event.
    pub(super) fn relay(mut self, client: TcpStream, upstream: TcpStream) {
        if let Err(errno) = established(&upstream) {
            set_result(&mut self.event, &errno_text(errno), self.started);
            let abort = libc::linger { l_onoff: 1, l_linger: 0 };
            let _ = setsockopt(&client, sockopt::Linger, &abort);
            return self.domain.log.record(self.domain.key, self.event);
        }
        set_result(&mut self.event, "connected", self.started);
        let port = self.address.port();
        let mut refusal: Option<(String, ConnectDecision)> = None;
        let mut host = None;
        let domain = Arc::clone(&self.domain);
        let through = self.through;
        let outcome = relay::run(client, upstream, &mut |spoken| {
            let choice = match (spoken, through) {
                // TLS with the proxy itself: what is asked inside cannot be seen.
                (Spoken::Tls { .. }, Through::Proxy) => return true,
                (Spoken::Connect { host, port }, Through::Proxy) => domain.profile.decide_host(host, *port),
                (Spoken::Http { host: Some(host), port, .. }, Through::Proxy) => {
                    domain.profile.decide_host(host, port.unwrap_or(80))
                }
                (
                    Spoken::Tls { server_name: Some(host) } | Spoken::Http { host: Some(host), .. },
                    Through::Relay,
                ) => domain.profile.decide_host(host, port),
                _ => return false,
            };
            let Some(name) = name_of(spoken) else { return false };
            if choice.decision.verdict == Verdict::Deny {
                refusal.get_or_insert((name.to_owned(), choice));
                return false;
            }
            host.get_or_insert_with(|| name.to_owned());
            true
        });
        let mut event = match outcome.verdict {
            relay::Verdict::Passed => self.event,
            _ => self.refused(refusal),
        };
        if let Some(host) = host.filter(|_| event.verdict != event::Verdict::Denied)
            && let Some(target) = &mut event.target
        {
            target.host = Some(event::escape(host.as_bytes()));
        }
        let mut measured = event.measured.take().unwrap_or_default();
        measured.insert("bytes_out".into(), json!(outcome.totals.bytes_out));
        measured.insert("bytes_in".into(), json!(outcome.totals.bytes_in));
        event.measured = Some(measured);
        self.domain.log.record(self.domain.key, event);
    }

    /// The event for a connection that said another name, or none.
    fn refused(&self, refusal: Option<(String, ConnectDecision)>) -> Event {
        let mut event = self.domain.event(event::Kind::Connect, Verdict::Deny);
        event.process.clone_from(&self.event.process);
        event.syscall = self.event.syscall;
        event.target.clone_from(&self.event.target);
        event.enforced_by = event::EnforcedBy::Supervisor;
        event.techniques = connect_techniques(self.address);
        set_result(&mut event, "refused", self.started);
        match refusal {
            Some((name, choice)) => {
                if let Some(target) = &mut event.target {
                    target.host = Some(event::escape(name.as_bytes()));
                }
                self.domain.explain(&mut event, &choice.decision);
                event.expected = choice.expected;
                self.domain.attribute(&mut event, &name);
            }
            None => {
                event.rule.clone_from(&self.event.rule);
                event.detail = Some(json!({ "result": "refused", "why": "no server name was sent" }));
            }
        }
        event.errno = Some("ECONNRESET");
        event
    }
}

fn name_of(spoken: &Spoken) -> Option<&str> {
    match spoken {
        Spoken::Tls { server_name } => server_name.as_deref(),
        Spoken::Http { host, .. } => host.as_deref(),
        Spoken::Connect { host, .. } => Some(host),
        _ => None,
    }
}

/// Waits until the connection stands.
fn established(upstream: &TcpStream) -> Result<(), Errno> {
    let mut fds = [PollFd::new(upstream.as_fd(), PollFlags::POLLOUT)];
    let limit = PollTimeout::try_from(UPSTREAM_CONNECT).unwrap_or(PollTimeout::MAX);
    if poll(&mut fds, limit)? == 0 {
        return Err(Errno::ETIMEDOUT);
    }
    match getsockopt(upstream, sockopt::SocketError)? {
        0 => upstream.set_nonblocking(false).map_err(|_| Errno::EIO),
        error => Err(Errno::from_raw(error)),
    }
}
