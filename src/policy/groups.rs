//! The one place where `{groups}` and `{variables}` are defined. A group is a
//! name, a sentence and its patterns; nothing else in the program may hard-code
//! a list of programs, files or variable names. Programs that builds need come from
//! 182 traced packages; what is protected is a reviewed list, not a measured one.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;

use super::address::{ConnectPattern, HostName};
use super::connect::Origin;
use super::error::did_you_mean;
use super::model::Action;
use super::name::NamePattern;
use super::pattern::{PathPattern, Resolved, Shape, trim};
use super::special;

// One item a line would make the lists three times as long.
#[rustfmt::skip]
pub(super) mod lists;

pub(super) use lists::GROUPS;

/// The values of the variables for one run of one subject.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    /// `{home}`: the user's home directory.
    pub home: Option<PathBuf>,
    /// `{project}`: the directory of the project.
    pub project: PathBuf,
    /// `{package}`: the directory of the package whose script runs.
    pub package: PathBuf,
    /// `{node_modules}`: the `node_modules` directories above the package.
    pub node_modules: Vec<PathBuf>,
    /// `{tmp}`: the private temporary directory.
    pub tmp: PathBuf,
    /// `{cache}`: the user's cache directory; `None` means `{home}/.cache`.
    pub cache: Option<PathBuf>,
    /// `{node}`: the node binary and its install prefix.
    pub node: Vec<PathBuf>,
    /// `{toolchain}`: compilers and tools outside the system directories.
    pub toolchain: Vec<PathBuf>,
    /// The directories of `PATH`; program groups are looked for here too.
    pub path_dirs: Vec<PathBuf>,
    /// `{manager-state}`: caches and logs of the package manager.
    pub manager_state: Vec<PathBuf>,
    /// `{registry}`, `{proxy}`, `{git-hosts}`.
    pub hosts: KnownHosts,
}

/// The hosts that the package manager is set up to use.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    /// `{registry}`: the registries.
    pub registry: Vec<Endpoint>,
    /// `{proxy}`: the proxies.
    pub proxy: Vec<Endpoint>,
    /// `{git-hosts}`: where git dependencies come from.
    pub git_hosts: Vec<Endpoint>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name in lower case, or an address in text form without brackets.
    pub host: String,
    /// The port, if only one is meant.
    pub port: Option<u16>,
    /// The user's own configuration names it, so it may have private or loopback addresses.
    pub private: bool,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.port, self.host.contains(':')) {
            (Some(port), true) => write!(f, "[{}]:{port}", self.host),
            (Some(port), false) => write!(f, "{}:{port}", self.host),
            (None, _) => f.write_str(&self.host),
        }
    }
}

impl KnownHosts {
    /// The members of a group, if it is one of these.
    pub(super) fn group(&self, name: &str) -> Option<&[Endpoint]> {
        match name {
            "registry" => Some(&self.registry),
            "proxy" => Some(&self.proxy),
            "git-hosts" => Some(&self.git_hosts),
            _ => None,
        }
    }
}

impl Endpoint {
    /// The pattern that is this host and nothing else. A lockfile may have named it, so nothing
    /// in it is a wildcard; `None` for what is no host.
    fn pattern(&self) -> Option<ConnectPattern> {
        let port = self.port;
        match self.host.parse::<IpAddr>() {
            Ok(ip) => {
                let address = special::canonical(ip);
                let prefix = if address.is_ipv4() { 32 } else { 128 };
                Some(ConnectPattern::Network { address, prefix, port })
            }
            Err(_) => HostName::exact(&self.host).map(|name| ConnectPattern::Host { name, port }),
        }
    }
}

/// What a group holds.
pub(super) enum Members {
    /// Path patterns.
    Paths(&'static [&'static str]),
    /// Program names, looked for in every directory that holds programs.
    Programs(&'static [&'static str]),
    /// Environment variable name patterns.
    Names(&'static [&'static str]),
    /// Host patterns; none where the launcher fills them in.
    Hosts(&'static [&'static str]),
}

/// A named list.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) doc: &'static str,
    pub(super) members: Members,
}

/// A variable: its name, its sentence, and whether it stands for whole trees when it stands alone.
struct Variable {
    name: &'static str,
    doc: &'static str,
    trees: bool,
}

const VARIABLES: &[Variable] = &[
    Variable { name: "home", doc: "the user's home directory", trees: false },
    Variable { name: "project", doc: "the project's directory", trees: false },
    Variable { name: "package", doc: "the directory of the package whose script runs", trees: false },
    Variable { name: "node_modules", doc: "every node_modules directory above the package", trees: false },
    Variable { name: "tmp", doc: "the private temporary directory of this script", trees: false },
    Variable {
        name: "cache",
        doc: "the user's cache directory ($XDG_CACHE_HOME or {home}/.cache)",
        trees: false,
    },
    Variable { name: "node", doc: "the node binary and its install prefix; alone: whole trees", trees: true },
    Variable {
        name: "toolchain",
        doc: "compilers and tools outside the system; alone: whole trees",
        trees: true,
    },
    Variable {
        name: "manager-state",
        doc: "the package manager's caches and logs; alone: whole trees",
        trees: true,
    },
];

/// The group of this name.
pub(super) fn group(name: &str) -> Option<&'static Group> {
    GROUPS.iter().find(|group| group.name == name)
}

/// The patterns of a group of paths, read once.
fn paths(name: &str) -> &'static [PathPattern] {
    static PATHS: OnceLock<HashMap<&'static str, Vec<PathPattern>>> = OnceLock::new();
    let groups = PATHS.get_or_init(|| {
        let paths = GROUPS.iter().filter_map(|group| match group.members {
            Members::Paths(texts) => Some((group.name, texts)),
            _ => None,
        });
        let read = |texts: &[&str]| texts.iter().filter_map(|text| PathPattern::parse(text).ok()).collect();
        paths.map(|(name, texts)| (name, read(texts))).collect()
    });
    groups.get(name).map_or(&[], Vec::as_slice)
}

/// The patterns of a group of variable names, read once.
pub(super) fn names(name: &str) -> &'static [NamePattern] {
    static NAMES: OnceLock<HashMap<&'static str, Vec<NamePattern>>> = OnceLock::new();
    let groups = NAMES.get_or_init(|| {
        let names = GROUPS.iter().filter_map(|group| match group.members {
            Members::Names(texts) => Some((group.name, texts)),
            _ => None,
        });
        let read = |texts: &[&str]| texts.iter().filter_map(|text| NamePattern::parse(text).ok()).collect();
        names.map(|(name, texts)| (name, read(texts))).collect()
    });
    groups.get(name).map_or(&[], Vec::as_slice)
}

/// The patterns of a group of hosts that is the same everywhere, read once.
fn hosts(name: &str) -> &'static [ConnectPattern] {
    static HOSTS: OnceLock<HashMap<&'static str, Vec<ConnectPattern>>> = OnceLock::new();
    let groups = HOSTS.get_or_init(|| {
        let hosts = GROUPS.iter().filter_map(|group| match group.members {
            Members::Hosts(texts) => Some((group.name, texts)),
            _ => None,
        });
        let read =
            |texts: &[&str]| texts.iter().filter_map(|text| ConnectPattern::parse(text).ok()).collect();
        hosts.map(|(name, texts)| (name, read(texts))).collect()
    });
    groups.get(name).map_or(&[], Vec::as_slice)
}

/// Whether the group `{credentials}` covers a variable of this name.
pub fn is_credential(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    names("credentials").iter().any(|pattern| !pattern.negated && pattern.matches(lower.as_bytes()))
}

fn variable(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// Checks that `{name}` exists and fits the action; the error is the sentence and the hint.
pub(super) fn check_name(name: &str, action: Action, bare: bool) -> Result<(), (String, String)> {
    if variable(name).is_some() {
        return match action {
            Action::Env => Err((
                format!("`{{{name}}}` is a path, but `env` takes variable names"),
                "write a name such as `NPM_TOKEN`, or the group `{credentials}`".into(),
            )),
            _ => Ok(()),
        };
    }
    let Some(group) = group(name) else {
        let known = VARIABLES.iter().map(|v| v.name).chain(GROUPS.iter().map(|g| g.name));
        let suggestion =
            did_you_mean(name, known).map(|word| format!("did you mean `{{{word}}}`? ")).unwrap_or_default();
        return Err((
            format!("unknown variable or group `{{{name}}}`"),
            format!("{suggestion}`npmguard policy show --groups` lists them all"),
        ));
    };
    let (holds, fits) = match group.members {
        Members::Paths(_) => ("paths", !matches!(action, Action::Env | Action::Connect)),
        Members::Programs(_) => ("programs", !matches!(action, Action::Env | Action::Connect)),
        Members::Names(_) => ("variable names", action == Action::Env),
        Members::Hosts(_) => ("hosts", action == Action::Connect),
    };
    if !fits {
        return Err((
            format!("`{{{name}}}` is a group of {holds}, which `{action}` does not take"),
            "`npmguard policy show --groups` says what each group holds".into(),
        ));
    }
    if !bare {
        return Err((
            format!("`{{{name}}}` is a group and cannot be followed by a path"),
            "groups stand alone; variables such as `{project}` can be continued".into(),
        ));
    }
    Ok(())
}

impl Variables {
    fn values(&self, name: &str) -> Vec<PathBuf> {
        let one = |path: &PathBuf| vec![path.clone()];
        let values = match name {
            "home" => self.home.iter().cloned().collect(),
            "project" => one(&self.project),
            "package" => one(&self.package),
            "node_modules" => self.node_modules.clone(),
            "tmp" => one(&self.tmp),
            "cache" => match (&self.cache, &self.home) {
                (Some(cache), _) => one(cache),
                (None, Some(home)) => vec![home.join(".cache")],
                (None, None) => Vec::new(),
            },
            "node" => self.node.clone(),
            "toolchain" => self.toolchain.clone(),
            "manager-state" => self.manager_state.clone(),
            _ => Vec::new(),
        };
        // An empty or relative value would turn a grant for a directory into one for everything.
        values.into_iter().filter(|path| path.is_absolute()).collect()
    }

    /// A path pattern with its variables and groups of paths replaced by their values.
    /// Groups of programs have none here: which files they are says [`super::programs`].
    pub(super) fn resolve(&self, pattern: &PathPattern) -> Vec<Resolved> {
        let super::pattern::Head::Name(name) = &pattern.head else {
            return pattern.resolve_under(None).collect();
        };
        if let Some(variable) = variable(name) {
            let values = self.values(name);
            if pattern.tails.is_empty() {
                let shape = if variable.trees { Shape::Tree } else { Shape::Literal };
                return values.iter().map(|value| literal(value, shape.clone())).collect();
            }
            return values
                .iter()
                .flat_map(|value| pattern.resolve_under(Some(value)).collect::<Vec<_>>())
                .collect();
        }
        paths(name).iter().flat_map(|pattern| self.resolve(pattern)).collect()
    }

    /// The patterns of a group of hosts, and where each comes from.
    pub(super) fn hosts(&self, name: &str) -> Vec<(ConnectPattern, Origin)> {
        let Some(endpoints) = self.hosts.group(name) else {
            return hosts(name).iter().map(|pattern| (pattern.clone(), Origin::Group)).collect();
        };
        let origin = |private| if private { Origin::UserConfiguration } else { Origin::Group };
        endpoints.iter().filter_map(|host| Some((host.pattern()?, origin(host.private)))).collect()
    }

    /// The variable that names the longest part of this path, and the rest, for hints.
    pub(super) fn tokenise(&self, path: &std::path::Path) -> Option<(&'static str, PathBuf)> {
        const ORDER: [&str; 6] = ["package", "tmp", "node_modules", "cache", "project", "home"];
        ORDER
            .iter()
            .flat_map(|name| self.values(name).into_iter().map(move |value| (*name, value)))
            .filter(|(_, value)| value.parent().is_some())
            .filter_map(|(name, value)| {
                let rest = path.strip_prefix(&value).ok()?.to_path_buf();
                Some((name, rest, value.as_os_str().len()))
            })
            // The first of equals: `{package}` before `{project}` when they are one directory.
            .min_by_key(|(_, _, length)| std::cmp::Reverse(*length))
            .map(|(name, rest, _)| (name, rest))
    }
}

fn literal(path: &std::path::Path, shape: Shape) -> Resolved {
    Resolved { base: trim(path.as_os_str().as_bytes()).into(), shape }
}

/// What `npmguard policy show --groups` prints.
pub fn show_groups() -> String {
    let mut text = String::from("variables\n");
    for variable in VARIABLES {
        let _ = writeln!(text, "  {:<20} {}", format!("{{{}}}", variable.name), variable.doc);
    }
    text.push_str("\ngroups\n");
    for group in GROUPS {
        let _ = writeln!(text, "  {:<20} {}", format!("{{{}}}", group.name), group.doc);
        let (what, members) = match group.members {
            Members::Paths(members) => ("paths", members),
            Members::Programs(members) => ("programs", members),
            Members::Names(members) => ("names", members),
            Members::Hosts(members) => ("hosts", members),
        };
        let mut line = format!("    {what}:");
        for member in members {
            if line.len() + member.len() > 98 {
                let _ = writeln!(text, "{line}");
                line = "     ".into();
            }
            line.push(' ');
            line.push_str(member);
        }
        if members.is_empty() {
            line.push_str(" known to the launcher");
        }
        let _ = writeln!(text, "{line}");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn every_group_member_is_a_valid_pattern_and_only_globs_where_globs_may_be() {
        for group in GROUPS {
            match group.members {
                Members::Paths(patterns) => {
                    for text in patterns {
                        let pattern =
                            PathPattern::parse(text).unwrap_or_else(|e| panic!("{}: {e:?}", group.name));
                        if let super::super::pattern::Head::Name(name) = &pattern.head {
                            assert!(variable(name).is_some(), "{}: {text} nests groups", group.name);
                        }
                        let may_glob = group.name.ends_with("secrets");
                        assert!(may_glob || !pattern.is_complex(), "{}: {text} is not exact", group.name);
                    }
                }
                Members::Names(names) => {
                    for text in names {
                        NamePattern::parse(text).unwrap();
                    }
                }
                Members::Programs(names) => assert!(names.iter().all(|name| !name.contains(['/', '*']))),
                Members::Hosts(hosts) => {
                    for text in hosts {
                        assert!(
                            matches!(ConnectPattern::parse(text), Ok(ConnectPattern::Host { .. })),
                            "{text}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_program_is_in_one_verdict_only() {
        let members = |name| match group(name).unwrap().members {
            Members::Programs(names) => names,
            _ => panic!("{name} holds no programs"),
        };
        let denied = [
            "network-tools",
            "privilege-tools",
            "cloud-clis",
            "ai-clis",
            "container-clis",
            "schedulers",
            "secret-scanners",
        ];
        for good in ["shells", "coreutils", "compilers", "interpreters", "archivers", "process-tools"] {
            for bad in denied {
                for name in members(good) {
                    assert!(!members(bad).contains(name), "{name} is in {good} and {bad}");
                }
            }
        }
    }

    #[test]
    fn a_variable_without_a_value_or_with_a_relative_one_vanishes() {
        let vars = Variables { project: "relative".into(), ..Variables::default() };
        for text in ["{home}/**", "{cache}/**", "{project}/**", "{package}/**", "{tmp}"] {
            assert_eq!(vars.resolve(&PathPattern::parse(text).unwrap()), [], "{text}");
        }
    }
}
