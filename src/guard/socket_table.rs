//! The guard's duplicates of a domain's sockets, and which of its sockets listen.
//!
//! A socket is found again by its inode, which the script cannot choose.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockaddrStorage, getpeername, getsockopt, sockopt};
use nix::sys::stat::fstat;

use crate::event::Event;

/// With more duplicates than this, those whose socket the script has closed are dropped.
const CROWDED: usize = 64;
/// Sockets that a domain may have open and unconnected; every one costs the supervisor a
/// descriptor, which other domains need as well.
const MOST: usize = 256;
/// Sockets without a duplicate that are remembered.
const MOST_SETTLED: usize = 4_096;

/// Duplicates of a domain's sockets.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) open: HashMap<u64, Entry>,
    /// Connected, or listening: nothing is left to be decided on them.
    pub(super) settled: HashMap<u64, Settled>,
    /// Inodes of the domain's own listeners.
    pub(super) listening: HashSet<u64>,
    crowded_at: usize,
}

/// What became of a socket whose duplicate is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// Connected; the caller knows.
    Connected,
    /// Connected in the background: the next connect(2) says 0 once, as Linux does.
    Unnoticed,
    /// Listens.
    Listens,
}

/// What a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A TCP socket.
    Tcp,
    /// A UDP socket that cannot send.
    MuteUdp,
    /// A UDP socket in a network that only the resolver is in.
    PrivateUdp,
    /// A Unix stream socket.
    Unix,
}

impl Kind {
    /// A datagram socket.
    pub(super) const fn is_udp(self) -> bool {
        matches!(self, Kind::MuteUdp | Kind::PrivateUdp)
    }
}

/// A duplicate.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) kind: Kind,
    pub(super) family: AddressFamily,
    pub(super) bound_to_loopback: bool,
    pub(super) attempt: Option<Attempt>,
}

/// A connection on its way.
#[derive(Debug)]
pub(super) struct Attempt {
    /// To be written when it is known how it ended.
    pub(super) event: Option<Event>,
    pub(super) started: Instant,
    /// Who waits for it in a blocking connect(2).
    pub(super) waiter: Option<Waiter>,
}

/// A blocking caller.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) tid: i32,
    /// When `SO_SNDTIMEO` lets it go on without a connection.
    pub(super) deadline: Option<Instant>,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) attempt: Attempt,
    /// `None` when the error is left for the script to read.
    pub(super) result: Option<Result<(), Errno>>,
}

impl Table {
    /// Takes a duplicate of a new socket of the domain whose processes descend from `root`.
    pub(super) fn insert(
        &mut self,
        fd: &OwnedFd,
        kind: Kind,
        family: AddressFamily,
        root: i32,
    ) -> Result<(), Errno> {
        self.drop_closed(root);
        if self.open.len() >= MOST {
            return Err(Errno::EMFILE);
        }
        let inode = fstat(fd)?.st_ino;
        let copy = fd.try_clone().map_err(|_| Errno::EMFILE)?;
        self.settled.remove(&inode);
        self.listening.remove(&inode);
        let entry = Entry { fd: Arc::new(copy), kind, family, bound_to_loopback: false, attempt: None };
        self.open.insert(inode, entry);
        Ok(())
    }

    /// Sockets whose connection is on its way.
    pub(super) fn pending(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.values().filter(|e| e.attempt.is_some()).map(|e| e.fd.as_fd())
    }

    /// Callers that wait in a blocking connect(2).
    pub(super) fn waiters(&mut self) -> impl Iterator<Item = &mut Option<Waiter>> {
        self.open.values_mut().filter_map(|e| e.attempt.as_mut()).map(|a| &mut a.waiter)
    }

    /// Takes out the attempts that came to an end. A connected socket's duplicate goes; a
    /// failed connection may be tried again.
    pub(super) fn finished(&mut self) -> Vec<Finished> {
        let mut done = Vec::new();
        for (inode, entry) in &mut self.open {
            let Some(attempt) = &entry.attempt else { continue };
            let blocking = attempt.waiter.is_some();
            let connected = getpeername::<SockaddrStorage>(entry.fd.as_raw_fd()).is_ok();
            if !connected && !is_decided(entry.fd.as_fd()) {
                continue;
            }
            let result = match (connected, blocking) {
                (true, _) => Some(Ok(())),
                // Reading the error takes it away, so it is left for whoever polls.
                (false, false) => None,
                (false, true) => Some(Err(getsockopt(&entry.fd, sockopt::SocketError)
                    .ok()
                    .filter(|error| *error != 0)
                    .map_or(Errno::ECONNREFUSED, Errno::from_raw))),
            };
            if let Some(attempt) = entry.attempt.take() {
                done.push((*inode, connected, blocking, Finished { attempt, result }));
            }
        }
        done.into_iter()
            .map(|(inode, connected, blocking, finished)| {
                if connected {
                    self.settle(inode, if blocking { Settled::Connected } else { Settled::Unnoticed });
                }
                finished
            })
            .collect()
    }

    /// The attempts that nobody will see the end of.
    pub(super) fn abandoned(&mut self) -> Vec<Attempt> {
        self.open.values_mut().filter_map(|e| e.attempt.take()).collect()
    }

    /// Lets go of a socket.
    pub(super) fn settle(&mut self, inode: u64, how: Settled) {
        self.open.remove(&inode);
        if self.settled.len() >= MOST_SETTLED {
            // Of these nothing is lost: what is not known counts as connected.
            self.settled.retain(|_, how| *how == Settled::Listens);
        }
        self.settled.insert(inode, how);
    }

    /// Drops duplicates that no process of the tree below `root` has open any more.
    fn drop_closed(&mut self, root: i32) {
        if self.open.len() < CROWDED.max(self.crowded_at) {
            return;
        }
        let mut alive = HashSet::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            if !super::process::descends_from(pid, root) {
                continue;
            }
            for fd in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
                alive.extend(
                    fs::read_link(fd.path()).ok().and_then(|l| socket_inode(l.as_os_str().as_bytes())),
                );
            }
        }
        self.open.retain(|inode, entry| entry.attempt.is_some() || alive.contains(inode));
        self.settled.retain(|inode, _| alive.contains(inode));
        self.crowded_at = (self.open.len() * 2).min(MOST);
    }
}

fn is_decided(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLOUT)];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// The inode in the text of a descriptor's link.
pub(super) fn socket_inode(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// The socket that listens under an abstract name (proc_pid_net(5), `unix`).
pub(super) fn named_listener(name: &[u8]) -> Option<u64> {
    let table = fs::read("/proc/self/net/unix").ok()?;
    table.split(|b| *b == b'\n').skip(1).find_map(|line| unix_listener_line(line, name))
}

/// Inode of a line that describes the listener of that abstract name.
fn unix_listener_line(line: &[u8], name: &[u8]) -> Option<u64> {
    /// `__SO_ACCEPTCON`.
    const LISTENS: &[u8] = b"00010000";
    let mut rest = line;
    let mut fields: [&[u8]; 7] = [b""; 7];
    for field in &mut fields {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
        (*field, rest) = rest.split_at(end);
    }
    // The kernel shows every NUL of the name, the first included, as `@`.
    let shown: Vec<u8> = [b" @", name].concat().into_iter().map(|b| if b == 0 { b'@' } else { b }).collect();
    if fields[3] != LISTENS || rest != shown {
        return None;
    }
    std::str::from_utf8(fields[6]).ok()?.parse().ok()
}

/// Local address and inode of a line that describes a listening socket.
pub(super) fn listener_line(line: &str) -> Option<(SocketAddr, u64)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of four bytes in the machine's byte order.
    let words: Vec<[u8; 4]> = (0..ip.len() / 8)
        .map(|i| u32::from_str_radix(ip.get(i * 8..i * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let ip: IpAddr = match words.as_slice() {
        [v4] => Ipv4Addr::from(*v4).into(),
        [a, b, c, d] => {
            let mut octets = [0; 16];
            for (i, word) in [a, b, c, d].into_iter().enumerate() {
                octets[i * 4..i * 4 + 4].copy_from_slice(word);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some((SocketAddr::new(ip, port), fields.get(9)?.parse().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_listener_of_an_abstract_name_is_found() {
        use nix::sys::socket::{Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
        let name = format!("npmguard test\0{}", std::process::id());
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
        assert_eq!(named_listener(name.as_bytes()), None, "not listening yet");
        listen(&fd, Backlog::new(1).unwrap()).unwrap();
        assert_eq!(named_listener(name.as_bytes()), Some(fstat(&fd).unwrap().st_ino));
        assert_eq!(named_listener(b"npmguard test"), None);
    }

    #[test]
    fn own_listeners_are_found_in_the_kernels_table() {
        for bind_to in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(server) = std::net::TcpListener::bind(bind_to) else { continue };
            let (address, inode) = (server.local_addr().unwrap(), fstat(&server).unwrap().st_ino);
            let found = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].iter().any(|table| {
                fs::read_to_string(table)
                    .unwrap()
                    .lines()
                    .filter_map(listener_line)
                    .any(|l| l == (address, inode))
            });
            assert!(found, "{address}");
        }
    }
}
