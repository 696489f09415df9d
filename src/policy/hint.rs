//! The exact policy lines that would allow what was refused, for messages and the
//! log. A hint is built from the decided object only, never from text that a
//! script printed, and is quoted so that it can be pasted into a policy file. A target
//! that no line should or could grant gets a sentence instead.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::address::HostName;
use super::decide::{Decision, Profile};
use super::error::is_deceptive;
use super::groups::Variables;
use super::model::{PathAction, RuleRef, Verdict};
use super::profile::Subject;
use super::special::{AddressClass, class};

impl Profile {
    /// The lines that would allow `action` (`read`, `write`, `exec`, `connect`, `env`) on `target`,
    /// on one line: `packages: { "left-pad": { read: { allow: ["{home}/.npmrc"] } } }`. The target
    /// of `connect` is `address:port`, `host:port`, a host that was looked up, or a socket's path.
    pub fn hint(&self, action: &str, target: &str) -> String {
        let pattern = match action {
            "read" | "write" | "exec" => tokenised(&self.vars, target),
            "connect" => match socket_path(target) {
                Some(path) => format!("unix:{}", tokenised(&self.vars, path)),
                None => match connect_pattern(target) {
                    Ok(pattern) => pattern,
                    Err(sentence) => return sentence.into(),
                },
            },
            _ => target.to_owned(),
        };
        let rules = format!("{action}: {{ allow: [{}] }}", quote(&pattern));
        let line = match &self.subject {
            Subject::Manager => format!("manager: {{ {rules} }}"),
            Subject::Root { .. } => format!("root: {{ {rules} }}"),
            Subject::Dependency { name, granted: true, .. } => {
                format!("packages: {{ {}: {{ {rules} }} }}", quote(name))
            }
            Subject::Dependency { granted: false, .. } => format!("scripts: {{ {rules} }}"),
        };
        match self.denied(action, target).filter(|decision| self.stays_denied(action, &decision.rule)) {
            Some(Decision { rule, .. }) => {
                let place = format!("{}:{}", rule.source, rule.line);
                format!("{line} # in place of the deny in {}", visible(&place))
            }
            None => line,
        }
    }

    fn denied(&self, action: &str, target: &str) -> Option<Decision> {
        let decision = match (action, socket_path(target)) {
            ("connect", Some(path)) => self.decide_unix(Path::new(path)),
            ("connect", None) => match (target.parse(), split_port(target)) {
                (Ok(address), _) => self.decide_address(address),
                (_, Some((host, port))) => self.decide_host(host, port).decision,
                _ => self.decide_name(target).decision,
            },
            ("env", _) => self.decide_env(OsStr::new(target)),
            _ => self.decide_path(action.parse::<PathAction>().ok()?, Path::new(target)),
        };
        (decision.verdict == Verdict::Deny).then_some(decision)
    }

    /// Whether the proposed line, put into the file that is asked first, would be asked together
    /// with this rule or after it, and a deny wins there.
    fn stays_denied(&self, action: &str, rule: &RuleRef) -> bool {
        let Some((place, _)) = rule.pointer.split_once(&format!(".{action}.deny[")) else { return false };
        let by_name = matches!(self.subject, Subject::Dependency { granted: true, .. });
        let specific = place.starts_with("packages.") && !place.contains('*');
        self.top.as_deref() == Some(&*rule.source) && (!by_name || specific)
    }
}

fn socket_path(target: &str) -> Option<&str> {
    target.strip_prefix("unix:").or(Some(target)).filter(|path| path.starts_with('/'))
}

fn split_port(target: &str) -> Option<(&str, u16)> {
    let (host, port) = target.rsplit_once(':')?;
    Some((host, port.parse().ok().filter(|port| *port > 0)?))
}

/// The narrowest pattern for an address or a host; a sentence for what should not be granted.
/// A look-up can ask for anything, so a name is checked: `*.com` would be a wildcard.
fn connect_pattern(target: &str) -> Result<String, &'static str> {
    const METADATA: &str = "this address hands out the machine's credentials; no line is proposed";
    const NAMES: &str = "names are resolved by npmguard: grant the host, not its name server";
    if let Ok(address) = target.parse::<SocketAddr>() {
        return match (class(address.ip()), address.port()) {
            (AddressClass::Metadata, _) => Err(METADATA),
            (_, 53) => Err(NAMES),
            _ => Ok(target.to_owned()),
        };
    }
    let plain = target.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(target);
    if let Ok(ip) = plain.parse::<IpAddr>() {
        return if class(ip) == AddressClass::Metadata { Err(METADATA) } else { Ok(plain.to_owned()) };
    }
    let (name, port) = split_port(target).map_or((target, None), |(name, port)| (name, Some(port)));
    if carries_data(name) {
        return Err("this name may carry data in it, so no line is proposed");
    }
    match (HostName::exact(name), port) {
        (None, _) => Err("this is no host name, so no line can grant it"),
        (_, Some(53)) => Err(NAMES),
        (Some(exact), Some(port)) => Ok(format!("{}:{port}", exact.name)),
        (Some(exact), None) => Ok(exact.name.into()),
    }
}

/// Whether a label looks like encoded data rather than like a name: hosts of services with
/// long names have words in them, joined by hyphens.
fn carries_data(name: &str) -> bool {
    name.split('.').any(|label| {
        label.len() >= 24 && !label.contains('-') && label.bytes().filter(u8::is_ascii_digit).count() >= 4
    })
}

/// A string that YAML reads back as it is; JSON's escapes are a subset of YAML's.
fn quote(text: &str) -> String {
    serde_json::Value::String(visible(text)).to_string()
}

fn visible(text: &str) -> String {
    let hidden = |c: char| c.is_control() || is_deceptive(c) || c == '\u{fffd}';
    text.chars().map(|c| if hidden(c) { '?' } else { c }).collect()
}

/// The path with its longest variable and with glob characters escaped.
fn tokenised(vars: &Variables, target: &str) -> String {
    let path = Path::new(target);
    match vars.tokenise(path) {
        Some((name, rest)) if rest == Path::new("") => format!("{{{name}}}"),
        Some((name, rest)) => format!("{{{name}}}/{}", escaped(rest.as_os_str())),
        None => escaped(path.as_os_str()),
    }
}

fn escaped(text: &OsStr) -> String {
    let mut escaped = String::new();
    for c in text.to_string_lossy().chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
