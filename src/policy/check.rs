//! From a tree of text to a [`Document`]: every key known, every value of the
//! right kind, every pattern readable. All mistakes of a file are collected, so
//! that one run shows them all; nothing is guessed and nothing unknown is skipped.

use super::address::ConnectPattern;
use super::error::{Problem, did_you_mean, list_words};
use super::groups;
use super::model::{
    Action, Document, PackageEntry, Rule, RuleLists, Section, Stated, StatedLimits, UnknownWord, Verdict,
};
use super::name::NamePattern;
use super::package::PackageKey;
use super::pattern::{Head, PathPattern};
use super::quantity::{count, duration, size};
use super::yaml::{self, Key, Node, Position, Value};

/// More mistakes than this are one mistake.
const MAX_PROBLEMS: usize = 20;

const TOP: &[&str] = &["version", "extends", "mode", "scripts", "root", "manager", "packages", "fail-on"];
const SECTION: &[&str] = &["read", "write", "exec", "connect", "env", "limits"];
const ROOT: &[&str] = &["extends", "read", "write", "exec", "connect", "env", "limits"];
const PACKAGE: &[&str] = &["reason", "run", "read", "write", "exec", "connect", "env", "limits"];
const RULES: &[&str] = &["default", "allow", "log", "deny"];
const LIMITS: &[&str] = &["wall", "processes", "file-size", "open-files"];

/// Reads one file's text.
pub(super) fn document(file: &str, text: &str) -> Result<Document, Vec<Problem>> {
    let root = yaml::parse(file, text).map_err(|problem| vec![problem])?;
    let mut reader = Reader { file, problems: Vec::new() };
    let document = reader.document(&root);
    if reader.problems.is_empty() { Ok(document) } else { Err(reader.problems) }
}

/// The place of a package entry in a document.
pub(super) fn package_pointer(key: &PackageKey) -> String {
    format!("packages.\"{}\"", key.text)
}

struct Reader<'f> {
    file: &'f str,
    problems: Vec<Problem>,
}

type Entries<'n, 'a> = Vec<(&'n Key<'a>, &'n Node<'a>)>;

impl Reader<'_> {
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

    fn document(&mut self, root: &Node<'_>) -> Document {
        let mut document = Document::default();
        let mut version = false;
        if matches!(root.value, Value::Null) {
            self.problem(root.at, "the file is empty", "begin it with `version: 1`");
            return document;
        }
        for (key, node) in self.mapping(root, "the policy", TOP) {
            match &*key.text {
                "version" => {
                    version = true;
                    if let Some(text) = self.text(node, "version")
                        && text != "1"
                    {
                        self.problem(
                            node.at,
                            format!("unknown policy version `{text}`"),
                            "this npmguard reads `version: 1`",
                        );
                    }
                }
                "extends" => document.extends = self.strings(node, "extends"),
                "mode" => document.mode = self.word(node, "mode").map(|mode| (mode, node.at)),
                "scripts" => document.scripts = self.section(node, "scripts", SECTION),
                "root" => {
                    document.root = self.section(node, "root", ROOT);
                    document.root_base =
                        child(node, "extends").and_then(|base| self.word(base, "root.extends"));
                }
                "manager" => document.manager = self.section(node, "manager", SECTION),
                "packages" => document.packages = self.packages(node),
                "fail-on" => {
                    let words = items(node);
                    document.fail_on =
                        Some(words.iter().filter_map(|item| self.word(item, "fail-on")).collect());
                }
                _ => {}
            }
        }
        if !version {
            self.problem(
                root.at,
                "the policy does not say its `version`",
                "begin the file with `version: 1`",
            );
        }
        document
    }

    /// The entries of a mapping with unknown keys reported and left out.
    fn mapping<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        place: &str,
        known: &[&'static str],
    ) -> Entries<'n, 'a> {
        let Some(entries) = self.any_mapping(node, place, known) else { return Vec::new() };
        let mut good = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            if known.contains(&&*key.text) {
                good.push((key, value));
                continue;
            }
            let suggestion = did_you_mean(&key.text.replace('_', "-"), known.iter().copied())
                .map(|word| format!("did you mean `{word}`? "))
                .unwrap_or_default();
            let takes = list_words(known.iter().copied(), "and");
            let named = if place == "the policy" { "a policy".into() } else { format!("`{place}`") };
            let message = format!("unknown key `{}` in {}", key.text.escape_debug(), quoted(place));
            self.problem(key.at, message, format!("{suggestion}{named} takes {takes}"));
        }
        good
    }

    fn any_mapping<'n, 'a>(
        &mut self,
        node: &'n Node<'a>,
        place: &str,
        known: &[&'static str],
    ) -> Option<Entries<'n, 'a>> {
        match &node.value {
            Value::Map(entries) => Some(entries.iter().map(|(key, value)| (key, value)).collect()),
            _ => {
                let hint = format!(
                    "write `key: value` lines; it takes {}",
                    list_words(known.iter().copied(), "and")
                );
                let message = format!("{} is {}, but should be a mapping", quoted(place), node.kind());
                self.problem(node.at, message, hint);
                None
            }
        }
    }

    fn text<'n>(&mut self, node: &'n Node<'_>, place: &str) -> Option<&'n str> {
        match &node.value {
            Value::Text(text) => Some(text),
            Value::Map(entries) if entries.len() == 1 && matches!(entries[0].1.value, Value::Null) => {
                let name = &entries[0].0.text;
                self.problem(
                    node.at,
                    format!("`{{{name}}}` in {} is read as a YAML mapping", quoted(place)),
                    format!("quote it: `\"{{{name}}}\"`"),
                );
                None
            }
            _ => {
                let message = format!("{} is {}, but should be one value", quoted(place), node.kind());
                self.problem(node.at, message, "write one word, or one quoted string");
                None
            }
        }
    }

    fn word<T: std::str::FromStr<Err = UnknownWord>>(&mut self, node: &Node<'_>, place: &str) -> Option<T> {
        let text = self.text(node, place)?;
        match text.parse() {
            Ok(word) => Some(word),
            Err(error) => {
                self.problem(node.at, format!("{error} for {}", quoted(place)), error.hint());
                None
            }
        }
    }

    /// A string or a list of strings.
    fn strings(&mut self, node: &Node<'_>, place: &str) -> Vec<Rule> {
        items(node)
            .iter()
            .filter_map(|item| self.text(item, place).map(|text| Rule { text: text.into(), at: item.at }))
            .collect()
    }

    fn section(&mut self, node: &Node<'_>, place: &str, known: &[&'static str]) -> Section {
        let mut section = Section::default();
        for (key, value) in self.mapping(node, place, known) {
            let inner = format!("{place}.{}", key.text);
            if let Ok(action) = key.text.parse::<Action>() {
                section.actions.push((action, self.rules(value, &inner, action)));
            } else if key.text == "limits" {
                section.limits = Some(Box::new(self.limits(value, &inner)));
            }
        }
        section
    }

    fn rules(&mut self, node: &Node<'_>, place: &str, action: Action) -> RuleLists {
        let mut rules = RuleLists::default();
        for (key, value) in self.mapping(node, place, RULES) {
            let inner = format!("{place}.{}", key.text);
            match &*key.text {
                "default" => rules.default = self.word(value, &inner).map(|verdict| (verdict, value.at)),
                "allow" => rules.allow = self.patterns(value, &inner, action, Verdict::Allow),
                "log" => rules.log = self.patterns(value, &inner, action, Verdict::Log),
                "deny" => rules.deny = self.patterns(value, &inner, action, Verdict::Deny),
                _ => {}
            }
        }
        rules
    }

    fn patterns(&mut self, node: &Node<'_>, place: &str, action: Action, verdict: Verdict) -> Vec<Rule> {
        let rules = match &node.value {
            Value::List(_) => self.strings(node, place),
            _ => {
                let message = format!("{} is {}, but should be a list", quoted(place), node.kind());
                self.problem(node.at, message, "write it as `[\"one\", \"two\"]`, or as `- \"one\"` lines");
                return Vec::new();
            }
        };
        for rule in &rules {
            if let Err((message, hint)) = check_pattern(&rule.text, action, verdict) {
                self.problem(rule.at, format!("{message} in {}", quoted(place)), hint);
            }
        }
        rules
    }

    fn packages(&mut self, node: &Node<'_>) -> Vec<PackageEntry> {
        let Value::Map(entries) = &node.value else {
            let message = format!("`packages` is {}, but should be a mapping", node.kind());
            self.problem(node.at, message, "write `\"name\": { read: { allow: [\"…\"] } }` lines");
            return Vec::new();
        };
        let mut packages = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match PackageKey::parse(&key.text) {
                Ok(parsed) => packages.push(self.package(parsed, key.at, value)),
                Err((message, hint)) => self.problem(key.at, format!("{message} in `packages`"), hint),
            }
        }
        packages
    }

    fn package(&mut self, key: PackageKey, at: Position, node: &Node<'_>) -> PackageEntry {
        let place = package_pointer(&key);
        let section = self.section(node, &place, PACKAGE);
        let reason = child(node, "reason").and_then(|node| self.text(node, "reason")).map(Into::into);
        let run =
            child(node, "run").and_then(|node| Some((self.word(node, &format!("{place}.run"))?, node.at)));
        PackageEntry { key, at, section, reason, run }
    }

    fn limits(&mut self, node: &Node<'_>, place: &str) -> StatedLimits {
        let mut limits = StatedLimits::default();
        for (key, value) in self.mapping(node, place, LIMITS) {
            let inner = format!("{place}.{}", key.text);
            match &*key.text {
                "wall" => {
                    limits.wall = self.limit(value, &inner, duration, "duration", "`90s`, `15m` or `2h`")
                }
                "processes" => {
                    limits.processes = self.limit(value, &inner, count, "count", "a number such as `512`")
                }
                "file-size" => {
                    limits.file_size = self.limit(value, &inner, size, "size", "`500MB` or `2GiB`")
                }
                "open-files" => {
                    limits.open_files = self.limit(value, &inner, count, "count", "a number such as `1024`")
                }
                _ => {}
            }
        }
        limits
    }

    fn limit<T>(
        &mut self,
        node: &Node<'_>,
        place: &str,
        parse: fn(&str) -> Option<T>,
        what: &str,
        example: &str,
    ) -> Stated<T> {
        let text = self.text(node, place)?;
        if text == "none" {
            return Some((None, node.at));
        }
        let value = parse(text);
        if value.is_none() {
            let message = format!("`{}` in {} is not a {what}", text.escape_debug(), quoted(place));
            self.problem(node.at, message, format!("write {example}, or `none` for no limit"));
        }
        value.map(|value| (Some(value), node.at))
    }
}

fn quoted(place: &str) -> String {
    if place == "the policy" { place.into() } else { format!("`{place}`") }
}

fn items<'n, 'a>(node: &'n Node<'a>) -> Vec<&'n Node<'a>> {
    match &node.value {
        Value::List(items) => items.iter().collect(),
        _ => vec![node],
    }
}

fn child<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Node<'a>> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, value)| value),
        _ => None,
    }
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
