//! Path patterns: an absolute literal base and, if anything is left, a glob that
//! is matched against what lies below it. Splitting them keeps variable values
//! out of the glob (they may hold any byte), makes most patterns a hash lookup,
//! and tells exactly which ones Landlock can be given.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use globset::{Glob, GlobBuilder, GlobSetBuilder};

/// More alternatives than this are a mistake, or an attempt to be expensive.
const MAX_ALTERNATIVES: usize = 256;

/// What a pattern matches at and below its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// `X`: exactly the base.
    Literal,
    /// `X/`: the base, as a directory and without what is in it.
    Directory,
    /// `X/**`: the base and everything below.
    Tree,
    /// The base is a directory; the glob is matched against the rest of the path.
    Glob(Box<str>),
}

/// The pattern without its head: path text below a base, and its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tail {
    /// Literal components with a leading `/` each, unescaped; may be empty.
    pub(super) literal: Box<[u8]>,
    pub(super) shape: Shape,
}

/// Where a pattern begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// At `/`.
    Root,
    /// At the value of a variable or group.
    Name(Box<str>),
}

/// A parsed path pattern. Alternation has been expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathPattern {
    pub(super) negated: bool,
    pub(super) head: Head,
    /// Empty when the pattern is a variable or group and nothing else.
    pub(super) tails: Vec<Tail>,
}

/// A pattern whose variables have values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Absolute, without trailing slash; empty for `/`.
    pub(super) base: Arc<[u8]>,
    pub(super) shape: Shape,
}

/// Whether `path` is `base` or lies below it; both without trailing slash.
pub(super) fn within(base: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

impl PathPattern {
    /// Reads a pattern; the error is the sentence and the hint. Names are not looked up here.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let (negated, body) = match text.strip_prefix('!') {
            Some(body) => (true, body),
            None => (false, text),
        };
        if body.is_empty() {
            return Err(("empty pattern".into(), START_HINT.into()));
        }
        if body.chars().any(char::is_control) {
            return Err((
                format!("pattern `{}` holds a control character", text.escape_debug()),
                "match it with `?`".into(),
            ));
        }
        let (head, rest) = split_head(body).ok_or_else(|| {
            let hint = if let Some(below_home) = body.strip_prefix("~/") {
                format!("`~` has no meaning here: write `{{home}}/{below_home}`")
            } else if let Some(variable) = body.strip_prefix('$') {
                format!("`${variable}` is not expanded here: {START_HINT}")
            } else {
                START_HINT.into()
            };
            (format!("pattern `{text}` is not absolute"), hint)
        })?;
        if rest.is_empty() && head != Head::Root {
            return Ok(Self { negated, head, tails: Vec::new() });
        }
        let alternatives = expand_braces(rest).map_err(|why| {
            (
                format!("pattern `{text}` is broken: {why}"),
                "write `{a,b}` for alternatives, `\\{` for a brace".to_owned(),
            )
        })?;
        let tails = alternatives
            .iter()
            .map(|alternative| {
                parse_tail(alternative).map_err(|(why, hint)| (format!("pattern `{text}` {why}"), hint))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { negated, head, tails })
    }

    /// Whether any alternative needs a glob.
    pub(super) fn is_complex(&self) -> bool {
        self.tails.iter().any(|tail| matches!(tail.shape, Shape::Glob(_)))
    }

    /// Puts the tails under one value of the head (`None`: the root directory).
    pub(super) fn resolve_under<'a>(&'a self, base: Option<&'a Path>) -> impl Iterator<Item = Resolved> + 'a {
        let base = base.map_or(&b""[..], |path| trim(path.as_os_str().as_bytes()));
        self.tails.iter().map(move |tail| Resolved {
            base: [base, &tail.literal].concat().into(),
            shape: tail.shape.clone(),
        })
    }
}

const START_HINT: &str = "begin it with `/`, `**/`, or a variable or group such as `{package}/`";

/// Without trailing slashes; empty for `/`.
pub(super) fn trim(mut path: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

fn split_head(body: &str) -> Option<(Head, &str)> {
    if body.starts_with('/') {
        return Some((Head::Root, body));
    }
    if body == "**" || body.starts_with("**/") {
        return Some((Head::Root, body));
    }
    let (name, rest) = body.strip_prefix('{')?.split_once('}')?;
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    (is_name && (rest.is_empty() || rest.starts_with('/'))).then(|| (Head::Name(name.into()), rest))
}

/// `/a/b/**`, `/a/`, `**/x`, … without alternation.
fn parse_tail(text: &str) -> Result<Tail, (String, String)> {
    let body = text.strip_prefix('/').unwrap_or(text);
    let (body, directory) = match body.strip_suffix('/') {
        Some(body) => (body, true),
        None => (body, body.is_empty()),
    };
    let mut literal = Vec::new();
    let mut components = body.split('/').peekable();
    if body.is_empty() {
        components.next();
    }
    while let Some(component) = components.peek() {
        match *component {
            "" => return Err(("has an empty component (`//`)".into(), "write one slash".into())),
            "." | ".." => {
                return Err((
                    format!("has a `{component}` component"),
                    "write the path that is meant; paths are compared after they are resolved".into(),
                ));
            }
            _ => {}
        }
        let Some(bytes) = unescape(component)? else { break };
        literal.push(b'/');
        literal.extend_from_slice(&bytes);
        components.next();
    }
    let rest: Vec<&str> = components.collect();
    let shape = match rest.as_slice() {
        [] if directory => Shape::Directory,
        [] => Shape::Literal,
        ["**"] if !directory => Shape::Tree,
        _ if directory => {
            return Err((
                "ends in `/` after a wildcard".into(),
                "a trailing slash names one directory itself: drop the slash or the wildcard".into(),
            ));
        }
        parts => Shape::Glob(check_glob(parts)?.into()),
    };
    Ok(Tail { literal: literal.into(), shape })
}

/// The bytes of a component without wildcards, or `None` if it has any.
fn unescape(component: &str) -> Result<Option<Vec<u8>>, (String, String)> {
    let mut bytes = Vec::with_capacity(component.len());
    let mut rest = component.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'*' | b'?' | b'[' => return Ok(None),
            b'\\' => match rest.next() {
                Some(escaped) => bytes.push(escaped),
                None => return Err(("ends in a lone `\\`".into(), "write `\\\\` for a backslash".into())),
            },
            other => bytes.push(other),
        }
    }
    Ok(Some(bytes))
}

fn check_glob(parts: &[&str]) -> Result<String, (String, String)> {
    for part in parts {
        if part.is_empty() || matches!(*part, "." | "..") {
            return Err((format!("has a `{part}` component"), "write the path that is meant".into()));
        }
        if part.contains("**") && *part != "**" {
            return Err((
                format!("has `**` inside `{part}`"),
                "`**` stands alone between slashes; within a name write `*`".into(),
            ));
        }
        let mut bytes = part.bytes();
        let mut in_class = false;
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' if bytes.next().is_none() => {
                    return Err(("ends in a lone `\\`".into(), "write `\\\\` for a backslash".into()));
                }
                b'[' => in_class = true,
                b']' => in_class = false,
                _ => {}
            }
        }
        if in_class {
            return Err((
                "has an unclosed `[`".into(),
                "close it with `]`, or write `\\[` for a bracket".into(),
            ));
        }
    }
    let glob = parts.join("/");
    // The only mistakes left are inside classes; compile those now and the rest later.
    if glob.contains('[') {
        compile(&glob)
            .map_err(|error| (format!("is not a glob: {}", error.kind()), "check the `[…]`".to_owned()))?;
    }
    Ok(glob)
}

fn compile(glob: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build()
}

/// Adds the globs for a [`Shape::Glob`]: `x/**` also matches `x` itself.
pub(super) fn add_globs(set: &mut GlobSetBuilder, glob: &str) -> Result<(), globset::Error> {
    set.add(compile(glob)?);
    if let Some(itself) = glob.strip_suffix("/**") {
        set.add(compile(itself)?);
    }
    Ok(())
}

/// How many globs [`add_globs`] adds.
pub(super) fn places_in_set(glob: &str) -> usize {
    if glob.ends_with("/**") { 2 } else { 1 }
}

/// Expands `{a,b}` alternation; `\{` is a brace. The error is a sentence part.
pub(super) fn expand_braces(text: &str) -> Result<Vec<String>, String> {
    let mut done = Vec::new();
    let mut pending = vec![text.to_owned()];
    while let Some(text) = pending.pop() {
        let Some((open, close, commas)) = first_group(&text)? else {
            done.push(text);
            continue;
        };
        if commas.is_empty() {
            let inside = &text[open..=close];
            return Err(format!("`{inside}` is one alternative; variables and groups stand at the start"));
        }
        let mut from = open + 1;
        let mut alternatives = Vec::with_capacity(commas.len() + 1);
        for to in commas.into_iter().chain([close]) {
            alternatives.push(format!("{}{}{}", &text[..open], &text[from..to], &text[close + 1..]));
            from = to + 1;
        }
        // Keep the order as written: the stack pops from its end.
        pending.extend(alternatives.into_iter().rev());
        if pending.len() + done.len() > MAX_ALTERNATIVES {
            return Err(format!("it has more than {MAX_ALTERNATIVES} alternatives"));
        }
    }
    Ok(done)
}

/// The first brace group: its ends and its own commas. Ignores classes and escapes.
#[allow(clippy::type_complexity, reason = "three offsets that have no other use")]
fn first_group(text: &str) -> Result<Option<(usize, usize, Vec<usize>)>, String> {
    let (mut depth, mut open, mut commas) = (0usize, 0, Vec::new());
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            b'{' => {
                if depth == 0 {
                    open = at;
                }
                depth += 1;
            }
            b',' if depth == 1 => commas.push(at),
            b'}' if depth == 0 => return Err("a `}` without `{`".into()),
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Ok(Some((open, at, commas)));
                }
            }
            _ => {}
        }
    }
    if depth > 0 { Err("a `{` without `}`".into()) } else { Ok(None) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::path::PathBuf;

    fn one(text: &str) -> Tail {
        let mut pattern = PathPattern::parse(text).unwrap();
        assert_eq!(pattern.tails.len(), 1, "{text}");
        pattern.tails.remove(0)
    }

    #[test]
    fn the_literal_part_and_the_glob_are_told_apart() {
        let tail = |literal: &str, shape| Tail { literal: literal.as_bytes().into(), shape };
        assert_eq!(one("/usr/**"), tail("/usr", Shape::Tree));
        assert_eq!(one("/"), tail("", Shape::Directory));
        assert_eq!(one("/**"), tail("", Shape::Tree));
        assert_eq!(one("/etc/hosts"), tail("/etc/hosts", Shape::Literal));
        assert_eq!(one("/etc/"), tail("/etc", Shape::Directory));
        assert_eq!(one("{package}/build/*.o"), tail("/build", Shape::Glob("*.o".into())));
        assert_eq!(one("**/.env"), tail("", Shape::Glob("**/.env".into())));
        assert_eq!(one("/a\\*b/\\{c\\}"), tail("/a*b/{c}", Shape::Literal));
        assert_eq!(PathPattern::parse("{system}").unwrap().head, Head::Name("system".into()));
    }

    #[test]
    fn alternation_becomes_literals() {
        let pattern = PathPattern::parse("/dev/{null,tty{,0},x}").unwrap();
        let paths: Vec<_> =
            pattern.resolve_under(None).map(|r| PathBuf::from(OsStr::from_bytes(&r.base))).collect();
        let expected = ["/dev/null", "/dev/tty", "/dev/tty0", "/dev/x"].map(PathBuf::from);
        assert_eq!(paths, expected);
        assert!(!pattern.is_complex());
    }

    #[test]
    fn broken_patterns_are_refused() {
        for text in [
            "", "!", "foo", "./foo", "~/x", "$HOME/x", "{home}x", "{a,b}/c", "/a//b", "/a/../b", "/a/./b",
            "/a**", "/a/[b", "/a/{b", "/a/b}", "/a/{b}/c", "/a/*/", "/a\\", "/a\nb", "/x/[z-a]",
        ] {
            assert!(PathPattern::parse(text).is_err(), "{text:?}");
        }
        let bomb = format!("/{}", "{a,b}".repeat(20));
        assert!(PathPattern::parse(&bomb).is_err());
    }
}
