//! The guard's duplicates of a domain's sockets, and which of its sockets listen.
//!
//! A socket is found again by its inode, which the script cannot choose.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockaddrStorage, getpeername};
use nix::sys::stat::fstat;

/// With more duplicates than this, those whose socket the script has closed are dropped.
const CROWDED: usize = 64;

/// Duplicates of a domain's sockets.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) open: HashMap<u64, Entry>,
    /// Connected, or listening: nothing is left to be decided on them.
    pub(super) settled: HashSet<u64>,
    /// Inodes of the domain's own TCP listeners.
    pub(super) listening: HashSet<u64>,
    crowded_at: usize,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) family: AddressFamily,
    pub(super) bound_to_loopback: bool,
    pub(super) connecting: bool,
}

impl Table {
    pub(super) fn insert(&mut self, fd: &OwnedFd, family: AddressFamily) -> Result<(), Errno> {
        let inode = fstat(fd)?.st_ino;
        let copy = fd.try_clone().map_err(|_| Errno::EMFILE)?;
        self.settled.remove(&inode);
        self.listening.remove(&inode);
        let entry = Entry { fd: Arc::new(copy), family, bound_to_loopback: false, connecting: false };
        self.open.insert(inode, entry);
        Ok(())
    }

    /// Sockets whose connection is on its way.
    pub(super) fn pending(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.open.values().filter(|e| e.connecting).map(|e| e.fd.as_fd())
    }

    /// Lets go of what is connected; a failed connection may be tried again.
    pub(super) fn forget_settled(&mut self) {
        let mut done = Vec::new();
        for (inode, entry) in self.open.iter_mut().filter(|(_, e)| e.connecting) {
            if getpeername::<SockaddrStorage>(entry.fd.as_raw_fd()).is_ok() {
                done.push(*inode);
            } else {
                entry.connecting = !has_failed(entry.fd.as_fd());
            }
        }
        for inode in done {
            self.settle(inode);
        }
    }

    pub(super) fn settle(&mut self, inode: u64) {
        self.open.remove(&inode);
        self.settled.insert(inode);
    }

    /// Drops duplicates that no process of the tree below `root` has open any more.
    pub(super) fn drop_closed(&mut self, root: i32) {
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
        self.open.retain(|inode, _| alive.contains(inode));
        self.crowded_at = self.open.len() * 2;
    }
}

fn has_failed(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [nix::poll::PollFd::new(fd, nix::poll::PollFlags::POLLOUT)];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok_and(|n| n > 0)
}

/// The inode in the text of a descriptor's link.
pub(super) fn socket_inode(link: &[u8]) -> Option<u64> {
    let number = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
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
