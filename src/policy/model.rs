//! The words of the policy language as types: what a file says, before variables
//! have values and before layers are put on top of each other. Every rule keeps
//! its place in the file, so that a verdict can name the line that caused it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{did_you_mean, list_words};
use super::package::PackageKey;
use super::yaml::Position;

/// Whether verdicts are enforced or only recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Denied means denied.
    Enforce,
    /// Nothing is refused; what would be denied is logged as `would_deny`.
    Audit,
}

/// What policy says about one attempt. Ordered by severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It happens.
    Allow,
    /// It happens and is logged as remarkable.
    Log,
    /// It does not happen.
    Deny,
}

/// The three things that can be done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathAction {
    /// Open for reading, or list a directory.
    Read,
    /// Create, change, rename, delete, or change mode, owner, times, attributes.
    Write,
    /// Execute.
    Exec,
}

/// What makes the exit code non-zero although the manager succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailOn {
    /// Something was denied.
    Denied,
    /// Something would have been denied (audit mode).
    WouldDeny,
    /// Something was allowed with the verdict `log`.
    Logged,
    /// Behaviour differs from the lock.
    Drift,
    /// A script left processes behind.
    Leftover,
}

macro_rules! words {
    ($vis:vis $type:ty, $what:literal, { $($variant:ident => $word:literal),+ $(,)? }) => {
        impl $type {
            /// The words of the policy language, in the order of the documentation.
            $vis const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of the policy language.
            $vis fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { what: $what, found: text.into(), known: Self::WORDS }),
                }
            }
        }
    };
}

words!(pub Mode, "mode", { Enforce => "enforce", Audit => "audit" });
words!(pub Verdict, "verdict", { Allow => "allow", Log => "log", Deny => "deny" });
words!(pub PathAction, "action", { Read => "read", Write => "write", Exec => "exec" });
words!(pub FailOn, "`fail-on` word", {
    Denied => "denied",
    WouldDeny => "would_deny",
    Logged => "logged",
    Drift => "drift",
    Leftover => "leftover",
});

/// A word that is not one of a fixed set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{found}`")]
pub struct UnknownWord {
    what: &'static str,
    found: String,
    known: &'static [&'static str],
}

impl UnknownWord {
    /// What to write instead.
    pub fn hint(&self) -> String {
        let known = list_words(self.known.iter().copied(), "or");
        match did_you_mean(&self.found.replace('-', "_"), self.known.iter().copied()) {
            Some(word) => format!("did you mean `{word}`? write {known}"),
            None => format!("write {known}"),
        }
    }
}

/// The five actions a section has rules for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Read,
    Write,
    Exec,
    Connect,
    Env,
}

words!(pub(super) Action, "action", {
    Read => "read", Write => "write", Exec => "exec", Connect => "connect", Env => "env",
});

impl Action {
    pub(super) const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Exec, Self::Connect, Self::Env];
}

impl From<PathAction> for Action {
    fn from(action: PathAction) -> Self {
        match action {
            PathAction::Read => Self::Read,
            PathAction::Write => Self::Write,
            PathAction::Exec => Self::Exec,
        }
    }
}

/// Where a rule stands; what the log and every message cite.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RuleRef {
    /// `preset:default`, or the file.
    pub source: String,
    /// Line in it, from 1; 0 for what npmguard itself decides.
    pub line: u32,
    /// The place in the document, for example `scripts.read.deny[2]`.
    pub pointer: String,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.source, self.line, self.pointer)
    }
}

/// What a grant by name demands of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// The TLS server name, or the HTTP `Host`, must be granted too.
    Sni,
}

words!(pub Verify, "check", { Sni => "sni" });

/// What an entry of a `connect` list says beside its pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Terms {
    pub(super) verify: Option<Verify>,
    /// The refusal is foreseen and no violation.
    pub(super) expected: bool,
}

/// One entry of an `allow`, `log` or `deny` list.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) text: Box<str>,
    pub(super) at: Position,
    pub(super) terms: Terms,
}

/// The rules of one action.
#[derive(Debug, Default)]
pub(super) struct RuleLists {
    pub(super) default: Option<(Verdict, Position)>,
    pub(super) allow: Vec<Rule>,
    pub(super) log: Vec<Rule>,
    pub(super) deny: Vec<Rule>,
}

impl RuleLists {
    pub(super) fn list(&self, verdict: Verdict) -> &[Rule] {
        match verdict {
            Verdict::Allow => &self.allow,
            Verdict::Log => &self.log,
            Verdict::Deny => &self.deny,
        }
    }
}

/// A limit that a section states: a value, or `none`.
pub(super) type Stated<T> = Option<(Option<T>, Position)>;

/// The limits that a section states.
#[derive(Debug, Default, Clone)]
pub(super) struct StatedLimits {
    pub(super) wall: Stated<Duration>,
    pub(super) processes: Stated<u64>,
    pub(super) file_size: Stated<u64>,
    pub(super) open_files: Stated<u64>,
}

/// `scripts`, `root`, `manager`, or one entry of `packages`.
#[derive(Debug, Default)]
pub(super) struct Section {
    /// Sparse: a policy may have ten thousand entries with one action each.
    pub(super) actions: Vec<(Action, RuleLists)>,
    pub(super) limits: Option<Box<StatedLimits>>,
}

impl Section {
    pub(super) fn rules(&self, action: Action) -> Option<&RuleLists> {
        self.actions.iter().find(|(name, _)| *name == action).map(|(_, rules)| rules)
    }
}

/// Whether a package's scripts run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Run {
    Never,
    Always,
}

words!(pub(super) Run, "value", { Never => "never", Always => "always" });

/// Whether `root` falls through to `scripts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RootBase {
    Scripts,
    None,
}

words!(pub(super) RootBase, "section", { Scripts => "scripts", None => "none" });

/// One entry of `packages`.
#[derive(Debug)]
pub(super) struct PackageEntry {
    pub(super) key: PackageKey,
    pub(super) at: Position,
    pub(super) section: Section,
    pub(super) reason: Option<Box<str>>,
    pub(super) run: Option<(Run, Position)>,
}

/// One policy file.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) extends: Vec<Rule>,
    pub(super) mode: Option<(Mode, Position)>,
    pub(super) scripts: Section,
    pub(super) root: Section,
    pub(super) root_base: Option<RootBase>,
    pub(super) manager: Section,
    pub(super) packages: Vec<PackageEntry>,
    pub(super) fail_on: Option<Vec<FailOn>>,
}
