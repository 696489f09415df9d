//! Sockets: handed out by the guard, so that it can connect and bind them itself.
//!
//! A script's TCP and Unix stream sockets are created here and injected; a duplicate,
//! found again by the socket's inode, stays until the connection stands. So a connect
//! is performed on the guard's own copy of the address, without `pidfd_getfd` and
//! without a second look at the target's memory. UDP sockets are handed out mute: shut
//! down for sending before anybody has them, which Linux never takes back. All other
//! kinds of socket do not exist inside a script domain.

use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, UnixAddr, bind,
    connect, listen, socket,
};

use super::address::{Address, inet_target, message_address, udp_target};
use super::connect::{is_blocking, local_address, without_waiting};
use super::refused::errno_name;
use super::resolve::{self, Found, LastLink};
use super::socket_table::{Kind as SocketKind, Settled, named_listener, socket_inode};
use super::{Answer, Guard, Handled, Request, Role, builtin_rule, process};
use crate::event::{Kind, Target, TargetKind};
use crate::policy::{Decision, Mode, PathAction, Verdict, canonical};
use crate::sandbox::notify::OnExec;
use crate::sandbox::process_memory::MsgHdr;
use crate::sandbox::socket::{disconnect, mute_udp};
use crate::sandbox::syscall::SocketCall;

/// What a well-known local socket gives access to.
fn service(path: &[u8]) -> Option<&'static str> {
    let has = |needle: &str| path.windows(needle.len()).any(|w| w == needle.as_bytes());
    let known = [
        ("docker.sock", "docker"),
        ("podman", "podman"),
        ("containerd", "containerd"),
        ("gpg-agent", "gpg-agent"),
        ("keyring/ssh", "ssh-agent"),
        ("agent.", "ssh-agent"),
        ("ssh-agent", "ssh-agent"),
        ("systemd/private", "systemd"),
        ("/bus", "D-Bus"),
        ("dbus", "D-Bus"),
        (".X11-unix", "X11"),
        ("wayland-", "Wayland"),
        ("crio", "CRI-O"),
        ("/run/systemd/", "systemd"),
        ("pulse/native", "PulseAudio"),
        ("pipewire-", "PipeWire"),
    ];
    known.into_iter().find(|(needle, _)| has(needle)).map(|(_, name)| name)
}

/// Name services that the C library asks before DNS; without them it goes on by itself.
fn is_name_service(path: &std::path::Path) -> bool {
    [
        "/run/nscd/socket",
        "/var/run/nscd/socket",
        "/run/systemd/resolve/io.systemd.Resolve",
        "/run/avahi-daemon/socket",
    ]
    .iter()
    .any(|p| path == std::path::Path::new(p))
}

impl Guard {
    pub(super) fn socket_call(&mut self, request: &Request<'_>, call: SocketCall) -> Handled {
        use SocketCall as C;
        match call {
            C::Socket => Ok(self.socket(request)),
            C::Socketpair => Ok(self.socketpair(request)),
            C::Connect => self.connect(request),
            C::Bind => self.bind(request),
            C::Listen => Ok(self.listen(request)),
            C::Sendto => self.send(request, Address::read(request, 4, 5)?, request.arg(3)),
            C::Sendmsg => {
                let header: MsgHdr = request.memory().value(request.arg(1))?;
                let address = message_address(request, &header)?;
                self.send(request, address, request.arg(2))
            }
            C::Sendmmsg => {
                let address = match request.arg(2) {
                    0 => None,
                    _ => message_address(request, &request.memory().value(request.arg(1))?)?,
                };
                self.send(request, address, request.arg(3))
            }
        }
    }

    /// Registers only, so both "continue" and the hand-out rest on what cannot change.
    fn socket(&mut self, request: &Request<'_>) -> Answer {
        let (family, kind, protocol) = (request.fd(0), request.fd(1), request.fd(2));
        let (base, flags) = (kind & 0xf, kind & !0xf);
        let watched = self.domain.role == Role::Manager || self.domain.mode == Mode::Audit;
        let inet = match family {
            libc::AF_INET => Some(AddressFamily::Inet),
            libc::AF_INET6 => Some(AddressFamily::Inet6),
            _ => None,
        };
        let (family, socket_kind, protocol) = match (inet, base, protocol) {
            (Some(family), libc::SOCK_STREAM, 0 | libc::IPPROTO_TCP) => {
                (family, SocketKind::Tcp, Some(SockProtocol::Tcp))
            }
            (Some(family), libc::SOCK_DGRAM, 0 | libc::IPPROTO_UDP) => {
                return self.udp_socket(request, family, flags);
            }
            // What a manager does with other sockets is its own business, but for those
            // that carry TCP past Landlock.
            (None, ..) if watched => return Answer::Continue,
            (Some(_), libc::SOCK_RAW, _) if watched => return Answer::Continue,
            (None, libc::SOCK_STREAM, 0 | libc::AF_UNIX) if family == libc::AF_UNIX => {
                (AddressFamily::Unix, SocketKind::Unix, None)
            }
            (None, libc::SOCK_RAW | libc::SOCK_DGRAM, libc::NETLINK_ROUTE) if family == libc::AF_NETLINK => {
                return Answer::Continue;
            }
            _ => return self.refuse_socket(request, family, base, protocol),
        };
        let made = socket(family, SockType::Stream, creation_flags(flags), protocol);
        self.give(made, socket_kind, family, flags)
    }

    /// Hands a socket over and keeps a duplicate.
    fn give(
        &mut self,
        made: Result<OwnedFd, Errno>,
        kind: SocketKind,
        family: AddressFamily,
        flags: i32,
    ) -> Answer {
        let kept = made.and_then(|fd| self.sockets.insert(&fd, kind, family, self.root).map(|()| fd));
        let on_exec = if flags & libc::SOCK_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep };
        kept.map_or_else(Answer::Fail, |fd| Answer::Inject(fd, on_exec))
    }

    /// Nothing of the network is reached by UDP. musl's resolver has nothing else: its
    /// sockets are made where only the resolver is, if the machine allows that.
    fn udp_socket(&mut self, request: &Request<'_>, family: AddressFamily, flags: i32) -> Answer {
        if self.domain.mode == Mode::Audit {
            return Answer::Continue;
        }
        if process::is_musl(request.notification.pid) {
            let nonblocking = flags & libc::SOCK_NONBLOCK != 0;
            if let Some(fd) = self.private_udp(request, family, nonblocking) {
                return self.give(Ok(fd), SocketKind::PrivateUdp, family, flags);
            }
            if self.domain.role == Role::Manager {
                // npm would resolve nothing. Its connections are still decided on: by the
                // addresses that granted hosts have.
                self.resolves_alone = true;
                return Answer::Continue;
            }
        }
        self.give(mute_udp(family, creation_flags(flags)), SocketKind::MuteUdp, family, flags)
    }

    fn socketpair(&self, request: &Request<'_>) -> Answer {
        let (family, base) = (request.fd(0), request.fd(1) & 0xf);
        if family == libc::AF_UNIX && matches!(base, libc::SOCK_STREAM | libc::SOCK_SEQPACKET) {
            return Answer::Continue;
        }
        self.refuse_socket(request, family, base, request.fd(2))
    }

    fn refuse_socket(&self, request: &Request<'_>, family: i32, kind: i32, protocol: i32) -> Answer {
        let inet = matches!(family, libc::AF_INET | libc::AF_INET6 | libc::AF_UNIX);
        let errno = if inet { libc::EACCES } else { libc::EAFNOSUPPORT };
        let mut event = self.event(request, Kind::Socket, Verdict::Deny);
        let name = describe_socket(family, kind, protocol);
        event.target = Some(Target::named(TargetKind::Socket, name.as_bytes()));
        event.rule = Some(builtin_rule("sockets other than TCP, Unix stream and netlink route"));
        event.errno = Some(errno_name(errno));
        event.techniques = vec!["T1095"];
        self.log(event);
        self.unless_audit(Answer::Fail(Errno::from_raw(errno)))
    }

    /// The inode behind a descriptor of the caller, if it is a socket.
    pub(super) fn inode(&self, request: &Request<'_>) -> Result<u64, Errno> {
        let link = fs::read_link(format!("/proc/{}/fd/{}", request.notification.pid, request.fd(0)));
        let link = link.map_err(|_| Errno::EBADF)?;
        socket_inode(link.as_os_str().as_bytes()).ok_or(Errno::ENOTSOCK)
    }

    /// Whether a path leads to a socket of a name service.
    pub(super) fn names_a_name_service(&self, request: &Request<'_>, path: &[u8]) -> bool {
        matches!(
            resolve::resolve(request.target(), libc::AT_FDCWD, path, LastLink::Follow),
            Ok(Found::Object(object)) if is_name_service(&object.path)
        )
    }

    pub(super) fn connect(&mut self, request: &Request<'_>) -> Handled {
        let Some(address) = Address::read(request, 1, 2)? else { return Ok(Answer::Fail(Errno::EFAULT)) };
        match address {
            Address::Inet(address) => self.connect_inet(request, address),
            Address::Path(path) => self.connect_path(request, &path),
            Address::Abstract(name) => {
                if named_listener(&name).is_some_and(|inode| self.sockets.listening.contains(&inode)) {
                    return self.connect_unix(request, UnixPeer::Abstract(name));
                }
                let target = Target::named(TargetKind::Abstract, &[b"@", &name[..]].concat());
                Ok(self.refuse_unix(request, target, service(&name), None))
            }
            Address::Other(_) if self.domain.mode == Mode::Audit => Ok(Answer::Continue),
            Address::Other(family) if i32::from(family) == libc::AF_UNSPEC => {
                // getaddrinfo(3) goes from one destination to the next so.
                let inode = self.inode(request)?;
                Ok(match self.sockets.open.get(&inode) {
                    Some(entry) if entry.kind.is_udp() => {
                        disconnect(entry.fd.as_fd()).map_or_else(Answer::Fail, |()| Answer::Value(0))
                    }
                    _ => Answer::Fail(Errno::EAFNOSUPPORT),
                })
            }
            Address::Malformed => Ok(Answer::Fail(Errno::EINVAL)),
            Address::Other(_) => Ok(Answer::Fail(Errno::EAFNOSUPPORT)),
        }
    }

    fn connect_path(&mut self, request: &Request<'_>, path: &[u8]) -> Handled {
        let object = match resolve::resolve(request.target(), libc::AT_FDCWD, path, LastLink::Follow) {
            Ok(Found::Object(object)) => object,
            Ok(Found::Missing(_)) => return Ok(Answer::Fail(Errno::ENOENT)),
            Err(errno) => return Ok(Answer::Fail(errno)),
        };
        if is_name_service(&object.path) {
            return Ok(self.unless_audit(Answer::Fail(Errno::ECONNREFUSED)));
        }
        let granted = self.domain.profile.decide_unix(&object.path);
        // A socket where only this domain can create one is its own.
        let own = self.domain.cover.writes(&object.path) && object.path.starts_with(&self.domain.tmp);
        if !own {
            let target = super::files::target(&object.path, path, false);
            let target = Target { kind: TargetKind::Unix, ..target };
            if granted.verdict == Verdict::Deny {
                let name = service(object.path.as_os_str().as_bytes()).or_else(|| service(path));
                return Ok(self.refuse_unix(request, target, name, Some(&granted)));
            }
            let event = self.decided(request, Kind::Connect, &granted, target);
            self.log(event);
        }
        if self.domain.mode == Mode::Audit {
            return Ok(Answer::Continue);
        }
        self.connect_unix(request, UnixPeer::Object(object))
    }

    fn refuse_unix(
        &self,
        request: &Request<'_>,
        target: Target,
        service: Option<&'static str>,
        decision: Option<&Decision>,
    ) -> Answer {
        let mut event = match decision {
            Some(decision) => self.decided(request, Kind::Connect, decision, target),
            None => {
                let mut event = self.event(request, Kind::Connect, Verdict::Deny);
                event.target = Some(target);
                event.rule = Some(builtin_rule("abstract sockets"));
                event
            }
        };
        event.errno = Some("EACCES");
        event.detail = service.map(|name| serde_json::json!({ "service": name }));
        event.techniques = vec!["T1559"];
        self.log(event);
        self.unless_audit(Answer::Fail(Errno::EACCES))
    }

    /// Connects the guard's duplicate; who has to wait for a full queue waits in a worker.
    fn connect_unix(&mut self, request: &Request<'_>, peer: UnixPeer) -> Handled {
        let inode = self.inode(request)?;
        let Some(entry) = self.sockets.open.get(&inode) else {
            return Ok(Answer::Fail(Errno::EISCONN));
        };
        if !self.listener.is_valid(request.notification.id) {
            return Ok(Answer::Later);
        }
        let blocking = is_blocking(entry.fd.as_fd());
        match without_waiting(entry.fd.as_fd(), |fd| peer.connect(fd.as_raw_fd())) {
            Ok(()) => {
                self.sockets.settle(inode, Settled::Connected);
                return Ok(Answer::Value(0));
            }
            // The server's queue is full, and the caller waits for a place in it.
            Err(Errno::EAGAIN) if blocking => {}
            Err(errno) => return Ok(Answer::Fail(errno)),
        }
        let fd = Arc::clone(&entry.fd);
        // The worker has the last duplicate, so that a close in the script closes.
        self.sockets.settle(inode, Settled::Connected);
        let (listener, id) = (Arc::clone(&self.listener), request.notification.id);
        std::thread::spawn(move || {
            let result = peer.connect(fd.as_raw_fd());
            drop(fd);
            let _ = match result {
                Ok(()) => listener.succeed(id, 0),
                Err(errno) => listener.fail(id, errno as i32),
            };
        });
        Ok(Answer::Later)
    }

    fn bind(&mut self, request: &Request<'_>) -> Handled {
        let Some(address) = Address::read(request, 1, 2)? else { return Ok(Answer::Fail(Errno::EFAULT)) };
        if self.domain.mode == Mode::Audit {
            return Ok(Answer::Continue);
        }
        let address = match address {
            Address::Inet(address) => address,
            Address::Path(path) => return self.bind_path(request, &path),
            Address::Malformed => return Ok(Answer::Fail(Errno::EINVAL)),
            // Abstract and unnamed names are the domain's own business; netlink has no
            // peers. A pointer swapped to an Internet address meets Landlock or, below
            // ABI 4, a socket that may not listen.
            Address::Abstract(_) | Address::Other(_) => return Ok(Answer::Continue),
        };
        let inode = self.inode(request)?;
        let Some(entry) = self.sockets.open.get_mut(&inode) else { return Ok(Answer::Fail(Errno::EINVAL)) };
        if entry.kind == SocketKind::PrivateUdp {
            return Ok(
                bind_to(entry.fd.as_raw_fd(), address).map_or_else(Answer::Fail, |()| Answer::Value(0))
            );
        }
        let mute = entry.kind == SocketKind::MuteUdp;
        if mute && address.port() == 0 && address.ip().is_unspecified() {
            // A client's bind before it sends: there is nothing to be received.
            return Ok(Answer::Value(0));
        }
        // Unlike a connect, a bind to the unspecified address means every interface.
        if !address.ip().to_canonical().is_loopback() {
            let mut event = self.event(request, Kind::Socket, Verdict::Deny);
            event.target = Some(if mute { udp_target(address) } else { inet_target(address) });
            event.rule = Some(builtin_rule("servers on addresses other than loopback"));
            event.errno = Some("EACCES");
            event.techniques = vec!["T1571"];
            self.log(event);
            return Ok(Answer::Fail(Errno::EACCES));
        }
        let bound = bind_to(entry.fd.as_raw_fd(), address);
        entry.bound_to_loopback |= bound.is_ok();
        Ok(bound.map_or_else(Answer::Fail, |()| Answer::Value(0)))
    }

    /// The kernel creates the socket's entry; Landlock decides where.
    fn bind_path(&mut self, request: &Request<'_>, path: &[u8]) -> Handled {
        let Ok(place) = resolve::place(request.target(), libc::AT_FDCWD, path) else {
            return Ok(Answer::Continue);
        };
        let full = place.path();
        let decision = self.decide(PathAction::Write, &full);
        if decision.verdict != Verdict::Allow {
            let event = self.file_event(request, PathAction::Write, &decision, &full, &full, path, false);
            self.log(event);
        }
        Ok(if decision.verdict == Verdict::Deny { Answer::Fail(Errno::EACCES) } else { Answer::Continue })
    }

    fn listen(&mut self, request: &Request<'_>) -> Answer {
        let inode = match self.inode(request) {
            Ok(inode) => inode,
            Err(errno) => return Answer::Fail(errno),
        };
        let audit = self.domain.mode == Mode::Audit;
        let Some(entry) = self.sockets.open.get(&inode) else {
            // Listening again only changes the backlog; anything else was never handed out.
            let listens = self.sockets.settled.get(&inode) == Some(&Settled::Listens);
            return match (audit, listens) {
                (true, _) => Answer::Continue,
                (false, true) => Answer::Value(0),
                (false, false) => Answer::Fail(Errno::EINVAL),
            };
        };
        if entry.kind.is_udp() {
            return Answer::Fail(Errno::EOPNOTSUPP);
        }
        let inet = entry.kind == SocketKind::Tcp;
        let at = local_address(&entry.fd).filter(|_| inet);
        if inet && !entry.bound_to_loopback && !audit {
            // Without an address the kernel would listen on every one.
            let mut event = self.event(request, Kind::Socket, Verdict::Deny);
            event.target = Some(Target::named(TargetKind::Socket, b"listen on every address"));
            event.rule = Some(builtin_rule("servers on addresses other than loopback"));
            event.errno = Some("EACCES");
            event.techniques = vec!["T1571"];
            self.log(event);
            return Answer::Fail(Errno::EACCES);
        }
        let answer = if audit {
            Answer::Continue
        } else {
            let backlog = Backlog::new(request.fd(1).clamp(0, 4096)).unwrap_or(Backlog::MAXCONN);
            if let Err(errno) = listen(&entry.fd, backlog) {
                return Answer::Fail(errno);
            }
            Answer::Value(0)
        };
        // The duplicate must not keep the port after the script closed it.
        self.sockets.settle(inode, Settled::Listens);
        self.sockets.listening.insert(inode);
        if let Some(at) = at {
            let mut event = self.event(request, Kind::Socket, Verdict::Allow);
            event.target = Some(inet_target(at));
            event.rule = Some(builtin_rule("servers on loopback"));
            self.log(event);
        }
        answer
    }

    /// A send with a destination, or with fast open, is a connection attempt. Inside a
    /// domain no socket exists that could carry it (UDP sockets are mute), so "continue"
    /// can do no harm.
    fn send(&self, request: &Request<'_>, address: Option<Address>, flags: u64) -> Handled {
        let fast_open = flags as i32 & libc::MSG_FASTOPEN != 0;
        let inode = self.inode(request).unwrap_or_default();
        let kind = self.sockets.open.get(&inode).map(|e| e.kind);
        let udp = kind.is_some_and(SocketKind::is_udp);
        let target = match address {
            Some(Address::Inet(address))
                if kind == Some(SocketKind::PrivateUdp) && self.domain.resolver.is_name_server(address) =>
            {
                return Ok(Answer::Continue);
            }
            Some(Address::Inet(address)) if udp && flags as i32 & libc::MSG_FASTOPEN == 0 => {
                self.refuse_udp(request, SocketAddr::new(canonical(address.ip()), address.port()));
                return Ok(self.unless_audit(Answer::Fail(Errno::EACCES)));
            }
            Some(Address::Inet(address)) => inet_target(address),
            _ if fast_open => Target::named(TargetKind::Tcp, b"TCP fast open"),
            _ => return Ok(Answer::Continue),
        };
        let errno = if fast_open { libc::EOPNOTSUPP } else { libc::EACCES };
        let mut event = self.event(request, Kind::Connect, Verdict::Deny);
        event.target = Some(target);
        event.rule = Some(builtin_rule("sending to an address without a connection"));
        event.errno = Some(errno_name(errno));
        event.techniques = vec!["T1048"];
        self.log(event);
        Ok(self.unless_audit(Answer::Fail(Errno::from_raw(errno))))
    }
}

fn bind_to(fd: i32, address: SocketAddr) -> Result<(), Errno> {
    match address {
        SocketAddr::V4(v4) => bind(fd, &SockaddrIn::from(v4)),
        SocketAddr::V6(v6) => bind(fd, &SockaddrIn6::from(v6)),
    }
}

/// The guard's own copy is always closed on exec.
fn creation_flags(flags: i32) -> SockFlag {
    let mut creation = SockFlag::SOCK_CLOEXEC;
    creation.set(SockFlag::SOCK_NONBLOCK, flags & libc::SOCK_NONBLOCK != 0);
    creation
}

/// A Unix socket to connect to, as the guard holds it.
enum UnixPeer {
    /// The very object that was decided on, not its name.
    Object(resolve::Object),
    /// A name of the domain's own.
    Abstract(Vec<u8>),
}

impl UnixPeer {
    fn connect(&self, fd: i32) -> Result<(), Errno> {
        match self {
            UnixPeer::Object(object) => connect(fd, &UnixAddr::new(object.reopen_path().as_str())?),
            UnixPeer::Abstract(name) => connect(fd, &UnixAddr::new_abstract(name)?),
        }
    }
}

fn describe_socket(family: i32, kind: i32, protocol: i32) -> String {
    let family = match family {
        libc::AF_INET => "inet".into(),
        libc::AF_INET6 => "inet6".into(),
        libc::AF_UNIX => "unix".into(),
        libc::AF_NETLINK => "netlink".into(),
        libc::AF_PACKET => "packet".into(),
        libc::AF_ALG => "alg".into(),
        libc::AF_VSOCK => "vsock".into(),
        other => format!("family {other}"),
    };
    let kind_name = match kind {
        libc::SOCK_STREAM => "stream".into(),
        libc::SOCK_DGRAM => "datagram".into(),
        libc::SOCK_RAW => "raw".into(),
        libc::SOCK_SEQPACKET => "seqpacket".into(),
        other => format!("type {other}"),
    };
    let what = match (kind, protocol) {
        (libc::SOCK_DGRAM, libc::IPPROTO_UDP) => " (UDP)".to_owned(),
        (libc::SOCK_DGRAM, 0) if family.starts_with("inet") => " (UDP)".to_owned(),
        (_, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => format!(" (ICMP, protocol {protocol})"),
        (_, libc::IPPROTO_UDPLITE) => format!(" (UDP-Lite, protocol {protocol})"),
        (_, libc::IPPROTO_MPTCP) => format!(" (MPTCP, protocol {protocol})"),
        (_, 0) => String::new(),
        (_, other) => format!(" (protocol {other})"),
    };
    format!("{family} {kind_name}{what}")
}
