//! On a terminal: keys, job control, hang-up, and what a script may do to it.

mod harness;

use std::process::Command;
use std::time::{Duration, Instant};

use harness::{Run, Site, users};
use serde_json::{Value, json};

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/terminal.py");

/// Runs a program on a terminal of its own; what appears there is in `stdout`.
fn on_terminal(site: &Site, program: &str, words: &[&str], steps: Value) -> Run {
    let driver = std::fs::read_to_string(DRIVER).expect("the driver");
    let steps = steps.to_string();
    let mut all = vec!["-c", &driver, &steps, program];
    all.extend(words);
    let output = site.command_of("/usr/bin/python3", &all).output().expect("python3 starts");
    site.outcome(&output, &site.path("home/log.jsonl"))
}

/// `npmguard WORDS --log …` on a terminal.
fn guard(site: &Site, words: &[&str], steps: Value) -> Run {
    let log = site.path("home/log.jsonl").display().to_string();
    let _ = std::fs::remove_file(&log);
    let mut all = vec![words[0], "--log", &log];
    all.extend(&words[1..]);
    on_terminal(site, site.binary().to_str().expect("UTF-8"), &all, steps)
}

fn alive(marker: &str) -> bool {
    let found = Command::new("pgrep").args(["-f", &format!("^{marker}")]).output().expect("pgrep");
    !found.stdout.is_empty()
}

#[track_caller]
fn assert_gone(site: &Site, marker: &str) {
    let app = site.path("").display().to_string();
    let end = Instant::now() + Duration::from_secs(10);
    let anything = || {
        alive(&marker.replace('.', "\\."))
            || Command::new("pgrep").args(["-f", &app]).status().is_ok_and(|s| s.success())
    };
    while anything() {
        assert!(Instant::now() < end, "a process is left: {marker}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ctrl_c_ends_the_install_and_everything_in_it() {
    for (n, user) in users().into_iter().enumerate() {
        let mut site = Site::of(user);
        let marker = format!("sleep 4{n}.21");
        site.package("slow", &format!("echo up > up; setsid {marker} & {marker}"));
        let up = site.path("app/node_modules/slow/up");
        let began = Instant::now();
        let run = guard(
            &site,
            &["install", "--", "--no-audit"],
            json!([["file", up], ["pause", 0.3], ["type", "\u{3}"]]),
        );
        assert!(run.code == 130 || run.code == 1, "{user:?}: {} {}", run.code, run.stdout);
        assert!(began.elapsed() < Duration::from_secs(25));
        assert_gone(&site, &marker);
        assert_eq!(run.log.last().expect("a log")["kind"], "run_end", "the log is complete");
    }
}

#[test]
fn ctrl_c_ends_a_command_with_130() {
    let site = Site::new();
    let run = guard(
        &site,
        &["run", "-q", "--", "sh", "-c", "echo ready; exec sleep 44.3"],
        json!([["see", "ready"], ["type", "\u{3}"]]),
    );
    run.assert_code(130);
    assert_gone(&site, "sleep 44.3");
}

#[test]
fn ctrl_c_is_the_commands_to_handle() {
    let site = Site::new();
    let script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done";
    let run = guard(
        &site,
        &["run", "-q", "--", "sh", "-c", script],
        json!([["see", "ready"], ["type", "\u{3}"], ["see", "caught"]]),
    );
    run.assert_code(5);
}

#[test]
fn ctrl_z_stops_the_install_and_fg_continues_it() {
    for user in users() {
        let mut site = Site::of(user);
        site.package("slow", "echo up > up; sleep 1; echo done > done");
        let up = site.path("app/node_modules/slow/up");
        let log = site.path("home/log.jsonl");
        let install = format!(
            "{} install --log {} -- --no-audit; echo code-$?\n",
            site.binary().display(),
            log.display()
        );
        let run = on_terminal(
            &site,
            "/bin/bash",
            &["--norc", "--noprofile", "-i"],
            json!([
                ["type", install],
                ["file", up],
                ["type", "\u{1a}"],
                ["see", "Stopped"],
                // More than the script would have needed.
                ["pause", 1.5],
                ["type", "ls node_modules/slow/done; jobs\n"],
                ["see", "No such file"],
                ["see", "Stopped"],
                ["type", "fg; echo after-$((1+1))-$?\n"],
                ["see", "after-2-0"],
                ["type", "exit\n"]
            ]),
        );
        run.assert_code(0);
        assert_eq!(
            site.read("app/node_modules/slow/done").as_deref(),
            Some("done\n"),
            "{user:?}: {}",
            run.stdout
        );
        assert!(run.events("leftover", "*", "*").is_empty());
    }
}

#[test]
fn a_command_reads_from_the_terminal() {
    for user in users() {
        let site = Site::of(user);
        let run = guard(
            &site,
            &["run", "-q", "--", "sh", "-c", "tty; echo ready; read x; echo got-$x"],
            json!([["see", "/dev/pts/"], ["see", "ready"], ["type", "hello\n"], ["see", "got-hello"]]),
        );
        assert_eq!(run.code, 0, "{user:?}: {}", run.stdout);
    }
}

#[test]
fn an_interactive_shell_has_job_control() {
    let site = Site::new();
    let run = guard(
        &site,
        &["run", "-q", "--", "bash", "--norc", "--noprofile", "-i"],
        json!([
            ["type", "sleep 43.7\n"],
            ["pause", 0.3],
            ["type", "\u{1a}"],
            ["see", "Stopped"],
            ["type", "fg\n"],
            ["pause", 0.2],
            ["type", "\u{3}"],
            ["type", "echo sum-$((20+3))\n"],
            ["see", "sum-23"],
            ["type", "exit 4\n"]
        ]),
    );
    assert_eq!(run.code, 4, "{}", run.stdout);
    assert!(!run.stdout.contains("no job control"), "{}", run.stdout);
    assert_gone(&site, "sleep 43.7");
}

/// Typing into the terminal from below would run commands in the user's own shell.
#[test]
fn a_script_cannot_type_into_the_terminal() {
    for user in users() {
        let mut site = Site::of(user);
        // The kernel looks at 32 bits of the request only.
        let py = "import ctypes, os\n\
            libc = ctypes.CDLL(None, use_errno=True)\n\
            tty = os.open('/dev/tty', os.O_RDWR)\n\
            for request in (0x5412, 0x5412 | 1 << 32, 0x541c):\n\
            \x20   done = libc.syscall(ctypes.c_long(16), ctypes.c_long(tty), ctypes.c_long(request), b'x') == 0\n\
            \x20   print('typed' if done else ctypes.get_errno(), file=open('outcome', 'a'))\n";
        site.package_with(
            "typist",
            json!({ "scripts": { "postinstall": "python3 -B t.py" } }),
            &[("t.py", py)],
        );
        let run = guard(&site, &["install", "--", "--no-audit"], json!([]));
        assert_eq!(run.code, 9, "{user:?}: {}", run.stdout);
        let outcome = site.read("app/node_modules/typist/outcome");
        assert_eq!(outcome.as_deref(), Some("1\n1\n1\n"), "{user:?}: {}", run.stdout);
        run.assert_denied("typist", "ioctl");
    }
}

#[test]
fn hanging_up_ends_everything() {
    for (n, user) in users().into_iter().enumerate() {
        let mut site = Site::of(user);
        let marker = format!("sleep 4{n}.87");
        site.package("slow", &format!("echo up > up; trap '' HUP; setsid {marker} & {marker}"));
        let up = site.path("app/node_modules/slow/up");
        let run = guard(
            &site,
            &["install", "--", "--no-audit"],
            json!([["file", up], ["pause", 0.2], ["hang up"]]),
        );
        assert_ne!(run.code, 0, "{user:?}: {}", run.stdout);
        assert_ne!(run.code, 99, "{user:?}: {}", run.stdout);
        assert_gone(&site, &marker);
        assert_eq!(run.log.last().expect("a log")["kind"], "run_end", "the log is complete");
    }
}

#[test]
fn colour_is_for_terminals() {
    let mut site = Site::new();
    site.package("thief", "cat ~/.npmrc; true");
    site.env("TERM", "xterm-256color");
    let run = guard(&site, &["install", "--", "--no-audit"], json!([]));
    run.assert_code(9);
    assert!(run.stdout.contains("\x1b["), "{:?}", run.stdout);
    site.env("NO_COLOR", "1");
    let run = guard(&site, &["run", "--", "true"], json!([]));
    assert!(!run.stdout.contains("\x1b["), "{:?}", run.stdout);
}
