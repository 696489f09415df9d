//! From text to a [`Document`]: `serde_yaml` says what the file says, the index of
//! [`super::yaml`] says where, and [`super::check`] words every mistake. Where the
//! two readers disagree about a text the file is refused, so a rule is never
//! checked in one reading and enforced in another.

use std::sync::Arc;
use std::thread;

use super::check;
use super::error::Problem;
use super::file::{
    Common, ConnectEntry, ConnectTerms, Expected, FormatVersion, Limit, LimitsFile, PackageFile, PolicyFile,
    RuleFile,
};
use super::model::{Action, Document, PackageEntry, Rule, RuleLists, Section, Stated, StatedLimits, Terms};
use super::package::PackageKey;
use super::yaml::{self, Node, Position, Value};

/// From this size the two readers work at the same time; below, a thread costs more than it saves.
const LARGE: usize = 64 << 10;

type Decoded = Result<PolicyFile, serde_yaml::Error>;

/// Reads one file's text.
pub(super) fn document(file: &str, text: &str) -> Result<Document, Vec<Problem>> {
    // Without `&` there is no anchor, so nothing that the index would refuse can expand meanwhile.
    let started = (text.len() >= LARGE && !text.contains('&')).then(|| {
        let text: Arc<str> = text.into();
        thread::spawn(move || -> Decoded { serde_yaml::from_str(&text) })
    });
    // After a mistake nobody waits for the other reader; the run is over anyway.
    let root = yaml::parse(file, text).map_err(|problem| vec![problem])?;
    check::document(file, &root)?;
    let decoded = match started.map(thread::JoinHandle::join) {
        Some(Ok(decoded)) => decoded,
        Some(Err(_)) | None => serde_yaml::from_str(text),
    };
    let places = Places { file };
    decoded
        .map_err(|error| places.refused(&error))
        .and_then(|decoded| places.document(decoded, &root))
        .map_err(|problem| vec![problem])
}

/// What a list holds.
trait Entry {
    fn text(&self) -> &str;
    /// Whether the other reader read the same.
    fn is(&self, node: &Node<'_>) -> bool;
    fn rule(self, at: Position) -> Rule;
}

impl Entry for Box<str> {
    fn text(&self) -> &str {
        self
    }

    fn is(&self, node: &Node<'_>) -> bool {
        node.is_text(self)
    }

    fn rule(self, at: Position) -> Rule {
        Rule { text: self, at, terms: Terms::default() }
    }
}

impl Entry for ConnectEntry {
    fn text(&self) -> &str {
        match self {
            Self::Pattern(text) => text,
            Self::Terms(terms) => &terms.host,
        }
    }

    fn is(&self, node: &Node<'_>) -> bool {
        match self {
            Self::Pattern(text) => node.is_text(text),
            Self::Terms(ConnectTerms { host, verify, expected }) => {
                let says = |key: &str, word: Option<&str>| match (node.child(key), word) {
                    (Some(value), Some(word)) => value.is_text(word),
                    (value, word) => value.is_none() && word.is_none(),
                };
                let expected = expected.map(|word| if word == Expected::True { "true" } else { "false" });
                says("host", Some(host))
                    && says("verify", verify.map(|word| word.as_str()))
                    && says("expected", expected)
            }
        }
    }

    fn rule(self, at: Position) -> Rule {
        match self {
            Self::Pattern(text) => text.rule(at),
            Self::Terms(ConnectTerms { host, verify, expected }) => {
                let expected = expected == Some(Expected::True);
                Rule { text: host, at, terms: Terms { verify, expected } }
            }
        }
    }
}

/// Puts places to what was said.
struct Places<'f> {
    file: &'f str,
}

impl Places<'_> {
    fn problem(&self, at: Position, message: String) -> Problem {
        let hint = "write it in plain YAML: one value or list, quoted where it begins with a symbol";
        Problem { file: self.file.into(), line: at.line, column: at.column, message, hint: Some(hint.into()) }
    }

    fn refused(&self, error: &serde_yaml::Error) -> Problem {
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let at = error.location().map_or(Position { line: 1, column: 1 }, |place| Position {
            line: narrow(place.line()),
            column: narrow(place.column()),
        });
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        self.problem(at, format!("this cannot be read: {message}"))
    }

    fn differs(&self, at: Position, text: &str) -> Problem {
        self.problem(at, format!("`{}` can be read in two ways", text.escape_debug()))
    }

    fn child<'n, 'a>(&self, node: &'n Node<'a>, name: &str) -> Result<&'n Node<'a>, Problem> {
        node.child(name).ok_or_else(|| self.differs(node.at, name))
    }

    fn document(&self, file: PolicyFile, root: &Node<'_>) -> Result<Document, Problem> {
        let FormatVersion = file.version;
        let section = |name: &str, common: Common| match root.child(name) {
            Some(node) => self.section(common, node),
            None => Ok(Section::default()),
        };
        Ok(Document {
            extends: match root.child("extends") {
                Some(node) => self.rules(file.extends.0, node)?,
                None => Vec::new(),
            },
            mode: file.mode.map(|mode| Ok((mode, self.child(root, "mode")?.at))).transpose()?,
            root_base: file.root.extends,
            scripts: section("scripts", file.scripts.into())?,
            root: section("root", file.root.into())?,
            manager: section("manager", file.manager.into())?,
            packages: match root.child("packages") {
                Some(node) => self.packages(file.packages.0, node)?,
                None => Vec::new(),
            },
            fail_on: file.fail_on.map(|words| words.0),
        })
    }

    fn packages(
        &self,
        files: Vec<(PackageKey, PackageFile)>,
        node: &Node<'_>,
    ) -> Result<Vec<PackageEntry>, Problem> {
        let entries = match &node.value {
            Value::Map(entries) if entries.len() == files.len() => entries,
            _ => return Err(self.differs(node.at, "packages")),
        };
        let placed = files.into_iter().zip(entries);
        placed.map(|((name, file), (key, node))| self.package(name, file, key, node)).collect()
    }

    fn package(
        &self,
        key: PackageKey,
        mut file: PackageFile,
        placed: &yaml::Key<'_>,
        node: &Node<'_>,
    ) -> Result<PackageEntry, Problem> {
        if *key.text != *placed.text {
            return Err(self.differs(placed.at, &key.text));
        }
        let run = file.run.map(|run| Ok((run, self.child(node, "run")?.at))).transpose()?;
        Ok(PackageEntry {
            key,
            at: placed.at,
            reason: file.reason.take(),
            run,
            section: self.section(file.into(), node)?,
        })
    }

    fn section(&self, common: Common, node: &Node<'_>) -> Result<Section, Problem> {
        let mut section = Section::default();
        for (action, rules) in common.actions {
            if let Some(rules) = rules {
                section.actions.push((action, self.lists(*rules, self.child(node, action.as_str())?)?));
            }
        }
        if let Some(rules) = common.connect {
            let lists = self.lists(*rules, self.child(node, Action::Connect.as_str())?)?;
            section.actions.push((Action::Connect, lists));
        }
        if let Some(limits) = common.limits {
            section.limits = Some(Box::new(self.limits(*limits, self.child(node, "limits")?)?));
        }
        Ok(section)
    }

    fn lists<E: Entry>(&self, file: RuleFile<E>, node: &Node<'_>) -> Result<RuleLists, Problem> {
        let list = |name: &str, entries: Vec<E>| match entries.is_empty() {
            true => Ok(Vec::new()),
            false => self.rules(entries, self.child(node, name)?),
        };
        let default = file.default.map(|verdict| Ok((verdict, self.child(node, "default")?.at)));
        Ok(RuleLists {
            default: default.transpose()?,
            allow: list("allow", file.allow)?,
            log: list("log", file.log)?,
            deny: list("deny", file.deny)?,
        })
    }

    fn rules<E: Entry>(&self, entries: Vec<E>, node: &Node<'_>) -> Result<Vec<Rule>, Problem> {
        let items = node.items();
        if items.len() != entries.len() {
            return Err(self.differs(node.at, entries.first().map_or("", Entry::text)));
        }
        let placed = entries.into_iter().zip(items);
        placed
            .map(|(entry, item)| match entry.is(item) {
                true => Ok(entry.rule(item.at)),
                false => Err(self.differs(item.at, entry.text())),
            })
            .collect()
    }

    fn limits(&self, file: LimitsFile, node: &Node<'_>) -> Result<StatedLimits, Problem> {
        Ok(StatedLimits {
            wall: self.limit(file.wall, node, "wall", |wall| wall)?,
            processes: self.limit(file.processes, node, "processes", |count| count.0)?,
            file_size: self.limit(file.file_size, node, "file-size", |size| size.0)?,
            open_files: self.limit(file.open_files, node, "open-files", |count| count.0)?,
        })
    }

    fn limit<Q, T>(
        &self,
        limit: Option<Limit<Q>>,
        node: &Node<'_>,
        name: &str,
        value: fn(Q) -> T,
    ) -> Result<Stated<T>, Problem> {
        limit.map(|limit| Ok((limit.0.map(value), self.child(node, name)?.at))).transpose()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_read_as_a_small_one_is() {
        let entry = |n: usize| format!("  \"p{n}@>=1\": {{ run: never, read: {{ deny: [\"/x/{n}\"] }} }}\n");
        let small = format!("version: 1\npackages:\n{}", entry(7));
        let large: String = (0..2_000).map(entry).collect();
        let large = format!("version: 1\npackages:\n{large}");
        assert!(large.len() > LARGE);
        let (small, large) = (document("f", &small).unwrap(), document("f", &large).unwrap());
        assert_eq!(large.packages.len(), 2_000);
        assert_eq!(large.packages[7].at.line, 10);
        let of =
            |entry: &PackageEntry| format!("{:?} {:?}", entry.key, entry.section.actions[0].1.deny[0].text);
        assert_eq!(of(&large.packages[7]), of(&small.packages[0]));
        let broken = format!(
            "{}  \"q\": {{ rum: never }}\n",
            "version: 1\npackages:\n".to_owned() + &"# x\n".repeat(LARGE)
        );
        assert_eq!(document("f", &broken).unwrap_err()[0].column, 10);
    }

    #[test]
    fn numbers_and_words_that_yaml_has_other_types_for_stay_text() {
        let text = "version: \"1\"\nscripts:\n  read: { allow: [/a, \"/0x10\"] }\n  env: { deny: [yes, 1, 0x10, 1.0, True] }\n  limits: { processes: 512 }\n";
        let document = document("f", text).unwrap();
        let texts: Vec<&str> =
            document.scripts.rules(Action::Env).unwrap().deny.iter().map(|rule| &*rule.text).collect();
        assert_eq!(texts, ["yes", "1", "0x10", "1.0", "True"]);
        assert_eq!(document.scripts.limits.unwrap().processes.unwrap().0, Some(512));
    }
}
