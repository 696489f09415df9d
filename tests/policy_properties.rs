//! What holds for every policy: the kernel never gets more than the rules give,
//! and adding permission never takes any away.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use std::path::Path;

use npmguard::policy::{PathAction, Policy, Verdict};
use policy_support::{Project, dependency, vars};
use proptest::prelude::*;

/// A small world, so that patterns and paths meet often.
fn component() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "usr", "etc", ".env", "proc"])
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(component(), 0..5).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn pattern() -> impl Strategy<Value = String> {
    let wild = prop_oneof![4 => component().prop_map(str::to_owned), 1 => Just("*".into()), 1 => Just("**".into()), 1 => Just(".e*".into())];
    let parts = prop::collection::vec(wild, 1..4);
    let head = prop::sample::select(vec!["", "", "**", "{project}", "{home}"]);
    (head, parts, prop::sample::select(vec!["", "", "/**"])).prop_map(|(head, parts, tail)| match head {
        "**" => format!("**/{}{tail}", parts.join("/")),
        head => format!("{head}/{}{tail}", parts.join("/")),
    })
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(pattern(), 0..4)
}

#[derive(Debug, Clone)]
struct Lists {
    default: Option<&'static str>,
    allow: Vec<String>,
    log: Vec<String>,
    deny: Vec<String>,
}

fn lists() -> impl Strategy<Value = Lists> {
    let default = prop::sample::select(vec![None, Some("allow"), Some("log"), Some("deny")]);
    let negated = prop::collection::vec(pattern().prop_map(|pattern| format!("!{pattern}")), 0..2);
    (default, patterns(), patterns(), patterns(), negated).prop_map(
        |(default, allow, log, mut deny, negated)| {
            deny.extend(negated);
            Lists { default, allow, log, deny }
        },
    )
}

fn yaml(lists: &Lists) -> String {
    let default = lists.default.map(|verdict| format!("default: {verdict}, ")).unwrap_or_default();
    format!(
        "{{ read: {{ {default}allow: {:?}, log: {:?}, deny: {:?} }} }}",
        lists.allow, lists.log, lists.deny
    )
}

fn policy(package: &Lists, scripts: &Lists) -> Policy {
    let text = format!(
        "version: 1\nextends: strict\nscripts: {}\npackages: {{ x: {} }}\n",
        yaml(scripts),
        yaml(package)
    );
    Project::with(&text).load().unwrap_or_else(|error| panic!("{text}\n{}", error.render()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_kernel_is_given_is_allowed(package in lists(), scripts in lists(), paths in prop::collection::vec(path(), 20)) {
        let mut vars = vars();
        vars.project = "/a/b".into();
        vars.home = Some("/a".into());
        let profile = policy(&package, &scripts).profile(&dependency("x"), &vars).unwrap();
        for path in &paths {
            let decision = profile.decide_path(PathAction::Read, Path::new(path));
            if profile.covered(PathAction::Read, Path::new(path)) {
                prop_assert!(decision.verdict != Verdict::Deny, "{path} is covered and denied by {}", decision.rule);
                prop_assert!(!Path::new(path).starts_with("/proc"));
            }
        }
    }

    #[test]
    fn adding_an_allow_never_denies(package in lists(), scripts in lists(), extra in pattern(), paths in prop::collection::vec(path(), 20)) {
        let before = policy(&package, &scripts).profile(&dependency("x"), &vars()).unwrap();
        let mut wider = package.clone();
        wider.allow.push(extra);
        let after = policy(&wider, &scripts).profile(&dependency("x"), &vars()).unwrap();
        for path in &paths {
            let verdict = |profile: &npmguard::policy::Profile| profile.decide_path(PathAction::Read, Path::new(path)).verdict;
            prop_assert!(verdict(&before) == Verdict::Deny || verdict(&after) != Verdict::Deny, "{path}");
        }
    }

    #[test]
    fn adding_a_deny_never_allows(package in lists(), scripts in lists(), extra in pattern(), paths in prop::collection::vec(path(), 20)) {
        let before = policy(&package, &scripts).profile(&dependency("x"), &vars()).unwrap();
        let mut narrower = package.clone();
        narrower.deny.push(extra);
        let after = policy(&narrower, &scripts).profile(&dependency("x"), &vars()).unwrap();
        for path in &paths {
            let verdict = |profile: &npmguard::policy::Profile| profile.decide_path(PathAction::Read, Path::new(path)).verdict;
            prop_assert!(verdict(&after) >= verdict(&before), "{path}");
        }
    }

    #[test]
    fn any_text_is_a_policy_or_an_error_with_a_place(text in "(?s).{0,200}") {
        let _ = Project::with(&text).load().map_err(|error| error.render());
        let text = format!("version: 1\nscripts: {{ read: {{ allow: [{text:?}] }}, env: {{ deny: [{text:?}] }}, connect: {{ allow: [{text:?}] }} }}\n");
        if let Err(error) = Project::with(&text).load() {
            prop_assert!(error.render().starts_with("npmguard.yaml:"));
        }
    }

    #[test]
    fn any_bytes_have_a_verdict(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        use std::os::unix::ffi::OsStrExt as _;
        let profile = policy(&Lists { default: None, allow: vec!["/**".into()], log: vec![], deny: vec![] },
            &Lists { default: None, allow: vec![], log: vec![], deny: vec![] }).profile(&dependency("x"), &vars()).unwrap();
        let name = std::ffi::OsStr::from_bytes(&bytes);
        profile.decide_path(PathAction::Read, Path::new(name));
        profile.decide_env(name);
        profile.decide_unix(Path::new(name));
        profile.decide_host(&String::from_utf8_lossy(&bytes), 1);
        profile.hint("read", &String::from_utf8_lossy(&bytes));
    }
}
