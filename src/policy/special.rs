//! What kind of place an address is, whatever clothes it wears: the registries of
//! special-purpose addresses (RFC 6890, kept by IANA) as one pure function. A name that
//! anybody may register can be given any address, so this is what keeps a granted name
//! from leading into the machine or its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Routed in the internet, or nowhere at all.
    Public,
    /// This machine.
    Loopback,
    /// The network that the machine is in.
    Private,
    /// The wire that the machine is on.
    LinkLocal,
    /// A service that hands out the machine's own credentials.
    Metadata,
    /// No address that a connection can have: multicast, broadcast, unassigned.
    Reserved,
}

impl AddressClass {
    /// The word for the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Reserved => "reserved",
        }
    }
}

/// Where clouds answer questions about the machine, credentials included. `169.254.169.253`
/// (DNS) and `169.254.169.123` (time) of Amazon give nothing away and are not here.
const METADATA_V4: &[Ipv4Addr] = &[
    // Amazon, Google, Azure, Oracle, DigitalOcean, OpenStack and most others.
    Ipv4Addr::new(169, 254, 169, 254),
    // Amazon ECS: credentials of a task.
    Ipv4Addr::new(169, 254, 170, 2),
    // Amazon EKS Pod Identity: credentials of a pod.
    Ipv4Addr::new(169, 254, 170, 23),
    // Tencent Cloud.
    Ipv4Addr::new(169, 254, 0, 23),
    // Scaleway.
    Ipv4Addr::new(169, 254, 42, 42),
    // Alibaba Cloud; inside the shared address space of RFC 6598.
    Ipv4Addr::new(100, 100, 100, 200),
    // Oracle Cloud at Customer; inside the IETF block of RFC 6890.
    Ipv4Addr::new(192, 0, 0, 192),
    // Azure's "wire server": goal state, certificates, extension settings. A public address.
    Ipv4Addr::new(168, 63, 129, 16),
];

const METADATA_V6: &[Ipv6Addr] = &[
    // Amazon EC2.
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    // Amazon EKS Pod Identity.
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    // Google Compute Engine.
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    // Oracle Cloud.
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    // Scaleway.
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
    // Linode.
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1),
    // OpenStack.
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
];

/// The address that Linux connects to: IPv4 in IPv6 clothes (`::ffff:10.0.0.1`, RFC 4291
/// 2.5.5.2) is IPv4, and the unspecified address is this machine (`tcp_v4_connect` and
/// `tcp_v6_connect` put loopback in its place).
pub fn canonical(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// The class of an address. One that carries an IPv4 address has the class of that one,
/// unless that is public: a translator or tunnel on the way would lead there.
pub fn class(ip: IpAddr) -> AddressClass {
    match canonical(ip) {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => class_v6(v6),
    }
}

fn class_v4(ip: Ipv4Addr) -> AddressClass {
    if METADATA_V4.contains(&ip) {
        return AddressClass::Metadata;
    }
    match ip.octets() {
        // "This host on this network" (RFC 1122 3.2.1.3).
        [0, ..] => AddressClass::Reserved,
        [127, ..] => AddressClass::Loopback,
        // RFC 1918, and the shared space of carriers (RFC 6598).
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => AddressClass::Private,
        // RFC 3927.
        [169, 254, ..] => AddressClass::LinkLocal,
        // IETF protocol assignments (RFC 6890 2.1), multicast (RFC 5771), class E and broadcast
        // (RFC 1112 4).
        [192, 0, 0, _] | [224..=255, ..] => AddressClass::Reserved,
        // Documentation (RFC 5737) and benchmarking (RFC 2544) are here too: they are routed
        // nowhere, so there is nothing to protect, and tests need addresses that count as public.
        _ => AddressClass::Public,
    }
}

fn class_v6(ip: Ipv6Addr) -> AddressClass {
    if METADATA_V6.contains(&ip) {
        return AddressClass::Metadata;
    }
    let own = own_class_v6(ip);
    let carried = |wanted: fn(AddressClass) -> bool| embedded(ip).map(class_v4).find(|class| wanted(*class));
    let metadata = carried(|class| class == AddressClass::Metadata);
    metadata.unwrap_or_else(|| match own {
        AddressClass::Public => carried(|class| class != AddressClass::Public).unwrap_or(own),
        // Nothing that is no address says more than the block that it is in.
        _ => carried(|class| !matches!(class, AddressClass::Public | AddressClass::Reserved)).unwrap_or(own),
    })
}

/// The class of an IPv6 address without regard to what it carries.
fn own_class_v6(ip: Ipv6Addr) -> AddressClass {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        // RFC 4193; site-local addresses were the same thing before (RFC 3879).
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => AddressClass::Private,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        // A translator of the network's own (RFC 8215).
        [0x64, 0xff9b, 1, ..] => AddressClass::Private,
        // A translator to the IPv4 internet (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => AddressClass::Public,
        // Global unicast (RFC 4291 2.5.4). Documentation (RFC 3849, RFC 9637) and benchmarking
        // (RFC 5180) lie inside and are routed nowhere.
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        _ => AddressClass::Reserved,
    }
}

/// The IPv4 addresses that an IPv6 address carries, the likeliest first.
pub(super) fn embedded(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = ip.to_bits();
    // The 32 bits that end so many bits before the end.
    let at = |from_end: u32| Ipv4Addr::from_bits((bits >> from_end) as u32);
    // RFC 6052 2.2: bits 64 to 71 are no part of the IPv4 address, which may lie around them.
    let joined = (bits >> 64) << 56 | bits & ((1 << 56) - 1);
    let around = |prefix: u32| Ipv4Addr::from_bits((joined >> (120 - 32 - prefix)) as u32);
    let found: [Option<Ipv4Addr>; 4] = match ip.segments() {
        // Unspecified and loopback have no IPv4 address in them.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None; 4],
        // IPv4-compatible (RFC 4291 2.5.5.1), translated (RFC 2765 2.1), NAT64 (RFC 6052 2.1).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            [Some(at(0)), None, None, None]
        }
        // Any prefix length may be in use inside (RFC 8215 4.1).
        [0x64, 0xff9b, 1, ..] => [Some(at(0)), Some(around(48)), Some(around(56)), Some(around(64))],
        // 6to4 (RFC 3056 2).
        [0x2002, ..] => [Some(at(80)), None, None, None],
        // Teredo (RFC 4380 4): the client's address is inverted; then the server's.
        [0x2001, 0, ..] => [Some(Ipv4Addr::from_bits(!(bits as u32))), Some(at(64)), None, None],
        _ => [None; 4],
    };
    found.into_iter().flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use AddressClass::*;
    use proptest::prelude::*;

    #[test]
    fn every_special_network_has_its_class_from_its_first_to_its_last_address() {
        for (expected, addresses) in [
            (Public, "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0"),
            (Public, "169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0"),
            (Public, "192.0.1.0 223.255.255.255 2000:: 2606:4700::1111 3fff:ffff::1 64:ff9b::1.1.1.1"),
            (Public, "192.0.2.1 198.51.100.1 203.0.113.255 198.18.0.1 2001:db8::1 3fff::1 2002:101:101::"),
            (Loopback, "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 0.0.0.0 :: ::ffff:0.0.0.0"),
            (Loopback, "::127.0.0.1 64:ff9b::127.0.0.1 2002:7f00:1::1 64:ff9b:1::127.0.0.1"),
            (Private, "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255"),
            (Private, "100.64.0.0 100.127.255.255 fc00:: fdff:ffff::1 fec0::1 64:ff9b:1:a00:0:100::"),
            (Private, "64:ff9b::10.0.0.1 2002:c0a8:1::1 ::ffff:0:10.0.0.1 2001:0:101:101::f5ff:fffe"),
            (LinkLocal, "169.254.0.0 169.254.255.255 169.254.169.253 fe80::1 febf::1 ::169.254.1.1"),
            (Metadata, "169.254.169.254 169.254.170.2 169.254.170.23 100.100.100.200 192.0.0.192"),
            (Metadata, "168.63.129.16 fd00:ec2::254 fd00:ec2::23 ::ffff:169.254.169.254 fd20:ce::254"),
            (Metadata, "::a9fe:a9fe 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: 64:ff9b:1:a9fe:a9:fe00::"),
            (Metadata, "2001:0:a9fe:a9fe::1 2001:0:101:101::5601:5601 64:ff9b:1::169.254.169.254"),
            (Reserved, "0.0.0.1 0.255.255.255 192.0.0.0 192.0.0.255 224.0.0.1 240.0.0.0 255.255.255.255"),
            (Reserved, "ff02::1 100::1 4000::1 ::1.1.1.1 5f00::1 e000::1"),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(class(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    fn forms(v4: Ipv4Addr) -> Vec<Ipv6Addr> {
        let bits = u128::from(v4.to_bits());
        let under = |prefix: u128| Ipv6Addr::from_bits(prefix | bits);
        let nat64 = 0x64_ff9b_u128 << 96;
        vec![
            v4.to_ipv6_mapped(),
            under(0),
            under(0xffff_0000 << 32),
            under(nat64),
            under(nat64 | 1 << 80),
            Ipv6Addr::from_bits(0x2002 << 112 | bits << 80 | 1),
            Ipv6Addr::from_bits(0x2001_0000 << 96 | 0x0101_0101 << 64 | u128::from(!v4.to_bits())),
            // RFC 6052 2.2 with /48: 16 bits, the free octet, 16 bits.
            Ipv6Addr::from_bits(nat64 | 1 << 80 | (bits >> 16) << 64 | (bits & 0xffff) << 40),
        ]
    }

    proptest! {
        #[test]
        fn no_clothes_make_an_address_public(
            v4 in prop_oneof![
                any::<u32>().prop_map(Ipv4Addr::from_bits),
                prop::sample::select(METADATA_V4.to_vec()),
                prop::sample::select(vec![[10, 0, 0, 1], [127, 0, 0, 1], [169, 254, 1, 1], [192, 168, 0, 1]])
                    .prop_map(Ipv4Addr::from),
            ]
        ) {
            let plain = class(v4.into());
            for form in forms(v4) {
                let dressed = class(form.into());
                prop_assert!(plain == Public || dressed != Public, "{v4} as {form}: {dressed:?}");
                prop_assert!(plain != Metadata || dressed == Metadata, "{v4} as {form}: {dressed:?}");
            }
        }

        #[test]
        fn canonical_is_final_and_keeps_the_class(bits in any::<u128>(), v4 in any::<u32>(), low in 0u128..3) {
            let v4 = Ipv4Addr::from_bits(v4);
            let v6 = [Ipv6Addr::from_bits(bits), Ipv6Addr::from_bits(low), v4.to_ipv6_mapped()];
            for ip in v6.map(IpAddr::from).into_iter().chain([v4.into()]) {
                prop_assert_eq!(canonical(canonical(ip)), canonical(ip));
                prop_assert_eq!(class(canonical(ip)), class(ip));
                prop_assert!(!canonical(ip).is_unspecified());
            }
        }
    }
}
