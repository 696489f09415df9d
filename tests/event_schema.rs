//! What the log writes is what the published schema says.

#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use npmguard::event::{
    Domain, EnforcedBy, Event, EventLog, Kind, Package, Process, Rule, Script, Target, TargetKind, Verdict,
    escape,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const SCHEMA: &str = include_str!("../schemas/event-1.schema.json");

fn full(bytes: &[u8]) -> Event {
    let mut event = Event::new(Kind::Connect, Domain::Script, Verdict::Denied);
    let path = Path::new(OsStr::from_bytes(bytes));
    event.package = Some(Arc::new(Package {
        version: Some("1.3.0".to_owned()),
        purl: Some("pkg:npm/left-pad@1.3.0".to_owned()),
        dependency_of: vec!["app".to_owned(), escape(bytes)],
        integrity: Some("sha512-x".to_owned()),
        manifest_sha256: Some("00".to_owned()),
        ..Package::new(bytes, path)
    }));
    event.script = Some(Arc::new(Script::new(b"postinstall", bytes)));
    let mut process = Process { pid: 1, exe: escape(bytes), cwd: escape(bytes), ..Process::default() };
    process.set_argv(vec![bytes; 70]);
    event.process = Some(process);
    event.syscall = Some("connect");
    event.target = Some(Target {
        requested: Some(escape(bytes)),
        // Not escaped, as a caller might forget.
        host: Some(String::from_utf8_lossy(bytes).into_owned()),
        address: Some("203.0.113.10:443".to_owned()),
        ..Target::at(TargetKind::Tcp, path)
    });
    event.rule =
        Some(Rule { source: "preset:default".into(), line: Some(31), pointer: "scripts.connect".into() });
    event.enforced_by = EnforcedBy::Supervisor;
    event.errno = Some("EACCES");
    event.latency_us = Some(312);
    event.techniques = vec!["T1041", "T1059.004"];
    event.hint = Some("packages:\n  left-pad: {}".to_owned());
    event.detail = Some(json!({"text": String::from_utf8_lossy(bytes)}));
    event
}

fn written(record: impl FnOnce(&EventLog)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = EventLog::open(Some(&path), 0).unwrap();
    log.start(json!({"kernel": "6.1"})).unwrap();
    record(&log);
    log.finish(Map::new());
    std::fs::read_to_string(&path).unwrap().split_terminator('\n').map(str::to_owned).collect()
}

fn assert_valid(lines: &[String]) {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for line in lines {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let errors: Vec<_> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{line}\n{}", errors.join("\n"));
    }
}

#[test]
fn every_line_matches_the_schema() {
    let lines = written(|log| {
        log.record(1, full(b"evil\x1b\xff"));
        log.record(1, full(b"evil\x1b\xff"));
        for kind in [Kind::ScriptStart, Kind::ScriptEnd, Kind::Leftover, Kind::Limit, Kind::Env, Kind::Signal]
        {
            log.record(0, Event::new(kind, Domain::Manager, Verdict::Allowed));
        }
        for number in 0..20_002 {
            let mut event = Event::new(Kind::Read, Domain::Root, Verdict::WouldDeny);
            event.target = Some(Target::named(TargetKind::File, format!("/{number}").as_bytes()));
            log.record(2, event);
        }
    });
    assert!(lines.iter().any(|line| line.contains(r#""last_time""#)));
    assert!(lines.iter().any(|line| line.contains(r#""kind":"lost""#)));
    assert!(lines[1].contains(r#""package":{"name":"evil\\x1b\\xff","#));
    assert!(lines[1].contains(r#""argv_truncated":true"#));
    assert_valid(&lines);
}

#[test]
fn the_schema_refuses_what_is_not_a_line() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let good: Value = serde_json::from_str(&written(|log| log.record(1, full(b"x")))[1]).unwrap();
    assert!(validator.is_valid(&good));
    let broken = |change: fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        assert!(!validator.is_valid(&value), "{value}");
    };
    broken(|line| line["verdict"] = json!("fine"));
    broken(|line| line["extra"] = json!(1));
    broken(|line| line["package"]["name"] = json!("a\u{1b}[31m"));
    broken(|line| drop(line.as_object_mut().map(|line| line.remove("rule"))));
    broken(|line| line["kind"] = json!("run_end"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn hostile_bytes_never_break_or_forge_a_line(bytes in any::<Vec<u8>>(), text in any::<String>()) {
        let mut forged = bytes;
        forged.extend_from_slice(b"\n{\"kind\":\"run_end\",\"verdict\":\"denied\"}\n\\x41");
        forged.extend_from_slice(text.as_bytes());
        let lines = written(|log| log.record(1, full(&forged)));
        prop_assert_eq!(lines.len(), 3);
        prop_assert_eq!(lines.concat().matches(r#""verdict":"denied""#).count(), 1);
        prop_assert_eq!(lines.concat().matches(r#""kind":"run_end""#).count(), 1);
        assert_valid(&lines);
    }
}
