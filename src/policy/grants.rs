//! Which parts of a profile the kernel can be told exactly. Landlock knows trees
//! and files to allow and nothing to deny, so a grant is handed to it only when no
//! overriding deny can match inside; what is left out is decided call by call by
//! the guard. Execution cannot be decided call by call: there, what cannot be
//! expressed is an error that names both rules.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decide::PathRules;
use super::error::{PolicyError, Problem};
use super::matcher::ByPath;
use super::model::{PathAction, Rule, Verdict};
use super::pattern::{Resolved, Shape, within};
use super::programs::{Found, GroupSet, Programs};

/// One thing to allow. Neither its existence nor its kind has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Grant {
    /// The path and everything below; it may turn out to be a single file.
    Tree(PathBuf),
    /// This one file.
    File(PathBuf),
    /// Only the directory itself, to be listed.
    Dir(PathBuf),
}

impl Grant {
    /// The path that is granted, whatever its extent.
    pub fn path(&self) -> &Path {
        match self {
            Grant::Tree(path) | Grant::File(path) | Grant::Dir(path) => path,
        }
    }
}

/// What the kernel can be told about a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelGrants {
    /// To be opened for reading.
    pub read: Vec<Grant>,
    /// To be written, created, removed.
    pub write: Vec<Grant>,
    /// To be executed.
    pub exec: Vec<Grant>,
    /// Files inside `exec` trees that must not be executed.
    pub exec_except: Vec<PathBuf>,
}

/// A resolved pattern and where it comes from.
pub(super) struct Form<'p> {
    pub(super) rank: u32,
    pub(super) list: u32,
    pub(super) negated: bool,
    pub(super) resolved: Resolved,
    pub(super) rule: &'p Rule,
}

/// A rule about a group of programs.
pub(super) struct GroupForm {
    pub(super) rank: u32,
    pub(super) negated: bool,
    pub(super) group: GroupSet,
}

/// The rules of one action as the kernel may be told of them.
#[derive(Default)]
pub(super) struct Forms<'p> {
    pub(super) paths: Vec<Form<'p>>,
    /// Only for `exec`, where the kernel can take single files out of a tree.
    pub(super) groups: Vec<GroupForm>,
    /// Where the programs of the groups are.
    pub(super) programs: Option<Arc<Programs>>,
}

type Paths = ByPath<()>;

/// The answer to "does a kernel grant hold this path".
#[derive(Debug, Default)]
pub(super) struct Coverage {
    trees: Paths,
    exact: Paths,
    except: Paths,
}

impl Coverage {
    pub(super) fn holds(&self, path: &[u8]) -> bool {
        !within(PROC, path)
            && !self.except.contains_key(path)
            && (self.exact.contains_key(path) || self.in_tree(path))
    }

    fn in_tree(&self, path: &[u8]) -> bool {
        let ancestors = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
        !self.trees.is_empty() && ancestors.chain([path]).any(|ancestor| self.trees.contains_key(ancestor))
    }
}

/// What one action can tell the kernel.
pub(super) struct Outcome {
    pub(super) grants: Vec<Grant>,
    pub(super) except: Vec<PathBuf>,
    pub(super) coverage: Coverage,
}

/// Always decided call by call: which process a file there belongs to is not in its path.
const PROC: &[u8] = b"/proc";

/// The rules of one action, sorted by what they do to a tree.
struct Rules<'a> {
    action: PathAction,
    rules: &'a PathRules,
    /// Deny patterns that are not single files (those are looked up instead, for `exec`).
    denies: Vec<&'a Form<'a>>,
    exceptions: Vec<&'a Form<'a>>,
}

/// Works out the grants of one action.
pub(super) fn compute(
    action: PathAction,
    rules: &PathRules,
    all_forms: &Forms<'_>,
) -> Result<Outcome, PolicyError> {
    let forms = all_forms.paths.as_slice();
    let verdict = |rank: u32| rules.ranked.decisions.get(rank as usize).map(|decision| decision.verdict);
    let is_deny = |form: &&Form<'_>| !form.negated && verdict(form.rank) == Some(Verdict::Deny);
    let exact = |form: &&Form<'_>| matches!(form.resolved.shape, Shape::Literal | Shape::Directory);
    let all = Rules {
        action,
        rules,
        denies: forms
            .iter()
            .filter(is_deny)
            .filter(|form| action != PathAction::Exec || !exact(form))
            .collect(),
        exceptions: forms.iter().filter(|form| form.negated).collect(),
    };
    let positive = || forms.iter().filter(|form| !form.negated && verdict(form.rank) != Some(Verdict::Deny));

    let mut coverage = Coverage::default();
    let mut trees: Vec<&[u8]> = Vec::new();
    if rules.ranked.default.verdict != Verdict::Deny && all.default_grants()? {
        trees.push(b"");
    }
    for form in positive().filter(|form| form.resolved.shape == Shape::Tree) {
        let base = &*form.resolved.base;
        if !within(PROC, base) && !trees.contains(&base) && all.tree_grants(form)? {
            trees.push(base);
        }
    }
    // Outermost first, so that what lies inside another tree is seen and left out.
    trees.sort_by_key(|base| base.len());
    let mut grants = Vec::new();
    for base in trees {
        if !coverage.in_tree(base) {
            coverage.trees.insert(base.into(), ());
            grants.push(Grant::Tree(path(base)));
        }
    }
    let mut dirs: HashSet<&[u8]> = HashSet::new();
    for form in positive().filter(exact) {
        let base = &*form.resolved.base;
        let redundant = within(PROC, base) || coverage.exact.contains_key(base) || coverage.in_tree(base);
        if redundant || rules.decide_bytes(base).verdict == Verdict::Deny {
            continue;
        }
        match form.resolved.shape {
            Shape::Directory if action == PathAction::Exec => {}
            Shape::Directory => {
                if dirs.insert(base) {
                    grants.push(Grant::Dir(path(base)));
                }
            }
            _ => {
                grants.push(Grant::File(path(base)));
                coverage.exact.insert(form.resolved.base.clone(), ());
            }
        }
    }
    let mut except = Vec::new();
    if action == PathAction::Exec {
        for form in forms.iter().filter(is_deny).filter(exact) {
            let base = &*form.resolved.base;
            if coverage.in_tree(base)
                && rules.decide_bytes(base).verdict == Verdict::Deny
                && coverage.except.insert(form.resolved.base.clone(), ()).is_none()
            {
                except.push(path(base));
            }
        }
    }
    let mut outcome = Outcome { grants, except, coverage };
    if let Some(programs) = &all_forms.programs {
        let granting = |form: &&GroupForm| !form.negated && verdict(form.rank) != Some(Verdict::Deny);
        let named = all_forms.groups.iter().fold(GroupSet::default(), |all, form| all.or(form.group));
        let allowed = all_forms
            .groups
            .iter()
            .filter(granting)
            .fold(GroupSet::default(), |all, form| all.or(form.group));
        for found in programs.found().iter().filter(|found| found.groups.meets(named)) {
            outcome.program(rules, found, found.groups.meets(allowed));
        }
    }
    Ok(outcome)
}

impl Outcome {
    /// Adds a program of a group: a grant outside the granted trees, an exception inside.
    fn program(&mut self, rules: &PathRules, found: &Found, allowed: bool) {
        let denied = |path: &[u8]| rules.decide_bytes(path).verdict == Verdict::Deny;
        let target = found.target.as_ref().map(|(_, target)| target);
        if denied(&found.path) {
            let reachable = std::iter::once(&found.path).chain(&found.spellings).chain(target);
            if reachable.clone().any(|path| self.coverage.in_tree(path)) {
                for taken in std::iter::once(&found.path).chain(target.filter(|target| denied(target))) {
                    if self.coverage.except.insert(Arc::clone(taken), ()).is_none() {
                        self.except.push(path(taken));
                    }
                }
            }
            return;
        }
        let known = self.coverage.in_tree(&found.path) || self.coverage.exact.contains_key(&found.path);
        if allowed && !known && !target.is_some_and(|target| denied(target)) {
            self.grants.push(Grant::File(path(&found.path)));
            self.coverage.exact.insert(Arc::clone(&found.path), ());
        }
    }
}

fn path(base: &[u8]) -> PathBuf {
    if base.is_empty() { "/".into() } else { Path::new(OsStr::from_bytes(base)).into() }
}

/// Whether a pattern may match at or below `tree`; errs on the side of yes.
fn may_match_in(pattern: &Resolved, tree: &[u8]) -> bool {
    match pattern.shape {
        Shape::Literal | Shape::Directory => within(tree, &pattern.base),
        Shape::Tree | Shape::Glob(_) => within(tree, &pattern.base) || within(&pattern.base, tree),
    }
}

impl Rules<'_> {
    /// Whether `!` patterns take the whole tree out of this deny's list.
    fn excepted(&self, deny: &Form<'_>, tree: &[u8]) -> bool {
        self.exceptions.iter().any(|exception| {
            exception.list == deny.list
                && exception.resolved.shape == Shape::Tree
                && within(&exception.resolved.base, tree)
        })
    }

    fn overriding<'s>(&'s self, rank: u32, tree: &'s [u8]) -> impl Iterator<Item = &'s Form<'s>> + 's {
        self.denies.iter().copied().filter(move |deny| {
            deny.rank < rank && may_match_in(&deny.resolved, tree) && !self.excepted(deny, tree)
        })
    }

    fn default_grants(&self) -> Result<bool, PolicyError> {
        let Some(deny) = self.overriding(u32::MAX, b"").next() else { return Ok(true) };
        if self.action != PathAction::Exec {
            return Ok(false);
        }
        let default = &self.rules.ranked.default;
        Err(self.conflict(deny, &format!("`{}`", default.verdict), &default.rule.to_string()))
    }

    fn tree_grants(&self, form: &Form<'_>) -> Result<bool, PolicyError> {
        let base = &*form.resolved.base;
        let mut taken_out = self.exceptions.iter().filter(|exception| exception.list == form.list);
        if taken_out.any(|exception| may_match_in(&exception.resolved, base)) {
            return Ok(false);
        }
        let mut inside = None;
        for deny in self.overriding(form.rank, base) {
            if deny.resolved.shape == Shape::Tree && within(&deny.resolved.base, base) {
                // Nothing is left of this grant.
                return Ok(false);
            }
            inside = inside.or(Some(deny));
        }
        match inside {
            None => Ok(true),
            Some(_) if self.action != PathAction::Exec => Ok(false),
            Some(deny) => {
                let rule = self.rules.ranked.decisions.get(form.rank as usize);
                let place = rule.map(|decision| decision.rule.to_string()).unwrap_or_default();
                Err(self.conflict(deny, &format!("`{}`", form.rule.text), &place))
            }
        }
    }

    fn conflict(&self, deny: &Form<'_>, granted: &str, granted_at: &str) -> PolicyError {
        let rule = self.rules.ranked.decisions.get(deny.rank as usize).map(|decision| decision.rule.clone());
        let (file, pointer) =
            rule.map(|rule| (rule.source.clone(), rule.pointer.clone())).unwrap_or_default();
        Problem {
            file,
            line: deny.rule.at.line,
            column: deny.rule.at.column,
            message: format!(
                "`{}` in `{pointer}` denies part of what {granted} ({granted_at}) allows to execute, \
                 and the kernel cannot take a pattern out of a tree",
                deny.rule.text
            ),
            hint: Some("name the denied programs one by one (`/usr/bin/x`), or allow less".into()),
        }
        .into()
    }
}
