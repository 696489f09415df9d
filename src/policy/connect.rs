//! What policy says about connections and look-ups. An address is judged by itself and by
//! the names under which the asking domain found it, which only a resolver that sits between
//! can know; nothing here resolves anything. Addresses of metadata services stand apart: they
//! hand out the machine's credentials, so no rule reaches them that does not spell them out.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use super::address::{ConnectPattern, HostName, lower};
use super::decide::{Decision, Profile, Ranked};
use super::matcher::{PathSet, normal};
use super::model::{Terms, Verdict, Verify};
use super::special::{self, AddressClass};

/// More exact names than this are not listed.
const MAX_EXACT_HOSTS: usize = 64;

/// A verdict about a connection or a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectDecision {
    /// What happens and why.
    pub decision: Decision,
    /// The name that the rule matched, if it matched a name.
    pub host: Option<Arc<str>>,
    /// What the grant demands of the connection.
    pub verify: Option<Verify>,
    /// A refusal that the rule's author expects: it is refused, and no violation.
    pub expected: bool,
}

/// One pattern of a `connect` list, groups expanded.
#[derive(Debug)]
pub(super) struct ConnectRule {
    pub(super) rank: u32,
    pub(super) pattern: ConnectPattern,
    pub(super) origin: Origin,
    pub(super) terms: Terms,
}

/// How a pattern came into the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// It stands there.
    Written,
    /// A group holds it.
    Group,
    /// A group holds it because the user's own configuration names it.
    UserConfiguration,
}

#[derive(Debug)]
pub(super) struct ConnectRules {
    pub(super) ranked: Ranked,
    /// In the order of their ranks.
    pub(super) rules: Vec<ConnectRule>,
    pub(super) unix: PathSet,
    pub(super) unresolved: Decision,
    /// The verdict about metadata services that no rule spells out.
    pub(super) metadata: Decision,
}

impl ConnectRules {
    fn decision(&self, rule: &ConnectRule) -> &Decision {
        self.ranked.decision(Some(rule.rank))
    }

    fn denies(&self, rule: &ConnectRule) -> bool {
        self.decision(rule).verdict == Verdict::Deny
    }

    fn decided(&self, rule: &ConnectRule, host: Option<&Arc<str>>) -> ConnectDecision {
        ConnectDecision {
            decision: self.decision(rule).clone(),
            host: host.cloned(),
            // Only what was granted by its name has a name to compare with.
            verify: rule.terms.verify.filter(|_| host.is_some()),
            expected: rule.terms.expected,
        }
    }

    fn default(&self) -> ConnectDecision {
        unmatched(&self.ranked.default)
    }

    /// What is neither a name nor an address.
    fn unreadable(&self) -> ConnectDecision {
        unmatched(&self.unresolved)
    }

    /// Whether a rule reaches this canonical address.
    fn reaches(&self, rule: &ConnectRule, ip: IpAddr, class: AddressClass) -> bool {
        let pattern = &rule.pattern;
        match ip {
            // Through a translator or tunnel it leads to the IPv4 address in it.
            IpAddr::V6(v6) if self.denies(rule) => {
                pattern.holds(ip) || special::embedded(v6).any(|v4| pattern.holds(v4.into()))
            }
            _ if class == AddressClass::Metadata && !self.denies(rule) => {
                rule.origin == Origin::Written && pattern.spells_out(ip)
            }
            _ => pattern.holds(ip),
        }
    }
}

fn unmatched(decision: &Decision) -> ConnectDecision {
    ConnectDecision { decision: decision.clone(), host: None, verify: None, expected: false }
}

impl Profile {
    /// About a connection to an address that this domain found under these names.
    pub fn decide_connect(&self, to: SocketAddr, names: &[Arc<str>]) -> ConnectDecision {
        let ip = special::canonical(to.ip());
        let class = special::class(ip);
        let plain: Vec<String> = names.iter().map(|name| lower(name)).collect();
        let at_port = |rule: &&ConnectRule| rule.pattern.port().is_none_or(|port| port == to.port());
        for rule in self.connect.rules.iter().filter(at_port) {
            if self.connect.reaches(rule, ip, class) {
                return self.connect.decided(rule, None);
            }
            if class == AddressClass::Metadata && !self.connect.denies(rule) {
                continue;
            }
            let by_name = plain.iter().position(|name| rule.pattern.names(name));
            if let Some(name) = by_name.and_then(|at| names.get(at)) {
                return self.connect.decided(rule, Some(name));
            }
        }
        match class {
            AddressClass::Metadata => unmatched(&self.connect.metadata),
            _ => self.connect.default(),
        }
    }

    /// About an address alone, which no host name leads to.
    pub fn decide_address(&self, addr: SocketAddr) -> Decision {
        self.decide_connect(addr, &[]).decision
    }

    /// About a look-up: whether some connection to this name may follow. What is denied at one
    /// port only may still be looked up.
    pub fn decide_name(&self, name: &str) -> ConnectDecision {
        let name: Arc<str> = lower(name).into();
        let mut expected = None;
        for rule in self.connect.rules.iter().filter(|rule| rule.pattern.names(&name)) {
            let by_name = matches!(rule.pattern, ConnectPattern::Host { .. }).then_some(&name);
            let decided = self.connect.decided(rule, by_name);
            if !self.connect.denies(rule) || rule.pattern.port().is_none() {
                return decided;
            }
            if decided.expected {
                expected.get_or_insert(decided);
            }
        }
        match expected {
            // Whoever expects the connection to be refused expects it of the look-up before it.
            Some(expected) if self.connect.ranked.default.verdict == Verdict::Deny => expected,
            _ => self.connect.default(),
        }
    }

    /// About a host and port as a client states them: a TLS server name, an HTTP `Host`. An
    /// address in text form is judged as that address; what is neither is denied.
    pub fn decide_host(&self, host: &str, port: u16) -> ConnectDecision {
        let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = plain.parse::<IpAddr>() {
            return self.decide_connect(SocketAddr::new(address, port), &[]);
        }
        if HostName::exact(host).is_none() {
            // Such as `0xa9fea9fe`: whoever connects reads it as an address.
            return self.connect.unreadable();
        }
        let name: Arc<str> = lower(host).into();
        let rule =
            self.connect.rules.iter().find(|rule| {
                rule.pattern.port().is_none_or(|only| only == port) && rule.pattern.names(&name)
            });
        match rule {
            Some(rule) => {
                let by_name = matches!(rule.pattern, ConnectPattern::Host { .. }).then_some(&name);
                self.connect.decided(rule, by_name)
            }
            None => self.connect.default(),
        }
    }

    /// Whether policy grants this address itself, at some port: by the address or a network that
    /// holds it. `*` and names do not count, so a name that leads to such an address is no detour.
    pub fn grants_address(&self, ip: IpAddr) -> bool {
        let ip = special::canonical(ip);
        let class = special::class(ip);
        for rule in self.connect.rules.iter().filter(|rule| self.connect.reaches(rule, ip, class)) {
            if !self.connect.denies(rule) {
                if matches!(rule.pattern, ConnectPattern::Network { .. }) {
                    return true;
                }
            } else if rule.pattern.port().is_none() {
                return false;
            }
        }
        false
    }

    /// Whether a granted name may have private and loopback addresses, because the user's own
    /// configuration names it as a registry, a proxy or a git host.
    pub fn may_be_private(&self, name: &str) -> bool {
        let name = lower(name);
        for rule in self.connect.rules.iter().filter(|rule| rule.pattern.names(&name)) {
            if !self.connect.denies(rule) {
                if rule.origin == Origin::UserConfiguration {
                    return true;
                }
            } else if rule.pattern.port().is_none() {
                return false;
            }
        }
        false
    }

    /// Whether this is one of the proxies that the package manager is set up to use, by its
    /// address or by one of the names of that address.
    pub fn is_proxy(&self, to: SocketAddr, names: &[Arc<str>]) -> bool {
        let ip = special::canonical(to.ip()).to_string();
        self.vars.hosts.proxy.iter().any(|proxy| {
            let host = lower(&proxy.host);
            proxy.port.is_none_or(|port| port == to.port())
                && (*host == *ip || names.iter().any(|name| lower(name) == host))
        })
    }

    /// The names that are granted one by one, in the order of the rules; at most 64.
    pub fn exact_hosts(&self) -> Vec<Arc<str>> {
        let mut hosts: Vec<Arc<str>> = Vec::new();
        for rule in self.connect.rules.iter().filter(|rule| !self.connect.denies(rule)) {
            let ConnectPattern::Host { name, .. } = &rule.pattern else { continue };
            let known = hosts.iter().any(|host| **host == *name.name);
            if name.below || known || self.decide_name(&name.name).decision.verdict == Verdict::Deny {
                continue;
            }
            hosts.push((&*name.name).into());
            if hosts.len() == MAX_EXACT_HOSTS {
                break;
            }
        }
        hosts
    }

    /// About a Unix socket's path, which must be absolute and already resolved.
    pub fn decide_unix(&self, path: &Path) -> Decision {
        match normal(path) {
            Some(path) => self.connect.ranked.decision(self.connect.unix.best(&path, |_| true)).clone(),
            None => self.connect.unresolved.clone(),
        }
    }
}
