//! UDP for programs that cannot look names up otherwise.
//!
//! musl's resolver speaks UDP only. Where the machine allows a network namespace, the UDP
//! sockets of such programs are made in one that holds a loopback interface with the
//! addresses of the system's name servers and nothing else: whatever is sent on them
//! ends at the resolver in the supervisor. The process itself stays where it is. A helper
//! process holds the namespace, because a process with threads cannot enter one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Child;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::spawn::start_helper;
use crate::sandbox::{ipc, namespace, process};

/// How the helper is called.
pub const ARGUMENT: &str = "__npmguard-datagrams";
/// More name servers than resolv.conf(5) holds.
const MOST_SERVERS: usize = 8;

/// A network that only the resolver is in.
#[derive(Debug)]
pub struct Datagrams {
    control: OwnedFd,
    helper: Child,
}

impl Datagrams {
    /// Makes the network; also the sockets on which the resolver is asked there, one for
    /// each of `servers`. `binary` is this program's own file.
    ///
    /// # Errors
    /// When no namespace can be made.
    pub fn start(binary: &Path, servers: &[SocketAddr]) -> io::Result<(Datagrams, Vec<UdpSocket>)> {
        let (control, helper) = start_helper(binary, ARGUMENT)?;
        let datagrams = Datagrams { control, helper };
        let text: Vec<String> = servers.iter().take(MOST_SERVERS).map(SocketAddr::to_string).collect();
        let sockets = datagrams.ask(text.join(" ").as_bytes())?;
        Ok((datagrams, sockets.into_iter().map(UdpSocket::from).collect()))
    }

    /// A new UDP socket in that network.
    ///
    /// # Errors
    /// When the helper cannot make one.
    pub fn socket(&self, family: AddressFamily, nonblocking: bool) -> io::Result<OwnedFd> {
        let six = family == AddressFamily::Inet6;
        let fds = self.ask(&[if six { 6 } else { 4 }, u8::from(nonblocking)])?;
        fds.into_iter().next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn ask(&self, message: &[u8]) -> io::Result<Vec<OwnedFd>> {
        ipc::send(self.control.as_fd(), message, &[])?;
        let mut errno = [0; 4];
        match ipc::receive(self.control.as_fd(), &mut errno)? {
            (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
            (_, fds) if errno == [0; 4] => Ok(fds),
            _ => Err(io::Error::from_raw_os_error(i32::from_le_bytes(errno))),
        }
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        // The helper ends when nobody holds the other end.
        let _ = nix::sys::socket::shutdown(self.control.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let _ = self.helper.wait();
    }
}

/// Whether this machine or container makes such networks, by making one.
///
/// # Errors
/// What was refused.
pub fn works() -> io::Result<()> {
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 53));
    let (network, _servers) = Datagrams::start(&std::env::current_exe()?, &[server])?;
    network.socket(AddressFamily::Inet, false).map(drop)
}

/// Runs the helper; standard input is the control socket. Returns an exit code.
pub fn main() -> u8 {
    let control = std::io::stdin();
    match serve(control.as_fd()) {
        Ok(()) => 0,
        Err(_) => 125,
    }
}

fn serve(control: BorrowedFd<'_>) -> Result<(), Errno> {
    // What ends the supervisor ends this; what its terminal says is not for it.
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM] {
        process::ignore_signal(signal)?;
    }
    let mut buffer = [0; 1024];
    let mut prepared = false;
    loop {
        let (len, _) = ipc::receive(control, &mut buffer)?;
        let answer = match (&buffer[..len], prepared) {
            ([], _) => return Ok(()),
            (servers, false) => prepare(servers),
            ([family, nonblocking, ..], true) => make(*family, *nonblocking != 0).map(|fd| vec![fd]),
            _ => Err(Errno::EINVAL.into()),
        };
        prepared |= answer.is_ok();
        match answer {
            Ok(fds) => {
                let raw: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
                ipc::send(control, &0i32.to_le_bytes(), &raw)?;
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                ipc::send(control, &errno.to_le_bytes(), &[])?;
            }
        }
    }
}

/// Enters the namespace and binds the name servers' addresses there.
fn prepare(servers: &[u8]) -> io::Result<Vec<OwnedFd>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let text = std::str::from_utf8(servers).map_err(|_| malformed())?;
    let servers: Vec<SocketAddr> =
        text.split(' ').map(str::parse).collect::<Result<_, _>>().map_err(|_| malformed())?;
    namespace::enter()?;
    let addresses: Vec<IpAddr> = servers.iter().map(SocketAddr::ip).collect();
    namespace::set_up_loopback(&addresses)?;
    servers.iter().map(|server| UdpSocket::bind(server).map(OwnedFd::from)).collect()
}

fn make(family: u8, nonblocking: bool) -> io::Result<OwnedFd> {
    let family = if family == 6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let mut flags = SockFlag::SOCK_CLOEXEC;
    flags.set(SockFlag::SOCK_NONBLOCK, nonblocking);
    Ok(socket(family, SockType::Datagram, flags, SockProtocol::Udp)?)
}
