//! Decides which events of one script get a line of their own. Repeats share one, and
//! whoever floods the log meets a limit and is counted from then on. Refusals have
//! limits of their own, so that nothing a script may do can crowd out what it may not.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use jiff::Timestamp;

use super::model::{Event, Kind, Verdict};

/// Distinct events that are remembered, per script, for refusals and for the rest.
const KEYS: usize = 4_096;
/// Lines, per script, for refusals and for the rest.
const LINES: u64 = 20_000;

/// What to do with an event now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write it: it is the first of its kind.
    First,
    /// Write it: there is no memory left to say whether it is the first.
    Untracked,
    /// It repeats one that was written; [`Folds::drain`] will say how often.
    Repeat,
    /// The limit is reached; [`Folds::drain`] will say how many.
    Lost,
}

/// Something to write at the end of a script.
#[derive(Debug)]
pub(super) enum Remainder {
    /// The first repeat of an event, how many there were, when first and last.
    Repeats { event: Box<Event>, count: u64, first: Timestamp, last: Timestamp },
    /// A `lost` event for the events of one kind and verdict that have no line.
    Lost { event: Box<Event>, count: u64 },
}

/// The memory of one script.
#[derive(Debug, Default)]
pub(super) struct Folds {
    refused: Class,
    other: Class,
    lost: BTreeMap<(Kind, Verdict), (Box<Event>, u64)>,
    hasher: (RandomState, RandomState),
}

#[derive(Debug, Default)]
struct Class {
    index: HashMap<u128, usize>,
    repeats: Vec<Option<Repeats>>,
    lines: u64,
}

#[derive(Debug)]
struct Repeats {
    event: Box<Event>,
    count: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Folds {
    /// Takes note of `event`.
    pub(super) fn note(&mut self, event: &Event, now: Timestamp) -> Step {
        let key = event.kind.folds().then(|| self.key(event));
        let class = if event.verdict.is_refusal() { &mut self.refused } else { &mut self.other };
        let known = key.and_then(|key| class.index.get(&key)).copied();
        if let Some(slot) = known {
            match &mut class.repeats[slot] {
                Some(repeats) => {
                    repeats.count += 1;
                    repeats.last = now;
                }
                empty => {
                    *empty =
                        Some(Repeats { event: Box::new(event.clone()), count: 1, first: now, last: now });
                }
            }
            return Step::Repeat;
        }
        if class.lines >= LINES {
            let lost = self.lost.entry((event.kind, event.verdict));
            lost.or_insert_with(|| (Box::new(lost_event(event)), 0)).1 += 1;
            return Step::Lost;
        }
        class.lines += 1;
        match key {
            Some(_) if class.index.len() >= KEYS => Step::Untracked,
            Some(key) => {
                class.index.insert(key, class.repeats.len());
                class.repeats.push(None);
                Step::First
            }
            None => Step::First,
        }
    }

    /// What is left to write, in the order in which it was first seen, refusals first.
    pub(super) fn drain(&mut self) -> Vec<Remainder> {
        let refused = std::mem::take(&mut self.refused).repeats;
        let other = std::mem::take(&mut self.other).repeats;
        let repeats = refused.into_iter().chain(other).flatten().map(|repeats| Remainder::Repeats {
            event: repeats.event,
            count: repeats.count,
            first: repeats.first,
            last: repeats.last,
        });
        let lost = std::mem::take(&mut self.lost).into_values();
        let lost = lost.map(|(event, count)| Remainder::Lost { event, count });
        repeats.chain(lost).collect()
    }

    /// 128 keyed bits: a script can neither aim for a collision nor meet one by chance.
    fn key(&self, event: &Event) -> u128 {
        u128::from(digest(&self.hasher.0, event)) << 64 | u128::from(digest(&self.hasher.1, event))
    }
}

/// A `lost` event in the name of the script of `event`.
fn lost_event(event: &Event) -> Event {
    let mut lost = Event::new(Kind::Lost, event.domain, event.verdict);
    lost.package = event.package.clone();
    lost.script = event.script.clone();
    lost.detail = Some(serde_json::json!({"reason": "line_limit", "lost_kind": event.kind}));
    lost
}

/// Two events fold if what they say differs in process ids, times and latency only.
fn digest(state: &RandomState, event: &Event) -> u64 {
    let mut hasher = state.build_hasher();
    (event.kind, event.domain, event.verdict, event.syscall, &event.target, &event.rule).hash(&mut hasher);
    (event.enforced_by, event.errno, event.expected).hash(&mut hasher);
    if let Some(package) = &event.package {
        (&package.name, &package.version, &package.path).hash(&mut hasher);
    }
    if let Some(script) = &event.script {
        script.event.hash(&mut hasher);
    }
    if let Some(process) = &event.process {
        process.exe.hash(&mut hasher);
        if event.kind == Kind::Exec {
            process.argv.hash(&mut hasher);
        }
    }
    if let Some(detail) = &event.detail {
        detail.hash(&mut hasher);
    }
    hasher.finish()
}
