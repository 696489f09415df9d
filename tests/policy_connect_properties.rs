//! What holds for every list of connect rules.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use npmguard::policy::{AddressClass, Profile, Verdict, class};
use policy_support::{Project, dependency, vars};
use proptest::prelude::*;

/// A small world, so that rules and questions meet often.
fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "evil", "test"]), 1..4)
        .prop_map(|l| l.join("."))
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop::sample::select(vec![
        "192.0.2.1",
        "10.0.0.1",
        "127.0.0.1",
        "0.0.0.0",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "2001:db8::1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
    ])
    .prop_map(|ip| ip.parse().unwrap())
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![80, 443])
}

/// A pattern that spells no metadata address out.
fn pattern() -> impl Strategy<Value = String> {
    let network = prop::sample::select(vec![
        "10.0.0.0/8",
        "0.0.0.0/0",
        "::/0",
        "169.254.0.0/16",
        "169.254.169.254/31",
        "100.64.0.0/10",
        "127.0.0.1",
        "fd00::/8",
        "64:ff9b::/96",
        "192.0.2.1",
        "168.63.129.0/24",
    ]);
    prop_oneof![
        name(),
        name().prop_map(|name| format!("*.{name}")),
        (name(), port()).prop_map(|(name, port)| format!("{name}:{port}")),
        network.prop_map(str::to_owned),
        Just("*".to_owned()),
        port().prop_map(|port| format!("*:{port}")),
    ]
}

#[derive(Debug, Clone)]
struct Lists {
    default: &'static str,
    allow: Vec<String>,
    log: Vec<String>,
    deny: Vec<String>,
}

fn lists() -> impl Strategy<Value = Lists> {
    let patterns = || prop::collection::vec(pattern(), 0..4);
    (
        prop::sample::select(vec!["", "default: allow, ", "default: deny, "]),
        patterns(),
        patterns(),
        patterns(),
    )
        .prop_map(|(default, allow, log, deny)| Lists { default, allow, log, deny })
}

fn built(package: &Lists, scripts: &Lists) -> Profile {
    let rules = |lists: &Lists| {
        let Lists { default, allow, log, deny } = lists;
        format!("{{ connect: {{ {default}allow: {allow:?}, log: {log:?}, deny: {deny:?} }} }}")
    };
    let text = format!(
        "version: 1\nextends: strict\nscripts: {}\npackages: {{ x: {} }}\n",
        rules(scripts),
        rules(package)
    );
    let policy = Project::with(&text).load().unwrap_or_else(|error| panic!("{text}\n{}", error.render()));
    policy.profile(&dependency("x"), &vars()).unwrap()
}

fn arcs(names: &[String]) -> Vec<Arc<str>> {
    names.iter().map(|name| name.as_str().into()).collect()
}

/// What the documentation says about one host pattern, as simply as it can be said.
fn covers(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let name = name.strip_suffix('.').unwrap_or(&name);
    match pattern.strip_prefix("*.") {
        Some(parent) => {
            let (parent, name): (Vec<_>, Vec<_>) = (parent.split('.').collect(), name.split('.').collect());
            name.len() > parent.len() && name.ends_with(&parent)
        }
        None => pattern == name,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn adding_an_allow_never_denies(
        package in lists(), scripts in lists(), extra in pattern(), ip in address(), port in port(),
        names in prop::collection::vec(name(), 0..3),
    ) {
        let mut wider = package.clone();
        wider.allow.push(extra);
        let (before, after) = (built(&package, &scripts), built(&wider, &scripts));
        let (to, names) = (SocketAddr::new(ip, port), arcs(&names));
        let denied = |profile: &Profile| profile.decide_connect(to, &names).decision.verdict == Verdict::Deny;
        prop_assert!(denied(&before) || !denied(&after), "{to}");
        for name in &names {
            let denied = |profile: &Profile| profile.decide_name(name).decision.verdict == Verdict::Deny;
            prop_assert!(denied(&before) || !denied(&after), "{name}");
        }
        prop_assert!(!before.grants_address(ip) || after.grants_address(ip), "{ip}");
    }

    #[test]
    fn a_connection_that_is_allowed_by_name_could_be_looked_up(
        package in lists(), scripts in lists(), ip in address(), port in port(), name in name(),
    ) {
        let profile = built(&package, &scripts);
        let decided = profile.decide_connect(SocketAddr::new(ip, port), &arcs(std::slice::from_ref(&name)));
        if decided.host.is_some() && decided.decision.verdict != Verdict::Deny {
            prop_assert!(profile.decide_name(&name).decision.verdict != Verdict::Deny, "{name}");
            prop_assert!(profile.decide_host(&name, port).decision.verdict != Verdict::Deny, "{name}");
        }
        for host in profile.exact_hosts() {
            prop_assert!(profile.decide_name(&host).decision.verdict != Verdict::Deny, "{host}");
        }
    }

    #[test]
    fn no_rule_reaches_a_metadata_service_without_spelling_it_out(
        package in lists(), scripts in lists(), ip in address(), port in port(),
        names in prop::collection::vec(name(), 0..3),
    ) {
        let profile = built(&package, &scripts);
        if class(ip) == AddressClass::Metadata {
            let decided = profile.decide_connect(SocketAddr::new(ip, port), &arcs(&names));
            prop_assert_eq!(decided.decision.verdict, Verdict::Deny, "{}", decided.decision.rule);
            prop_assert_eq!(profile.decide_host(&ip.to_string(), port).decision.verdict, Verdict::Deny);
            prop_assert!(!profile.grants_address(ip));
        }
    }

    #[test]
    fn what_grants_an_address_lets_it_be_reached_at_some_port(package in lists(), scripts in lists(), ip in address()) {
        let profile = built(&package, &scripts);
        if profile.grants_address(ip) {
            let reached = |port| profile.decide_connect(SocketAddr::new(ip, port), &[]).decision.verdict != Verdict::Deny;
            prop_assert!(reached(80) || reached(443) || reached(1), "{ip}");
        }
    }

    #[test]
    fn a_host_pattern_covers_whole_labels(
        pattern in name(), below in any::<bool>(), name in name(), dot in any::<bool>(), upper in any::<bool>(),
    ) {
        let pattern = if below { format!("*.{pattern}") } else { pattern };
        let mut asked = name;
        if upper { asked.make_ascii_uppercase() }
        if dot { asked.push('.') }
        let none = Lists { default: "", allow: vec![], log: vec![], deny: vec![] };
        let profile = built(&Lists { allow: vec![pattern.to_uppercase()], ..none.clone() }, &none);
        let allowed = profile.decide_name(&asked).decision.verdict != Verdict::Deny;
        prop_assert_eq!(allowed, covers(&pattern, &asked), "{} {}", pattern, asked);
        for beside in [format!("x{asked}"), format!("{asked}x.test"), format!("{asked}.x")] {
            let allowed = profile.decide_name(&beside).decision.verdict != Verdict::Deny;
            prop_assert_eq!(allowed, covers(&pattern, &beside), "{} {}", pattern, beside);
        }
    }

    #[test]
    fn any_text_has_a_verdict_and_any_hint_loads(package in lists(), scripts in lists(), text in "(?s).{0,60}") {
        let profile = built(&package, &scripts);
        profile.decide_name(&text);
        profile.decide_host(&text, 443);
        profile.may_be_private(&text);
        let hint = profile.hint("connect", &text);
        if hint.starts_with("packages: ") {
            let loaded = Project::with(&format!("version: 1\n{hint}\n")).load();
            prop_assert!(loaded.is_ok(), "{hint}");
            prop_assert!(!hint.contains('*') || text.starts_with('/'), "{hint}");
        }
    }
}
