//! The log on disk: what is folded, what is bounded, what happens when the disk is full.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use npmguard::event::{
    Domain, Event, EventLog, Kind, Package, Process, Script, SinkError, Target, TargetKind, Verdict,
};
use serde_json::{Map, Value, json};

fn event(kind: Kind, verdict: Verdict, path: &str) -> Event {
    let mut event = Event::new(kind, Domain::Script, verdict);
    event.package = Some(Arc::new(Package::new(b"left-pad", Path::new("node_modules/left-pad"))));
    event.script = Some(Arc::new(Script::new(b"postinstall", b"node x.js")));
    event.process = Some(Process { pid: 7, exe: "/usr/bin/node".to_owned(), ..Process::default() });
    event.target = Some(Target::at(TargetKind::File, Path::new(path)));
    event
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

fn count(lines: &[Value], kind: &str) -> u64 {
    lines.iter().filter(|line| line["kind"] == kind).map(|line| line["count"].as_u64().unwrap()).sum()
}

#[test]
fn folding_keeps_every_distinct_target_and_every_count() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = EventLog::open(Some(&path), 0).unwrap();
    log.start(json!({"version": "x"})).unwrap();
    for _ in 0..3 {
        for file in 0..2_000 {
            log.record(1, event(Kind::Read, Verdict::Denied, &format!("/secret/{file}")));
        }
    }
    log.flush_script(1);
    let outcome = log.finish(Map::new());
    let lines = lines(&path);
    let targets: BTreeSet<_> = lines.iter().filter_map(|line| line["target"]["path"].as_str()).collect();
    assert_eq!(targets.len(), 2_000);
    assert_eq!(count(&lines, "read"), 6_000);
    assert_eq!(lines.len(), 1 + 2_000 + 2_000 + 1);
    let folded: Vec<_> = lines.iter().filter(|line| line["last_time"].is_string()).collect();
    assert_eq!(folded.len(), 2_000);
    assert!(
        folded.iter().all(|line| line["count"] == 2 && line["last_time"].as_str() >= line["time"].as_str())
    );
    assert_eq!((outcome.totals.denied, outcome.lost), (6_000, 0));
    assert_eq!(outcome.totals.rows.len(), 1);
    assert_eq!(outcome.totals.rows[0].files_denied(), 6_000);
}

#[test]
fn the_same_target_by_another_verdict_program_or_script_is_another_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = EventLog::open(Some(&path), 0).unwrap();
    let base = event(Kind::Read, Verdict::Denied, "/x");
    let mut other_exe = base.clone();
    other_exe.process = Some(Process { exe: "/bin/sh".to_owned(), ..Process::default() });
    let mut requested = base.clone();
    requested.target.as_mut().unwrap().requested = Some("../x".to_owned());
    let mut other_pid = base.clone();
    other_pid.process.as_mut().unwrap().pid = 8;
    log.record(1, base.clone());
    log.record(2, base.clone());
    log.record(1, event(Kind::Read, Verdict::Logged, "/x"));
    log.record(1, other_exe);
    log.record(1, requested);
    log.record(1, other_pid);
    assert_eq!(lines(&path).len(), 5, "only the process id differs in the last one");
}

#[test]
fn every_exec_with_its_arguments_has_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = EventLog::open(Some(&path), 0).unwrap();
    for argument in ["a", "b", "a"] {
        let mut exec = event(Kind::Exec, Verdict::Logged, "/usr/bin/node");
        exec.process.as_mut().unwrap().set_argv([b"node".as_slice(), argument.as_bytes()]);
        log.record(1, exec);
    }
    assert_eq!(lines(&path).len(), 2);
    assert_eq!(log.totals().rows[0].execs, 3);
}

#[test]
fn a_flood_is_bounded_and_counted_and_cannot_crowd_out_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = EventLog::open(Some(&path), 0).unwrap();
    let firsts = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&firsts);
    log.set_observer(Box::new(move |_, first| {
        seen.fetch_add(u64::from(first), Ordering::Relaxed);
    }));
    for file in 0..25_000 {
        log.record(1, event(Kind::Read, Verdict::Logged, &format!("/f/{file}")));
    }
    log.record(1, event(Kind::Read, Verdict::Denied, "/home/u/.npmrc"));
    log.flush_script(1);
    let lines = lines(&path);
    assert_eq!(count(&lines, "read"), 20_001);
    let lost: Vec<_> = lines.iter().filter(|line| line["kind"] == "lost").collect();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0]["count"], 5_000);
    assert_eq!(lost[0]["verdict"], "logged");
    assert_eq!(lost[0]["detail"], json!({"reason": "line_limit", "lost_kind": "read"}));
    assert_eq!(lost[0]["package"]["name"], "left-pad");
    assert!(lines.iter().any(|line| line["target"]["path"] == "/home/u/.npmrc"));
    assert_eq!(log.totals().logged, 25_000);
    assert_eq!(firsts.load(Ordering::Relaxed), 4_097, "past the memory of distinct events none is a first");
}

#[test]
fn lines_of_many_threads_are_whole_and_in_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = EventLog::open(Some(&path), 0).unwrap();
    let barrier = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (1..=4)
        .map(|key| {
            let (log, barrier) = (log.clone(), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                for file in 0..200 {
                    log.record(key, event(Kind::Write, Verdict::Denied, &format!("/{key}/{file}")));
                }
                log.flush_script(key);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let lines = lines(&path);
    assert!(lines.iter().enumerate().all(|(index, line)| line["seq"] == index as u64));
    assert_eq!(lines.len(), 800);
    assert!(lines.iter().all(|line| line["run"] == log.run_id()));
}

#[test]
fn a_complete_log_ends_with_its_totals_and_a_truncated_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let log = EventLog::open(Some(&path), 0).unwrap();
    log.start(json!({})).unwrap();
    log.record(1, event(Kind::Read, Verdict::Denied, "/x"));
    log.record(1, event(Kind::Read, Verdict::Denied, "/x"));
    let written = lines(&path);
    assert_ne!(written.last().unwrap()["kind"], "run_end");
    let mut extra = Map::new();
    extra.insert("exit".to_owned(), json!(9));
    log.finish(extra);
    log.finish(Map::new());
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.matches(r#""verdict":"denied""#).count(), 2, "{text}");
    let written = lines(&path);
    assert_eq!(written.len(), 4, "the second finish writes nothing");
    let end = &written[3];
    assert_eq!(end["kind"], "run_end");
    assert_eq!(end["detail"]["exit"], 9);
    assert_eq!(end["detail"]["lines"], 3);
    assert_eq!(end["detail"]["kinds"], json!({"read": 2}));
    let totals =
        json!({"allowed": 0, "denied": 2, "expected": 0, "leftovers": 0, "logged": 0, "would_deny": 0});
    assert_eq!(end["detail"]["totals"], totals);
}

#[test]
fn a_script_row_is_collected_from_what_is_recorded_under_its_key() {
    let log = EventLog::open(None, 0).unwrap();
    log.record(5, event(Kind::ScriptStart, Verdict::Allowed, "/x"));
    log.record(5, event(Kind::Exec, Verdict::Logged, "/usr/bin/node"));
    let mut connect = event(Kind::Connect, Verdict::Denied, "/x");
    connect.target = Some(Target { host: Some("evil.test".to_owned()), ..Target::new(TargetKind::Tcp) });
    log.record(5, connect);
    log.flush_script(5);
    let mut end = event(Kind::ScriptEnd, Verdict::Allowed, "/x");
    end.detail = Some(json!({"duration_us": 1_500_000, "status": "exit 1"}));
    log.record(5, end);
    let totals = log.finish(Map::new()).totals;
    assert_eq!(totals.rows.len(), 1);
    let row = &totals.rows[0];
    assert_eq!((row.package.as_str(), row.script.as_str()), ("left-pad", "postinstall"));
    assert_eq!((row.execs, row.denied, row.logged), (1, 1, 1));
    assert_eq!(row.refused_hosts, ["evil.test"]);
    assert_eq!(row.duration.as_millis(), 1_500);
    assert_eq!((row.exit.as_deref(), row.verdict), (Some("exit 1"), Verdict::Denied));
}

#[test]
fn a_full_disk_is_an_error_at_the_start_and_counted_later() {
    let log = EventLog::open(Some(Path::new("/dev/full")), 0).unwrap();
    let error = log.start(json!({})).unwrap_err();
    assert!(
        matches!(&error, SinkError::Write { source, .. } if source.raw_os_error() == Some(28)),
        "{error:?}"
    );
    log.record(1, event(Kind::Read, Verdict::Denied, "/x"));
    log.record(1, event(Kind::Read, Verdict::Denied, "/y"));
    assert_eq!(log.lost(), 3);
    let outcome = log.finish(Map::new());
    assert_eq!((outcome.lost, outcome.totals.denied), (4, 2));
}

#[test]
fn an_unusable_log_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| EventLog::open(Some(path), 0).unwrap_err().to_string();
    let missing = open(&dir.path().join("no/such/log"));
    assert!(missing.contains("no/such` does not exist") && missing.contains("hint:"), "{missing}");
    assert!(open(dir.path()).contains("it is a directory"));
    let link = dir.path().join("link");
    symlink("/dev/null", &link).unwrap();
    assert!(open(&link).contains("it is a symbolic link"));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(open(&fifo).contains("it is a FIFO"));
    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(open(&socket).contains("it is a socket"));
    for device in ["/dev/null", "/dev/stderr"] {
        EventLog::open(Some(Path::new(device)), 0).unwrap();
    }
}

#[test]
fn a_log_is_private_and_appended_to_and_a_torn_line_stays_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    EventLog::open(Some(&path), 0).unwrap().start(json!({})).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    EventLog::open(Some(&path), 0).unwrap().start(json!({})).unwrap();
    assert_eq!(lines(&path).len(), 2);
    std::fs::write(&path, r#"{"schema":"npmg"#).unwrap();
    EventLog::open(Some(&path), 0).unwrap().start(json!({})).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let (torn, whole) = text.trim_end().split_once('\n').unwrap();
    assert_eq!(torn, r#"{"schema":"npmg"#);
    assert_eq!(serde_json::from_str::<Value>(whole).unwrap()["kind"], "run_start");
}
