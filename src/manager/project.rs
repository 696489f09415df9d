//! The project: where it is, which manager it wants, what it links to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::npmrc;

/// The directory that npm takes for the project: the nearest one upwards with a
/// `package.json` or `node_modules`, or a workspace root above it.
pub fn project_of(cwd: &Path) -> PathBuf {
    let nearest = cwd
        .ancestors()
        .find(|d| d.join("package.json").is_file() || d.join("node_modules").is_dir())
        .unwrap_or(cwd);
    let has_workspaces = |d: &Path| {
        std::fs::read(d.join("package.json"))
            .ok()
            .and_then(|data| serde_json::from_slice::<Value>(&data).ok())
            .is_some_and(|v| v.get("workspaces").is_some())
    };
    nearest.ancestors().skip(1).find(|d| has_workspaces(d)).unwrap_or(nearest).to_owned()
}

/// A package manager other than npm that the project asks for.
pub fn other_manager(project: &Path) -> Option<String> {
    let manifest = std::fs::read(project.join("package.json")).ok();
    let wanted = manifest
        .and_then(|data| serde_json::from_slice::<Value>(&data).ok())
        .and_then(|v| v.get("packageManager")?.as_str().map(|s| s.split('@').next().unwrap_or(s).to_owned()));
    if let Some(name) = wanted {
        return (name != "npm").then_some(name);
    }
    if ["package-lock.json", "npm-shrinkwrap.json"].iter().any(|f| project.join(f).exists()) {
        return None;
    }
    [("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lock", "bun"), ("bun.lockb", "bun")]
        .iter()
        .find(|(file, _)| project.join(file).exists())
        .map(|(_, name)| (*name).to_owned())
}

/// Whether npm would be asked for packages by name, which needs no manifest.
pub fn names_packages(rest: &[OsString]) -> bool {
    rest.iter().any(|a| !OsStr::as_bytes(a).starts_with(b"-"))
}

/// Directories that the project depends on as directories (`file:../lib`): npm installs
/// their dependencies in place.
pub fn linked_directories(project: &Path) -> Vec<PathBuf> {
    let manifest = std::fs::read(project.join("package.json")).ok();
    let Some(manifest) = manifest.and_then(|data| serde_json::from_slice::<Value>(&data).ok()) else {
        return Vec::new();
    };
    ["dependencies", "devDependencies", "optionalDependencies"]
        .iter()
        .filter_map(|section| manifest.get(section)?.as_object())
        .flat_map(|section| section.values().filter_map(Value::as_str))
        .filter_map(|spec| spec.strip_prefix("file:").or_else(|| spec.strip_prefix("link:")).or(Some(spec)))
        .filter(|spec| spec.starts_with(['.', '/']))
        .filter_map(|spec| project.join(spec).canonicalize().ok())
        .filter(|path| path.join("package.json").is_file())
        .collect()
}

/// Registries on npm's command line: `--registry=URL`, `--@scope:registry URL`.
pub fn registries_of(words: &[OsString]) -> Vec<String> {
    flags_of(words).into_iter().filter(|(name, _)| npmrc::is_registry(name)).map(|(_, value)| value).collect()
}

/// Flags with values on npm's command line, `--name=value` and `--name value`; whether a
/// flag takes the word after it is for the reader of that flag to know.
pub fn flags_of(words: &[OsString]) -> Vec<(String, String)> {
    let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
    let named = words.iter().enumerate().take_while(|(_, word)| *word != "--").filter_map(|(at, word)| {
        let flag = word.strip_prefix('-')?.trim_start_matches('-');
        match flag.split_once('=') {
            Some((name, value)) => Some((name.to_owned(), value.to_owned())),
            None => {
                let value = words.get(at + 1).filter(|value| !value.starts_with('-'))?;
                Some((flag.to_owned(), value.clone().into_owned()))
            }
        }
    });
    named.collect()
}

/// Flags of npm that take the next word and whose values look like specs.
const TAKES_WORD: &[&str] = &[
    "w",
    "workspace",
    "C",
    "prefix",
    "cache",
    "registry",
    "reg",
    "userconfig",
    "globalconfig",
    "tag",
    "omit",
    "include",
    "loglevel",
    "script-shell",
    "proxy",
    "https-proxy",
    "noproxy",
    "cafile",
    "logs-dir",
    "git",
    "pack-destination",
    "install-strategy",
    "location",
    "before",
    "user-agent",
    "node-options",
    "c",
    "call",
];

/// Words of npm's command line that name packages, those of `--package` included.
pub fn positionals_of(words: &[OsString]) -> Vec<String> {
    let mut found = Vec::new();
    let mut words = words.iter().map(|w| w.to_string_lossy());
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix('-').map(|flag| flag.trim_start_matches('-')) else {
            found.push(word.into_owned());
            continue;
        };
        match flag.split_once('=') {
            Some(("package" | "p", value)) => found.push(value.to_owned()),
            None if TAKES_WORD.contains(&flag) || flag.ends_with(":registry") => {
                words.next();
            }
            _ => {}
        }
    }
    found
}

/// Larger manifests are not read.
const LARGEST_MANIFEST: u64 = 16 << 20;

/// Directories looked at in search of workspaces.
const MOST_DIRECTORIES: usize = 20_000;

/// Opens a file of someone else's making: a pipe in its place must not stop the reader.
pub(super) fn open_file(path: &Path) -> Option<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    file.metadata().is_ok_and(|m| m.is_file()).then_some(file)
}

/// The manifest of a directory, if it is one.
pub(super) fn manifest(directory: &Path) -> Option<Value> {
    let file = open_file(&directory.join("package.json"))?;
    let mut data = Vec::new();
    file.take(LARGEST_MANIFEST).read_to_end(&mut data).ok()?;
    serde_json::from_slice(data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&data)).ok()
}

/// Names and specs of what a manifest depends on; peers are asked for by others.
pub(super) fn specs_of(manifest: &Value) -> Vec<(String, String)> {
    ["dependencies", "devDependencies", "optionalDependencies"]
        .iter()
        .filter_map(|section| manifest.get(section)?.as_object())
        .flatten()
        .filter_map(|(name, spec)| Some((name.clone(), spec.as_str()?.to_owned())))
        .collect()
}

/// The same for the manifest of a directory.
pub(super) fn manifest_specs(directory: &Path) -> Vec<(String, String)> {
    manifest(directory).map(|manifest| specs_of(&manifest)).unwrap_or_default()
}

/// The directories of a project's workspaces.
pub fn workspaces(project: &Path) -> Vec<PathBuf> {
    let Some(manifest) = manifest(project) else { return Vec::new() };
    let named = manifest.get("workspaces").map(|w| w.get("packages").unwrap_or(w));
    let mut patterns = globset::GlobSetBuilder::new();
    for pattern in named.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
        if let Ok(glob) = globset::GlobBuilder::new(pattern).literal_separator(true).build() {
            patterns.add(glob);
        }
    }
    let Ok(patterns) = patterns.build() else { return Vec::new() };
    if patterns.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut waiting = vec![project.to_owned()];
    let mut seen = 0;
    while let Some(directory) = waiting.pop() {
        let mut below: Vec<_> = std::fs::read_dir(&directory).into_iter().flatten().flatten().collect();
        below.sort_by_key(std::fs::DirEntry::file_name);
        for entry in below {
            let name = entry.file_name();
            // Links are not followed, so the walk ends.
            if !entry.file_type().is_ok_and(|t| t.is_dir()) || name == "node_modules" || name == ".git" {
                continue;
            }
            seen += 1;
            if seen > MOST_DIRECTORIES {
                return found;
            }
            let path = entry.path();
            if path.strip_prefix(project).is_ok_and(|inside| patterns.is_match(inside))
                && path.join("package.json").is_file()
            {
                found.push(path.clone());
            }
            waiting.push(path);
        }
    }
    found
}
