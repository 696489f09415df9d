//! Keys of `packages`: a name, a name with a version range, or a glob over names.
//! Ranges are read as npm reads them (a bare `1.2` is `1.2.x`, a space means
//! *and*, `||` means *or*), because that is what the person writing them knows.

use semver::{Version, VersionReq};

use super::name::wildcard;

/// A parsed key.
#[derive(Debug, Clone)]
pub(super) struct PackageKey {
    /// The key as written.
    pub(super) text: Box<str>,
    /// Name or glob, without the range.
    pub(super) name: Box<str>,
    pub(super) range: Option<Vec<VersionReq>>,
}

/// How specific a key is; greater is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Specificity {
    /// A glob, by the number of its literal bytes.
    Glob {
        literal: usize,
        range: bool,
    },
    Name,
    NameAndRange,
}

impl PackageKey {
    /// Reads a key; the error is the sentence and the hint.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let split = text.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| at);
        let (name, range) = match split {
            Some(at) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        check_name(text, name)?;
        let range = range.map(|range| parse_range(text, range)).transpose()?;
        Ok(Self { text: text.into(), name: name.into(), range })
    }

    /// Whether the name part is a glob.
    pub(super) fn is_glob(&self) -> bool {
        self.name.contains('*')
    }

    /// Whether the name part matches.
    pub(super) fn matches_name(&self, name: &str) -> bool {
        if self.is_glob() { glob(&self.name, name) } else { *self.name == *name }
    }

    /// Whether the range holds this version; `None` when it has one and the version is unknown.
    pub(super) fn matches_version(&self, version: Option<&Version>) -> Option<bool> {
        match (&self.range, version) {
            (None, _) => Some(true),
            (Some(_), None) => None,
            (Some(any), Some(version)) => Some(any.iter().any(|range| range.matches(version))),
        }
    }

    pub(super) fn specificity(&self) -> Specificity {
        match (self.is_glob(), self.range.is_some()) {
            (true, range) => {
                Specificity::Glob { literal: self.name.bytes().filter(|b| *b != b'*').count(), range }
            }
            (false, false) => Specificity::Name,
            (false, true) => Specificity::NameAndRange,
        }
    }
}

/// `*` within a name does not cross the slash after a scope, except a lone `*`.
fn glob(pattern: &str, name: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let part = |pattern: &str, name: &str| wildcard(pattern.as_bytes(), name.as_bytes());
    match (pattern.split_once('/'), name.split_once('/')) {
        (None, None) => part(pattern, name),
        (Some((scope, plain)), Some((name_scope, name_plain))) => {
            part(scope, name_scope) && part(plain, name_plain)
        }
        _ => false,
    }
}

fn check_name(key: &str, name: &str) -> Result<(), (String, String)> {
    let hint = || "write a package name, `name@>=1.2`, or a scope such as `@scope/*`".to_owned();
    let plain = name.strip_prefix('@').unwrap_or(name);
    let slashes = plain.matches('/').count();
    let bad_char = plain.chars().find(|c| {
        !(c.is_ascii_alphanumeric()
            || matches!(c, '-' | '_' | '.' | '~' | '*' | '/' | '!' | '(' | ')' | '\''))
    });
    if plain.is_empty() || plain.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err((format!("`{key}` is not a package name"), hint()));
    }
    if let Some(bad) = bad_char {
        return Err((format!("`{key}` is not a package name: it holds `{}`", bad.escape_default()), hint()));
    }
    if slashes != usize::from(name.starts_with('@')) {
        return Err((format!("`{key}` is not a package name"), hint()));
    }
    if name.matches('*').count() > 3 {
        return Err((format!("`{key}` has more than three `*`"), hint()));
    }
    Ok(())
}

fn parse_range(key: &str, range: &str) -> Result<Vec<VersionReq>, (String, String)> {
    let hint = || "write an npm range such as `>=5`, `^1.2`, `1.x`, `>=1 <3` or `^1 || ^2`".to_owned();
    if range.trim().is_empty() {
        return Err((format!("`{key}` has an empty version range after the `@`"), hint()));
    }
    range
        .split("||")
        .map(|part| {
            VersionReq::parse(&comparators(part.trim())).map_err(|error| {
                (format!("`{}` in `{key}` is not a version range: {error}", part.trim()), hint())
            })
        })
        .collect()
}

/// npm's spelling of one alternative in the spelling of the `semver` crate.
fn comparators(part: &str) -> String {
    if let Some((low, high)) = part.split_once(" - ") {
        return format!(">={}, <={}", bare(low.trim()), bare(high.trim()));
    }
    // `>= 1.2` and `>=1.2` are the same: glue operators to what follows.
    let mut glued: Vec<String> = Vec::new();
    let mut operator = String::new();
    for word in part.split([' ', ',', '\t']).filter(|word| !word.is_empty()) {
        if word.chars().all(|c| matches!(c, '<' | '>' | '=' | '^' | '~')) {
            operator.push_str(word);
            continue;
        }
        let word = format!("{}{word}", std::mem::take(&mut operator));
        let split = word.find(|c| !matches!(c, '<' | '>' | '=' | '^' | '~')).unwrap_or(0);
        let (operator, version) = word.split_at(split);
        let version = bare(version);
        glued.push(match operator {
            // A wildcard needs no operator: `1.x`, `*`.
            "" | "=" if version.contains('*') => version,
            "" => format!("={version}"),
            _ => format!("{operator}{version}"),
        });
    }
    glued.push(operator);
    glued.retain(|word| !word.is_empty());
    glued.join(", ")
}

fn bare(version: &str) -> String {
    let version = version.strip_prefix('v').unwrap_or(version);
    let parts: Vec<&str> =
        version.split('.').map(|part| if matches!(part, "x" | "X") { "*" } else { part }).collect();
    match parts.iter().position(|part| *part == "*") {
        Some(first) => parts[..=first].join("."),
        None => version.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn matches(key: &str, name: &str, version: &str) -> bool {
        let key = PackageKey::parse(key).unwrap();
        key.matches_name(name) && key.matches_version(Some(&Version::parse(version).unwrap())) == Some(true)
    }

    #[test]
    fn ranges_mean_what_npm_means() {
        for (range, yes, no) in [
            (">=5", "5.0.0", "4.9.9"),
            ("1.2", "1.2.9", "1.3.0"),
            ("1", "1.9.0", "2.0.0"),
            ("1.2.3", "1.2.3", "1.2.4"),
            ("=1.2.3", "1.2.3", "1.2.4"),
            ("^1.2", "1.9.0", "2.0.0"),
            ("~1.2", "1.2.9", "1.3.0"),
            ("1.x", "1.5.0", "2.0.0"),
            ("1.2.x", "1.2.5", "1.3.0"),
            (">=1 <3", "2.9.0", "3.0.0"),
            (">= 1 < 3", "2.9.0", "3.0.0"),
            ("^1 || ^3", "3.1.0", "2.0.0"),
            ("1.2 - 2.3", "2.3.9", "2.4.0"),
            ("v2.0.0", "2.0.0", "2.0.1"),
        ] {
            assert!(matches(&format!("p@{range}"), "p", yes), "{range} holds {yes}");
            assert!(!matches(&format!("p@{range}"), "p", no), "{range} does not hold {no}");
        }
        assert!(matches("@s/p@*", "@s/p", "9.9.9"));
    }

    #[test]
    fn globs_stay_within_their_scope() {
        assert!(matches("@scope/*", "@scope/a", "1.0.0"));
        assert!(!matches("@scope/*", "@scopes/a", "1.0.0"));
        assert!(!matches("@scope/*", "a", "1.0.0"));
        assert!(matches("*", "@scope/a", "1.0.0"));
        assert!(matches("eslint-*", "eslint-config", "1.0.0"));
        assert!(!matches("*-x", "@a/b-x", "1.0.0"));
        assert!(matches("a*b*c", "aXbYc", "1.0.0"));
    }

    #[test]
    fn keys_that_are_no_package_are_refused() {
        for key in ["", "@", "@scope", "a/b", "../x", "@a/b/c", "a b", "a@", "a@banana", "x\u{202e}y"] {
            assert!(PackageKey::parse(key).is_err(), "{key:?}");
        }
    }

    #[test]
    fn a_name_with_a_range_is_more_specific_than_a_name_than_a_glob() {
        let specificity = |key| PackageKey::parse(key).unwrap().specificity();
        assert!(specificity("p@1") > specificity("p"));
        assert!(specificity("p") > specificity("@scope/*@1"));
        assert!(specificity("@scope/*") > specificity("*"));
    }
}
