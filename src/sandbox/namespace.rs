//! A network of its own for one process: nothing in it but a loopback interface.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Moves the calling process, which must have one thread, into a network namespace of its
/// own; an ordinary user needs a user namespace for that (network_namespaces(7)).
///
/// # Errors
/// `EPERM`, `ENOSPC`, `EUSERS` where the machine or the container does not allow it.
pub fn enter() -> Result<(), Errno> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Err(Errno::EPERM) => unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET),
        other => other,
    }
}

/// Starts the loopback interface and gives it these addresses, each for itself alone
/// (netdevice(7)). Loopback addresses are there anyhow.
///
/// # Errors
/// What an ioctl said.
pub fn set_up_loopback(addresses: &[IpAddr]) -> io::Result<()> {
    let control = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut up = request("lo");
    up.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ioctl(&control, libc::SIOCSIFFLAGS, &mut up)?;
    for (index, address) in addresses.iter().filter(|a| !a.is_loopback()).enumerate() {
        match address {
            IpAddr::V4(v4) => {
                let alias = format!("lo:{index}");
                for (what, value) in [(libc::SIOCSIFADDR, v4.to_bits()), (libc::SIOCSIFNETMASK, u32::MAX)] {
                    let mut set = request(&alias);
                    let address = libc::sockaddr_in {
                        sin_family: libc::AF_INET as libc::sa_family_t,
                        sin_port: 0,
                        sin_addr: libc::in_addr { s_addr: value.to_be() },
                        sin_zero: [0; 8],
                    };
                    // SAFETY: both are plain structures of 16 bytes, and `sockaddr` is what
                    // the kernel reads as the family says (netdevice(7)).
                    set.ifr_ifru.ifru_addr =
                        unsafe { mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
                    ioctl(&control, what, &mut set)?;
                }
            }
            IpAddr::V6(v6) => {
                let six = socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
                let mut set = libc::in6_ifreq {
                    ifr6_addr: libc::in6_addr { s6_addr: v6.octets() },
                    ifr6_prefixlen: 128,
                    // The loopback interface is the first of every network namespace.
                    ifr6_ifindex: 1,
                };
                ioctl(&six, libc::SIOCSIFADDR, &mut set)?;
            }
        }
    }
    Ok(())
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: an all-zero `ifreq` is valid: an empty name and zeroes in the union.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

fn ioctl<T>(fd: &OwnedFd, number: libc::Ioctl, argument: &mut T) -> Result<(), Errno> {
    // SAFETY: `argument` is a live structure of the type that this request number takes.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), number, std::ptr::from_mut(argument)) }).map(drop)
}
