//! Connections to Internet addresses, performed by the guard on its duplicate of the
//! caller's socket and on its own copy of the address.
//!
//! A connect never blocks the guard: it is started without waiting, and a caller that
//! waits is answered when the socket says that it is decided, when a signal interrupts
//! the wait, or when its `SO_SNDTIMEO` has passed. Connections to the system's name
//! servers end at the resolver in the supervisor, and those that are to be verified at
//! a relay.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, connect, getsockname,
    getsockopt, socket, sockopt,
};
use serde_json::json;

use super::address::{inet_target, udp_target};
use super::datagrams::PrivateUdp;
use super::names::Asker;
use super::refused::builtin_rule;
use super::socket_table::{Attempt, Entry, Finished, Kind, Settled, Waiter, listener_line};
use super::verified::{Pending, Running, Through};
use super::{Answer, Guard, Handled, Request, process};
use crate::event::{self, Event, Target};
use crate::policy::{ConnectDecision, Mode, Verdict, Verify, canonical};
use crate::resolver::Client;

/// How often waiting callers are looked at for signals.
pub(super) const TICK: Duration = Duration::from_millis(20);
/// The kernel's own "interrupted, perhaps to be restarted" (include/linux/errno.h): with
/// `SA_RESTART` it makes the call again, otherwise the caller sees `EINTR`.
const ERESTARTSYS: i32 = 512;
/// Relayed connections of one domain at a time: each costs the supervisor a thread and
/// descriptors, which other domains need as well.
const MOST_RELAYS: usize = 128;
/// How long a connection to a port of this process may take to show up.
const LOCAL_CONNECT: Duration = Duration::from_secs(2);

impl Guard {
    /// connect(2) of a socket that is not a Unix socket.
    pub(super) fn connect_inet(&mut self, request: &Request<'_>, address: SocketAddr) -> Handled {
        let inode = match self.inode(request) {
            Ok(inode) => inode,
            Err(errno) => return Ok(Answer::Fail(errno)),
        };
        let blocking = self.is_blocking(inode);
        match self.sockets.open.get_mut(&inode) {
            Some(Entry { kind: Kind::MuteUdp | Kind::PrivateUdp, .. }) => {
                return self.connect_udp(request, inode, address);
            }
            Some(entry) if entry.kind == Kind::Unix => return Ok(Answer::Fail(Errno::EAFNOSUPPORT)),
            Some(Entry { attempt: Some(attempt), fd, .. }) => {
                // One caller waits; the next is told what a socket says that does not wait.
                if !blocking || attempt.waiter.is_some_and(|waiter| self.listener.is_valid(waiter.id)) {
                    return Ok(Answer::Fail(Errno::EALREADY));
                }
                attempt.waiter = Some(waiter(request, fd.as_fd()));
                return Ok(Answer::Later);
            }
            Some(_) => {}
            None if self.domain.mode == Mode::Audit && !self.sockets.settled.contains_key(&inode) => {
                return Ok(self.observe_connect(request, address));
            }
            None => return Ok(self.connect_again(inode)),
        }
        let to = SocketAddr::new(canonical(address.ip()), address.port());
        if self.domain.resolver.is_name_server(to) {
            return self.connect_resolver(request, inode);
        }
        let own = to.ip().is_loopback() && self.listens_on(to);
        let names = self.names_of(to.ip());
        let choice = self.domain.profile.decide_connect(to, &names);
        if own {
            let mut event = self.event(request, event::Kind::Connect, Verdict::Allow);
            event.target = Some(inet_target(to));
            event.rule = Some(builtin_rule("the script's own servers"));
            return self.start_connect(request, inode, address, Some(event));
        }
        let mut event = self.connect_event(request, to, &choice, names.first());
        if choice.decision.verdict == Verdict::Deny {
            event.techniques = connect_techniques(to);
            self.log(event);
            if self.domain.mode == Mode::Enforce {
                return Ok(Answer::Fail(Errno::EACCES));
            }
            return self.start_connect(request, inode, address, None);
        }
        // Behind a proxy is the whole world, so what is asked of it is decided on as well.
        let through = if self.domain.profile.is_proxy(to, &names) { Through::Proxy } else { Through::Relay };
        if self.domain.mode == Mode::Enforce
            && (through == Through::Proxy || choice.verify == Some(Verify::Sni))
        {
            return self.connect_relay(request, inode, address, event, through);
        }
        self.start_connect(request, inode, address, Some(event))
    }

    /// In audit mode sockets other than TCP are the kernel's; what they are for is known.
    fn observe_connect(&mut self, request: &Request<'_>, address: SocketAddr) -> Answer {
        let to = SocketAddr::new(canonical(address.ip()), address.port());
        let names = self.names_of(to.ip());
        let choice = self.domain.profile.decide_connect(to, &names);
        if !self.domain.resolver.is_name_server(to) {
            let mut event = self.connect_event(request, to, &choice, names.first());
            event.target = Some(Target { host: event.target.and_then(|t| t.host), ..udp_target(to) });
            self.log(event);
        }
        Answer::Continue
    }

    fn connect_event(
        &self,
        request: &Request<'_>,
        to: SocketAddr,
        choice: &ConnectDecision,
        known: Option<&Arc<str>>,
    ) -> Event {
        let mut target = inet_target(to);
        let host = choice.host.as_ref().or(known.filter(|_| !to.ip().is_loopback()));
        target.host = host.map(|name| event::escape(name.as_bytes()));
        let mut event = self.decided(request, event::Kind::Connect, &choice.decision, target);
        event.expected = choice.expected && choice.decision.verdict == Verdict::Deny;
        let asked = host.map_or_else(|| to.ip().to_string(), ToString::to_string);
        self.domain.attribute(&mut event, &asked);
        event
    }

    /// A connect on a socket that has no duplicate any more.
    fn connect_again(&mut self, inode: u64) -> Answer {
        match self.sockets.settled.get_mut(&inode) {
            Some(how @ Settled::Unnoticed) => {
                *how = Settled::Connected;
                Answer::Value(0)
            }
            Some(Settled::Connected | Settled::Listens) => Answer::Fail(Errno::EISCONN),
            // Accepted, so connected; or no socket that was handed out.
            None => Answer::Fail(Errno::EISCONN),
        }
    }

    fn is_blocking(&self, inode: u64) -> bool {
        self.sockets.open.get(&inode).is_some_and(|entry| is_blocking(entry.fd.as_fd()))
    }

    /// Starts a connection; `event` is written when it is known how it went.
    fn start_connect(
        &mut self,
        request: &Request<'_>,
        inode: u64,
        address: SocketAddr,
        event: Option<Event>,
    ) -> Handled {
        if !self.listener.is_valid(request.notification.id) {
            return Ok(Answer::Later);
        }
        let Some(entry) = self.sockets.open.get_mut(&inode) else { return Ok(Answer::Fail(Errno::EBADF)) };
        let blocking = is_blocking(entry.fd.as_fd());
        let started = Instant::now();
        match without_waiting(entry.fd.as_fd(), |fd| connect_to(fd, address)) {
            Ok(()) => {
                self.sockets.settle(inode, Settled::Connected);
                let attempt = Attempt { event, started, waiter: None };
                self.close_attempt(Finished { attempt, result: Some(Ok(())) });
                Ok(Answer::Value(0))
            }
            Err(Errno::EINPROGRESS) => {
                let waiter = blocking.then(|| waiter(request, entry.fd.as_fd()));
                entry.attempt = Some(Attempt { event, started, waiter });
                Ok(if blocking { Answer::Later } else { Answer::Fail(Errno::EINPROGRESS) })
            }
            Err(errno) => {
                let attempt = Attempt { event, started, waiter: None };
                self.close_attempt(Finished { attempt, result: Some(Err(errno)) });
                Ok(Answer::Fail(errno))
            }
        }
    }

    /// Writes what became of attempts that are decided, and answers who waits for them.
    pub(super) fn settle_attempts(&mut self) {
        for finished in self.sockets.finished() {
            if let Some(waiter) = finished.attempt.waiter {
                let _ = match finished.result {
                    Some(Err(errno)) => self.listener.fail(waiter.id, errno as i32),
                    _ => self.listener.succeed(waiter.id, 0),
                };
            }
            self.close_attempt(finished);
        }
    }

    fn close_attempt(&self, finished: Finished) {
        let Some(mut event) = finished.attempt.event else { return };
        let result = match finished.result {
            Some(Ok(())) => "connected".to_owned(),
            Some(Err(errno)) => errno_text(errno),
            None => "failed".to_owned(),
        };
        set_result(&mut event, &result, finished.attempt.started);
        self.log(event);
    }

    /// Lets callers go whose wait a signal ends, or whose time is up.
    pub(super) fn look_after_waiters(&mut self) {
        let listener = &self.listener;
        for slot in self.sockets.waiters() {
            let Some(waiter) = slot else { continue };
            let restart = waiter.deadline.is_none();
            let answer = if !listener.is_valid(waiter.id) {
                None
            } else if waiter.deadline.is_some_and(|at| at <= Instant::now()) {
                Some(Errno::EINPROGRESS as i32)
            } else if process::has_pending_signal(waiter.tid) {
                // signal(7): with a time-out on the socket the call is never restarted.
                Some(if restart { ERESTARTSYS } else { Errno::EINTR as i32 })
            } else {
                continue;
            };
            if let Some(errno) = answer {
                let _ = listener.fail(waiter.id, errno);
            }
            *slot = None;
        }
    }

    /// Whether anybody waits in a blocking connect.
    pub(super) fn has_waiters(&mut self) -> bool {
        self.sockets.waiters().any(|waiter| waiter.is_some())
    }

    /// Nothing more will happen in this domain.
    pub(super) fn close_network(&mut self) {
        for attempt in self.sockets.abandoned() {
            if let Some(mut event) = attempt.event {
                set_result(&mut event, "unfinished", attempt.started);
                self.log(event);
            }
        }
        for relay in self.relays.drain(..) {
            relay.end();
        }
        self.datagrams = PrivateUdp::Unavailable;
    }

    /// The name servers of the system are the resolver in the supervisor.
    fn connect_resolver(&mut self, request: &Request<'_>, inode: u64) -> Handled {
        let process = process::describe(request.notification.pid, self.root);
        let Some(asker) = Asker::new(&self.domain, &self.names, process) else {
            return Ok(Answer::Fail(Errno::ECONNREFUSED));
        };
        let resolver = Arc::clone(&self.domain.resolver);
        let (answer, _) = self.connect_here(request, inode, move |stream| {
            let asker: Arc<dyn Client> = Arc::new(asker);
            resolver.serve(stream, &asker);
        })?;
        Ok(answer)
    }

    /// Connects the caller's socket to this process and serves the other end in a thread.
    fn connect_here(
        &mut self,
        request: &Request<'_>,
        inode: u64,
        serve: impl FnOnce(TcpStream) + Send + 'static,
    ) -> Result<(Answer, Option<JoinHandle<()>>), Errno> {
        if !self.listener.is_valid(request.notification.id) {
            return Ok((Answer::Later, None));
        }
        let entry = self.sockets.open.get(&inode).ok_or(Errno::EBADF)?;
        let blocking = is_blocking(entry.fd.as_fd());
        let stream = match rendezvous(entry) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!("no local connection: {error}");
                return Ok((Answer::Fail(Errno::ECONNREFUSED), None));
            }
        };
        self.sockets.settle(inode, if blocking { Settled::Connected } else { Settled::Unnoticed });
        let thread = std::thread::spawn(move || serve(stream));
        let answer = if blocking { Answer::Value(0) } else { Answer::Fail(Errno::EINPROGRESS) };
        Ok((answer, Some(thread)))
    }

    /// The connection runs through a relay that lets it begin only with a name that policy
    /// grants.
    fn connect_relay(
        &mut self,
        request: &Request<'_>,
        inode: u64,
        address: SocketAddr,
        event: Event,
        through: Through,
    ) -> Handled {
        self.relays.retain(|relay| !relay.is_finished());
        if self.relays.len() >= MOST_RELAYS {
            let attempt = Attempt { event: Some(event), started: Instant::now(), waiter: None };
            self.close_attempt(Finished { attempt, result: Some(Err(Errno::EAGAIN)) });
            return Ok(Answer::Fail(Errno::EAGAIN));
        }
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let started = Instant::now();
        let upstream =
            socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        // "No route" is known at once, and a client with two addresses then tries the other.
        match connect_to(upstream.as_fd(), address) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => {
                let attempt = Attempt { event: Some(event), started, waiter: None };
                self.close_attempt(Finished { attempt, result: Some(Err(errno)) });
                return Ok(Answer::Fail(errno));
            }
        }
        let thread_side = Pending { domain: Arc::clone(&self.domain), address, through, event, started };
        let upstream = TcpStream::from(upstream);
        let end = upstream.try_clone().map_err(|_| Errno::EMFILE)?;
        let (answer, thread) =
            self.connect_here(request, inode, move |client| thread_side.relay(client, upstream))?;
        if let Some(thread) = thread {
            self.relays.push(Running::new(end, thread));
        }
        Ok(answer)
    }

    /// A UDP socket of a domain cannot send, so connecting it only asks the kernel for a
    /// route, as getaddrinfo(3) does to sort its answers (RFC 6724).
    fn connect_udp(&mut self, request: &Request<'_>, inode: u64, address: SocketAddr) -> Handled {
        let to = SocketAddr::new(canonical(address.ip()), address.port());
        let names = self.names_of(to.ip());
        let choice = self.domain.profile.decide_connect(to, &names);
        let private = self.sockets.open.get(&inode).is_some_and(|e| e.kind == Kind::PrivateUdp);
        if private && self.domain.resolver.is_name_server(to) {
            let Some(entry) = self.sockets.open.get(&inode) else { return Ok(Answer::Fail(Errno::EBADF)) };
            return Ok(connect_to(entry.fd.as_fd(), address).map_or_else(Answer::Fail, |()| Answer::Value(0)));
        }
        let known = !self.names.of(to.ip()).is_empty() || self.domain.profile.grants_address(to.ip());
        if to.port() == 53 || (choice.decision.verdict == Verdict::Deny && !known) {
            self.refuse_udp(request, to);
            return Ok(self.unless_audit(Answer::Fail(Errno::EACCES)));
        }
        let Some(entry) = self.sockets.open.get(&inode) else { return Ok(Answer::Fail(Errno::EBADF)) };
        Ok(connect_to(entry.fd.as_fd(), address).map_or_else(Answer::Fail, |()| Answer::Value(0)))
    }

    /// Writes that a datagram, or what would carry it, was refused.
    pub(super) fn refuse_udp(&self, request: &Request<'_>, to: SocketAddr) {
        let mut event = self.event(request, event::Kind::Connect, Verdict::Deny);
        event.target = Some(udp_target(to));
        event.rule = Some(builtin_rule("UDP"));
        event.errno = Some("EACCES");
        event.techniques = connect_techniques(to);
        let why = if !self.domain.resolver.is_name_server(to) {
            "no datagram leaves a script's domain"
        } else if process::is_musl(request.notification.pid) {
            "this program's C library (musl) asks name servers over UDP only, which no script has here; \
             programs that use glibc, c-ares or Go ask over TCP"
        } else {
            "no datagram leaves a script's domain; name servers are asked over TCP (`options use-vc`)"
        };
        event.detail = Some(json!({ "why": why }));
        self.log(event);
    }

    /// Whether the domain's own sockets, and nobody else's, listen there (proc_net_tcp(5)):
    /// with `SO_REUSEPORT` the kernel would choose among several.
    pub(super) fn listens_on(&self, address: SocketAddr) -> bool {
        if self.sockets.listening.is_empty() {
            return false;
        }
        let mut own = false;
        for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            let text = fs::read_to_string(table).unwrap_or_default();
            for (local, inode) in text.lines().skip(1).filter_map(listener_line) {
                if local.port() != address.port() || local.ip().to_canonical() != address.ip() {
                    continue;
                }
                if !self.sockets.listening.contains(&inode) {
                    return false;
                }
                own = true;
            }
        }
        own
    }
}

pub(super) fn is_blocking(fd: BorrowedFd<'_>) -> bool {
    fcntl(fd, FcntlArg::F_GETFL).is_ok_and(|f| !OFlag::from_bits_retain(f).contains(OFlag::O_NONBLOCK))
}

/// Does something on a socket that may block as if it did not. The flag is one with the
/// script's descriptor, whose caller waits for this very call.
pub(super) fn without_waiting(
    fd: BorrowedFd<'_>,
    act: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    if flags.contains(OFlag::O_NONBLOCK) {
        return act(fd);
    }
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let result = act(fd);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    result
}

fn connect_to(fd: BorrowedFd<'_>, address: SocketAddr) -> Result<(), Errno> {
    match address {
        SocketAddr::V4(v4) => connect(fd.as_raw_fd(), &SockaddrIn::from(v4)),
        SocketAddr::V6(v6) => connect(fd.as_raw_fd(), &SockaddrIn6::from(v6)),
    }
}

fn waiter(request: &Request<'_>, fd: BorrowedFd<'_>) -> Waiter {
    let limit = getsockopt(&fd, sockopt::SendTimeout).ok();
    let limit = limit.map(|t| Duration::new(t.tv_sec().max(0) as u64, t.tv_usec().max(0) as u32 * 1_000));
    let deadline = limit.filter(|t| !t.is_zero()).map(|t| Instant::now() + t);
    Waiter { id: request.notification.id, tid: request.notification.pid, deadline }
}

/// Connects the caller's socket to a port of this process that exists for it alone.
fn rendezvous(entry: &Entry) -> io::Result<TcpStream> {
    let six = entry.family == AddressFamily::Inet6;
    let only_six = six && getsockopt(&entry.fd, sockopt::Ipv6V6Only)?;
    let listener = if only_six {
        TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?
    } else {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
    };
    listener.set_nonblocking(true)?;
    let mut at = listener.local_addr()?;
    if six && !only_six {
        at.set_ip(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into());
    }
    match without_waiting(entry.fd.as_fd(), |fd| connect_to(fd, at)) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    let own = local_address(&entry.fd).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let until = Instant::now() + LOCAL_CONNECT;
    loop {
        match listener.accept() {
            // Anybody on the machine may knock at the port; only the script's socket is let in.
            Ok((stream, peer)) if SocketAddr::new(canonical(peer.ip()), peer.port()) == own => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO))?;
            }
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn local_address(fd: &OwnedFd) -> Option<SocketAddr> {
    let storage: SockaddrStorage = getsockname(fd.as_raw_fd()).ok()?;
    let (ip, port): (IpAddr, u16) = match (storage.as_sockaddr_in(), storage.as_sockaddr_in6()) {
        (Some(v4), _) => (v4.ip().into(), v4.port()),
        (_, Some(v6)) => (v6.ip().into(), v6.port()),
        _ => return None,
    };
    Some(SocketAddr::new(canonical(ip), port))
}

/// Writes into an event how its connection ended and how long that took.
pub(super) fn set_result(event: &mut Event, result: &str, started: Instant) {
    event.detail = Some(json!({ "result": result }));
    let mut measured = event.measured.take().unwrap_or_default();
    measured.insert("connect_us".into(), json!(started.elapsed().as_micros() as u64));
    event.measured = Some(measured);
}

/// `ECONNREFUSED` and its like.
pub(super) fn errno_text(errno: Errno) -> String {
    format!("{errno:?}")
}

pub(super) fn connect_techniques(address: SocketAddr) -> Vec<&'static str> {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_link_local() => vec!["T1552.005"],
        _ if address.port() == 53 => vec!["T1071.004"],
        ip if ip.is_loopback() => vec!["T1046"],
        _ => vec!["T1041"],
    }
}
