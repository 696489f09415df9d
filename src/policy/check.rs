//! Every mistake in a policy file, worded for the person who made it: unknown keys,
//! values of the wrong kind, unknown words, patterns that cannot be read. It reads
//! only the index of places; all mistakes of a file are collected, so one run shows
//! them all. What it lets pass, `serde_yaml` can decode.

use std::fmt;

use super::address::ConnectPattern;
use super::error::{Problem, did_you_mean, list_words};
use super::groups;
use super::model::{Action, FailOn, Mode, RootBase, Run, UnknownWord, Verdict, Verify};
use super::name::NamePattern;
use super::package::PackageKey;
use super::pattern::{Head, PathPattern};
use super::quantity::{count, duration, size};
use super::yaml::{Key, Node, Position, Value};

/// More mistakes than this are one mistake.
const MAX_PROBLEMS: usize = 20;

const TOP: &[&str] = &["version", "extends", "mode", "scripts", "root", "manager", "packages", "fail-on"];
const SECTION: &[&str] = &["read", "write", "exec", "connect", "env", "limits"];
const ROOT: &[&str] = &["extends", "read", "write", "exec", "connect", "env", "limits"];
const PACKAGE: &[&str] = &["reason", "run", "read", "write", "exec", "connect", "env", "limits"];
const RULES: &[&str] = &["default", "allow", "log", "deny"];
const TERMS: &[&str] = &["host", "verify", "expected"];
/// The groups of which each member is a host that serves one purpose.
pub(super) const MANAGER_HOSTS: &[&str] = &["registry", "proxy", "git-hosts"];
const LIMITS: &[&str] = &["wall", "processes", "file-size", "open-files"];

/// Looks over one file.
pub(super) fn document(file: &str, root: &Node<'_>) -> Result<(), Vec<Problem>> {
    let mut checker = Checker { file, problems: Vec::new() };
    checker.document(root);
    if checker.problems.is_empty() { Ok(()) } else { Err(checker.problems) }
}

/// The place of a package entry in a document.
pub(super) fn package_pointer(key: &PackageKey) -> String {
    Place::Package(&key.text).to_string()
}

/// Where a value stands, as messages write it; put into words only when needed.
#[derive(Clone, Copy)]
enum Place<'p> {
    Top,
    Key(&'p str),
    Package(&'p str),
    In(&'p Place<'p>, &'p str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => f.write_str("the policy"),
            Self::Key(name) => f.write_str(name),
            Self::Package(name) => write!(f, "packages.\"{name}\""),
            Self::In(place, name) => write!(f, "{place}.{name}"),
        }
    }
}

impl Place<'_> {
    fn quoted(&self) -> String {
        if matches!(self, Self::Top) { self.to_string() } else { format!("`{self}`") }
    }
}

struct Checker<'f> {
    file: &'f str,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, at: Position, message: impl Into<String>, hint: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem {
                file: self.file.into(),
                line: at.line,
                column: at.column,
                message: message.into(),
                hint: Some(hint.into()),
            });
        }
    }

    fn document(&mut self, root: &Node<'_>) {
        if matches!(root.value, Value::Null) {
            return self.problem(root.at, "the file is empty", "begin it with `version: 1`");
        }
        for (key, node) in self.mapping(root, Place::Top, TOP) {
            let place = Place::Key(&key.text);
            match &*key.text {
                "version" => self.version(node, place),
                "extends" => self.strings(node, place),
                "mode" => self.word::<Mode>(node, place),
                "scripts" | "manager" => self.section(node, place, SECTION),
                "root" => {
                    self.section(node, place, ROOT);
                    if let Some(base) = node.child("extends") {
                        self.word::<RootBase>(base, Place::Key("root.extends"));
                    }
                }
                "packages" => self.packages(node),
                "fail-on" => node.items().iter().for_each(|item| self.word::<FailOn>(item, place)),
                _ => {}
            }
        }
        if root.child("version").is_none() {
            let message = "the policy does not say its `version`";
            self.problem(root.at, message, "begin the file with `version: 1`");
        }
    }

    fn version(&mut self, node: &Node<'_>, place: Place<'_>) {
        if let Some(text) = self.text(node, place)
            && text != "1"
        {
            let message = format!("unknown policy version `{text}`");
            self.problem(node.at, message, "this npmguard reads `version: 1`");
        }
    }

    /// The entries of a mapping that are known; the others are reported.
    fn mapping<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        place: Place<'_>,
        known: &'static [&'static str],
    ) -> impl Iterator<Item = &'n (Key<'a>, Node<'a>)> + use<'n, 'a> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            _ => {
                let takes = list_words(known.iter().copied(), "and");
                let message = format!("{} is {}, but should be a mapping", place.quoted(), node.kind());
                self.problem(node.at, message, format!("write `key: value` lines; it takes {takes}"));
                &[]
            }
        };
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&&*key.text)) {
            let suggestion = did_you_mean(&key.text.replace('_', "-"), known.iter().copied())
                .map(|word| format!("did you mean `{word}`? "))
                .unwrap_or_default();
            let takes = list_words(known.iter().copied(), "and");
            let named = if matches!(place, Place::Top) { "a policy".into() } else { place.quoted() };
            let message = format!("unknown key `{}` in {}", key.text.escape_debug(), place.quoted());
            self.problem(key.at, message, format!("{suggestion}{named} takes {takes}"));
        }
        entries.iter().filter(|(key, _)| known.contains(&&*key.text))
    }

    fn text<'n>(&mut self, node: &'n Node<'_>, place: Place<'_>) -> Option<&'n str> {
        let (message, hint) = match &node.value {
            Value::Text(text) => return Some(text),
            Value::Map(entries) if entries.len() == 1 && matches!(entries[0].1.value, Value::Null) => {
                let name = &entries[0].0.text;
                (
                    format!("`{{{name}}}` in {} is read as a YAML mapping", place.quoted()),
                    format!("quote it: `\"{{{name}}}\"`"),
                )
            }
            _ => (
                format!("{} is {}, but should be one value", place.quoted(), node.kind()),
                "write one word, or one quoted string".to_owned(),
            ),
        };
        self.problem(node.at, message, hint);
        None
    }

    fn word<T: std::str::FromStr<Err = UnknownWord>>(&mut self, node: &Node<'_>, place: Place<'_>) {
        if let Some(Err(error)) = self.text(node, place).map(str::parse::<T>) {
            self.problem(node.at, format!("{error} for {}", place.quoted()), error.hint());
        }
    }

    /// A string or a list of strings.
    fn strings(&mut self, node: &Node<'_>, place: Place<'_>) {
        for item in node.items() {
            self.text(item, place);
        }
    }

    fn section(&mut self, node: &Node<'_>, place: Place<'_>, known: &'static [&'static str]) {
        for (key, value) in self.mapping(node, place, known) {
            let inner = Place::In(&place, &key.text);
            if let Ok(action) = key.text.parse::<Action>() {
                self.rules(value, inner, action);
            } else if key.text == "limits" {
                self.limits(value, inner);
            }
        }
    }

    fn rules(&mut self, node: &Node<'_>, place: Place<'_>, action: Action) {
        for (key, value) in self.mapping(node, place, RULES) {
            let inner = Place::In(&place, &key.text);
            match key.text.parse::<Verdict>() {
                Ok(verdict) => self.patterns(value, inner, action, verdict),
                Err(_) => self.word::<Verdict>(value, inner),
            }
        }
    }

    fn patterns(&mut self, node: &Node<'_>, place: Place<'_>, action: Action, verdict: Verdict) {
        let Value::List(items) = &node.value else {
            let message = format!("{} is {}, but should be a list", place.quoted(), node.kind());
            return self.problem(
                node.at,
                message,
                "write it as `[\"one\", \"two\"]`, or as `- \"one\"` lines",
            );
        };
        for item in items {
            if action == Action::Connect && is_terms(item) {
                self.connect_terms(item, place, verdict);
            } else if let Some(text) = self.text(item, place) {
                self.checked(item.at, check_pattern(text, action, verdict), place);
            }
        }
    }

    fn checked(&mut self, at: Position, checked: Result<(), (String, String)>, place: Place<'_>) {
        if let Err((message, hint)) = checked {
            self.problem(at, format!("{message} in {}", place.quoted()), hint);
        }
    }

    /// `{ host: …, verify: sni }` and `{ host: …, expected: true }`.
    fn connect_terms(&mut self, node: &Node<'_>, place: Place<'_>, verdict: Verdict) {
        let deny = verdict == Verdict::Deny;
        for (key, value) in self.mapping(node, place, TERMS) {
            let inner = Place::In(&place, &key.text);
            let Some(text) = self.text(value, inner) else { continue };
            match &*key.text {
                "host" => {
                    let named = node.child("verify").is_some() && !deny;
                    let checked =
                        check_pattern(text, Action::Connect, verdict).and_then(|()| check_terms(text, named));
                    self.checked(value.at, checked, place);
                }
                "verify" if deny => self.problem(
                    key.at,
                    format!("`verify` has no meaning in {}", place.quoted()),
                    "nothing is left to verify of what is denied; it goes with `allow` and `log`",
                ),
                "expected" if !deny => self.problem(
                    key.at,
                    format!("`expected` has no meaning in {}", place.quoted()),
                    "it says that a refusal is foreseen, so it goes with `deny`",
                ),
                "verify" => self.word::<Verify>(value, inner),
                _ if !matches!(text, "true" | "false") => self.problem(
                    value.at,
                    format!("`{}` in {} is neither `true` nor `false`", text.escape_debug(), inner.quoted()),
                    "write `expected: true`, or leave it out",
                ),
                _ => {}
            }
        }
        if node.child("host").is_none() {
            let example = if deny {
                "{ host: \"example.org\", expected: true }"
            } else {
                "{ host: \"example.org:443\", verify: sni }"
            };
            let message = format!("an entry of {} does not say its `host`", place.quoted());
            self.problem(node.at, message, format!("write `{example}`, or the pattern alone"));
        }
    }

    fn packages(&mut self, node: &Node<'_>) {
        let Value::Map(entries) = &node.value else {
            let message = format!("`packages` is {}, but should be a mapping", node.kind());
            return self.problem(node.at, message, "write `\"name\": { read: { allow: [\"…\"] } }` lines");
        };
        for (key, value) in entries {
            if let Err((message, hint)) = PackageKey::parse(&key.text) {
                self.problem(key.at, format!("{message} in `packages`"), hint);
                continue;
            }
            let place = Place::Package(&key.text);
            self.section(value, place, PACKAGE);
            if let Some(reason) = value.child("reason") {
                self.text(reason, Place::Key("reason"));
            }
            if let Some(run) = value.child("run") {
                self.word::<Run>(run, Place::In(&place, "run"));
            }
        }
    }

    fn limits(&mut self, node: &Node<'_>, place: Place<'_>) {
        for (key, value) in self.mapping(node, place, LIMITS) {
            let inner = Place::In(&place, &key.text);
            let Some(text) = self.text(value, inner) else { continue };
            let (good, what, example) = match &*key.text {
                "wall" => (duration(text).is_some(), "duration", "`90s`, `15m` or `2h`"),
                "processes" => (count(text).is_some(), "count", "a number such as `512`"),
                "file-size" => (size(text).is_some(), "size", "`500MB` or `2GiB`"),
                _ => (count(text).is_some(), "count", "a number such as `1024`"),
            };
            if !good && text != "none" {
                let message = format!("`{}` in {} is not a {what}", text.escape_debug(), inner.quoted());
                self.problem(value.at, message, format!("write {example}, or `none` for no limit"));
            }
        }
    }
}

/// A mapping that is not `{group}` without its quotes.
fn is_terms(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Map(entries) => match entries.as_slice() {
            [(key, value)] => TERMS.contains(&&*key.text) || !matches!(value.value, Value::Null),
            _ => true,
        },
        _ => false,
    }
}

/// What an entry that says more than its pattern can be about; the pattern itself is good.
fn check_terms(text: &str, verify: bool) -> Result<(), (String, String)> {
    let what = match ConnectPattern::parse(text)? {
        ConnectPattern::Unix(_) => "a Unix socket",
        ConnectPattern::Any(_) if verify => "every host",
        ConnectPattern::Network { .. } if verify => "an address",
        ConnectPattern::Group(name) if verify && !MANAGER_HOSTS.contains(&&*name) => "a list of many hosts",
        _ => return Ok(()),
    };
    let text = text.escape_debug();
    Err(if verify {
        (
            format!("`{text}` is {what}, which has no name to verify"),
            "`verify: sni` goes with `host`, `*.host`, `host:port`, `{registry}`, `{proxy}` or `{git-hosts}`; \
             leave it out, or name the host"
                .into(),
        )
    } else {
        (format!("`{text}` is {what}, not a host"), "write the pattern alone, without `host:`".into())
    })
}

/// Syntax, names, and what an action can take; the error is the sentence and the hint.
fn check_pattern(text: &str, action: Action, verdict: Verdict) -> Result<(), (String, String)> {
    match action {
        Action::Env => match group_name(text) {
            Some(name) => groups::check_name(name, action, true),
            None => NamePattern::parse(text).map(drop),
        },
        Action::Connect => match ConnectPattern::parse(text)? {
            ConnectPattern::Group(name) => groups::check_name(&name, action, true),
            ConnectPattern::Unix(pattern) => check_head(&pattern, action),
            _ => Ok(()),
        },
        Action::Read | Action::Write | Action::Exec => {
            let pattern = PathPattern::parse(text)?;
            check_head(&pattern, action)?;
            if action == Action::Exec && verdict != Verdict::Deny {
                check_exec_grant(text, &pattern)?;
            }
            Ok(())
        }
    }
}

/// The name in `{name}` or `!{name}`, if that is all there is.
pub(super) fn group_name(text: &str) -> Option<&str> {
    let text = text.strip_prefix('!').unwrap_or(text);
    text.strip_prefix('{')?.strip_suffix('}').filter(|name| !name.contains(['{', ',', '}']))
}

fn check_head(pattern: &PathPattern, action: Action) -> Result<(), (String, String)> {
    match &pattern.head {
        Head::Name(name) => groups::check_name(name, action, pattern.tails.is_empty()),
        Head::Root => Ok(()),
    }
}

/// What may be executed is told to the kernel in advance, so it must be exact.
fn check_exec_grant(text: &str, pattern: &PathPattern) -> Result<(), (String, String)> {
    if pattern.negated {
        return Err((
            format!("`{text}` takes something out of an `exec` grant, which the kernel cannot express"),
            "list the programs in `deny` instead".into(),
        ));
    }
    if pattern.is_complex() {
        let stem = text.split(['*', '?', '[']).next().unwrap_or(text);
        let tree = stem.rsplit_once('/').map_or("", |(dir, _)| dir);
        return Err((
            format!("`{text}` is not exact, and the kernel cannot grant execution by a glob"),
            format!("write `{tree}/**` for everything below, or name each program"),
        ));
    }
    Ok(())
}
