//! The exact policy lines that would allow what was refused, for messages and the
//! log. A hint is built from the decided object only, never from text that a
//! script printed, and is quoted so that it can be pasted into a policy file.

use std::ffi::OsStr;
use std::path::Path;

use super::decide::Profile;
use super::error::is_deceptive;
use super::groups::Variables;
use super::profile::Subject;

impl Profile {
    /// The lines that would allow `action` (`read`, `write`, `exec`, `connect`, `env`) on `target`,
    /// on one line: `packages: { "left-pad": { read: { allow: ["{home}/.npmrc"] } } }`.
    pub fn hint(&self, action: &str, target: &str) -> String {
        let target = match action {
            "read" | "write" | "exec" => tokenised(&self.vars, target),
            "connect" if target.starts_with('/') => format!("unix:{}", tokenised(&self.vars, target)),
            "connect" => match target.strip_prefix("unix:") {
                Some(path) if path.starts_with('/') => format!("unix:{}", tokenised(&self.vars, path)),
                _ => target.to_owned(),
            },
            _ => target.to_owned(),
        };
        let rules = format!("{action}: {{ allow: [{}] }}", quote(&target));
        match &self.subject {
            Subject::Manager => format!("manager: {{ {rules} }}"),
            Subject::Root { .. } => format!("root: {{ {rules} }}"),
            Subject::Dependency { name, granted: true, .. } => {
                format!("packages: {{ {}: {{ {rules} }} }}", quote(name))
            }
            Subject::Dependency { granted: false, .. } => format!("scripts: {{ {rules} }}"),
        }
    }
}

/// A string that YAML reads back as it is; JSON's escapes are a subset of YAML's.
fn quote(text: &str) -> String {
    let visible: String = text
        .chars()
        .flat_map(|c| if c.is_control() || is_deceptive(c) || c == '\u{fffd}' { vec!['?'] } else { vec![c] })
        .collect();
    serde_json::Value::String(visible).to_string()
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
