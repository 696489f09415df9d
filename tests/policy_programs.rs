//! Which files the groups of programs mean, and what the kernel hears of them.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use std::path::Path;

use npmguard::policy::{Grant, PathAction, Verdict};
use policy_support::{Project, dependency, policy, profile, vars, verdict};

use PathAction::{Exec, Read};
use Verdict::{Allow, Deny};

#[test]
fn a_program_of_a_group_is_decided_by_what_it_is_and_not_by_its_spelling() {
    let project = Project::new();
    let root = project.dir.path().canonicalize().unwrap();
    let at = |name: &str| root.join(name);
    for file in ["bin/curl", "bin/git", "bin/busybox", "bin/tool", "lib/ssh", "own/make"] {
        project.file(file, "");
    }
    for (target, link) in
        [("bin", "sbin"), ("busybox", "bin/wget"), ("../lib/ssh", "bin/ssh"), ("lib", "shelf")]
    {
        std::os::unix::fs::symlink(target, at(link)).unwrap();
    }
    let tree = root.display();
    project.file(
        "npmguard.yaml",
        &format!("version: 1\nscripts: {{ exec: {{ allow: [\"{tree}/bin/**\", \"{tree}/lib/**\"], deny: [\"{{network-tools}}\"] }} }}\n"),
    );
    let mut vars = vars();
    vars.path_dirs = vec![at("sbin"), at("bin"), at("sbin"), at("own")];
    let script = project.load().unwrap().profile(&dependency("x"), &vars).unwrap();
    let decide = |name: &str| script.decide_path(Exec, &at(name)).verdict;
    for name in ["bin/curl", "sbin/curl", "lib/ssh", "bin/wget", "bin/nmap"] {
        assert_eq!(decide(name), Deny, "{name}");
        assert!(!script.covered(Exec, &at(name)), "{name}");
    }
    // A file of many programs is not one of them, and is not taken away with one.
    for name in ["bin/busybox", "bin/tool", "bin/git", "own/make"] {
        assert_eq!(decide(name), Allow, "{name}");
        assert!(script.covered(Exec, &at(name)), "{name}");
    }
    let grants = script.kernel_grants();
    let except: Vec<_> = grants.exec_except.iter().filter(|path| path.starts_with(&root)).collect();
    assert_eq!(except, [&at("bin/curl"), &at("bin/ssh"), &at("lib/ssh"), &at("bin/wget")]);
    let exec: Vec<_> = grants
        .exec
        .iter()
        .filter(|grant| matches!(grant, Grant::File(path) if path.starts_with(&root)))
        .collect();
    assert_eq!(exec, [&Grant::File(at("own/make"))]);
}

#[test]
fn a_group_of_programs_means_the_same_for_every_action() {
    let policy = policy(
        "version: 1\nscripts: { read: { deny: [\"{network-tools}\"] }, exec: { deny: [/x/literal] } }\n",
    );
    let script = profile(&policy, &dependency("x"));
    assert_eq!(verdict(&script, Read, "/usr/bin/curl"), Deny);
    assert_eq!(verdict(&script, Read, "/usr/bin/cat"), Allow);
    assert!(!script.covered(Read, Path::new("/usr/bin/curl")));
}

#[test]
fn a_denied_program_that_the_user_wrote_out_is_taken_as_written() {
    let policy = policy("version: 1\nscripts: { exec: { deny: [/usr/bin/not-there, /nowhere/x] } }\n");
    let except = &profile(&policy, &dependency("x")).kernel_grants().exec_except.clone();
    assert!(except.contains(&"/usr/bin/not-there".into()) && !except.contains(&"/nowhere/x".into()));
}
