//! The written form of an event: one JSON object, one line, schema `npmguard/event/1`.
//! Every string passes a bound and [`sanitize`](super::escape::sanitize) on its way out,
//! whoever filled it in, so that no line can be forged and none grows without limit.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::actor::{Package, Process, Script};
use super::escape::{sanitize_bounded, sanitize_lines};
use super::model::{Domain, EnforcedBy, Event, Kind, Rule, Target, Verdict};

/// The schema that every line names.
pub const SCHEMA: &str = "npmguard/event/1";

/// How much of each thing a line holds, in bytes or items.
pub(super) mod bound {
    /// A name, a version, a host.
    pub(crate) const NAME: usize = 512;
    /// A path or a command.
    pub(crate) const PATH: usize = 4_200;
    /// One argument.
    pub(crate) const ARGUMENT: usize = 1_024;
    /// The arguments of one process.
    pub(crate) const ARGUMENTS: usize = 64;
    /// Other lists of names.
    pub(crate) const NAMES: usize = 64;
    /// Entries of one array or object in `detail`.
    pub(crate) const DETAIL_ITEMS: usize = 2_048;
    /// Levels in `detail`.
    pub(crate) const DETAIL_DEPTH: usize = 8;
    /// Room for the marker of a text that was cut before.
    pub(crate) const MARKER: usize = 40;
}

/// What the log adds to an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp<'a> {
    pub(super) seq: u64,
    pub(super) time: Timestamp,
    pub(super) mono_us: u64,
    pub(super) run: &'a str,
    pub(super) count: u64,
    pub(super) last_time: Option<Timestamp>,
}

/// Field order is part of the contract: people grep for `"package":{"name":"x"`.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    seq: u64,
    time: String,
    mono_us: u64,
    run: &'a str,
    kind: Kind,
    domain: Domain,
    package: Option<&'a Package>,
    script: Option<&'a Script>,
    process: Option<&'a Process>,
    syscall: Option<&'static str>,
    target: Option<&'a Target>,
    verdict: Verdict,
    rule: Option<&'a Rule>,
    enforced_by: EnforcedBy,
    errno: Option<&'static str>,
    latency_us: Option<u64>,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_time: Option<String>,
    techniques: &'a [&'static str],
    hint: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Value>,
}

/// The line for `event`, without its line feed.
pub(super) fn render(event: &Event, stamp: &Stamp<'_>) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Line {
        schema: SCHEMA,
        seq: stamp.seq,
        time: rfc3339(stamp.time),
        mono_us: stamp.mono_us,
        run: stamp.run,
        kind: event.kind,
        domain: event.domain,
        package: event.package.as_deref(),
        script: event.script.as_deref(),
        process: event.process.as_ref(),
        syscall: event.syscall,
        target: event.target.as_ref(),
        verdict: event.verdict,
        rule: event.rule.as_ref(),
        enforced_by: event.enforced_by,
        errno: event.errno,
        latency_us: event.latency_us,
        count: stamp.count,
        last_time: stamp.last_time.map(rfc3339),
        techniques: &event.techniques,
        hint: event.hint.as_deref().map(|hint| sanitize_lines(hint, bound::PATH + bound::MARKER)),
        detail: detail(event).map(|detail| clean(&detail, bound::DETAIL_DEPTH)),
    })
}

/// The facts of an event, in one object.
fn detail(event: &Event) -> Option<Cow<'_, Value>> {
    if event.measured.is_none() && !event.expected {
        return event.detail.as_ref().map(Cow::Borrowed);
    }
    let mut facts = match &event.detail {
        Some(Value::Object(facts)) => facts.clone(),
        Some(other) => Map::from_iter([("detail".to_owned(), other.clone())]),
        None => Map::new(),
    };
    facts.extend(event.measured.clone().unwrap_or_default());
    if event.expected {
        facts.insert("expected".to_owned(), Value::Bool(true));
    }
    Some(Cow::Owned(Value::Object(facts)))
}

fn rfc3339(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// `detail`, with every text and key bounded and sanitized.
fn clean(value: &Value, depth: usize) -> Value {
    match value {
        Value::String(text) => Value::String(fit(text, bound::PATH).into_owned()),
        Value::Array(_) | Value::Object(_) if depth == 0 => Value::String("…[too deep]".to_owned()),
        Value::Array(items) => {
            let mut kept: Vec<Value> =
                items.iter().take(bound::DETAIL_ITEMS).map(|item| clean(item, depth - 1)).collect();
            if let Some(more) = left_out(items.len(), bound::DETAIL_ITEMS) {
                kept.push(Value::String(more));
            }
            Value::Array(kept)
        }
        Value::Object(map) => {
            let mut kept: Map<String, Value> = map
                .iter()
                .take(bound::DETAIL_ITEMS)
                .map(|(key, item)| {
                    let key = if key == "verdict" { "outcome" } else { key };
                    (fit(key, bound::NAME).into_owned(), clean(item, depth - 1))
                })
                .collect();
            if let Some(more) = left_out(map.len(), bound::DETAIL_ITEMS) {
                kept.insert("…".to_owned(), Value::String(more));
            }
            Value::Object(kept)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn left_out(items: usize, shown: usize) -> Option<String> {
    (items > shown).then(|| format!("…[+{} items]", items - shown))
}

fn fit(text: &str, max: usize) -> Cow<'_, str> {
    sanitize_bounded(text, max + bound::MARKER)
}

pub(super) fn name<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&fit(text, bound::NAME))
}

pub(super) fn name_opt<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().map(|text| fit(text, bound::NAME)).serialize(serializer)
}

pub(super) fn path<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&fit(text, bound::PATH))
}

pub(super) fn path_opt<S: Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    text.as_deref().map(|text| fit(text, bound::PATH)).serialize(serializer)
}

pub(super) fn names<S: Serializer>(items: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    list(items, bound::NAMES, bound::NAME, serializer)
}

pub(super) fn argv<S: Serializer>(items: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    list(items, bound::ARGUMENTS, bound::ARGUMENT, serializer)
}

fn list<S: Serializer>(items: &[String], most: usize, max: usize, serializer: S) -> Result<S::Ok, S::Error> {
    let shown = items.iter().take(most).map(|item| fit(item, max));
    serializer.collect_seq(shown.chain(left_out(items.len(), most).map(Cow::Owned)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::event::TargetKind;
    use serde_json::json;
    use std::path::Path;
    use std::sync::Arc;

    fn line(event: &Event) -> String {
        let time: Timestamp = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        render(event, &Stamp { seq: 17, time, mono_us: 8, run: "01J", count: 1, last_time: None }).unwrap()
    }

    #[test]
    fn a_line_has_the_documented_fields_in_the_documented_order() {
        let mut event = Event::new(Kind::Connect, Domain::Script, Verdict::Denied);
        let package = Package::new(b"left-pad", Path::new("node_modules/left-pad"));
        event.package = Some(Arc::new(package));
        event.target = Some(Target { host: Some("evil.test".to_owned()), ..Target::new(TargetKind::Tcp) });
        event.rule = Some(Rule { source: "preset:default".into(), line: Some(31), pointer: "x".into() });
        assert_eq!(
            line(&event),
            concat!(
                r#"{"schema":"npmguard/event/1","seq":17,"time":"2026-01-02T03:04:05.678901Z","mono_us":8,"#,
                r#""run":"01J","kind":"connect","domain":"script","package":{"name":"left-pad","version":null,"#,
                r#""purl":null,"path":"node_modules/left-pad","root":false,"dependency_of":[],"integrity":null,"#,
                r#""manifest_sha256":null},"script":null,"process":null,"syscall":null,"#,
                r#""target":{"kind":"tcp","path":null,"host":"evil.test","address":null},"verdict":"denied","#,
                r#""rule":{"source":"preset:default","line":31,"pointer":"x"},"enforced_by":"none","#,
                r#""errno":null,"latency_us":null,"count":1,"techniques":[],"hint":null}"#
            )
        );
    }

    #[test]
    fn detail_cannot_look_like_a_verdict_or_carry_controls() {
        let mut event = Event::new(Kind::RunEnd, Domain::Run, Verdict::Allowed);
        event.detail = Some(json!({"verdict": "denied", "a\u{1b}": ["\u{202e}", {"verdict": "denied"}]}));
        let line = line(&event);
        assert!(!line.contains(r#""verdict":"denied""#), "{line}");
        assert!(
            line.contains(
                r#""detail":{"a\\x1b":["\\xe2\\x80\\xae",{"outcome":"denied"}],"outcome":"denied"}"#
            )
        );
    }

    #[test]
    fn a_line_is_bounded_whatever_it_is_given() {
        let mut event = Event::new(Kind::Exec, Domain::Script, Verdict::Logged);
        event.hint = Some("h\n".repeat(100_000));
        event.detail = Some(json!({"list": vec!["x"; 100_000], "text": "y".repeat(100_000)}));
        let big = "z".repeat(100_000);
        let process = Process { exe: big.clone(), argv: vec![big.clone(); 1_000], ..Process::default() };
        event.process = Some(process);
        event.target = Some(Target::at(TargetKind::Exec, Path::new(&big)));
        let line = line(&event);
        assert!(line.len() < 128 * 1024, "{}", line.len());
        assert!(line.contains("…[+936 items]") && line.contains("…[+97952 items]"));
    }
}
