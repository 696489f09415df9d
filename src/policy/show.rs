//! The resolved policy of one subject as text: every rule in the order in which
//! it decides, each with the line it comes from.

use std::fmt::Write as _;
use std::time::Duration;

use super::check::group_name;
use super::decide::Profile;
use super::error::PolicyError;
use super::grants::Grant;
use super::groups::Variables;
use super::load::Policy;
use super::model::{Action, RuleRef, Verdict};
use super::profile::{RuleSet, Subject};

/// What `npmguard policy show` prints: rules, first match first, with their origins.
pub fn show(policy: &Policy, subject: &Subject, vars: &Variables) -> Result<String, PolicyError> {
    let profile = policy.profile(subject, vars)?;
    let sets = policy.rule_sets(subject);
    let mut text = String::new();
    line(&mut text, &format!("subject {}", describe(subject)), "");
    line(&mut text, &format!("mode    {}", policy.mode()), &policy.mode_from);
    line(&mut text, &format!("layers  {}", policy.summary()), "");
    if let Some(rule) = profile.never_run() {
        line(&mut text, "run     never", &origin(rule));
    }
    let reasons = sets.iter().flatten().filter_map(|part| Some((part, part.entry?)));
    for (part, entry) in reasons {
        if let Some(reason) = &entry.reason {
            let from = format!("{}:{}", part.layer.source, entry.at.line);
            line(&mut text, &format!("entry   {}: {reason}", entry.key.text), &from);
        }
    }
    for action in Action::ALL {
        let _ = writeln!(text, "\n{action}");
        rules(&mut text, &profile, &sets, action);
    }
    limits(&mut text, &profile);
    Ok(text)
}

fn line(text: &mut String, what: &str, from: &str) {
    if from.is_empty() {
        let _ = writeln!(text, "{what}");
    } else {
        let _ = writeln!(text, "{what:<60} # {from}");
    }
}

fn origin(rule: &RuleRef) -> String {
    if rule.line == 0 { "built in".into() } else { format!("{}:{}", rule.source, rule.line) }
}

fn describe(subject: &Subject) -> String {
    match subject {
        Subject::Manager => "the package manager".into(),
        Subject::Root { .. } => "the project's own scripts".into(),
        Subject::Dependency { name, version, granted } => {
            let version = version.as_ref().map(|version| format!("@{version}")).unwrap_or_default();
            let note =
                if *granted { "" } else { " (identity not verified: entries for it can only restrict)" };
            format!("{name}{version}{note}")
        }
    }
}

fn rules(text: &mut String, profile: &Profile, sets: &[RuleSet<'_>], action: Action) {
    for set in sets {
        for verdict in [Verdict::Deny, Verdict::Log, Verdict::Allow] {
            for part in set {
                for rule in part.rules(action, verdict) {
                    let from = format!("{}:{} {}", part.layer.source, rule.at.line, part.place);
                    let quoted = serde_json::Value::from(&*rule.text);
                    let verify = rule.terms.verify.map(|verify| format!(" verify: {verify}"));
                    let expected = if rule.terms.expected { " expected" } else { "" };
                    let terms = format!("{}{expected}", verify.unwrap_or_default());
                    line(text, &format!("  {:<7} {quoted}{terms}", verdict.as_str()), &from);
                    if action == Action::Connect {
                        members(text, profile, &rule.text);
                    }
                }
            }
        }
    }
    let default = match action {
        Action::Read => &profile.paths[0].ranked.default,
        Action::Write => &profile.paths[1].ranked.default,
        Action::Exec => &profile.paths[2].ranked.default,
        Action::Connect => &profile.connect.ranked.default,
        Action::Env => &profile.env.ranked.default,
    };
    line(text, &format!("  default {}", default.verdict), &origin(&default.rule));
    let kernel = profile.kernel_grants();
    let grants = match action {
        Action::Read => &kernel.read,
        Action::Write => &kernel.write,
        Action::Exec => &kernel.exec,
        Action::Connect | Action::Env => return,
    };
    let trees = grants.iter().filter(|grant| matches!(grant, Grant::Tree(_))).count();
    let _ = write!(text, "  kernel  {trees} trees, {} single paths", grants.len() - trees);
    if action == Action::Exec {
        let _ = write!(text, ", {} files taken out", kernel.exec_except.len());
    }
    text.push('\n');
}

/// The hosts of a group that differs from one project to the next.
fn members(text: &mut String, profile: &Profile, rule: &str) {
    let Some(hosts) = group_name(rule).and_then(|name| profile.vars.hosts.group(name)) else { return };
    for host in hosts {
        let shown = crate::event::escape(host.to_string().as_bytes());
        let private = if host.private { ", private addresses too" } else { "" };
        let _ = writeln!(text, "            is {shown}{private}");
    }
    if hosts.is_empty() {
        text.push_str("            is no host here\n");
    }
}

fn limits(text: &mut String, profile: &Profile) {
    let limits = profile.limits();
    let number = |value: Option<u64>| value.map_or("none".into(), |value| value.to_string());
    let wall = limits.wall.map_or("none".into(), |wall: Duration| format!("{}s", wall.as_secs()));
    let _ = writeln!(text, "\nlimits");
    let _ = writeln!(text, "  wall       {wall}");
    let _ = writeln!(text, "  processes  {}", number(limits.processes));
    let _ = writeln!(text, "  file-size  {}", number(limits.file_size));
    let _ = writeln!(text, "  open-files {}", number(limits.open_files));
}
