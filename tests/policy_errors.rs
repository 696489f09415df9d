//! What a person sees who made a mistake in a policy file: the place, the
//! offending text, what is allowed there, and what to write instead.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use policy_support::{Project, dependency, policy, vars};

fn says(text: &str, expected: &str) {
    assert_eq!(Project::with(text).mistake(), expected, "for:\n{text}");
}

#[test]
fn a_misspelt_key() {
    says(
        "version: 1\nscripts:\n  read:\n    alow: [\"/etc/hosts\"]\n",
        "npmguard.yaml:4:5: unknown key `alow` in `scripts.read`\n\n\
         hint: did you mean `allow`? `scripts.read` takes `default`, `allow`, `log` and `deny`",
    );
}

#[test]
fn an_unknown_section() {
    says(
        "version: 1\nplugins: {}\n",
        "npmguard.yaml:2:1: unknown key `plugins` in the policy\n\n\
         hint: a policy takes `version`, `extends`, `mode`, `scripts`, `root`, `manager`, `packages` and `fail-on`",
    );
}

#[test]
fn an_underscore_for_a_dash() {
    says(
        "version: 1\nfail_on: [denied]\n",
        "npmguard.yaml:2:1: unknown key `fail_on` in the policy\n\n\
         hint: did you mean `fail-on`? a policy takes `version`, `extends`, `mode`, `scripts`, `root`, `manager`, \
         `packages` and `fail-on`",
    );
}

#[test]
fn an_unknown_verdict() {
    says(
        "version: 1\nscripts:\n  exec: { default: block }\n",
        "npmguard.yaml:3:20: unknown verdict `block` for `scripts.exec.default`\n\nhint: write `allow`, `log` or `deny`",
    );
}

#[test]
fn an_unknown_fail_on_word() {
    says(
        "version: 1\nfail-on: [denied, would-denied]\n",
        "npmguard.yaml:2:19: unknown `fail-on` word `would-denied` for `fail-on`\n\n\
         hint: did you mean `would_deny`? write `denied`, `would_deny`, `logged`, `drift` or `leftover`",
    );
}

#[test]
fn a_missing_or_foreign_version() {
    says(
        "mode: audit\n",
        "npmguard.yaml:1:1: the policy does not say its `version`\n\nhint: begin the file with `version: 1`",
    );
    says("", "npmguard.yaml:1:1: the file is empty\n\nhint: begin it with `version: 1`");
    says(
        "version: 2\n",
        "npmguard.yaml:1:10: unknown policy version `2`\n\nhint: this npmguard reads `version: 1`",
    );
}

#[test]
fn a_relative_pattern_or_one_with_a_tilde_or_a_dollar() {
    says(
        "version: 1\nscripts:\n  read:\n    allow:\n      - \"src/**\"\n      - \"~/.npmrc\"\n      - \"$HOME/x\"\n",
        "npmguard.yaml:5:9: pattern `src/**` is not absolute in `scripts.read.allow`\n\n\
         hint: begin it with `/`, `**/`, or a variable or group such as `{package}/`\n\n\
         npmguard.yaml:6:9: pattern `~/.npmrc` is not absolute in `scripts.read.allow`\n\n\
         hint: `~` has no meaning here: write `{home}/.npmrc`\n\n\
         npmguard.yaml:7:9: pattern `$HOME/x` is not absolute in `scripts.read.allow`\n\n\
         hint: `$HOME/x` is not expanded here: begin it with `/`, `**/`, or a variable or group such as `{package}/`",
    );
}

#[test]
fn a_misspelt_variable() {
    says(
        "version: 1\nscripts:\n  write: { allow: [\"{hom}/.cache/**\"] }\n",
        "npmguard.yaml:3:20: unknown variable or group `{hom}` in `scripts.write.allow`\n\n\
         hint: did you mean `{home}`? `npmguard policy show --groups` lists them all",
    );
}

#[test]
fn a_group_of_the_wrong_kind() {
    says(
        "version: 1\nscripts:\n  read: { allow: [\"{registry}\"] }\n",
        "npmguard.yaml:3:19: `{registry}` is a group of hosts, which `read` does not take in `scripts.read.allow`\n\n\
         hint: `npmguard policy show --groups` says what each group holds",
    );
}

#[test]
fn an_unquoted_variable_or_star() {
    says(
        "version: 1\nscripts:\n  read:\n    allow: [{system}]\n",
        "npmguard.yaml:4:13: `{system}` in `scripts.read.allow` is read as a YAML mapping\n\n\
         hint: quote it: `\"{system}\"`",
    );
    let star = Project::with("version: 1\nscripts:\n  connect:\n    allow: [*.example.test]\n").mistake();
    assert!(star.starts_with("npmguard.yaml:4:13: "), "{star}");
    assert!(star.contains("hint: ") && star.contains("must be quoted"), "{star}");
    let scope = Project::with("version: 1\npackages:\n  @scope/*: { run: never }\n").mistake();
    assert!(scope.starts_with("npmguard.yaml:3:3: ") && scope.contains("must be quoted"), "{scope}");
}

#[test]
fn one_pattern_where_a_list_belongs() {
    says(
        "version: 1\nscripts:\n  read:\n    allow: \"/etc/hosts\"\n",
        "npmguard.yaml:4:12: `scripts.read.allow` is a single value, but should be a list\n\n\
         hint: write it as `[\"one\", \"two\"]`, or as `- \"one\"` lines",
    );
    says(
        "version: 1\nscripts:\n",
        "npmguard.yaml:2:8: `scripts` is empty, but should be a mapping\n\n\
         hint: write `key: value` lines; it takes `read`, `write`, `exec`, `connect`, `env` and `limits`",
    );
}

#[test]
fn a_key_twice() {
    says(
        "version: 1\nscripts:\n  read: { default: deny }\n  exec: {}\n  read: { default: allow }\n",
        "npmguard.yaml:5:3: duplicate key `read`\n\nhint: the first one is on line 3: merge the two",
    );
}

#[test]
fn a_package_key_that_is_no_package() {
    says(
        "version: 1\npackages:\n  \"left-pad@>=banana\": { run: never }\n",
        "npmguard.yaml:3:3: `>=banana` in `left-pad@>=banana` is not a version range: unexpected character 'b' while \
         parsing major version number in `packages`\n\n\
         hint: write an npm range such as `>=5`, `^1.2`, `1.x`, `>=1 <3` or `^1 || ^2`",
    );
}

#[test]
fn a_limit_without_a_unit() {
    says(
        "version: 1\nscripts:\n  limits: { wall: 15, processes: lots }\n",
        "npmguard.yaml:3:19: `15` in `scripts.limits.wall` is not a duration\n\n\
         hint: write `90s`, `15m` or `2h`, or `none` for no limit\n\n\
         npmguard.yaml:3:34: `lots` in `scripts.limits.processes` is not a count\n\n\
         hint: write a number such as `512`, or `none` for no limit",
    );
}

#[test]
fn a_broken_address() {
    says(
        "version: 1\npackages:\n  x: { connect: { allow: [\"https://x.test/y\", \"10.0.0.1/8\"] } }\n",
        "npmguard.yaml:3:27: `https://x.test/y` is a URL in `packages.\"x\".connect.allow`\n\n\
         hint: leave out the scheme and the path: write `host`, `*.host`, `host:port`, an address, a network such as \
         `10.0.0.0/8`, `[2001:db8::1]:443`, `unix:/path`, or `{registry}`, `{proxy}`, `{git-hosts}`\n\n\
         npmguard.yaml:3:47: `10.0.0.1/8` has bits set after its prefix in `packages.\"x\".connect.allow`\n\n\
         hint: write `host`, `*.host`, `host:port`, an address, a network such as `10.0.0.0/8`, `[2001:db8::1]:443`, \
         `unix:/path`, or `{registry}`, `{proxy}`, `{git-hosts}`",
    );
}

#[test]
fn an_entry_that_says_more_than_it_can() {
    let of = |list: &str, entry: &str| format!("version: 1\nscripts:\n  connect:\n    {list}: [{entry}]\n");
    for (list, entry, expected) in [
        (
            "allow",
            "{ host: a.test, verfy: sni }",
            "4:29: unknown key `verfy` in `scripts.connect.allow`\n\n\
             hint: did you mean `verify`? `scripts.connect.allow` takes `host`, `verify` and `expected`",
        ),
        (
            "allow",
            "{ verify: sni }",
            "4:13: an entry of `scripts.connect.allow` does not say its `host`\n\n\
             hint: write `{ host: \"example.org:443\", verify: sni }`, or the pattern alone",
        ),
        (
            "allow",
            "{ host: a.test, verify: tls }",
            "4:37: unknown check `tls` for `scripts.connect.allow.verify`\n\nhint: write `sni`",
        ),
        (
            "allow",
            "{ host: a.test, expected: true }",
            "4:29: `expected` has no meaning in `scripts.connect.allow`\n\n\
             hint: it says that a refusal is foreseen, so it goes with `deny`",
        ),
        (
            "deny",
            "{ host: a.test, verify: sni }",
            "4:28: `verify` has no meaning in `scripts.connect.deny`\n\n\
             hint: nothing is left to verify of what is denied; it goes with `allow` and `log`",
        ),
        (
            "deny",
            "{ host: a.test, expected: maybe }",
            "4:38: `maybe` in `scripts.connect.deny.expected` is neither `true` nor `false`\n\n\
             hint: write `expected: true`, or leave it out",
        ),
        (
            "log",
            "{ host: \"10.0.0.0/8\", verify: sni }",
            "4:19: `10.0.0.0/8` is an address, which has no name to verify in `scripts.connect.log`\n\n\
             hint: `verify: sni` goes with `host`, `*.host`, `host:port`, `{registry}`, `{proxy}` or `{git-hosts}`; \
             leave it out, or name the host",
        ),
        (
            "deny",
            "{ host: \"unix:/run/x\", expected: true }",
            "4:20: `unix:/run/x` is a Unix socket, not a host in `scripts.connect.deny`\n\n\
             hint: write the pattern alone, without `host:`",
        ),
    ] {
        says(&of(list, entry), &format!("npmguard.yaml:{expected}"));
    }
    for (list, entry, start) in [
        ("allow", "{ host: \"*:443\", verify: sni }", "4:21: `*:443` is every host, which"),
        (
            "allow",
            "{ host: \"{telemetry}\", verify: sni }",
            "4:21: `{telemetry}` is a list of many hosts, which",
        ),
        ("allow", "{ host: \"{registy}\" }", "4:21: unknown variable or group `{registy}`"),
        ("allow", "{ host: \"http://x.test\" }", "4:21: `http://x.test` is a URL"),
        ("allow", "{ host: [a.test] }", "4:21: `scripts.connect.allow.host` is a list"),
        ("allow", "{ host: }", "4:19: `scripts.connect.allow.host` is empty"),
        ("allow", "{ host }", "4:"),
        ("deny", "{ host: a.test, expected: ~ }", "4:38: `scripts.connect.deny.expected` is empty"),
        ("deny", "{ host: a.test, host: b.test }", "4:28: duplicate key `host`"),
        ("allow", "{registry}", "4:13: `{registry}` in `scripts.connect.allow` is read as a YAML mapping"),
        ("allow", "[a.test]", "4:13: `scripts.connect.allow` is a list, but should be one value"),
        ("allow", "0x7f000001", "4:13: "),
        ("allow", "true", "4:13: "),
    ] {
        let mistake = Project::with(&of(list, entry)).mistake();
        assert!(
            mistake.starts_with(&format!("npmguard.yaml:{start}")) && mistake.contains("hint: "),
            "{entry}\n{mistake}"
        );
    }
    let elsewhere = "version: 1\nscripts:\n  read: { allow: [{ host: a.test, verify: sni }] }\n";
    says(
        elsewhere,
        "npmguard.yaml:3:19: `scripts.read.allow` is a mapping, but should be one value\n\n\
         hint: write one word, or one quoted string",
    );
}

#[test]
fn an_exec_grant_by_glob() {
    says(
        "version: 1\npackages:\n  x: { exec: { allow: [\"{package}/bin/*.sh\"] } }\n",
        "npmguard.yaml:3:24: `{package}/bin/*.sh` is not exact, and the kernel cannot grant execution by a glob in \
         `packages.\"x\".exec.allow`\n\n\
         hint: write `{package}/bin/**` for everything below, or name each program",
    );
}

#[test]
fn an_exec_denial_by_glob_names_both_rules() {
    let policy = policy("version: 1\nscripts:\n  exec: { deny: [\"/usr/bin/nc*\"] }\n");
    let error = policy.profile(&dependency("x"), &vars()).expect_err("cannot be expressed").render();
    assert!(error.starts_with("npmguard.yaml:3:18: `/usr/bin/nc*` in `scripts.exec.deny[0]` denies part of what `/usr/**` (preset:default:"), "{error}");
    assert!(error.contains("scripts.exec.allow["), "{error}");
    assert!(
        error.ends_with("hint: name the denied programs one by one (`/usr/bin/x`), or allow less"),
        "{error}"
    );
}

#[test]
fn an_unknown_preset() {
    says(
        "version: 1\nextends: stict\n",
        "npmguard.yaml:2:10: unknown preset `stict` in `extends`\n\n\
         hint: did you mean `strict`? write `default`, `strict` or `audit`, or a path such as `./shared/policy.yaml`",
    );
}

#[test]
fn a_base_that_is_not_there() {
    says(
        "version: 1\nextends: [default, ./base.yaml]\n",
        "npmguard.yaml:2:20: cannot read `./base.yaml` named in `extends`: No such file or directory (os error 2)\n\n\
         hint: paths are relative to the file they stand in; or write `default`, `strict` or `audit`",
    );
}

#[test]
fn bases_that_go_round_in_a_circle() {
    let project = Project::with("version: 1\nextends: ./a.yaml\n");
    project.file("a.yaml", "version: 1\nextends: ./b.yaml\n");
    project.file("b.yaml", "version: 1\nextends: ./a.yaml\n");
    assert_eq!(
        project.mistake(),
        "b.yaml:2:10: `extends` goes round in a circle: `npmguard.yaml` → `a.yaml` → `b.yaml` → `a.yaml`\n\n\
         hint: remove one of these `extends`"
    );
}

#[test]
fn a_base_inside_node_modules() {
    let project = Project::with("version: 1\nextends: ./node_modules/evil/policy.yaml\n");
    project.file("node_modules/evil/policy.yaml", "version: 1\nscripts: { read: { default: allow } }\n");
    let mistake = project.mistake();
    assert!(
        mistake.starts_with("npmguard.yaml:2:10: `./node_modules/evil/policy.yaml` in `extends` lies inside"),
        "{mistake}"
    );
    // Nor through a link that hides it.
    let project = Project::with("version: 1\nextends: ./innocent.yaml\n");
    let hidden = project.file("node_modules/evil/policy.yaml", "version: 1\n");
    std::os::unix::fs::symlink(hidden, project.dir.path().join("innocent.yaml")).unwrap();
    assert!(project.mistake().contains("lies inside `node_modules`"));
}

#[test]
fn anchors_aliases_tags_and_second_documents() {
    for (text, place) in [
        ("version: 1\nscripts: &x { read: {} }\nroot: *x\n", "2:"),
        ("version: 1\nscripts:\n  env: { deny: [!FOO] }\n", "3:"),
        ("version: 1\n---\nversion: 1\n", "2:1"),
    ] {
        let mistake = Project::with(text).mistake();
        assert!(
            mistake.starts_with(&format!("npmguard.yaml:{place}")) && mistake.contains("hint: "),
            "{mistake}"
        );
    }
}

#[test]
fn what_yaml_would_read_as_something_else_has_a_place() {
    for (text, place) in [
        ("version: 1\nextends: 1\n", "2:10: "),
        ("version: 1.0\n", "1:10: unknown policy version `1.0`"),
        ("version: 1\nmode: ~\n", "2:7: `mode` is empty"),
        ("version: 1\npackages: { x: ~ }\n", "2:16: `packages.\"x\"` is empty"),
        ("version: 1\nscripts: { read: { allow: [~] } }\n", "2:28: "),
    ] {
        let mistake = Project::with(text).mistake();
        assert!(
            mistake.starts_with(&format!("npmguard.yaml:{place}")) && mistake.contains("hint: "),
            "{mistake}"
        );
    }
}

#[test]
fn yaml_bombs_are_refused_at_once() {
    let laughs: String = (1..30).fold("version: 1\na0: &a0 [x]\n".into(), |text, n| {
        let m = n - 1;
        format!("{text}a{n}: &a{n} [*a{m},*a{m},*a{m},*a{m},*a{m}]\n")
    });
    let start = std::time::Instant::now();
    assert!(Project::with(&laughs).mistake().contains("anchors"));
    let deep = format!("version: 1\nscripts: {}", "[".repeat(100_000));
    assert!(Project::with(&deep).mistake().starts_with("npmguard.yaml:2:"));
    let block: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(Project::with(&format!("version: 1\n{block}")).mistake().contains("levels deep"));
    let large = format!("version: 1\n# {}\n", "x".repeat(9 << 20));
    assert!(Project::with(&large).mistake().contains("is larger than 8388608 bytes"));
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn files_that_cannot_be_read() {
    let project = Project::new();
    project.file("npmguard.yaml", "version: 1\n");
    project.file("npmguard.yml", "version: 1\n");
    assert!(project.mistake().contains("hint: keep one of them"));

    let mut sources = Project::new().sources();
    sources.policies = vec!["/nonexistent/policy.yaml".into()];
    let missing = npmguard::policy::load(&sources).expect_err("missing").render();
    assert!(
        missing.starts_with("cannot read policy file `/nonexistent/policy.yaml`: No such file"),
        "{missing}"
    );

    // A dangling link is a policy that is gone, not a project without one.
    let project = Project::new();
    std::os::unix::fs::symlink("/nonexistent", project.dir.path().join("npmguard.yaml")).unwrap();
    assert!(project.load().is_err());

    let project = Project::new();
    std::fs::write(project.dir.path().join("npmguard.yaml"), b"version: 1 # \xff\n").unwrap();
    assert!(project.mistake().contains("UTF-8"));
}

#[test]
fn several_mistakes_are_shown_together_and_a_flood_is_cut() {
    let text = format!("version: 1\nscripts:\n  read:\n    allow: [{}]\n", "\"x\",".repeat(500));
    assert_eq!(Project::with(&text).mistake().matches("is not absolute").count(), 20);
}

#[test]
fn text_from_the_file_cannot_reach_the_terminal_raw() {
    let mistake = Project::with("version: 1\n\"\\e[31m\": 1\n").mistake();
    assert!(!mistake.contains('\x1b'), "{mistake:?}");
    let mistake = Project::with("version: 1\nscripts: { read: { allow: [\"\\e[31m\"] } }\n").mistake();
    assert!(!mistake.contains('\x1b'), "{mistake:?}");
    let mistake = Project::with("version: 1\nmode: \"\\e[31m\"\n").mistake();
    assert!(!mistake.contains('\x1b'), "{mistake:?}");
    let mistake = Project::with("version: 1\npackages: { \"a\\eb\": {} }\n").mistake();
    assert!(!mistake.contains('\x1b'), "{mistake:?}");
}
