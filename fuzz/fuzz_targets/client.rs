//! A domain that is granted every name and may be pointed at one address only.

use std::net::{IpAddr, Ipv4Addr};

use npmguard::resolver::{Client, Lookup, Outcome, Ruling};

pub const PERMITTED: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 5));

pub struct Anything;

impl Client for Anything {
    fn may_resolve(&self, name: &str) -> Ruling {
        assert!(!name.is_empty() && name.len() <= 253 && !name.ends_with('.'));
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)));
        Ruling::Allowed
    }

    fn may_point_at(&self, _: &str, address: IpAddr) -> bool {
        assert_eq!(address, address.to_canonical());
        address == PERMITTED
    }

    fn resolved(&self, lookup: Lookup<'_>) {
        assert!(!lookup.name.chars().any(npmguard::event::escape::is_unsafe));
        assert_eq!(lookup.outcome == Outcome::DeniedAddress, !lookup.refused_addresses.is_empty());
    }

    fn may_ask(&self) -> bool {
        true
    }
}
