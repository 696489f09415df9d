//! A [`Profile`] answers one question at a time: may this subject do this? It is
//! built once per script and then only read, from any thread; every answer names
//! the rule behind it. What cannot be compared (a relative path, `..`) is denied.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::connect::ConnectRules;
use super::grants::{Coverage, KernelGrants};
use super::groups::Variables;
use super::matcher::{PathSet, normal};
use super::model::{PathAction, RuleRef, Verdict};
use super::name::NamePattern;
use super::profile::Subject;

/// A verdict and the rule it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// Why.
    pub rule: Arc<RuleRef>,
}

/// What a script may use; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Wall-clock time for one script.
    pub wall: Option<Duration>,
    /// Processes, counted by the kernel per user and not per script.
    pub processes: Option<u64>,
    /// Size of any one file, in bytes.
    pub file_size: Option<u64>,
    /// Open descriptors per process.
    pub open_files: Option<u64>,
}

/// The rules of one action in the order in which they decide: the index of a rule is its rank.
#[derive(Debug)]
pub(super) struct Ranked {
    pub(super) decisions: Vec<Decision>,
    /// For each rule, the list it stands in.
    pub(super) lists: Vec<u32>,
    pub(super) default: Decision,
}

impl Ranked {
    pub(super) fn decision(&self, rank: Option<u32>) -> &Decision {
        rank.and_then(|rank| self.decisions.get(rank as usize)).unwrap_or(&self.default)
    }

    fn list(&self, rank: u32) -> Option<u32> {
        self.lists.get(rank as usize).copied()
    }
}

#[derive(Debug)]
pub(super) struct PathRules {
    pub(super) ranked: Ranked,
    pub(super) set: PathSet,
    /// What `!` patterns take out of a list.
    pub(super) except: HashMap<u32, PathSet>,
    pub(super) unresolved: Decision,
}

impl PathRules {
    pub(super) fn decide(&self, path: &Path) -> &Decision {
        match normal(path) {
            Some(path) => self.decide_bytes(&path),
            None => &self.unresolved,
        }
    }

    pub(super) fn decide_bytes(&self, path: &[u8]) -> &Decision {
        let accept = |rank| {
            self.except.is_empty()
                || !self
                    .ranked
                    .list(rank)
                    .and_then(|list| self.except.get(&list))
                    .is_some_and(|set| set.matches(path))
        };
        self.ranked.decision(self.set.best(path, accept))
    }
}

#[derive(Debug)]
pub(super) struct EnvRules {
    pub(super) ranked: Ranked,
    /// Patterns with their rank, ascending.
    pub(super) patterns: Vec<(u32, Cow<'static, NamePattern>)>,
    pub(super) except: HashMap<u32, Vec<Cow<'static, NamePattern>>>,
}

/// Everything that policy says about one subject.
#[derive(Debug)]
pub struct Profile {
    pub(super) subject: Subject,
    /// The file that is asked first.
    pub(super) top: Option<Box<str>>,
    pub(super) vars: Variables,
    pub(super) paths: [PathRules; 3],
    pub(super) env: EnvRules,
    pub(super) connect: ConnectRules,
    pub(super) limits: Limits,
    pub(super) never_run: Option<RuleRef>,
    pub(super) grants: KernelGrants,
    pub(super) coverage: [Coverage; 3],
}

impl Profile {
    /// About a path, which must be absolute and already resolved.
    pub fn decide_path(&self, action: PathAction, path: &Path) -> Decision {
        self.paths[action as usize].decide(path).clone()
    }

    /// About an environment variable.
    pub fn decide_env(&self, name: &OsStr) -> Decision {
        let lower = name.as_bytes().to_ascii_lowercase();
        let rules = &self.env;
        let rank = rules.patterns.iter().find(|(rank, pattern)| {
            pattern.matches(&lower)
                && !rules
                    .ranked
                    .list(*rank)
                    .and_then(|list| rules.except.get(&list))
                    .is_some_and(|except| except.iter().any(|pattern| pattern.matches(&lower)))
        });
        rules.ranked.decision(rank.map(|(rank, _)| *rank)).clone()
    }

    /// What the kernel can be told exactly.
    pub fn kernel_grants(&self) -> &KernelGrants {
        &self.grants
    }

    /// Whether the path lies in a kernel grant of that action. A directory that may only
    /// be listed does not: the kernel has no such grant, so the guard decides.
    pub fn covered(&self, action: PathAction, path: &Path) -> bool {
        let holds = |path: &[u8]| {
            self.coverage[action as usize].holds(path)
                // Programs that did not exist when the tree was granted.
                && (action != PathAction::Exec
                    || self.paths[action as usize].decide_bytes(path).verdict != Verdict::Deny)
        };
        normal(path).is_some_and(|path| holds(&path))
    }

    /// The rule that says the package's scripts never run.
    pub fn never_run(&self) -> Option<&RuleRef> {
        self.never_run.as_ref()
    }

    /// What the scripts may use.
    pub fn limits(&self) -> Limits {
        self.limits
    }
}
