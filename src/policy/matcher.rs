//! A set of resolved path patterns, each with a rank, and the question which of
//! them match a path. Literals and trees are hash lookups of the path and its
//! ancestors; globs are asked only for paths below their own base directory; groups
//! of programs are asked of the table of programs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use globset::{Candidate, GlobSet};

use super::cache::Globs;
use super::pattern::{Resolved, Shape, places_in_set, trim};
use super::programs::{GroupSet, Programs};

/// Patterns by base directory.
#[derive(Debug, Default)]
pub(super) struct PathSet {
    nodes: ByPath<Node>,
    groups: Option<Groups>,
}

/// Groups of programs and the rank of each, ascending.
#[derive(Debug)]
struct Groups {
    programs: Arc<Programs>,
    ranks: Vec<(GroupSet, u32)>,
}

/// A map whose keys come from a policy, so its hash need only be fast.
pub(super) type ByPath<T> = HashMap<Arc<[u8]>, T, BuildHasherDefault<PathHasher>>;

#[derive(Debug, Default)]
struct Node {
    /// Ranks of patterns that match exactly here, ascending.
    exact: Ranks,
    /// Ranks of patterns that match here and everywhere below, ascending.
    tree: Ranks,
    /// Globs over what lies below, and the rank of each.
    globs: Option<Box<(Arc<GlobSet>, Vec<u32>)>>,
}

/// Ranks, ascending; nearly always one, which then needs no allocation.
#[derive(Debug, Default)]
struct Ranks {
    first: Option<u32>,
    rest: Vec<u32>,
}

impl Ranks {
    fn push(&mut self, rank: u32) {
        match self.first {
            None => self.first = Some(rank),
            Some(_) => self.rest.push(rank),
        }
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.first.into_iter().chain(self.rest.iter().copied())
    }
}

/// A multiplicative hash, eight bytes at a time.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct PathHasher(u64);

impl Hasher for PathHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        // The table takes its bits from both ends; multiplication leaves the low ones poor.
        self.0 ^ (self.0 >> 32)
    }
}

/// Collects patterns for a [`PathSet`].
#[derive(Default)]
pub(super) struct PathSetBuilder {
    nodes: ByPath<Node>,
    globs: ByPath<(Vec<Box<str>>, Vec<u32>)>,
    groups: Option<Groups>,
}

impl PathSetBuilder {
    /// Adds a pattern; ranks must be added in ascending order.
    pub(super) fn add(&mut self, rank: u32, pattern: Resolved) {
        match pattern.shape {
            Shape::Literal | Shape::Directory => self.nodes.entry(pattern.base).or_default().exact.push(rank),
            Shape::Tree => self.nodes.entry(pattern.base).or_default().tree.push(rank),
            Shape::Glob(glob) => {
                let (texts, ranks) = self.globs.entry(pattern.base).or_default();
                ranks.extend(std::iter::repeat_n(rank, places_in_set(&glob)));
                texts.push(glob);
            }
        }
    }

    /// Adds a group of programs; ranks must be added in ascending order.
    pub(super) fn add_group(&mut self, rank: u32, group: GroupSet, programs: &Arc<Programs>) {
        let empty = || Groups { programs: Arc::clone(programs), ranks: Vec::new() };
        self.groups.get_or_insert_with(empty).ranks.push((group, rank));
    }

    pub(super) fn build(mut self, compiled: &Globs) -> Result<PathSet, globset::Error> {
        for (base, (texts, ranks)) in self.globs {
            self.nodes.entry(base).or_default().globs = Some(Box::new((compiled.compiled(&texts)?, ranks)));
        }
        Ok(PathSet { nodes: self.nodes, groups: self.groups })
    }
}

impl PathSet {
    /// The lowest rank that matches `path` and that `accept` does not refuse.
    pub(super) fn best(&self, path: &[u8], accept: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best: Option<u32> = None;
        let mut consider = |ranks: &mut dyn Iterator<Item = u32>| {
            for rank in ranks {
                if best.is_some_and(|best| best <= rank) {
                    break;
                }
                if accept(rank) {
                    best = Some(rank);
                    break;
                }
            }
        };
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let Some(node) = self.nodes.get(&path[..at]) else { continue };
            consider(&mut node.tree.iter());
            if let Some((set, ranks)) = node.globs.as_deref() {
                let mut hits = Vec::new();
                set.matches_candidate_into(&Candidate::from_bytes(&path[at + 1..]), &mut hits);
                for hit in hits {
                    consider(&mut ranks.get(hit).copied().into_iter());
                }
            }
        }
        if let Some(node) = self.nodes.get(path) {
            consider(&mut node.tree.iter());
            consider(&mut node.exact.iter());
        }
        if let Some(Groups { programs, ranks }) = &self.groups {
            let of = programs.groups_of(path);
            if !of.is_empty() {
                consider(&mut ranks.iter().filter(|(group, _)| group.meets(of)).map(|(_, rank)| *rank));
            }
        }
        best
    }

    pub(super) fn matches(&self, path: &[u8]) -> bool {
        self.best(path, |_| true).is_some()
    }
}

/// The form in which paths are compared: absolute, single slashes, no `.`, no slash at the end.
/// `None` for what cannot be compared: relative paths and `..`.
pub(super) fn normal(path: &Path) -> Option<Cow<'_, [u8]>> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.first() != Some(&b'/') {
        return None;
    }
    let trimmed = trim(bytes);
    let mut plain = true;
    for part in trimmed.split(|byte| *byte == b'/').skip(1) {
        match part {
            b".." => return None,
            b"" | b"." => plain = false,
            _ => {}
        }
    }
    if plain {
        return Some(Cow::Borrowed(trimmed));
    }
    let mut clean = Vec::with_capacity(trimmed.len());
    for part in trimmed.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        clean.push(b'/');
        clean.extend_from_slice(part);
    }
    Some(Cow::Owned(clean))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::policy::pattern::PathPattern;
    use std::ffi::OsStr;

    fn set(patterns: &[&str]) -> PathSet {
        let mut builder = PathSetBuilder::default();
        for (text, rank) in patterns.iter().zip(0..) {
            for resolved in PathPattern::parse(text).unwrap().resolve_under(None) {
                builder.add(rank, resolved);
            }
        }
        builder.build(&Globs::default()).unwrap()
    }

    fn matches(pattern: &str, path: &str) -> bool {
        set(&[pattern]).matches(&normal(Path::new(path)).unwrap())
    }

    #[test]
    fn the_pattern_language() {
        for (pattern, path, expected) in [
            ("/a/**", "/a", true),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/ab", false),
            ("/a/", "/a", true),
            ("/a/", "/a/b", false),
            ("/a", "/a", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/*", "/a", false),
            ("/a/*.js", "/a/.x.js", true),
            ("/a/**/c", "/a/c", true),
            ("/a/**/c", "/a/b/b/c", true),
            ("/a/*/c/**", "/a/b/c", true),
            ("/a/*/c/**", "/a/b/c/d", true),
            ("/a/*/c/**", "/a/b", false),
            ("**/.env*", "/.env", true),
            ("**/.env*", "/x/y/.env.local", true),
            ("**/.env*", "/x/y.env", false),
            ("/a/?", "/a/b", true),
            ("/a/[bc]", "/a/c", true),
            ("/a/[!bc]", "/a/c", false),
            ("/{a,b}/c", "/b/c", true),
            ("/a\\*", "/a*", true),
            ("/a\\*", "/ab", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} over {path}");
        }
    }

    #[test]
    fn paths_that_are_not_utf8_are_matched_byte_for_byte() {
        let odd = Path::new(OsStr::from_bytes(b"/a/\xff\xfe/x.js"));
        assert!(set(&["/a/**"]).matches(&normal(odd).unwrap()));
        assert!(set(&["/a/*/x.js"]).matches(&normal(odd).unwrap()));
        assert!(set(&["/a/**/*.js"]).matches(&normal(odd).unwrap()));
        assert!(!set(&["/b/**"]).matches(&normal(odd).unwrap()));
    }

    #[test]
    fn the_lowest_rank_wins_and_can_be_refused() {
        let set = set(&["/a/b", "/a/**", "/**", "/a/*"]);
        assert_eq!(set.best(b"/a/b", |_| true), Some(0));
        assert_eq!(set.best(b"/a/b", |rank| rank > 0), Some(1));
        assert_eq!(set.best(b"/a/b", |rank| rank > 1), Some(2));
        assert_eq!(set.best(b"/a/b", |rank| rank > 2), Some(3));
        assert_eq!(set.best(b"/a/b", |_| false), None);
    }

    #[test]
    fn paths_are_compared_in_one_form() {
        let form = |path| normal(Path::new(path)).map(|bytes| String::from_utf8(bytes.into_owned()).unwrap());
        assert_eq!(form("/a//b/./c/"), Some("/a/b/c".into()));
        assert_eq!(form("/"), Some(String::new()));
        assert_eq!(form("/a/../b"), None);
        assert_eq!(form("a"), None);
        assert_eq!(form(""), None);
        assert_eq!(form("/a/..b"), Some("/a/..b".into()));
    }
}
