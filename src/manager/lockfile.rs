//! `package-lock.json`: what the project pinned for a place in `node_modules`, and
//! through whom a package came in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::Path;

use serde::Deserialize;

use super::spec;

/// Larger lockfiles are not read; the largest public ones have a few tens of MiB.
const LARGEST: u64 = 256 << 20;

/// The parts of a lockfile (version 2 and 3) that identity rests on.
#[derive(Debug, Default, Deserialize)]
pub struct Lockfile {
    #[serde(default)]
    packages: HashMap<String, Entry>,
}

/// One place of the tree.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The real name, where the place is an alias (`npm:`).
    #[serde(default)]
    pub name: Option<String>,
    /// Version.
    #[serde(default)]
    pub version: Option<String>,
    /// Subresource integrity.
    #[serde(default)]
    pub integrity: Option<String>,
    /// Where it came from; absent for registry packages when npm was told to omit it.
    #[serde(default)]
    pub resolved: Option<String>,
    /// Whether the place is a link to `resolved`, which is a place as well.
    #[serde(default)]
    link: bool,
    #[serde(default)]
    dependencies: BTreeMap<String, String>,
    #[serde(default)]
    dev_dependencies: BTreeMap<String, String>,
    #[serde(default)]
    optional_dependencies: BTreeMap<String, String>,
    #[serde(default)]
    peer_dependencies: BTreeMap<String, String>,
}

impl Entry {
    /// Names and specs of what it depends on; peers are asked for by others.
    pub fn specs(&self) -> impl Iterator<Item = (&str, &str)> {
        [&self.dependencies, &self.optional_dependencies, &self.dev_dependencies]
            .into_iter()
            .flatten()
            .map(|(name, spec)| (name.as_str(), spec.as_str()))
    }
}

impl Lockfile {
    /// Reads the lockfile of a project; an absent or unreadable one is empty, because
    /// npm itself reports it.
    pub fn load(project: &Path) -> Lockfile {
        ["npm-shrinkwrap.json", "package-lock.json"]
            .iter()
            .map(|name| project.join(name))
            .find(|p| p.metadata().is_ok_and(|m| m.is_file() && m.len() <= LARGEST))
            .and_then(|p| std::fs::read(p).ok())
            .and_then(|data| serde_json::from_slice(&data).ok())
            .unwrap_or_default()
    }

    /// The entry for a place such as `node_modules/a/node_modules/@s/b`.
    pub fn entry(&self, place: &str) -> Option<&Entry> {
        self.packages.get(place)
    }

    /// Every place with its entry.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.packages.iter().map(|(place, entry)| (place.as_str(), entry))
    }

    /// Hosts that packages of a registry were fetched from: entries with an address and an
    /// integrity, whose address no manifest asks for.
    pub fn registry_hosts(&self) -> Vec<String> {
        let by_address: HashSet<&str> =
            self.packages.values().flat_map(Entry::specs).map(|(_, spec)| spec).collect();
        let hosts: BTreeSet<String> = self
            .packages
            .iter()
            .filter(|(place, entry)| place.contains("node_modules/") && entry.integrity.is_some())
            .filter_map(|(_, entry)| entry.resolved.as_deref())
            .filter(|resolved| !by_address.contains(resolved))
            .filter_map(|resolved| Some(spec::remote_of_url(resolved)?.host))
            .collect();
        hosts.into_iter().collect()
    }

    /// Names of the packages from the project down to the one at `place`, which is not
    /// among them: the shortest way on which it was asked for.
    pub fn dependants(&self, place: &str) -> Vec<String> {
        let mut came_from: HashMap<String, String> = HashMap::new();
        let mut queue = VecDeque::from([String::new()]);
        while let Some(at) = queue.pop_front() {
            if at == place {
                break;
            }
            let Some(entry) = self.packages.get(&at) else { continue };
            let lists = [
                &entry.dependencies,
                &entry.optional_dependencies,
                &entry.peer_dependencies,
                &entry.dev_dependencies,
            ];
            for name in lists.into_iter().flat_map(BTreeMap::keys) {
                if let Some(found) = self.find(&at, name)
                    && !found.is_empty()
                    && !came_from.contains_key(&found)
                {
                    came_from.insert(found.clone(), at.clone());
                    // What a workspace depends on is said at the place that the link leads to.
                    if let Some(target) = self.target(&found)
                        && !target.is_empty()
                        && !came_from.contains_key(target)
                    {
                        came_from.insert(target.to_owned(), at.clone());
                        queue.push_back(target.to_owned());
                    }
                    queue.push_back(found);
                }
            }
        }
        let mut chain = Vec::new();
        let mut at = place;
        while let Some(parent) = came_from.get(at) {
            chain.push(self.name_of(parent));
            at = parent;
        }
        chain.reverse();
        chain
    }

    /// The name that the tree has for a place; `.` for a project without one.
    pub(super) fn name_of(&self, place: &str) -> String {
        match place.rsplit_once("node_modules/") {
            Some((_, name)) => name.to_owned(),
            None => {
                let own = self.packages.get(place).and_then(|e| e.name.clone());
                own.or_else(|| self.name_of_link(place)).unwrap_or_else(|| ".".into())
            }
        }
    }

    /// Where the link at a place leads to.
    fn target(&self, place: &str) -> Option<&str> {
        self.packages.get(place).filter(|e| e.link)?.resolved.as_deref()
    }

    /// npm leaves the name of a workspace out where a link in `node_modules` has it.
    fn name_of_link(&self, target: &str) -> Option<String> {
        let links = self.packages.keys().filter(|place| self.target(place) == Some(target));
        links.min().and_then(|place| Some(place.rsplit_once("node_modules/")?.1.to_owned()))
    }

    /// Node's resolution: the nearest `node_modules` upwards that has the name.
    fn find(&self, from: &str, name: &str) -> Option<String> {
        let mut base = from;
        loop {
            let place = if base.is_empty() {
                format!("node_modules/{name}")
            } else {
                format!("{base}/node_modules/{name}")
            };
            if self.packages.contains_key(&place) {
                return Some(place);
            }
            if base.is_empty() {
                return None;
            }
            base = base.rfind("node_modules/").map_or("", |at| base[..at].trim_end_matches('/'));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_way_from_the_project_is_the_shortest() {
        let lock: Lockfile = serde_json::from_str(
            r#"{"packages": {
                "": {"name": "app", "dependencies": {"b": "1", "c": "1", "w": "*"}},
                "node_modules/b": {"version": "1.0.0", "dependencies": {"left-pad": "1"}},
                "node_modules/c": {"version": "1.0.0", "dependencies": {"b": "1"}},
                "node_modules/b/node_modules/left-pad": {"version": "1.3.0", "integrity": "sha512-x"},
                "node_modules/orphan": {"version": "1.0.0"}
                , "node_modules/w": {"resolved": "packages/w", "link": true},
                "packages/w": {"version": "1.0.0", "dependencies": {"only": "1"}},
                "node_modules/only": {"version": "1.0.0"}
            }}"#,
        )
        .unwrap();
        assert_eq!(lock.dependants("node_modules/only"), ["app", "w"]);
        assert_eq!(lock.dependants("node_modules/b/node_modules/left-pad"), ["app", "b"]);
        assert_eq!(lock.dependants("node_modules/b"), ["app"]);
        assert!(lock.dependants("node_modules/orphan").is_empty());
        assert_eq!(
            lock.entry("node_modules/b/node_modules/left-pad").unwrap().integrity.as_deref(),
            Some("sha512-x")
        );
    }
}
