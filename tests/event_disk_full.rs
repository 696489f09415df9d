//! A disk that fills up in the middle of a line and has room again later. The limit on
//! file size stands in for the disk: the test runs itself again below a small one.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use npmguard::event::{Domain, Event, EventLog, Kind, Target, TargetKind, Verdict};
use serde_json::{Map, Value, json};

const LOG: &str = "NPMGUARD_TEST_LOG";

#[test]
#[ignore = "run by the test below, under a limit"]
fn child() {
    let Some(path) = std::env::var_os(LOG).map(PathBuf::from) else { return };
    let log = EventLog::open(Some(&path), 0).unwrap();
    log.start(json!({})).unwrap();
    let record = |number: u32| {
        let mut event = Event::new(Kind::Read, Domain::Script, Verdict::Denied);
        event.target = Some(Target::at(TargetKind::File, Path::new(&format!("/{number}"))));
        log.record(1, event);
    };
    (0..100).for_each(record);
    let lost = log.lost();
    assert!(lost > 0, "the limit was not reached");
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, hard, hard).unwrap();
    record(1_000);
    assert_eq!(log.finish(Map::new()).lost, lost);
}

#[test]
fn lines_lost_to_a_full_disk_are_counted_and_never_merged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.jsonl");
    let output = Command::new("sh")
        .args(["-c", r#"trap "" XFSZ; ulimit -S -f 16; exec "$@""#, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(LOG, &path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut torn = Vec::new();
    let mut whole: Vec<Value> = Vec::new();
    for line in text.lines() {
        match serde_json::from_str(line) {
            Ok(value) => whole.push(value),
            Err(_) => torn.push(line),
        }
    }
    assert_eq!(torn.len(), 1, "{text}");
    assert_eq!(torn[0].matches(r#""schema""#).count(), 1, "nothing follows a torn line on its line");
    let reads = whole.iter().filter(|line| line["kind"] == "read").count() as u64;
    let lost = whole.iter().find(|line| line["kind"] == "lost").unwrap();
    assert_eq!(lost["detail"]["reason"], "write_error");
    assert_eq!(reads + lost["count"].as_u64().unwrap(), 101);
    let end = whole.last().unwrap();
    assert_eq!(end["kind"], "run_end");
    assert_eq!(end["detail"]["lost"], lost["count"]);
    assert!(end["seq"].as_u64().unwrap() > whole.len() as u64, "the gap shows in the sequence");
}
