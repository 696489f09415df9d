//! Who may connect where: names, addresses, groups of hosts, metadata services.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use std::sync::Arc;

use npmguard::policy::{ConnectDecision, Endpoint, KnownHosts, Profile, Subject, Verdict, Verify};
use policy_support::{default_policy, dependency, policy, profile, vars};

use Verdict::{Allow, Deny, Log};

/// The profile of a package with these rules, strict otherwise.
fn rules(connect: &str) -> Profile {
    let text = format!("version: 1\nextends: strict\npackages: {{ x: {{ connect: {connect} }} }}\n");
    policy(&text).profile(&dependency("x"), &with_hosts()).unwrap()
}

fn with_hosts() -> npmguard::policy::Variables {
    let endpoint = |host: &str, port, private| Endpoint { host: host.into(), port, private };
    let hosts = KnownHosts {
        registry: vec![
            endpoint("registry.example.test", Some(443), false),
            endpoint("intern.example.test", None, true),
            endpoint("10.0.0.9", Some(4873), true),
            endpoint("::1", Some(4873), true),
            endpoint("*.evil.test", None, false),
            endpoint("169.254.169.254", None, true),
        ],
        proxy: vec![endpoint("proxy.example.test", Some(3128), true)],
        git_hosts: vec![endpoint("Git.Example.Test.", Some(22), false)],
    };
    npmguard::policy::Variables { hosts, ..vars() }
}

fn connect(profile: &Profile, to: &str, names: &[&str]) -> ConnectDecision {
    let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    profile.decide_connect(to.parse().unwrap(), &names)
}

#[test]
fn a_name_is_granted_at_the_addresses_it_was_found_under() {
    let x = rules(
        r#"{ allow: ["api.example.test:443", "*.cdn.test"], log: ["seen.test"], deny: ["bad.cdn.test"] }"#,
    );
    for (to, names, expected, host) in [
        ("192.0.2.1:443", &["api.example.test"][..], Allow, Some("api.example.test")),
        ("192.0.2.1:443", &[][..], Deny, None),
        ("192.0.2.1:80", &["api.example.test"][..], Deny, None),
        (
            "[::ffff:192.0.2.1]:443",
            &["other.test", "API.example.test."][..],
            Allow,
            Some("API.example.test."),
        ),
        ("192.0.2.1:80", &["a.b.cdn.test"][..], Allow, Some("a.b.cdn.test")),
        ("192.0.2.1:80", &["cdn.test"][..], Deny, None),
        ("192.0.2.1:80", &["evilcdn.test"][..], Deny, None),
        ("192.0.2.1:80", &["good.cdn.test", "bad.cdn.test"][..], Deny, Some("bad.cdn.test")),
        ("192.0.2.1:80", &["seen.test"][..], Log, Some("seen.test")),
    ] {
        let decided = connect(&x, to, names);
        assert_eq!((decided.decision.verdict, decided.host.as_deref()), (expected, host), "{to} {names:?}");
        assert!(decided.verify.is_none() && !decided.expected);
    }
    let rule = connect(&x, "192.0.2.1:443", &["api.example.test"]).decision.rule;
    assert_eq!(rule.to_string(), "npmguard.yaml:3 packages.\"x\".connect.allow[0]");
}

#[test]
fn the_first_rule_decides_whether_it_speaks_of_the_address_or_of_the_name() {
    let text = "version: 1\nextends: strict\nscripts: { connect: { deny: [192.0.2.0/24, b.test] } }\n\
                packages: { x: { connect: { allow: [a.test, \"192.0.2.7\"] } } }\n";
    let x = profile(&policy(text), &dependency("x"));
    assert_eq!(connect(&x, "192.0.2.1:1", &["a.test"]).decision.verdict, Allow);
    assert_eq!(connect(&x, "192.0.2.1:1", &["c.test"]).decision.verdict, Deny);
    let by_address = connect(&x, "192.0.2.7:1", &["b.test"]);
    assert_eq!((by_address.decision.verdict, by_address.host), (Allow, None));
}

#[test]
fn a_look_up_is_allowed_when_some_connection_may_follow() {
    let x = rules(
        r#"{ allow: ["a.test:443", "10.0.0.0/8", "both.test:443"], log: ["l.test:1"], deny: ["a.test:80", "both.test", "n.test"] }"#,
    );
    for (name, expected) in [
        ("a.test", Allow),
        ("A.TEST.", Allow),
        ("l.test", Log),
        ("both.test", Deny),
        ("n.test", Deny),
        ("other.test", Deny),
        ("10.0.0.1", Deny),
        ("", Deny),
    ] {
        assert_eq!(x.decide_name(name).decision.verdict, expected, "{name}");
    }
    assert_eq!(x.decide_name("A.test.").host.as_deref(), Some("a.test"));
    let any = rules("{ allow: [\"*:443\"], deny: [\"*:25\"] }").decide_name("what.ever.test");
    assert_eq!((any.decision.verdict, any.host), (Allow, None));
    assert_eq!(rules("{ default: log }").decide_name("x.test").decision.verdict, Log);
}

#[test]
fn a_metadata_service_is_reached_only_where_its_address_is_spelt_out() {
    let every_other_way = r#"{ default: allow, allow: ["*", "0.0.0.0/0", "169.254.169.254/31", "{registry}", "m.test",
        "::/0", "168.63.129.0/24", "64:ff9b::/96"], log: ["*:80"] }"#;
    let x = rules(every_other_way);
    for ip in [
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::169.254.169.254]",
        "[2002:a9fe:a9fe::1]",
    ] {
        let decided = connect(&x, &format!("{ip}:80"), &["m.test"]);
        assert_eq!(decided.decision.verdict, Deny, "{ip}");
        assert_eq!(decided.decision.rule.to_string(), "npmguard:0 connect.metadata-addresses", "{ip}");
        assert_eq!(x.decide_host(ip, 80).decision.verdict, Deny, "{ip}");
        assert!(!x.grants_address(ip.trim_matches(['[', ']']).parse().unwrap()), "{ip}");
    }
    let x = rules(
        r#"{ allow: ["169.254.169.254:80", "fd00:ec2::254/128", "*"], deny: ["100.100.100.200", "*:25"] }"#,
    );
    assert_eq!(connect(&x, "169.254.169.254:80", &[]).decision.verdict, Allow);
    assert_eq!(connect(&x, "[::ffff:169.254.169.254]:80", &[]).decision.verdict, Allow);
    assert_eq!(connect(&x, "169.254.169.254:443", &[]).decision.verdict, Deny);
    assert_eq!(connect(&x, "[fd00:ec2::254]:443", &[]).decision.verdict, Allow);
    assert_eq!(connect(&x, "100.100.100.200:1", &[]).decision.rule.pointer, "packages.\"x\".connect.deny[0]");
    assert!(x.grants_address("169.254.169.254".parse().unwrap()));
}

#[test]
fn this_machine_has_one_address_however_it_is_written() {
    let x = rules(r#"{ allow: ["0.0.0.0:80", "[::]:80"] }"#);
    for to in ["0.0.0.0:80", "127.0.0.1:80", "[::]:80", "[::1]:80", "[::ffff:0.0.0.0]:80"] {
        assert_eq!(connect(&x, to, &[]).decision.verdict, Allow, "{to}");
    }
    let x = rules(r#"{ allow: ["*"], deny: ["127.0.0.0/8", "::1"] }"#);
    for to in ["0.0.0.0:80", "[::]:80", "[::ffff:127.0.0.1]:80", "[64:ff9b::127.0.0.1]:80"] {
        assert_eq!(connect(&x, to, &[]).decision.verdict, Deny, "{to}");
    }
}

#[test]
fn the_groups_of_hosts_are_what_the_launcher_knows() {
    let x = rules(r#"{ allow: ["{registry}", "{git-hosts}"], log: ["{proxy}"] }"#);
    for (to, name, expected) in [
        ("192.0.2.1:443", "registry.example.test", Allow),
        ("192.0.2.1:80", "registry.example.test", Deny),
        ("192.0.2.1:80", "intern.example.test", Allow),
        ("192.0.2.1:3128", "proxy.example.test", Log),
        ("192.0.2.1:22", "git.example.test", Allow),
        ("10.0.0.9:4873", "-", Allow),
        ("[::1]:4873", "-", Allow),
        ("10.0.0.9:80", "-", Deny),
        // A host that a lockfile names is no pattern.
        ("192.0.2.1:443", "a.evil.test", Deny),
        ("192.0.2.1:443", "*.evil.test", Deny),
    ] {
        let decided = connect(&x, to, &[name]);
        assert_eq!(decided.decision.verdict, expected, "{to} {name}");
        assert_eq!(decided.host.is_some(), expected != Deny && name != "-", "{to} {name}");
    }
    assert_eq!(x.decide_name("registry.example.test").decision.verdict, Allow);
    assert_eq!(
        x.decide_name("registry.example.test").decision.rule.pointer,
        "packages.\"x\".connect.allow[0]"
    );
    assert!(x.grants_address("10.0.0.9".parse().unwrap()));
    let hosts: Vec<_> = x.exact_hosts();
    assert_eq!(
        hosts.iter().map(|host| &**host).collect::<Vec<_>>(),
        ["proxy.example.test", "registry.example.test", "intern.example.test", "git.example.test"]
    );
}

#[test]
fn only_what_the_users_configuration_names_may_be_private() {
    let x = rules(r#"{ allow: ["{registry}", "{proxy}", "own.test"], deny: ["proxy.example.test:80"] }"#);
    assert!(x.may_be_private("intern.example.test") && x.may_be_private("PROXY.example.test."));
    assert!(!x.may_be_private("registry.example.test") && !x.may_be_private("own.test"));
    let x = rules(
        r#"{ allow: ["{registry}", "intern.example.test"], deny: ["intern.example.test", "{proxy}"] }"#,
    );
    assert!(!x.may_be_private("intern.example.test") && !x.may_be_private("proxy.example.test"));
    let x = rules(r#"{ allow: ["intern.example.test"] }"#);
    assert!(!x.may_be_private("intern.example.test"));
}

#[test]
fn an_address_is_granted_by_itself_or_its_network_and_by_nothing_else() {
    let x = rules(
        r#"{ allow: ["10.0.0.0/8:443", "127.0.0.1", "*", "name.test"], deny: ["10.9.0.0/16", "10.0.0.1:22"] }"#,
    );
    for (ip, expected) in [
        ("10.0.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("127.0.0.1", true),
        ("0.0.0.0", true),
        ("10.9.0.1", false),
        ("192.0.2.1", false),
        ("169.254.169.254", false),
    ] {
        assert_eq!(x.grants_address(ip.parse().unwrap()), expected, "{ip}");
    }
}

#[test]
fn the_names_that_are_granted_one_by_one_can_be_listed() {
    let x = rules(
        r#"{ allow: ["A.test:443", "*.w.test", "10.0.0.1", "a.test", "no.test"], log: [b.test], deny: [no.test] }"#,
    );
    assert_eq!(x.exact_hosts().iter().map(|host| &**host).collect::<Vec<_>>(), ["b.test", "a.test"]);
    let many: Vec<String> = (0..100).map(|n| format!("h{n}.test")).collect();
    assert_eq!(rules(&format!("{{ allow: {many:?} }}")).exact_hosts().len(), 64);
}

#[test]
fn a_client_that_states_a_host_is_judged_by_it() {
    let x = rules(r#"{ allow: ["a.test:443", "*.w.test", "10.0.0.0/8"], deny: ["no.w.test"] }"#);
    for (host, port, expected) in [
        ("A.test", 443, Allow),
        ("a.test.", 443, Allow),
        ("a.test", 80, Deny),
        ("x.w.test", 80, Allow),
        ("no.w.test", 80, Deny),
        ("10.0.0.1", 80, Allow),
        ("[::ffff:10.0.0.1]", 80, Allow),
        ("", 443, Deny),
        ("a.test\0.evil.test", 443, Deny),
    ] {
        assert_eq!(x.decide_host(host, port).decision.verdict, expected, "{host:?}:{port}");
    }
}

#[test]
fn the_default_policy_gives_scripts_no_registry() {
    let script = default_policy().profile(&dependency("x"), &with_hosts()).unwrap();
    assert_eq!(script.decide_name("registry.example.test").decision.verdict, Deny);
    let manager = default_policy().profile(&Subject::Manager, &with_hosts()).unwrap();
    assert_eq!(manager.decide_name("registry.example.test").decision.verdict, Allow);
    assert!(manager.may_be_private("intern.example.test"));
}

#[test]
fn an_entry_may_say_more_than_its_pattern() {
    let x = rules(
        r#"{ allow: [{ host: "a.test:443", verify: sni }, { host: "{registry}", verify: sni }, "b.test", { host: "c.test" }],
             log: [{ host: "*.l.test", verify: "sni" }],
             deny: [{ host: "t.test", expected: true }, { host: "u.test", expected: false }, { host: "192.0.2.9", expected: true },
                    { host: "p.test:443", expected: true }] }"#,
    );
    let sni = Some(Verify::Sni);
    for (to, name, verify, expected) in [
        ("192.0.2.1:443", "a.test", sni, false),
        ("192.0.2.1:443", "registry.example.test", sni, false),
        ("192.0.2.1:443", "x.l.test", sni, false),
        ("192.0.2.1:443", "b.test", None, false),
        ("192.0.2.1:443", "c.test", None, false),
        // Granted as an address, so there is no name to compare.
        ("10.0.0.9:4873", "-", None, false),
        ("192.0.2.1:443", "t.test", None, true),
        ("192.0.2.1:443", "u.test", None, false),
        ("192.0.2.9:443", "a.test", None, true),
        ("192.0.2.1:443", "other.test", None, false),
    ] {
        let decided = connect(&x, to, &[name]);
        assert_eq!((decided.verify, decided.expected), (verify, expected), "{to} {name}");
    }
    assert_eq!(x.decide_name("a.test").verify, sni);
    assert_eq!(x.decide_host("A.test", 443).verify, sni);
    assert!(x.decide_name("t.test").expected && !x.decide_name("u.test").expected);
    // The look-up comes before the connection that is expected to be refused.
    let before = x.decide_name("p.test");
    assert!(before.expected && before.decision.verdict == Deny);
    assert_eq!(before.decision.rule.pointer, "packages.\"x\".connect.deny[3]");
}

#[test]
fn telemetry_is_refused_and_no_violation_unless_the_policy_is_strict() {
    let script = profile(&default_policy(), &dependency("x"));
    for name in ["opencollective.com", "api.opencollective.com", "Scarf.SH.", "checkpoint.prisma.io"] {
        let decided = script.decide_name(name);
        assert_eq!((decided.decision.verdict, decided.expected), (Deny, true), "{name}");
        assert_eq!(decided.decision.rule.pointer, "scripts.connect.deny[0]");
    }
    for name in ["notopencollective.com", "scarf.sh.evil.test", "example.test"] {
        let decided = script.decide_name(name);
        assert_eq!((decided.decision.verdict, decided.expected), (Deny, false), "{name}");
    }
    let strict = profile(&policy("version: 1\nextends: strict\n"), &dependency("x")).decide_name("scarf.sh");
    assert_eq!((strict.decision.verdict, strict.expected), (Deny, false));
    let granted = policy("version: 1\npackages: { x: { connect: { allow: [\"{telemetry}\"] } } }\n");
    assert_eq!(profile(&granted, &dependency("x")).decide_name("a.scarf.sh").decision.verdict, Allow);
    let groups = npmguard::policy::show_groups();
    assert!(groups.contains("{telemetry}") && groups.contains("checkpoint.prisma.io"), "{groups}");
}

#[test]
fn the_manager_reaches_what_it_is_set_up_to_use() {
    for preset in ["default", "strict", "audit"] {
        let policy = policy(&format!("version: 1\nextends: {preset}\n"));
        let manager = policy.profile(&Subject::Manager, &with_hosts()).unwrap();
        for (name, expected) in [
            ("registry.example.test", Allow),
            ("proxy.example.test", Allow),
            ("git.example.test", Allow),
            ("example.test", Deny),
        ] {
            assert_eq!(manager.decide_name(name).decision.verdict, expected, "{preset} {name}");
        }
        assert_eq!(connect(&manager, "192.0.2.1:443", &[]).decision.verdict, Deny, "{preset}");
    }
}

#[test]
fn show_says_what_an_entry_says() {
    let text =
        "version: 1\npackages: { x: { connect: { allow: [{ host: \"a.test:443\", verify: sni }] } } }\n";
    let text = npmguard::policy::show(&policy(text), &dependency("x"), &vars()).unwrap();
    let line = |part: &str| text.lines().find(|line| line.contains(part)).unwrap().to_owned();
    assert!(line("a.test").starts_with("  allow   \"a.test:443\" verify: sni "), "{text}");
    assert!(line("a.test").ends_with("# npmguard.yaml:2 packages.\"x\""), "{text}");
    assert!(line("telemetry").starts_with("  deny    \"{telemetry}\" expected "), "{text}");
}

#[test]
fn a_hint_names_one_host_and_never_a_name_server_or_a_metadata_service() {
    let x = profile(&default_policy(), &dependency("x"));
    for (target, pattern) in [
        ("Api.Example.test:443", "api.example.test:443"),
        ("api.example.test.", "api.example.test"),
        ("d111111abcdef8.cdn.example:443", "d111111abcdef8.cdn.example:443"),
        ("the-service-in-region-1-2-3-4-a.example", "the-service-in-region-1-2-3-4-a.example"),
        ("192.0.2.1:443", "192.0.2.1:443"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        let hint = x.hint("connect", target);
        assert_eq!(hint, format!("packages: {{ \"x\": {{ connect: {{ allow: [\"{pattern}\"] }} }} }}"));
        profile(&policy(&format!("version: 1\n{hint}\n")), &dependency("x"));
    }
    for target in [
        "169.254.169.254:80",
        "[::ffff:169.254.169.254]:80",
        "169.254.169.254",
        "192.0.2.53:53",
        "[2001:db8::1]:53",
        "dns.test:53",
        "*.com",
        "*",
        "*:443",
        "{registry}",
        "a b",
        "a\n.test",
        "10.0.0.0/8",
        "6e706d5f3575703372353363723374.collect.example",
        "",
    ] {
        let hint = x.hint("connect", target);
        assert!(!hint.contains("allow") && !hint.contains('{'), "{target}: {hint}");
    }
    let manager = profile(&default_policy(), &Subject::Manager).hint("connect", "cdn.test:443");
    assert_eq!(manager, r#"manager: { connect: { allow: ["cdn.test:443"] } }"#);
}

#[test]
fn a_hint_names_the_deny_that_would_win_over_it() {
    let text = "version: 1\nscripts: { connect: { deny: [s.test] } }\npackages:\n  x@1: { connect: { deny: [r.test] } }\n  \
                x: { connect: { deny: [\"n.test:443\"] }, read: { deny: [/secret] } }\n  \"*\": { connect: { deny: [g.test] } }\n";
    let x = profile(&policy(text), &dependency("x"));
    for (action, target, note) in [
        ("connect", "r.test", Some("# in place of the deny in npmguard.yaml:4")),
        ("connect", "n.test:443", Some("# in place of the deny in npmguard.yaml:5")),
        ("read", "/secret", Some("# in place of the deny in npmguard.yaml:5")),
        ("connect", "g.test", None),
        ("connect", "s.test", None),
        ("connect", "other.test", None),
    ] {
        let hint = x.hint(action, target);
        assert_eq!(hint.split_once("} #").map(|(_, note)| format!("#{note}")).as_deref(), note, "{hint}");
        let granted = policy(&format!("version: 1\n{hint}\n"));
        profile(&granted, &dependency("x"));
    }
    let own = profile(
        &policy(
            "version: 1\nroot: { connect: { deny: [a.test] } }\nscripts: { connect: { deny: [b.test] } }\n",
        ),
        &policy_support::root(),
    );
    assert!(own.hint("connect", "a.test").ends_with("# in place of the deny in npmguard.yaml:2"));
}
