//! Socket addresses as scripts give them: copied once, read as what they are.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;

use super::Request;
use crate::event::{Target, TargetKind};
use crate::sandbox::process_memory::MsgHdr;

/// Largest `struct sockaddr` (`sockaddr_storage`).
const LARGEST_ADDRESS: usize = 128;
/// An address as a script gave it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Address {
    Inet(SocketAddr),
    Path(Vec<u8>),
    Abstract(Vec<u8>),
    /// Unnamed Unix, or another family.
    Other(u16),
    /// Of a length that the kernel does not take for this family.
    Malformed,
}

impl Address {
    /// Copies the address argument of a call; `None` for a null pointer.
    pub(super) fn read(
        request: &Request<'_>,
        pointer: usize,
        length: usize,
    ) -> Result<Option<Address>, Errno> {
        let (at, len) = (request.arg(pointer), request.arg(length) as u32 as usize);
        if at == 0 {
            return Ok(None);
        }
        if !(2..=LARGEST_ADDRESS).contains(&len) {
            return Ok(Some(Address::Malformed));
        }
        Ok(Some(Address::parse(&request.memory().bytes(at, len)?)))
    }

    fn parse(raw: &[u8]) -> Address {
        let family = u16::from_ne_bytes([raw[0], raw[1]]);
        let port = |r: &[u8]| u16::from_be_bytes([r[2], r[3]]);
        match i32::from(family) {
            // `sizeof(struct sockaddr_in)`, and SIN6_LEN_RFC2133.
            libc::AF_INET if raw.len() < 16 => Address::Malformed,
            libc::AF_INET6 if raw.len() < 24 => Address::Malformed,
            libc::AF_INET => {
                let ip = Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]);
                Address::Inet(SocketAddr::new(ip.into(), port(raw)))
            }
            libc::AF_INET6 => {
                let mut octets = [0; 16];
                octets.copy_from_slice(&raw[8..24]);
                let scope = raw.get(24..28).map_or(0, |s| u32::from_ne_bytes([s[0], s[1], s[2], s[3]]));
                let v6 = std::net::SocketAddrV6::new(Ipv6Addr::from(octets), port(raw), 0, scope);
                Address::Inet(SocketAddr::V6(v6))
            }
            libc::AF_UNIX if raw.len() > 2 && raw[2] == 0 => Address::Abstract(raw[3..].to_vec()),
            libc::AF_UNIX if raw.len() > 2 => {
                let path = raw[2..].split(|b| *b == 0).next().unwrap_or_default();
                Address::Path(path.to_vec())
            }
            _ => Address::Other(family),
        }
    }
}

/// The target of an event about TCP.
pub(super) fn inet_target(address: SocketAddr) -> Target {
    target(TargetKind::Tcp, address)
}

/// The target of an event about UDP.
pub(super) fn udp_target(address: SocketAddr) -> Target {
    target(TargetKind::Udp, address)
}

/// IPv4 in IPv6 clothes is IPv4.
fn target(kind: TargetKind, address: SocketAddr) -> Target {
    let shown = SocketAddr::new(address.ip().to_canonical(), address.port());
    Target { address: Some(shown.to_string()), ..Target::new(kind) }
}

/// The destination in a message header.
pub(super) fn message_address(request: &Request<'_>, header: &MsgHdr) -> Result<Option<Address>, Errno> {
    let len = header.name_len as u32 as usize;
    if header.name == 0 || !(2..=LARGEST_ADDRESS).contains(&len) {
        return Ok(None);
    }
    Ok(Some(Address::parse(&request.memory().bytes(header.name, len)?)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_seen_as_what_they_are() {
        let mut raw = vec![0u8; 28];
        raw[0..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        raw[2..4].copy_from_slice(&80u16.to_be_bytes());
        raw[8..24].copy_from_slice(&"::ffff:169.254.169.254".parse::<Ipv6Addr>().unwrap().octets());
        let Address::Inet(address) = Address::parse(&raw) else { panic!() };
        assert_eq!(inet_target(address).address.unwrap(), "169.254.169.254:80");
        let unix = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], b"/run/x\0junk"].concat();
        assert_eq!(Address::parse(&unix), Address::Path(b"/run/x".to_vec()));
        let hidden = [&(libc::AF_UNIX as u16).to_ne_bytes()[..], b"\0name"].concat();
        assert_eq!(Address::parse(&hidden), Address::Abstract(b"name".to_vec()));
    }

    proptest! {
        #[test]
        fn any_address_bytes_are_read(raw in proptest::collection::vec(any::<u8>(), 2..128)) {
            let _ = Address::parse(&raw);
        }
    }
}
