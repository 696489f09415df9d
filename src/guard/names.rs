//! What a domain knows about host names: which address it got for which name, from the
//! resolver that answers its look-ups. A connection is allowed by name only if the
//! domain itself resolved that name to that address.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::Domain;
use super::refused::builtin_rule;
use crate::event::{self, EnforcedBy, Event, Kind, Target, TargetKind};
use crate::policy::{AddressClass, ConnectDecision, Mode, Verdict, class as address_class};
use crate::resolver::{Client, Lookup, Outcome, Ruling};

/// Pairs of address and name that one domain remembers; the oldest go first.
const MOST_PAIRS: usize = 4_096;
/// Look-ups that a domain may make at once, and each second after that.
const BURST: f64 = 500.0;
const PER_SECOND: f64 = 50.0;
/// Refused names below one parent that get a line each; further ones share a line.
const NAMES_PER_PARENT: usize = 64;
/// Parents that are told apart.
const MOST_PARENTS: usize = 1_024;
/// Connections to the resolver that a domain may have open.
const MOST_CONNECTIONS: usize = 64;

/// The memory of one domain.
#[derive(Debug)]
pub(super) struct Names {
    state: Mutex<State>,
    connections: AtomicUsize,
}

#[derive(Debug)]
struct State {
    by_address: HashMap<IpAddr, Vec<Arc<str>>>,
    order: VecDeque<(IpAddr, Arc<str>)>,
    refused: HashMap<String, HashSet<String>>,
    tokens: f64,
    filled: Instant,
}

impl Default for Names {
    fn default() -> Self {
        let state = State {
            by_address: HashMap::new(),
            order: VecDeque::new(),
            refused: HashMap::new(),
            tokens: BURST,
            filled: Instant::now(),
        };
        Names { state: Mutex::new(state), connections: AtomicUsize::new(0) }
    }
}

impl Names {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The names that this domain resolved to `address`.
    pub(super) fn of(&self, address: IpAddr) -> Vec<Arc<str>> {
        self.state().by_address.get(&address).cloned().unwrap_or_default()
    }

    /// Remembers that `name` leads to `address`.
    pub(super) fn remember(&self, address: IpAddr, name: &str) {
        let mut state = self.state();
        let names = state.by_address.entry(address).or_default();
        if names.iter().any(|known| **known == *name) {
            return;
        }
        let name: Arc<str> = name.into();
        names.push(Arc::clone(&name));
        state.order.push_back((address, name));
        if state.order.len() > MOST_PAIRS
            && let Some((old, name)) = state.order.pop_front()
            && let Some(names) = state.by_address.get_mut(&old)
        {
            names.retain(|known| *known != name);
            if names.is_empty() {
                state.by_address.remove(&old);
            }
        }
    }

    /// Takes one look-up from the domain's allowance.
    fn spend(&self) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let gained = now.duration_since(state.filled).as_secs_f64() * PER_SECOND;
        state.filled = now;
        state.tokens = (state.tokens + gained).min(BURST);
        if state.tokens < 1.0 {
            return false;
        }
        state.tokens -= 1.0;
        true
    }

    /// Gives a look-up back.
    fn refund(&self) {
        let mut state = self.state();
        state.tokens = (state.tokens + 1.0).min(BURST);
    }

    /// Whether the domain got an address for this name before.
    fn knows(&self, name: &str) -> bool {
        self.state().order.iter().rev().any(|(_, known)| **known == *name)
    }

    /// The name under which a refusal is reported: the one before the client appended a
    /// search domain, and one for many, since data smuggled in names must not bury the log.
    fn reported<'a>(&self, name: &str, mut shorter: impl Iterator<Item = &'a str>) -> String {
        let known = |name: &str| {
            let state = self.state();
            let parent = parent_of(name).unwrap_or_default();
            state.refused.get(parent).is_some_and(|seen| seen.contains(name))
        };
        if let Some(first) = shorter.find(|name| known(name)) {
            return first.to_owned();
        }
        let parent = parent_of(name).unwrap_or_default();
        let mut state = self.state();
        if state.refused.len() >= MOST_PARENTS && !state.refused.contains_key(parent) {
            return "*".to_owned();
        }
        let seen = state.refused.entry(parent.to_owned()).or_default();
        if seen.contains(name) {
            return name.to_owned();
        }
        if seen.len() >= NAMES_PER_PARENT {
            return if parent.is_empty() { "*".to_owned() } else { format!("*.{parent}") };
        }
        seen.insert(name.to_owned());
        name.to_owned()
    }
}

/// The last two labels of a name that has more.
fn parent_of(name: &str) -> Option<&str> {
    let (before, _top) = name.rsplit_once('.')?;
    let at = before.rfind('.')?;
    Some(&name[at + 1..])
}

/// One connection of a domain to the resolver.
pub(super) struct Asker {
    domain: Arc<Domain>,
    names: Arc<Names>,
    process: event::Process,
}

impl Asker {
    /// `None` when the domain has too many of them.
    pub(super) fn new(domain: &Arc<Domain>, names: &Arc<Names>, process: event::Process) -> Option<Asker> {
        if names.connections.fetch_add(1, Ordering::Relaxed) >= MOST_CONNECTIONS {
            names.connections.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Asker { domain: Arc::clone(domain), names: Arc::clone(names), process })
    }

    fn may_be_given(&self, name: &str, address: IpAddr) -> bool {
        let profile = &self.domain.profile;
        match address_class(address) {
            AddressClass::Public => true,
            AddressClass::Metadata => profile.grants_address(address),
            _ => profile.may_be_private(name) || is_local_name(name) || profile.grants_address(address),
        }
    }

    fn lookup_event(
        &self,
        lookup: &Lookup<'_>,
        granted: &str,
        choice: &ConnectDecision,
        private: &[IpAddr],
    ) -> Event {
        let domain = &self.domain;
        let limited = lookup.outcome == Outcome::Limited;
        let verdict = match (choice.decision.verdict, limited || !private.is_empty()) {
            (_, true) => Verdict::Deny,
            (verdict, false) => verdict,
        };
        let mut event = domain.event(Kind::Resolve, verdict);
        event.process = Some(self.process.clone());
        let shown = match verdict {
            Verdict::Deny => self.names.reported(granted, domain.resolver.without_search(granted)),
            _ => granted.to_owned(),
        };
        event.target = Some(Target { host: Some(shown), ..Target::new(TargetKind::Host) });
        event.latency_us = Some(lookup.elapsed.as_micros() as u64);
        event.enforced_by =
            if event.verdict == event::Verdict::Denied { EnforcedBy::Supervisor } else { EnforcedBy::None };
        event.detail = Some(json!({ "outcome": outcome_name(lookup.outcome) }));
        let texts = |list: &[IpAddr]| list.iter().map(IpAddr::to_string).collect::<Vec<_>>();
        let mut measured = serde_json::Map::new();
        // A name that is refused is refused for every type: one line, whatever clients ask.
        match (&mut event.detail, verdict) {
            (Some(Value::Object(detail)), Verdict::Allow | Verdict::Log) => detail,
            _ => &mut measured,
        }
        .insert("type".into(), json!(lookup.record_type));
        if !lookup.addresses.is_empty() {
            measured.insert("addresses".into(), json!(texts(lookup.addresses)));
        }
        if verdict == Verdict::Deny {
            event.techniques = vec!["T1071.004"];
        }
        if limited {
            event.rule = Some(builtin_rule("rate of look-ups"));
            event.errno = Some("ENXIO");
        } else if !private.is_empty() && choice.decision.verdict != Verdict::Deny {
            measured.insert("refused_addresses".into(), json!(texts(private)));
            event.rule = Some(builtin_rule("public names with private addresses"));
            event.errno = Some("ENOENT");
            event.techniques = vec!["T1568"];
            event.hint = private
                .first()
                .filter(|address| address_class(**address) != AddressClass::Metadata)
                .map(|address| domain.profile.hint("connect", &address.to_string()));
        } else {
            domain.explain(&mut event, &choice.decision);
            if verdict == Verdict::Deny {
                event.errno = Some("ENOENT");
                event.expected = choice.expected;
            }
        }
        event.measured = Some(measured);
        domain.attribute(&mut event, granted);
        event
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.names.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client for Asker {
    fn may_resolve(&self, name: &str) -> Ruling {
        let refused = self.domain.profile.decide_name(name).decision.verdict == Verdict::Deny;
        if refused && self.domain.mode == Mode::Enforce { Ruling::Refused } else { Ruling::Allowed }
    }

    fn may_point_at(&self, name: &str, address: IpAddr) -> bool {
        self.domain.mode == Mode::Audit || self.may_be_given(name, address)
    }

    fn may_ask(&self) -> bool {
        self.names.spend() || self.domain.mode == Mode::Audit
    }

    fn resolved(&self, lookup: Lookup<'_>) {
        let refused = matches!(lookup.outcome, Outcome::Denied | Outcome::Limited);
        if lookup.granted_as.is_none() && !refused {
            // The machine's own names (hosts(5), its own): nobody was asked, and no policy.
            return;
        }
        let granted = lookup.granted_as.unwrap_or(lookup.name);
        let choice = self.domain.profile.decide_name(granted);
        let answered = lookup.outcome == Outcome::Answered;
        if (answered || lookup.outcome == Outcome::NoData) && self.names.knows(granted) {
            // Programs look their own server up for every connection, and ask for both types.
            self.names.refund();
        }
        let private: Vec<IpAddr> = match lookup.outcome {
            Outcome::DeniedAddress => lookup.refused_addresses.to_vec(),
            _ => lookup.addresses.iter().copied().filter(|a| !self.may_be_given(granted, *a)).collect(),
        };
        if answered {
            for address in lookup.addresses {
                self.names.remember(*address, granted);
            }
        }
        let event = self.lookup_event(&lookup, granted, &choice, &private);
        self.domain.log.record(self.domain.key, event);
    }
}

/// Names that public DNS does not serve: RFC 6762 (appendix G and section 3), RFC 8375,
/// RFC 6761 and names of one label.
fn is_local_name(name: &str) -> bool {
    const LOCAL: &[&str] =
        &["local", "localhost", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa"];
    !name.contains('.') || LOCAL.iter().any(|top| name.strip_suffix(top).is_some_and(|r| r.ends_with('.')))
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered => "answered",
        Outcome::NoSuchName => "no such name",
        Outcome::NoData => "no data",
        Outcome::Denied => "refused",
        Outcome::DeniedAddress => "refused address",
        Outcome::Failed => "failed",
        Outcome::Limited => "too many look-ups",
    }
}

impl super::Guard {
    /// The names by which this domain knows an address: those it resolved, and those that
    /// hosts(5) gives it, which is the machine's own word.
    pub(super) fn names_of(&mut self, address: IpAddr) -> Vec<Arc<str>> {
        let mut names = self.names.of(address);
        for name in self.domain.resolver.hosts().names(address) {
            if !names.contains(name) {
                names.push(Arc::clone(name));
            }
        }
        if names.is_empty() && self.resolves_alone {
            names = self.granted_names_of(address);
        }
        names
    }

    /// A manager that had to be left its own UDP resolves past the supervisor: there an
    /// address that a granted host has now counts as that host. This waits for name
    /// servers, and so does everything else of npm meanwhile.
    fn granted_names_of(&mut self, address: IpAddr) -> Vec<Arc<str>> {
        let hosts = self.domain.profile.exact_hosts();
        let public = address_class(address) == AddressClass::Public;
        let profile = &self.domain.profile;
        let found: Vec<Arc<str>> = hosts
            .into_iter()
            .filter(|host| public || profile.may_be_private(host))
            .filter(|host| self.domain.resolver.addresses(host).contains(&address))
            .collect();
        for name in &found {
            self.names.remember(address, name);
        }
        found
    }
}
