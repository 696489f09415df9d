//! What a run adds up to: counts by verdict and kind, and one row per script for the
//! summary. Counts are of acts, not of lines, so that folding changes none of them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::model::{Domain, Event, Kind, Verdict};

/// Hosts that one row remembers.
const HOSTS: usize = 32;

/// What one script did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptRow {
    /// Package name; `(manager)` or `(command)` for what no package did.
    pub package: String,
    /// Package version.
    pub version: Option<String>,
    /// Lifecycle event.
    pub script: String,
    /// How long it ran; zero until it ended.
    pub duration: Duration,
    /// Programs it started.
    pub execs: u64,
    /// Acts that were refused.
    pub denied: u64,
    /// Acts that enforcement would have refused.
    pub would_deny: u64,
    /// Refusals that the policy expects; they count nowhere else in a row.
    pub expected: u64,
    /// Refused and would-be refused acts by kind.
    pub denied_kinds: BTreeMap<Kind, u64>,
    /// Acts that went ahead and were to be logged.
    pub logged: u64,
    /// Processes that outlived it.
    pub leftovers: u64,
    /// Hosts it reached or looked up, in order; the first of them only.
    pub hosts: Vec<String>,
    /// Hosts that were refused it.
    pub refused_hosts: Vec<String>,
    /// How it ended, as `script_end` says; none if it has not.
    pub exit: Option<String>,
    /// The gravest verdict so far.
    pub verdict: Verdict,
}

impl ScriptRow {
    /// A row with nothing in it.
    pub fn new(package: &str, version: Option<&str>, script: &str) -> ScriptRow {
        ScriptRow {
            package: package.to_owned(),
            version: version.map(str::to_owned),
            script: script.to_owned(),
            duration: Duration::ZERO,
            execs: 0,
            denied: 0,
            would_deny: 0,
            expected: 0,
            denied_kinds: BTreeMap::new(),
            logged: 0,
            leftovers: 0,
            hosts: Vec::new(),
            refused_hosts: Vec::new(),
            exit: None,
            verdict: Verdict::Allowed,
        }
    }

    /// Files that were refused, or would have been.
    pub fn files_denied(&self) -> u64 {
        let kinds = [Kind::Read, Kind::Write, Kind::Metadata];
        kinds.iter().filter_map(|kind| self.denied_kinds.get(kind)).sum()
    }

    /// Ended as it should.
    pub fn succeeded(&self) -> bool {
        self.exit.as_deref().is_none_or(|exit| matches!(exit, "0" | "exit 0" | "ok" | "success"))
    }

    /// Worth a line of its own in a long summary.
    pub fn is_remarkable(&self) -> bool {
        self.verdict != Verdict::Allowed || self.leftovers > 0 || !self.hosts.is_empty() || !self.succeeded()
    }

    fn note(&mut self, event: &Event) {
        if event.expected && event.verdict.is_refusal() {
            self.expected += 1;
            self.note_host(event);
            return;
        }
        match event.verdict {
            Verdict::Allowed => {}
            Verdict::Logged => self.logged += 1,
            Verdict::Denied => self.denied += 1,
            Verdict::WouldDeny => self.would_deny += 1,
        }
        if gravity(event.verdict) > gravity(self.verdict) {
            self.verdict = event.verdict;
        }
        if event.verdict.is_refusal() {
            *self.denied_kinds.entry(event.kind).or_default() += 1;
        }
        match event.kind {
            Kind::Exec if event.verdict != Verdict::Denied => self.execs += 1,
            Kind::Leftover => self.leftovers += 1,
            Kind::Connect | Kind::Resolve => self.note_host(event),
            Kind::ScriptEnd => {
                let fact = |key| event.detail.as_ref().and_then(|detail| detail.get(key));
                self.duration =
                    Duration::from_micros(fact("duration_us").and_then(Value::as_u64).unwrap_or(0));
                self.exit = fact("status").map(|status| match status {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                });
            }
            _ => {}
        }
    }

    fn note_host(&mut self, event: &Event) {
        let Some(target) = &event.target else { return };
        let Some(host) = target.host.as_ref().or(target.address.as_ref()) else { return };
        let hosts = if event.verdict.is_refusal() { &mut self.refused_hosts } else { &mut self.hosts };
        if hosts.len() < HOSTS && !hosts.contains(host) {
            hosts.push(host.clone());
        }
    }
}

/// What a whole run adds up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Acts that the policy allows.
    pub allowed: u64,
    /// Acts that went ahead and were to be logged.
    pub logged: u64,
    /// Acts that were refused.
    pub denied: u64,
    /// Acts that enforcement would have refused.
    pub would_deny: u64,
    /// Those of the refused acts, and of those that would have been, that the policy
    /// expects: no violations.
    pub expected: u64,
    /// Processes that outlived their script.
    pub leftovers: u64,
    /// Acts by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// One row per script, in order of appearance.
    pub rows: Vec<ScriptRow>,
    /// Where the log is, if there is one.
    pub log: Option<PathBuf>,
    /// Lines that could not be written.
    pub lost: u64,
}

impl Totals {
    /// The totals as `run_end` carries them.
    pub(super) fn to_detail(&self) -> Map<String, Value> {
        let kinds: Map<String, Value> =
            self.kinds.iter().map(|(kind, count)| (kind.as_str().to_owned(), json!(count))).collect();
        let mut detail = Map::new();
        detail.insert(
            "totals".to_owned(),
            json!({
                "allowed": self.allowed,
                "logged": self.logged,
                "denied": self.denied,
                "would_deny": self.would_deny,
                "expected": self.expected,
                "leftovers": self.leftovers,
            }),
        );
        detail.insert("kinds".to_owned(), Value::Object(kinds));
        detail.insert("lost".to_owned(), json!(self.lost));
        detail
    }
}

/// Keeps [`Totals`] up to date.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) totals: Totals,
    /// By script; what the manager did, by the package it did it for.
    rows: HashMap<(u64, Domain, Option<String>), usize>,
}

impl Ledger {
    /// Takes note of `event` of the script `key`.
    pub(super) fn note(&mut self, key: u64, event: &Event) {
        let totals = &mut self.totals;
        match event.verdict {
            Verdict::Allowed => totals.allowed += 1,
            Verdict::Logged => totals.logged += 1,
            Verdict::Denied => totals.denied += 1,
            Verdict::WouldDeny => totals.would_deny += 1,
        }
        totals.expected += u64::from(event.expected && event.verdict.is_refusal());
        totals.leftovers += u64::from(event.kind == Kind::Leftover);
        *totals.kinds.entry(event.kind).or_default() += 1;
        // What belongs to no script has a row only once there is something to say.
        if key == 0 && event.verdict == Verdict::Allowed && event.kind != Kind::Leftover {
            return;
        }
        let package = event.package.as_ref().filter(|_| key == 0).map(|package| package.name.clone());
        let slot = *self.rows.entry((key, event.domain, package)).or_insert_with(|| {
            totals.rows.push(empty_row(event));
            totals.rows.len() - 1
        });
        totals.rows[slot].note(event);
    }
}

fn empty_row(event: &Event) -> ScriptRow {
    let script = event.script.as_deref().map_or("", |script| script.event.as_str());
    match (event.package.as_deref(), event.domain) {
        (Some(package), _) => ScriptRow::new(&package.name, package.version.as_deref(), script),
        (None, Domain::Manager) => ScriptRow::new("(manager)", None, script),
        (None, Domain::Run) => ScriptRow::new("(command)", None, script),
        (None, Domain::Script | Domain::Root) => ScriptRow::new("(unknown)", None, script),
    }
}

const fn gravity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Allowed => 0,
        Verdict::Logged => 1,
        Verdict::WouldDeny => 2,
        Verdict::Denied => 3,
    }
}
