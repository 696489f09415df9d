//! The project: where it is, which manager it wants, what it links to.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
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
    let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
    let named = words.iter().enumerate().filter_map(|(at, word)| {
        let flag = word.strip_prefix("--")?;
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, words.get(at + 1).map(AsRef::as_ref)),
        };
        value.filter(|_| npmrc::is_registry(name)).map(str::to_owned)
    });
    named.collect()
}
