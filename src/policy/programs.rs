//! Which files are the programs that groups name. Directories that hold programs are
//! looked through once per run: what is there, under which spellings, and where links
//! lead. Verdicts do not depend on what was found: a listed name in such a directory
//! is that program, even if it appears later. This module only looks; it opens nothing.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::groups::{GROUPS, Members};
use super::matcher::ByPath;
use super::pattern::{Resolved, Shape, trim};

/// Where programs live when `PATH` says nothing.
const PROGRAM_DIRS: &[&str] =
    &["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// What Debian's alternatives lead through; such a link stands for the program it names.
const ALTERNATIVES: &str = "/etc/alternatives";

/// A link that leads through more links than this leads nowhere.
const MAX_LINKS: usize = 16;

/// A set of groups, one bit for each place in [`GROUPS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct GroupSet(u32);

impl GroupSet {
    /// The group of programs of this name, if there is one.
    pub(super) fn named(name: &str) -> Option<Self> {
        let place = GROUPS.iter().position(|group| group.name == name)?;
        matches!(GROUPS[place].members, Members::Programs(_)).then_some(Self(1 << place))
    }

    /// The groups that list a program of this name.
    fn listing(name: &[u8]) -> Self {
        static LISTED: OnceLock<HashMap<&'static [u8], GroupSet>> = OnceLock::new();
        let listed = LISTED.get_or_init(|| {
            let mut listed: HashMap<&[u8], Self> = HashMap::new();
            for group in GROUPS {
                let Members::Programs(names) = group.members else { continue };
                let bit = Self::named(group.name).unwrap_or_default();
                for name in names {
                    let groups = listed.entry(name.as_bytes()).or_default();
                    *groups = groups.or(bit);
                }
            }
            listed
        });
        listed.get(name).copied().unwrap_or_default()
    }

    fn members(self) -> impl Iterator<Item = &'static str> {
        let groups = GROUPS.iter().zip(0..).filter(move |(_, place)| self.0 >> place & 1 == 1);
        groups.flat_map(|(group, _)| match group.members {
            Members::Programs(names) => names.iter().copied(),
            _ => [].iter().copied(),
        })
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn meets(self, other: Self) -> bool {
        !self.and(other).is_empty()
    }
}

/// A listed program that exists.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) groups: GroupSet,
    /// In its real directory.
    pub(super) path: Arc<[u8]>,
    /// In the same directory by its other names.
    pub(super) spellings: Vec<Arc<[u8]>>,
    /// The file that it leads to, and the groups for which that file is this program.
    pub(super) target: Option<(GroupSet, Arc<[u8]>)>,
}

/// The programs of one `PATH`.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// Every directory that may hold programs, by every spelling.
    dirs: ByPath<()>,
    /// Files elsewhere that listed programs lead to.
    targets: ByPath<GroupSet>,
    found: Vec<Found>,
}

impl Programs {
    /// Looks through `PATH` and the standard directories.
    pub(super) fn look(path_dirs: &[PathBuf]) -> Self {
        let mut programs = Self::default();
        let mut real_dirs: Vec<(PathBuf, Vec<PathBuf>)> = Vec::new();
        let standard = PROGRAM_DIRS.iter().map(PathBuf::from);
        for dir in path_dirs.iter().cloned().chain(standard).filter(|dir| dir.is_absolute()) {
            if programs.dirs.insert(bytes(&dir), ()).is_some() {
                continue;
            }
            let real = fs::canonicalize(&dir).unwrap_or_else(|_| dir.clone());
            match real_dirs.iter_mut().find(|(known, _)| *known == real) {
                Some((_, spellings)) => spellings.push(dir),
                None => real_dirs.push((real, vec![dir])),
            }
        }
        for (real, mut spellings) in real_dirs {
            spellings.retain(|dir| *dir != real);
            programs.dirs.insert(bytes(&real), ());
            programs.directory(&real, &spellings);
        }
        for found in &programs.found {
            if let Some((groups, target)) = &found.target {
                let known = programs.targets.entry(target.clone()).or_default();
                *known = known.or(*groups);
            }
        }
        programs
    }

    fn directory(&mut self, dir: &Path, spellings: &[PathBuf]) {
        let mut names: Vec<Vec<u8>> = match fs::read_dir(dir) {
            Ok(entries) => {
                entries.flatten().map(|entry| entry.file_name().as_encoded_bytes().to_vec()).collect()
            }
            // It may be searched although it may not be listed.
            Err(_) => GroupSet(u32::MAX)
                .members()
                .filter(|name| dir.join(name).symlink_metadata().is_ok())
                .map(|name| name.as_bytes().to_vec())
                .collect(),
        };
        names.retain(|name| !GroupSet::listing(name).is_empty());
        names.sort_unstable();
        for name in names {
            let groups = GroupSet::listing(&name);
            let program = dir.join(OsStr::from_bytes(&name));
            let target = counted_target(&program, groups).map(|(of, path)| (of, bytes(&path)));
            let spell = |dir: &PathBuf| bytes(&dir.join(OsStr::from_bytes(&name)));
            let spellings = spellings.iter().map(spell).collect();
            self.found.push(Found { groups, path: bytes(&program), spellings, target });
        }
    }

    /// The groups of the program at `path`, by any spelling.
    pub(super) fn groups_of(&self, path: &[u8]) -> GroupSet {
        let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return GroupSet::default() };
        let listed = match self.dirs.contains_key(&path[..slash]) {
            true => GroupSet::listing(&path[slash + 1..]),
            false => GroupSet::default(),
        };
        listed.or(self.targets.get(path).copied().unwrap_or_default())
    }

    /// Listed programs that exist, one entry for each real file name.
    pub(super) fn found(&self) -> &[Found] {
        &self.found
    }

    /// Every path that can be a program of these groups, for actions without a program table.
    pub(super) fn paths(&self, groups: GroupSet) -> Vec<Resolved> {
        let named = groups.members().flat_map(|name| {
            self.dirs.keys().map(move |dir| [dir, &b"/"[..], name.as_bytes()].concat().into())
        });
        let targets = self.targets.iter().filter(|(_, of)| of.meets(groups)).map(|(path, _)| path.clone());
        named.chain(targets).map(|base| Resolved { base, shape: Shape::Literal }).collect()
    }
}

fn bytes(path: &Path) -> Arc<[u8]> {
    trim(path.as_os_str().as_bytes()).into()
}

/// Where a link leads, and for which groups that file is the program: those that list
/// its own name too, or all if the link goes through the alternatives. A file under
/// a foreign name is a multi-call binary such as busybox, which is more than one program.
fn counted_target(program: &Path, listed: GroupSet) -> Option<(GroupSet, PathBuf)> {
    let first = fs::read_link(program).ok()?;
    let real = fs::canonicalize(program).ok()?;
    let own_name = GroupSet::listing(real.file_name()?.as_bytes());
    let groups = if by_alternatives(program, first) { listed } else { listed.and(own_name) };
    (!groups.is_empty()).then_some((groups, real))
}

fn by_alternatives(program: &Path, first: PathBuf) -> bool {
    let mut link = program.parent().map_or(first.clone(), |dir| dir.join(&first));
    for _ in 0..MAX_LINKS {
        if link.starts_with(ALTERNATIVES) {
            return true;
        }
        let Ok(next) = fs::read_link(&link) else { return false };
        link = link.parent().map_or(next.clone(), |dir| dir.join(&next));
    }
    false
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_program_is_known_by_every_spelling_and_by_where_it_leads() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name);
        for dir in ["bin", "lib"] {
            fs::create_dir(at(dir)).unwrap();
        }
        for file in ["bin/busybox", "lib/ssh", "bin/unlisted"] {
            fs::write(at(file), "").unwrap();
        }
        symlink("bin", at("sbin")).unwrap();
        symlink("busybox", at("bin/wget")).unwrap();
        symlink("../lib/ssh", at("bin/ssh")).unwrap();
        let programs = Programs::look(&[at("sbin"), at("bin"), at("bin"), "relative".into()]);
        let network = GroupSet::named("network-tools").unwrap();
        let denied = |name: &str| programs.groups_of(at(name).as_os_str().as_bytes()).meets(network);
        for name in ["bin/ssh", "sbin/ssh", "lib/ssh", "bin/wget", "sbin/curl"] {
            assert!(denied(name), "{name}");
        }
        for name in ["bin/busybox", "bin/unlisted", "lib/curl", "lib"] {
            assert!(!denied(name), "{name}");
        }
        let own: Vec<_> =
            programs.found().iter().filter(|found| found.path.starts_with(bytes(&root).as_ref())).collect();
        assert_eq!(own.len(), 3, "{own:?}");
        let ssh = own.iter().find(|found| found.path.ends_with(b"/ssh")).unwrap();
        assert_eq!(ssh.path, bytes(&at("bin/ssh")));
        assert_eq!(ssh.spellings, [bytes(&at("sbin/ssh"))]);
        assert_eq!(ssh.target, Some((network, bytes(&at("lib/ssh")))));
        assert!(programs.paths(network).iter().any(|path| path.base == bytes(&at("lib/ssh"))));
    }

    #[test]
    fn a_link_through_the_alternatives_stands_for_what_it_names() {
        let place = tempfile::tempdir().unwrap();
        let link = |name: &str, target: &str| {
            symlink(target, place.path().join(name)).unwrap();
            by_alternatives(&place.path().join(name), target.into())
        };
        assert!(link("nc", "/etc/alternatives/nc"));
        assert!(link("netcat", "nc"));
        assert!(!link("wget", "busybox"));
        assert!(!link("loop", "loop"));
    }

    #[test]
    fn no_more_groups_than_a_set_can_hold() {
        assert!(GROUPS.len() <= 32);
        assert_eq!(GroupSet::named("registry"), None);
    }
}
