//! Layers and a subject become a [`Profile`]. The order of rule sets is decided
//! here and nowhere else: package entries of each layer, top layer first and most
//! specific first within it, then the section of each layer, top layer first.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use semver::Version;

use super::address::ConnectPattern;
use super::cache::Cache;
use super::check::{group_name, package_pointer};
use super::connect::{ConnectRule, ConnectRules, Origin};
use super::decide::{Decision, EnvRules, Limits, PathRules, Profile, Ranked};
use super::error::{PolicyError, Problem};
use super::grants::{self, Form, Forms, GroupForm, KernelGrants};
use super::groups::{self, Variables};
use super::load::{Layer, Policy};
use super::matcher::{PathSet, PathSetBuilder};
use super::model::{
    Action, PackageEntry, PathAction, RootBase, Rule, RuleRef, Run, Section, Stated, StatedLimits, Verdict,
};
use super::name::NamePattern;
use super::pattern::PathPattern;
use super::programs::GroupSet;
use super::yaml::Position;

/// Whose behaviour is decided about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A dependency's lifecycle script.
    Dependency {
        /// Its name as the lockfile or the manager gives it.
        name: String,
        /// Its version, if known. Without it, entries with a range can only restrict.
        version: Option<Version>,
        /// Whether the identity was verified. If not, entries for it can only restrict.
        granted: bool,
    },
    /// The project's own scripts, or those of a workspace.
    Root {
        /// Its name, if it has one.
        name: Option<String>,
        /// Its version, if it has one.
        version: Option<Version>,
    },
    /// The package manager itself.
    Manager,
}

/// One section of one layer as it applies to a subject.
pub(super) struct Part<'p> {
    pub(super) layer: &'p Layer,
    /// `scripts`, `packages."left-pad"`, …
    pub(super) place: String,
    pub(super) section: &'p Section,
    pub(super) entry: Option<&'p PackageEntry>,
    /// What would widen is left out.
    pub(super) only_restricts: bool,
}

impl<'p> Part<'p> {
    /// The rules of one list, with the place of each.
    pub(super) fn rules(&self, action: Action, verdict: Verdict) -> &'p [Rule] {
        match self.section.rules(action) {
            Some(rules) if !self.only_restricts || verdict == Verdict::Deny => rules.list(verdict),
            _ => &[],
        }
    }

    pub(super) fn default(&self, action: Action) -> Option<(Verdict, Position)> {
        let default = self.section.rules(action)?.default?;
        (!self.only_restricts || default.0 == Verdict::Deny).then_some(default)
    }

    pub(super) fn rule_ref(&self, action: Action, what: std::fmt::Arguments<'_>, at: Position) -> RuleRef {
        self.layer.rule_ref(at.line, format!("{}.{action}.{what}", self.place))
    }
}

/// Parts of equal rank: within them deny beats log beats allow.
pub(super) type RuleSet<'p> = Vec<Part<'p>>;

impl Policy {
    /// What this policy says about one subject.
    pub fn profile(&self, subject: &Subject, vars: &Variables) -> Result<Profile, PolicyError> {
        let sets = self.rule_sets(subject);
        let build = Build { vars, cache: &self.cache };
        let paths = |action: PathAction| -> Result<_, PolicyError> {
            let (rules, forms) = build.path_rules(&sets, action)?;
            let outcome = grants::compute(action, &rules, &forms)?;
            Ok((rules, outcome))
        };
        let (read, write, exec) =
            (paths(PathAction::Read)?, paths(PathAction::Write)?, paths(PathAction::Exec)?);
        let grants = KernelGrants {
            read: read.1.grants,
            write: write.1.grants,
            exec: exec.1.grants,
            exec_except: exec.1.except,
        };
        Ok(Profile {
            subject: subject.clone(),
            top: self.top().map(Into::into),
            vars: vars.clone(),
            paths: [read.0, write.0, exec.0],
            coverage: [read.1.coverage, write.1.coverage, exec.1.coverage],
            env: env_rules(&sets)?,
            connect: build.connect_rules(&sets)?,
            limits: limits(&sets),
            never_run: never_run(&sets),
            grants,
        })
    }

    /// Everything that applies to a subject, most specific first.
    pub(super) fn rule_sets(&self, subject: &Subject) -> Vec<RuleSet<'_>> {
        let mut sets = Vec::new();
        let package = match subject {
            Subject::Dependency { name, version, granted } => Some((name, version, *granted)),
            Subject::Root { name: Some(name), version } => Some((name, version, true)),
            _ => None,
        };
        if let Some((name, version, granted)) = package {
            for layer in self.layers.iter().rev() {
                package_sets(layer, name, version.as_ref(), granted, &mut sets);
            }
        }
        let mut section = |place: &str, of: fn(&Layer) -> &Section| {
            for layer in self.layers.iter().rev() {
                let (place, section) = (place.to_owned(), of(layer));
                sets.push(vec![Part { layer, place, section, entry: None, only_restricts: false }]);
            }
        };
        match subject {
            Subject::Manager => section("manager", |layer| &layer.document.manager),
            Subject::Dependency { .. } => section("scripts", |layer| &layer.document.scripts),
            Subject::Root { .. } => {
                section("root", |layer| &layer.document.root);
                let base = self.layers.iter().rev().find_map(|layer| layer.document.root_base);
                if base == Some(RootBase::Scripts) {
                    section("scripts", |layer| &layer.document.scripts);
                }
            }
        }
        sets
    }
}

fn package_sets<'p>(
    layer: &'p Layer,
    name: &str,
    version: Option<&Version>,
    granted: bool,
    sets: &mut Vec<RuleSet<'p>>,
) {
    let exact = layer.by_name.get(name).map_or(&[][..], Vec::as_slice);
    let mut found: Vec<(&PackageEntry, bool)> = exact
        .iter()
        .chain(&layer.globs)
        .filter_map(|index| layer.document.packages.get(*index as usize))
        .filter(|entry| entry.key.matches_name(name))
        .filter_map(|entry| match entry.key.matches_version(version) {
            Some(matches) => matches.then_some((entry, !granted)),
            // A range and no version to compare: it may well be this one, so it may restrict.
            None => Some((entry, true)),
        })
        .collect();
    found.sort_by_key(|(entry, _)| Reverse(entry.key.specificity()));
    let mut last = None;
    for (entry, only_restricts) in found {
        let specificity = entry.key.specificity();
        if last != Some(specificity) {
            sets.push(Vec::new());
            last = Some(specificity);
        }
        let place = package_pointer(&entry.key);
        let part = Part { layer, place, section: &entry.section, entry: Some(entry), only_restricts };
        if let Some(set) = sets.last_mut() {
            set.push(part);
        }
    }
}

/// The verdict when no pattern matches: the first rule set that states one.
fn default(sets: &[RuleSet<'_>], action: Action) -> Decision {
    for set in sets {
        let stated = set.iter().filter_map(|part| Some((part, part.default(action)?)));
        if let Some((part, (verdict, at))) = stated.max_by_key(|(_, (verdict, _))| *verdict) {
            return Decision { verdict, rule: Arc::new(part.rule_ref(action, format_args!("default"), at)) };
        }
    }
    let verdict = if action == Action::Env { Verdict::Allow } else { Verdict::Deny };
    built_in(verdict, format!("{action}.default"))
}

fn built_in(verdict: Verdict, pointer: String) -> Decision {
    Decision { verdict, rule: Arc::new(RuleRef { source: "npmguard".into(), line: 0, pointer }) }
}

/// Calls `add(list, rank, rule, part)` for every rule in deciding order and returns the ranked rules.
fn rank<'p>(
    sets: &[RuleSet<'p>],
    action: Action,
    mut add: impl FnMut(u32, u32, &'p Rule, &Part<'p>) -> Result<(), PolicyError>,
) -> Result<Ranked, PolicyError> {
    let mut ranked = Ranked { decisions: Vec::new(), lists: Vec::new(), default: default(sets, action) };
    let mut list = 0;
    for set in sets {
        for verdict in [Verdict::Deny, Verdict::Log, Verdict::Allow] {
            for part in set {
                list += 1;
                for (index, rule) in part.rules(action, verdict).iter().enumerate() {
                    let rank = u32::try_from(ranked.decisions.len()).unwrap_or(u32::MAX);
                    add(list, rank, rule, part)?;
                    let rule = part.rule_ref(action, format_args!("{verdict}[{index}]"), rule.at);
                    ranked.decisions.push(Decision { verdict, rule: Arc::new(rule) });
                    ranked.lists.push(list);
                }
            }
        }
    }
    Ok(ranked)
}

/// Patterns were checked when they were loaded; this says so if one slipped through.
fn broken(part: &Part<'_>, rule: &Rule, (message, hint): (String, String)) -> PolicyError {
    let (line, column) = (rule.at.line, rule.at.column);
    Problem { file: part.layer.source.clone(), line, column, message, hint: Some(hint) }.into()
}

/// What patterns become rules with.
struct Build<'b> {
    vars: &'b Variables,
    cache: &'b Cache,
}

impl Build<'_> {
    fn set(&self, builder: PathSetBuilder, what: &str) -> Result<PathSet, PolicyError> {
        builder.build(self.cache.globs()).map_err(|error| {
            PolicyError::from(Problem {
                file: "policy".into(),
                line: 0,
                column: 0,
                message: format!("the `{what}` patterns cannot be used together: {error}"),
                hint: None,
            })
        })
    }

    fn path_rules<'p>(
        &self,
        sets: &[RuleSet<'p>],
        action: PathAction,
    ) -> Result<(PathRules, Forms<'p>), PolicyError> {
        let mut set = PathSetBuilder::default();
        let mut except: HashMap<u32, PathSetBuilder> = HashMap::new();
        let mut forms = Forms::default();
        let ranked = rank(sets, action.into(), |list, rank, rule, part| {
            let pattern = PathPattern::parse(&rule.text).map_err(|error| broken(part, rule, error))?;
            let negated = pattern.negated;
            let target = if negated { except.entry(list).or_default() } else { &mut set };
            let resolved = match group_name(&rule.text).and_then(GroupSet::named) {
                Some(group) => {
                    let programs =
                        forms.programs.get_or_insert_with(|| self.cache.programs(&self.vars.path_dirs));
                    if action == PathAction::Exec {
                        target.add_group(rank, group, programs);
                        forms.groups.push(GroupForm { rank, negated, group });
                        return Ok(());
                    }
                    programs.paths(group)
                }
                None => self.vars.resolve(&pattern),
            };
            for resolved in resolved {
                target.add(rank, resolved.clone());
                forms.paths.push(Form { rank, list, negated, resolved, rule });
            }
            Ok(())
        })?;
        let except = except
            .into_iter()
            .map(|(list, builder)| Ok((list, self.set(builder, action.as_str())?)))
            .collect::<Result<_, PolicyError>>()?;
        let unresolved = built_in(Verdict::Deny, format!("{action}.unresolved"));
        let set = self.set(set, action.as_str())?;
        Ok((PathRules { ranked, set, except, unresolved }, forms))
    }

    fn connect_rules(&self, sets: &[RuleSet<'_>]) -> Result<ConnectRules, PolicyError> {
        let mut rules = Vec::new();
        let mut unix = PathSetBuilder::default();
        let ranked = rank(sets, Action::Connect, |_, rank, rule, part| {
            let terms = rule.terms;
            match ConnectPattern::parse(&rule.text).map_err(|error| broken(part, rule, error))? {
                ConnectPattern::Unix(pattern) => {
                    self.vars.resolve(&pattern).into_iter().for_each(|resolved| unix.add(rank, resolved));
                }
                ConnectPattern::Group(name) => {
                    let hosts = self.vars.hosts(&name).into_iter();
                    rules.extend(hosts.map(|(pattern, origin)| ConnectRule { rank, pattern, origin, terms }));
                }
                pattern => rules.push(ConnectRule { rank, pattern, origin: Origin::Written, terms }),
            }
            Ok(())
        })?;
        let unresolved = built_in(Verdict::Deny, "connect.unresolved".into());
        let metadata = built_in(Verdict::Deny, "connect.metadata-addresses".into());
        Ok(ConnectRules { ranked, rules, unix: self.set(unix, "unix:")?, unresolved, metadata })
    }
}

fn env_rules(sets: &[RuleSet<'_>]) -> Result<EnvRules, PolicyError> {
    let mut patterns = Vec::new();
    let mut except: HashMap<u32, Vec<Cow<'static, NamePattern>>> = HashMap::new();
    let ranked = rank(sets, Action::Env, |list, rank, rule, part| {
        let (negated, parsed): (bool, Vec<Cow<'static, NamePattern>>) = match group_name(&rule.text) {
            Some(name) => {
                let members = groups::names(name).iter().map(Cow::Borrowed).collect();
                (rule.text.starts_with('!'), members)
            }
            None => {
                let pattern = NamePattern::parse(&rule.text).map_err(|error| broken(part, rule, error))?;
                (pattern.negated, vec![Cow::Owned(pattern)])
            }
        };
        if negated {
            except.entry(list).or_default().extend(parsed);
        } else {
            patterns.extend(parsed.into_iter().map(|pattern| (rank, pattern)));
        }
        Ok(())
    })?;
    Ok(EnvRules { ranked, patterns, except })
}

/// The first statement wins; what may only restrict can make it smaller still.
fn limits(sets: &[RuleSet<'_>]) -> Limits {
    fn one<T: Copy + Ord>(sets: &[RuleSet<'_>], of: fn(&StatedLimits) -> &Stated<T>) -> Option<T> {
        let parts = || sets.iter().flatten();
        let value = |part: &Part<'_>| of(part.section.limits.as_deref()?).map(|(value, _)| value);
        let stated = parts().filter(|part| !part.only_restricts).find_map(value).flatten();
        let restricted = parts().filter(|part| part.only_restricts).filter_map(value).flatten().min();
        match (stated, restricted) {
            (Some(stated), Some(restricted)) => Some(stated.min(restricted)),
            (stated, restricted) => stated.or(restricted),
        }
    }
    Limits {
        wall: one(sets, |limits| &limits.wall),
        processes: one(sets, |limits| &limits.processes),
        file_size: one(sets, |limits| &limits.file_size),
        open_files: one(sets, |limits| &limits.open_files),
    }
}

/// The first entry that says `run` decides; one that may only restrict can say `never`.
fn never_run(sets: &[RuleSet<'_>]) -> Option<RuleRef> {
    let stated = sets.iter().flatten().filter_map(|part| Some((part, part.entry?.run?)));
    let reference =
        |part: &Part<'_>, at: Position| part.layer.rule_ref(at.line, format!("{}.run", part.place));
    let mut decided = false;
    for (part, (run, at)) in stated {
        match run {
            Run::Never if part.only_restricts || !decided => return Some(reference(part, at)),
            _ => decided |= !part.only_restricts,
        }
    }
    None
}
