//! The command line by itself: help, completions, manual, policy, doctor, and what goes
//! to which stream.

mod harness;

use std::fs;

use harness::{Run, Site, users};
use serde_json::{Value, json};

/// Runs `npmguard WORDS` with no log.
fn plain(site: &Site, words: &[&str]) -> Run {
    let output = site.command(words).output().expect("npmguard starts");
    site.outcome(&output, &site.path("no-log"))
}

const COMMANDS: &[&[&str]] = &[
    &["install"],
    &["ci"],
    &["add"],
    &["update"],
    &["rebuild"],
    &["exec"],
    &["npm"],
    &["run"],
    &["policy"],
    &["policy", "check"],
    &["policy", "show"],
    &["doctor"],
    &["completions"],
    &["man"],
];

#[test]
fn help_has_examples_exit_codes_and_every_command() {
    let site = Site::new();
    let run = plain(&site, &["--help"]);
    run.assert_code(0);
    for word in ["Examples:", "Exit codes:", "125", "126/127", "128+n", "npmguard ci"] {
        assert!(run.stdout.contains(word), "{word}: {}", run.stdout);
    }
    for command in COMMANDS {
        assert!(run.stdout.contains(command[0]), "{command:?}");
        let mut words = command.to_vec();
        words.push("--help");
        let help = plain(&site, &words);
        help.assert_code(0);
        assert!(help.stdout.contains("Usage: npmguard"), "{command:?}: {}", help.stdout);
        assert!(help.stderr.is_empty());
        assert!(help.stdout.lines().all(|l| l.chars().count() <= 100), "{command:?} fits a terminal");
    }
}

#[test]
fn the_version_is_one_line() {
    let run = plain(&Site::new(), &["--version"]);
    run.assert_code(0);
    assert_eq!(run.stdout, format!("npmguard {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_and_the_manual_are_there() {
    let site = Site::new();
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef npmguard"), ("fish", "complete -c npmguard")]
    {
        let run = plain(&site, &["completions", shell]);
        run.assert_code(0);
        assert!(run.stdout.contains(sign), "{shell}");
        assert!(run.stdout.contains("allow-degraded"), "{shell} knows the flags");
    }
    let man = plain(&site, &["man"]);
    man.assert_code(0);
    assert!(man.stdout.lines().any(|l| l.starts_with(".TH npmguard 1")), "{}", man.stdout);
    assert!(man.stdout.contains(".SH SYNOPSIS"));
    plain(&site, &["completions", "tcsh"]).assert_code(2);
}

#[test]
fn pipes_and_no_color_get_no_escape_codes_and_always_gets_them() {
    let mut site = Site::new();
    site.package("thief", "cat ~/.npmrc; true");
    let words = ["install", "--", "--no-audit"];
    let run = plain(&site, &words);
    run.assert_code(9);
    assert!(!run.stderr.contains('\x1b'), "{:?}", run.stderr);
    assert!(!run.stdout.contains('\x1b'));
    let coloured = plain(&site, &["install", "--color", "always", "--", "--no-audit"]);
    let rebuilt = plain(&site, &["rebuild", "--color", "always"]);
    assert!(coloured.stderr.contains('\x1b') || rebuilt.stderr.contains('\x1b'), "{:?}", rebuilt.stderr);
    site.env("NO_COLOR", "1");
    assert!(!plain(&site, &["rebuild"]).stderr.contains('\x1b'));
    for words in [&["--help"][..], &["doctor"], &["policy", "show"], &["policy", "show", "--groups"]] {
        assert!(!plain(&site, words).stdout.contains('\x1b'), "{words:?}");
    }
}

#[test]
fn stdout_belongs_to_the_command() {
    for user in users() {
        let site = Site::of(user);
        let run = plain(&site, &["run", "--", "echo", "hi"]);
        run.assert_code(0);
        assert_eq!(run.stdout, "hi\n", "{user:?}");
        assert!(run.stderr.contains("npmguard: enforcing"), "{}", run.stderr);
        let quiet = plain(&site, &["run", "-q", "--", "sh", "-c", "echo out; echo err >&2"]);
        assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("out\n", "err\n"));
    }
}

#[test]
fn standard_input_reaches_the_command() {
    use std::io::Write;
    let site = Site::new();
    let mut command = site.command(&["run", "-q", "--", "cat"]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("starts");
    child.stdin.take().expect("stdin").write_all(b"through\n").expect("write");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.stdout, b"through\n");
}

#[test]
fn quiet_still_prints_errors() {
    let mut site = Site::new();
    site.package("thief", "cat ~/.npmrc; true");
    let run = site.guard(&["install", "-q", "--", "--no-audit", "--loglevel=error"]);
    run.assert_code(9);
    let own: Vec<&str> = run.stderr.lines().filter(|l| l.starts_with("npmguard:")).collect();
    assert_eq!(own, ["npmguard: error: 1 violations of the policy; without -q they are named"]);
    run.assert_denied("thief", ".npmrc");
    let run = plain(&site, &["install", "-q", "--policy", "none.yaml"]);
    run.assert_code(2);
    assert!(run.stderr.contains("npmguard: error:"), "{}", run.stderr);
}

#[test]
fn policy_check_says_ok_or_where_it_is_wrong() {
    let site = Site::new();
    let run = plain(&site, &["policy", "check"]);
    run.assert_code(0);
    assert!(run.stdout.starts_with("ok: "), "{}", run.stdout);
    site.write("app/npmguard.yaml", "version: 1\nscripts:\n  raed: { default: deny }\n");
    let run = plain(&site, &["policy", "check"]);
    run.assert_code(2);
    assert!(run.stderr.contains("npmguard.yaml:3:3"), "{}", run.stderr);
    assert!(run.stderr.contains("`read`"), "a suggestion: {}", run.stderr);
    assert!(run.stdout.is_empty());
}

#[test]
fn policy_show_names_the_origin_of_every_rule() {
    let site = Site::new();
    site.write(
        "app/npmguard.yaml",
        "version: 1\npackages:\n  lefthook:\n    reason: ours\n    read: { allow: [\"{project}/extra\"] }\n",
    );
    let run = plain(&site, &["policy", "show", "--package", "lefthook"]);
    run.assert_code(0);
    let rules: Vec<&str> = run
        .stdout
        .lines()
        .filter(|l| ["  allow ", "  deny ", "  log "].iter().any(|p| l.starts_with(p)))
        .collect();
    assert!(rules.len() > 20, "{}", run.stdout);
    for rule in &rules {
        let origin = rule.rsplit_once(" # ").map_or("", |(_, origin)| origin);
        let line =
            origin.split_once(' ').and_then(|(at, _)| at.rsplit_once(':')).map(|(_, n)| n.parse::<u32>());
        assert!(matches!(line, Some(Ok(_))), "an origin with a line: {rule}");
    }
    let with = |text: &str, origin: &str| rules.iter().any(|r| r.contains(text) && r.contains(origin));
    assert!(with("{project}/extra", "npmguard.yaml:5"), "{}", run.stdout);
    assert!(with("{project}/.git/hooks/**", "git-hooks"), "{}", run.stdout);
    assert!(run.stdout.contains("installs git hooks"), "the reason of the grant");
    let other = plain(&site, &["policy", "show", "--package", "left-pad"]);
    assert!(!other.stdout.contains(".git/hooks/**\""), "no grant for others");
    plain(&site, &["policy", "show"]).assert_code(0);
    plain(&site, &["policy", "show", "--manager"]).assert_code(0);
    plain(&site, &["policy", "show", "--package", "a@banana"]).assert_code(2);
}

#[test]
fn policy_show_names_the_hosts_that_npm_is_set_up_to_use() {
    let mut site = Site::new();
    site.write("home/.npmrc", "registry=https://npm.corp.test:8443/\nhttps-proxy=http://10.9.8.7:3128/\n");
    site.write(
        "app/package.json",
        &json!({ "name": "app", "dependencies": { "x": "git+https://git.corp.test/x.git" } }).to_string(),
    );
    site.write("app/.npmrc", "@theirs:registry=https://elsewhere.test/\n");
    let run = plain(&site, &["policy", "show", "--manager"]);
    run.assert_code(0);
    for host in ["npm.corp.test:8443, private", "10.9.8.7:3128, private", "git.corp.test\n"] {
        assert!(run.stdout.contains(&format!("            is {host}")), "{host}: {}", run.stdout);
    }
    assert!(!run.stdout.contains("elsewhere.test"), "{}", run.stdout);
    assert!(run.stderr.contains("elsewhere.test"), "and why not: {}", run.stderr);
    // Scripts are shown the hosts where their own rules name them.
    let grant = "version: 1\npackages:\n  x: { reason: ours, connect: { allow: [\"{registry}\"] } }\n";
    site.write("app/npmguard.yaml", grant);
    let run = plain(&site, &["policy", "show", "--package", "x"]);
    assert!(run.stdout.contains("is npm.corp.test:8443"), "{}", run.stdout);
    // Without npm there is nobody to ask.
    fs::create_dir(site.path("empty")).expect("a directory");
    let empty = site.path("empty").display().to_string();
    site.env("PATH", &empty);
    let run = plain(&site, &["policy", "show", "--manager"]);
    run.assert_code(0);
    assert!(
        run.stdout.contains("is no host here") && run.stderr.contains("npm was not found"),
        "{}",
        run.stderr
    );
}

#[test]
fn policy_show_lists_groups_and_variables() {
    let run = plain(&Site::new(), &["policy", "show", "--groups"]);
    run.assert_code(0);
    for name in ["{network-tools}", "{project}", "{package}", "{tmp}", "{credentials}", "{system}"] {
        assert!(run.stdout.contains(name), "{name}");
    }
}

#[test]
fn doctor_finds_what_the_default_policy_needs_and_says_so_in_json() {
    for user in users() {
        let site = Site::of(user);
        let run = plain(&site, &["doctor"]);
        run.assert_code(0);
        assert!(run.stdout.contains("the default policy can be enforced here"), "{user:?}: {}", run.stdout);
        let run = plain(&site, &["doctor", "--json"]);
        run.assert_code(0);
        let found: Value = serde_json::from_str(&run.stdout).expect("JSON");
        let guarantees = found["guarantees"].as_array().expect("guarantees");
        assert_eq!(guarantees.len(), 8);
        assert!(guarantees.iter().all(|g| g["held"] == true), "{found:#}");
        let works = |name: &str| {
            let all = found["mechanisms"].as_array().expect("mechanisms");
            all.iter().find(|m| m["name"] == name).expect(name)["works"] == true
        };
        assert!(works("mute UDP") && works("loopback TCP"), "{found:#}");
        let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let named = text.lines().any(|line| line.starts_with("nameserver"));
        assert_eq!(works("name servers"), named, "{found:#}");
    }
}

#[test]
fn doctor_without_landlock_says_what_is_missing() {
    let mut site = Site::new();
    site.env("NPMGUARD_TEST_LANDLOCK_ABI", "0");
    let run = plain(&site, &["doctor"]);
    run.assert_code(125);
    assert!(run.stdout.contains("cannot be enforced here"), "{}", run.stdout);
    assert!(run.stdout.contains("missing: landlock files"), "{}", run.stdout);
    let json = plain(&site, &["doctor", "--json"]);
    json.assert_code(125);
    let found: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert!(found["guarantees"].as_array().expect("list").iter().any(|g| g["held"] == false));
}

#[test]
fn npms_own_flags_pass_and_npmguards_come_first() {
    let mut site = Site::new();
    site.package("dep", "true");
    site.write("app/package.json", &json!({ "name": "app" }).to_string());
    let run = plain(&site, &["add", "-q", "--save-dev", "file:vendor/dep.tgz", "--no-audit", "--no-fund"]);
    run.assert_code(0);
    let manifest: Value = serde_json::from_str(&site.read("app/package.json").expect("read")).expect("JSON");
    assert_eq!(manifest["devDependencies"]["dep"], "file:vendor/dep.tgz");
    let run = plain(&site, &["npm", "--", "ls", "--depth=0"]);
    run.assert_code(0);
    assert!(run.stdout.contains("dep@1.0.0"), "{}", run.stdout);
}
