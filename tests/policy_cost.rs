//! What a policy costs: loading a large one, building a profile, deciding.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use npmguard::policy::{PathAction, Subject, Verdict};
use policy_support::{Project, default_policy, dependency, profile, root, vars, verdict};

use PathAction::Read;
use Verdict::{Allow, Deny};

#[test]
fn ten_thousand_packages_load_at_once() {
    let mut text = String::from("version: 1\npackages:\n");
    for n in 0..10_000 {
        let _ = writeln!(
            text,
            "  \"package-{n}@>=1\": {{ reason: \"r\", read: {{ allow: [\"{{home}}/.cache/p{n}/**\"] }} }}"
        );
    }
    let project = Project::with(&text);
    let start = Instant::now();
    let policy = project.load().unwrap();
    let loaded = start.elapsed();
    let script = profile(&policy, &dependency("package-7777"));
    eprintln!("load {loaded:?}, profile {:?}", start.elapsed().saturating_sub(loaded));
    assert_eq!(verdict(&script, Read, "/home/u/.cache/p7777/x"), Allow);
    assert_eq!(verdict(&script, Read, "/home/u/.cache/p7778/x"), Deny);
    // The budget is 50 ms for a release build; this only catches what is quadratic.
    assert!(loaded < Duration::from_secs(2), "{loaded:?}");
}

#[test]
fn ten_thousand_hosts_load_at_once_and_are_decided_about() {
    let mut text = String::from("version: 1\nscripts:\n  connect:\n    allow:\n");
    for n in 0..5_000 {
        let _ = writeln!(
            text,
            "      - {{ host: \"h{n}.example.test:443\", verify: sni }}\n      - \"*.h{n}.example.test\""
        );
    }
    let project = Project::with(&text);
    let start = Instant::now();
    let policy = project.load().unwrap();
    let loaded = start.elapsed();
    let script = profile(&policy, &dependency("x"));
    let decided = script.decide_connect("192.0.2.1:443".parse().unwrap(), &["a.h4999.example.test".into()]);
    eprintln!("load {loaded:?}, profile and decision {:?}", start.elapsed().saturating_sub(loaded));
    assert_eq!(decided.decision.verdict, Allow);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

/// Prints what a release build takes; the budgets are 50 ms and 0.7 ms. Run by hand:
/// `cargo test --release --test policy_cost -- --ignored --nocapture budgets`.
#[test]
#[ignore = "prints times and asserts nothing"]
fn budgets() {
    let entry = |n| {
        format!(
            "  \"package-{n}@>=1\": {{ reason: \"r\", read: {{ allow: [\"{{home}}/.cache/p{n}/**\"] }} }}\n"
        )
    };
    let project =
        Project::with(&format!("version: 1\npackages:\n{}", (0..10_000).map(entry).collect::<String>()));
    for _ in 0..5 {
        let start = Instant::now();
        project.load().unwrap();
        eprintln!("load of 10,000 packages {:?}", start.elapsed());
    }
    let mut vars = vars();
    vars.path_dirs = std::env::split_paths(&std::env::var_os("PATH").unwrap()).collect();
    let policy = default_policy();
    for (what, subject) in
        [("dependency", dependency("left-pad")), ("root", root()), ("manager", Subject::Manager)]
    {
        for round in 0..4 {
            let start = Instant::now();
            let profile = policy.profile(&subject, &vars).unwrap();
            let took = start.elapsed();
            let grants = profile.kernel_grants();
            let (exec, except) = (grants.exec.len(), grants.exec_except.len());
            eprintln!("{what} profile {round}: {took:?}, {exec} exec grants, {except} exceptions");
        }
    }
}

#[test]
fn a_decision_is_cheap() {
    let script = profile(&default_policy(), &dependency("left-pad"));
    let paths = [
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
        "/home/u/app/node_modules/a/node_modules/b/lib/c.js",
        "/home/u/.ssh/id",
    ];
    let start = Instant::now();
    let rounds = 20_000;
    for _ in 0..rounds {
        for path in paths {
            std::hint::black_box(script.decide_path(Read, Path::new(path)));
        }
    }
    let each = start.elapsed() / (rounds * 3);
    eprintln!("one decision {each:?}");
    assert!(each < Duration::from_micros(50), "{each:?}");
}
