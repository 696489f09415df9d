//! What a policy means: layers, precedence, identity, addresses, hints, limits.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::time::Duration;

use npmguard::policy::{FailOn, Mode, PathAction, Sources, Subject, Verdict, load, show};
use policy_support::{Project, default_policy, dependency, policy, profile, root, unverified, vars, verdict};

use PathAction::{Exec, Read, Write};
use Verdict::{Allow, Deny, Log};

#[test]
fn the_projects_file_beats_the_users_which_beats_the_preset() {
    let project = Project::new();
    let user = project.file(
        "config/policy.yaml",
        "version: 1\nmode: audit\nscripts: { read: { allow: [/x/both, /x/user] } }\n",
    );
    let mut sources = project.sources();
    sources.user_config = Some(user);
    let policy = load(&sources).unwrap();
    assert_eq!(policy.mode(), Mode::Audit);
    assert_eq!(verdict(&profile(&policy, &dependency("x")), Read, "/x/both"), Allow);

    project.file("npmguard.yaml", "version: 1\nmode: enforce\nscripts: { read: { deny: [/x/both] } }\n");
    let policy = load(&sources).unwrap();
    assert_eq!(policy.mode(), Mode::Enforce);
    let layers = policy.layers();
    assert_eq!(layers.first().unwrap(), "preset:default");
    assert_eq!(layers[layers.len() - 2..], ["config/policy.yaml", "npmguard.yaml"]);
    assert_eq!(policy.files().len(), 2);
    let script = profile(&policy, &dependency("x"));
    assert_eq!(verdict(&script, Read, "/x/both"), Deny);
    assert_eq!(verdict(&script, Read, "/x/user"), Allow);
    let rule = script.decide_path(Read, Path::new("/x/both")).rule;
    assert_eq!(rule.to_string(), "npmguard.yaml:3 scripts.read.deny[0]");

    sources.mode = Some(Mode::Audit);
    assert_eq!(load(&sources).unwrap().mode(), Mode::Audit);
    // A user's file that is not there is no mistake.
    sources.user_config = Some("/nonexistent/policy.yaml".into());
    assert!(load(&sources).is_ok());
}

#[test]
fn policies_from_the_command_line_replace_the_projects_file_in_their_order() {
    let project = Project::with("version: 1\nscripts: { read: { allow: [/x/project] } }\n");
    let low = project.file("a.yaml", "version: 1\nscripts: { read: { allow: [/x/a] } }\n");
    let high = project.file("b.yaml", "version: 1\nscripts: { read: { deny: [/x/a] } }\n");
    let with = |policies| load(&Sources { policies, ..project.sources() }).unwrap();
    let script = profile(&with(vec![low.clone(), high.clone()]), &dependency("x"));
    assert_eq!(verdict(&script, Read, "/x/project"), Deny);
    assert_eq!(verdict(&script, Read, "/x/a"), Deny);
    let script = profile(&with(vec![high, low]), &dependency("x"));
    assert_eq!(verdict(&script, Read, "/x/a"), Allow);
    assert_eq!(with(vec!["strict".into()]).layers(), ["preset:strict"]);
}

#[test]
fn a_base_lies_below_the_file_that_extends_it_and_is_read_once() {
    let project = Project::with(
        "version: 1\nextends: [./shared/base.yaml, ./shared/more.yaml]\nscripts: { read: { deny: [/x/base] } }\n",
    );
    project.file(
        "shared/base.yaml",
        "version: 1\nextends: ./root.yaml\nscripts: { read: { allow: [/x/base, /x/more] } }\n",
    );
    project.file(
        "shared/more.yaml",
        "version: 1\nextends: [default, root.yaml]\nscripts: { read: { deny: [/x/more] } }\n",
    );
    project.file("shared/root.yaml", "version: 1\nfail-on: [denied, drift]\n");
    let policy = project.load().unwrap();
    let layers = policy.layers();
    let files = ["shared/root.yaml", "shared/base.yaml", "shared/more.yaml", "npmguard.yaml"];
    assert_eq!(layers[layers.len() - 4..], files);
    assert_eq!(layers.iter().filter(|layer| *layer == "preset:default").count(), 1);
    assert_eq!(policy.fail_on(), [FailOn::Denied, FailOn::Drift]);
    let script = profile(&policy, &dependency("x"));
    assert_eq!(verdict(&script, Read, "/x/base"), Deny);
    assert_eq!(verdict(&script, Read, "/x/more"), Deny);
}

#[test]
fn a_project_cannot_take_back_the_strictness_that_the_user_chose() {
    let project = Project::with("version: 1\nextends: default\n");
    let user = project.file("u.yaml", "version: 1\nextends: strict\n");
    let policy = load(&Sources { user_config: Some(user), ..project.sources() }).unwrap();
    assert_eq!(policy.layers()[0], "preset:strict");
}

#[test]
fn within_a_rule_set_deny_beats_log_beats_allow_and_a_more_specific_set_beats_all() {
    let policy = policy(
        "version: 1
scripts:
  read: { allow: [/x/**], log: [/x/log/**], deny: [/x/log/deny/**] }
packages:
  \"a\": { read: { allow: [/x/log/deny/a] } }
  \"a@<1\": { read: { allow: [/x/old] } }
  \"a@>=1\": { read: { deny: [/x/range] } }
  \"@s/*\": { read: { deny: [/x/scope, /x/mine] } }
  \"@s/b\": { read: { allow: [/x/mine] } }
",
    );
    let plain = profile(&policy, &dependency("z"));
    assert_eq!(verdict(&plain, Read, "/x/y"), Allow);
    assert_eq!(verdict(&plain, Read, "/x/log/y"), Log);
    assert_eq!(verdict(&plain, Read, "/x/log/deny/a"), Deny);
    let a = profile(&policy, &dependency("a"));
    assert_eq!(verdict(&a, Read, "/x/log/deny/a"), Allow);
    assert_eq!(verdict(&a, Read, "/x/log/deny/b"), Deny);
    assert_eq!(verdict(&a, Read, "/x/range"), Deny);
    let b = profile(&policy, &dependency("@s/b"));
    assert_eq!(verdict(&b, Read, "/x/scope"), Deny);
    assert_eq!(verdict(&b, Read, "/x/mine"), Allow);
}

#[test]
fn the_default_of_the_most_specific_set_that_states_one_counts() {
    let policy =
        policy("version: 1\npackages:\n  a: { read: { default: log }, connect: { default: allow } }\n");
    let a = profile(&policy, &dependency("a"));
    let decision = a.decide_path(Read, Path::new("/nowhere"));
    assert_eq!(
        (decision.verdict, decision.rule.to_string()),
        (Log, "npmguard.yaml:3 packages.\"a\".read.default".into())
    );
    assert_eq!(verdict(&a, Read, "/etc/shadow"), Deny);
    assert_eq!(a.decide_address("1.2.3.4:5".parse().unwrap()).verdict, Allow);
}

#[test]
fn a_grant_by_name_beats_the_denial_of_root_and_scripts() {
    let policy = policy(
        "version: 1\nscripts: { write: { deny: [\"{project}/.git/**\"] } }\nroot: { write: { deny: [\"{project}/.git/**\"] } }\n\
         packages:\n  lefthook:\n    reason: \"installs git hooks\"\n    write: { allow: [\"{project}/.git/hooks/**\"] }\n",
    );
    let hook = "/home/u/app/.git/hooks/pre-commit";
    let granted = profile(&policy, &dependency("lefthook"));
    assert_eq!(verdict(&granted, Write, hook), Allow);
    assert!(granted.covered(Write, Path::new(hook)));
    assert_eq!(verdict(&granted, Write, "/home/u/app/.git/config"), Deny);
    let named_root = Subject::Root { name: Some("lefthook".into()), version: None };
    assert_eq!(verdict(&profile(&policy, &named_root), Write, hook), Allow);
    assert_eq!(verdict(&profile(&policy, &root()), Write, hook), Deny);
    assert_eq!(verdict(&profile(&policy, &dependency("other")), Write, hook), Deny);
}

#[test]
fn an_unverified_identity_is_restricted_and_never_widened() {
    let policy = policy(
        "version: 1
packages:
  a:
    read: { default: allow, allow: [/x/a], deny: [\"{package}/private/**\"] }
    exec: { default: deny }
    env: { allow: [NPM_TOKEN] }
    limits: { wall: 2h, open-files: 10 }
  b: { run: never }
  \"c@>=2\": { run: never, read: { allow: [/x/c] } }
  d: { run: always, limits: { wall: 1m } }
  \"*\": { run: never }
",
    );
    let own = "/home/u/app/node_modules/left-pad/private/x";
    let a = profile(&policy, &unverified("a"));
    assert_eq!(verdict(&a, Read, "/x/a"), Deny);
    assert_eq!(verdict(&a, Read, "/nowhere"), Deny);
    assert_eq!(verdict(&a, Read, own), Deny);
    assert_eq!(a.decide_env(OsStr::new("NPM_TOKEN")).verdict, Deny);
    assert_eq!(a.limits().wall, Some(Duration::from_secs(900)));
    assert_eq!(a.limits().open_files, Some(10));
    let a = profile(&policy, &dependency("a"));
    assert_eq!((verdict(&a, Read, "/x/a"), verdict(&a, Read, own)), (Allow, Deny));
    assert_eq!(a.limits().wall, Some(Duration::from_secs(7200)));

    assert_eq!(profile(&policy, &unverified("b")).never_run().unwrap().pointer, "packages.\"b\".run");
    assert!(profile(&policy, &dependency("d")).never_run().is_none());
    assert!(profile(&policy, &unverified("d")).never_run().is_some());
    // Without a version, an entry with a range may apply: it restricts and does not grant.
    let versionless = Subject::Dependency { name: "c".into(), version: None, granted: true };
    let c = profile(&policy, &versionless);
    assert_eq!(c.never_run().unwrap().pointer, "packages.\"c@>=2\".run");
    assert_eq!(verdict(&c, Read, "/x/c"), Deny);
}

#[test]
fn an_exclamation_mark_takes_names_out_of_its_own_list_only() {
    let policy = policy(
        "version: 1\nscripts:\n  read:\n    allow: [\"/x/**\"]\n    log: [\"/x/log/**\"]\n    deny: [\"/x/**/*.pem\", \"!/x/pub/**\"]\n  \
         env: { deny: [\"FOO_*\", \"!FOO_OK\"] }\n",
    );
    let script = profile(&policy, &dependency("x"));
    assert_eq!(verdict(&script, Read, "/x/a.pem"), Deny);
    assert_eq!(verdict(&script, Read, "/x/pub/a.pem"), Allow);
    assert_eq!(verdict(&script, Read, "/x/log/a"), Log);
    assert_eq!(script.decide_env(OsStr::new("foo_bar")).verdict, Deny);
    assert_eq!(script.decide_env(OsStr::new("FOO_OK")).verdict, Allow);
}

#[test]
fn addresses_networks_hosts_and_sockets_are_granted_each_in_its_kind() {
    let policy = policy(
        "version: 1\npackages:\n  x:\n    connect:\n      allow: [10.0.0.0/8, \"192.0.2.7:443\", \"*.example.test:443\", \
         \"unix:{project}/run/*.sock\", \"unix:/run/db/**\"]\n      deny: [10.0.0.1]\n",
    );
    let x = profile(&policy, &dependency("x"));
    for (addr, expected) in [
        ("10.1.2.3:1", Allow),
        ("10.0.0.1:1", Deny),
        ("[::ffff:10.0.0.1]:1", Deny),
        ("[::ffff:10.0.0.2]:1", Allow),
        ("192.0.2.7:443", Allow),
        ("192.0.2.7:80", Deny),
        ("127.0.0.1:443", Deny),
    ] {
        assert_eq!(x.decide_address(addr.parse().unwrap()).verdict, expected, "{addr}");
    }
    for (host, port, expected) in [
        ("cdn.example.test", 443, Allow),
        ("CDN.Example.Test.", 443, Allow),
        ("cdn.example.test", 80, Deny),
        ("example.test", 443, Deny),
        ("10.1.2.3", 80, Allow),
        ("[::ffff:10.0.0.1]", 80, Deny),
    ] {
        assert_eq!(x.decide_host(host, port).decision.verdict, expected, "{host}:{port}");
    }
    for (path, expected) in [
        ("/home/u/app/run/a.sock", Allow),
        ("/home/u/app/run/a/b.sock", Deny),
        ("/run/db/x/y", Allow),
        ("/run/db/../docker.sock", Deny),
        ("/run/docker.sock", Deny),
    ] {
        assert_eq!(x.decide_unix(Path::new(path)).verdict, expected, "{path}");
    }
}

#[test]
fn a_hint_is_a_policy_that_grants_what_was_refused() {
    let mut vars = vars();
    vars.package = "/home/u/app/node_modules/@s/o[d]d".into();
    for (subject, action, target, expected) in [
        (
            dependency("left-pad"),
            "read",
            "/home/u/.npmrc",
            r#"packages: { "left-pad": { read: { allow: ["{home}/.npmrc"] } } }"#,
        ),
        (
            dependency("@s/p"),
            "write",
            "/home/u/.cache/p/x",
            r#"packages: { "@s/p": { write: { allow: ["{cache}/p/x"] } } }"#,
        ),
        (
            root(),
            "write",
            "/home/u/app/.git/config",
            r#"root: { write: { allow: ["{project}/.git/config"] } }"#,
        ),
        (
            dependency("p"),
            "read",
            "/x/a*{b}[c]\\",
            r#"packages: { "p": { read: { allow: ["/x/a\\*\\{b\\}\\[c\\]\\\\"] } } }"#,
        ),
        (
            dependency("p"),
            "exec",
            "/home/u/bin/curl",
            r#"packages: { "p": { exec: { allow: ["{home}/bin/curl"] } } }"#,
        ),
        (
            dependency("p"),
            "connect",
            "192.0.2.1:443",
            r#"packages: { "p": { connect: { allow: ["192.0.2.1:443"] } } }"#,
        ),
        (
            dependency("p"),
            "connect",
            "/run/x.sock",
            r#"packages: { "p": { connect: { allow: ["unix:/run/x.sock"] } } }"#,
        ),
        (Subject::Manager, "write", "/x", r#"manager: { write: { allow: ["/x"] } }"#),
    ] {
        let refused = default_policy().profile(&subject, &vars).unwrap();
        let hint = refused.hint(action, target);
        assert_eq!(hint, expected);
        let granted = policy(&format!("version: 1\n{hint}\n")).profile(&subject, &vars).unwrap();
        let decision = match action {
            "connect" if target.starts_with('/') => granted.decide_unix(Path::new(target)),
            "connect" => granted.decide_address(target.parse().unwrap()),
            action => granted.decide_path(action.parse().unwrap(), Path::new(target)),
        };
        assert_eq!(decision.verdict, Allow, "{hint}");
    }
    let hostile =
        default_policy().profile(&dependency("p"), &vars).unwrap().hint("read", "/x/\u{1b}[31m\"\n\u{202e}y");
    assert!(hostile.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{hostile:?}");
}

#[test]
fn variables_that_are_not_utf8_still_mean_their_directory() {
    let mut vars = vars();
    vars.package = OsString::from_vec(b"/home/u/\xff*[x]/pkg".to_vec()).into();
    let script = default_policy().profile(&dependency("x"), &vars).unwrap();
    let inside = Path::new(OsStr::from_bytes(b"/home/u/\xff*[x]/pkg/\xfe"));
    assert_eq!(script.decide_path(Write, inside).verdict, Allow);
    assert!(script.covered(Write, inside));
    let beside = Path::new(OsStr::from_bytes(b"/home/u/\xffy[x]/pkg/\xfe"));
    assert_eq!(script.decide_path(Write, beside).verdict, Deny);
    assert_eq!(script.decide_env(OsStr::from_bytes(b"MY_\xff_TOKEN")).verdict, Deny);
}

#[test]
fn limits_come_from_the_most_specific_statement() {
    let policy = policy(
        "version: 1\nscripts: { limits: { wall: 1m, file-size: 2GiB } }\npackages:\n  a: { limits: { wall: none, processes: 64 } }\n",
    );
    let a = profile(&policy, &dependency("a")).limits();
    assert_eq!((a.wall, a.processes, a.file_size), (None, Some(64), Some(2 << 30)));
    assert_eq!(profile(&policy, &dependency("b")).limits().wall, Some(Duration::from_secs(60)));
}

#[test]
fn a_tree_denied_as_a_whole_is_not_granted_and_is_no_conflict() {
    let policy = policy(
        "version: 1\nscripts: { exec: { deny: [\"/opt/**\"] } }\npackages: { x: { exec: { allow: [\"/opt/x/**\"] } } }\n",
    );
    let x = profile(&policy, &dependency("x"));
    assert_eq!((verdict(&x, Exec, "/opt/x/y"), verdict(&x, Exec, "/opt/z")), (Allow, Deny));
    assert!(x.covered(Exec, Path::new("/opt/x/y")) && !x.covered(Exec, Path::new("/opt/z")));
}

#[test]
fn the_digest_follows_what_is_said_and_not_where() {
    let digest = |text: &str| policy(text).digest();
    let first = digest("version: 1\n");
    assert!(first.starts_with("sha256:") && first.len() == 7 + 64);
    assert_eq!(first, digest("version: 1\n"));
    assert_ne!(first, digest("version: 1\nmode: audit\n"));
}

#[test]
fn show_names_the_origin_of_every_line() {
    let policy = policy(
        "version: 1\npackages:\n  \"left-pad\":\n    reason: \"draws\"\n    read: { allow: [\"{home}/.x\"] }\n",
    );
    let text = show(&policy, &dependency("left-pad"), &vars()).unwrap();
    assert!(text.contains("subject left-pad@1.3.0\n"), "{text}");
    assert!(text.contains("entry   left-pad: draws") && text.contains("# npmguard.yaml:3"), "{text}");
    let line = text.lines().find(|line| line.contains("{home}/.x")).unwrap();
    assert!(
        line.starts_with("  allow   \"{home}/.x\"")
            && line.ends_with("# npmguard.yaml:5 packages.\"left-pad\""),
        "{line}"
    );
    for line in text.lines().filter(|line| {
        line.starts_with("  allow") || line.starts_with("  deny") || line.starts_with("  default")
    }) {
        assert!(line.contains(" # "), "{line}");
    }
}

#[test]
fn the_summary_names_the_base_and_the_files() {
    assert_eq!(default_policy().summary(), "default policy");
    assert_eq!(policy("version: 1\n").summary(), "default policy + npmguard.yaml");
    assert_eq!(policy("version: 1\nextends: strict\n").summary(), "strict policy + npmguard.yaml");
    let with = |names: &[&str]| {
        let policies = names.iter().map(Into::into).collect();
        load(&Sources { policies, ..Project::new().sources() }).unwrap().summary()
    };
    assert_eq!(with(&["audit"]), "audit policy");
    assert_eq!(with(&["strict", "audit"]), "strict policy + audit");
}
