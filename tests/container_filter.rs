//! The helper `container-filter` refuses what a container refuses, and nothing else that
//! an ordinary program needs.

use std::path::PathBuf;
use std::process::{Command, Output};

/// The helper lies beside the binary under test, in `examples/`.
fn container_filter() -> PathBuf {
    let path =
        PathBuf::from(env!("CARGO_BIN_EXE_npmguard")).with_file_name("examples").join("container-filter");
    assert!(
        path.exists(),
        "`{}` is missing\n\nhint: `cargo test` builds it; with `--test` alone, run `cargo build --example container-filter` first",
        path.display()
    );
    path
}

fn filtered(command: &[&str]) -> Output {
    Command::new(container_filter()).args(command).output().expect("container-filter starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_listed_call_is_refused_as_in_a_container() {
    let helper = container_filter();
    let output = filtered(&[helper.to_str().expect("a UTF-8 path"), "--self-test"]);
    let mut answers = 0;
    for line in text(&output).lines() {
        let (call, answer) = line.rsplit_once(' ').expect("NAME ANSWER");
        let expected = match call {
            "clone3" => "ENOSYS",
            "threads" => "work",
            _ => "EPERM",
        };
        assert_eq!(answer, expected, "{call}");
        answers += 1;
    }
    assert!(answers > 25, "the self-test ended early:\n{}", text(&output));
}

#[test]
fn two_filters_are_added_and_no_new_privileges_is_set() {
    let count = |status: &str| -> u32 {
        let line = status.lines().find(|l| l.starts_with("Seccomp_filters:"));
        let value = line.and_then(|l| l.split_whitespace().nth(1));
        value.and_then(|v| v.parse().ok()).expect("a count")
    };
    let outside = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let inside = text(&filtered(&["cat", "/proc/self/status"]));
    assert_eq!(count(&inside), count(&outside) + 2);
    assert!(inside.contains("NoNewPrivs:\t1"), "{inside}");
}

#[test]
fn commands_run_and_their_status_comes_through() {
    let output = filtered(&["sh", "-c", "(echo child) && exit 7"]);
    assert_eq!(text(&output), "child\n");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(filtered(&["/nonexistent"]).status.code(), Some(127));
    assert_eq!(filtered(&["/etc/passwd"]).status.code(), Some(126));
}
