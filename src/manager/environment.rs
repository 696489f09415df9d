//! What a script's environment holds, and which toolchains the caller uses.
//!
//! Reading one's own environment makes no system call, so taking a variable away is
//! the only control there is. What is added keeps ordinary tools inside their domain:
//! a private temporary directory, a private npm cache, and no look at files of HOME
//! that the script may not read.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::npm::{self, find_program};
use crate::policy::{PathAction, Profile, Verdict};

/// The environment of one script.
#[derive(Debug)]
pub struct ScriptEnvironment {
    /// Entries as `NAME=value`.
    pub entries: Vec<Vec<u8>>,
    /// Names that policy took away.
    pub withheld: Vec<OsString>,
}

/// Who gave the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A lifecycle script: what npm was told about its shell and git is npmguard's.
    Lifecycle,
    /// `npmguard run`: the environment is the user's.
    Command,
}

/// Builds the environment of a script from what its caller gave it.
pub fn for_script(
    given: &[Vec<u8>],
    profile: &Profile,
    home: Option<&Path>,
    tmp: &Path,
    caller: Caller,
) -> ScriptEnvironment {
    let mut entries: Vec<Vec<u8>> = Vec::with_capacity(given.len() + 8);
    let mut withheld = Vec::new();
    for entry in given {
        let Some(end) = entry.iter().position(|b| *b == b'=') else { continue };
        let name = OsStr::from_bytes(&entry[..end]);
        if npm::is_pinned(entry) && caller == Caller::Lifecycle {
            continue;
        }
        if profile.decide_env(name).verdict == Verdict::Deny {
            withheld.push(name.to_owned());
        } else {
            entries.push(entry.clone());
        }
    }
    // Scripts have no UDP.
    npm::with_tcp_lookups(&mut entries);
    let mut set = |name: &str, value: &OsStr| {
        let prefix = [name.as_bytes(), b"="].concat();
        entries.retain(|e| !e.starts_with(&prefix));
        entries.push([&prefix[..], value.as_bytes()].concat());
    };
    for name in ["TMPDIR", "TMP", "TEMP"] {
        set(name, tmp.as_os_str());
    }
    if caller == Caller::Command {
        set("npm_config_globalconfig", tmp.join("no-npmrc").as_os_str());
    }
    set("npm_config_cache", tmp.join("npm-cache").as_os_str());
    // A nested npm would ask its registry for news of itself.
    set("npm_config_update_notifier", OsStr::new("false"));
    // The global settings may hold a token. npm refuses one file as both kinds of settings,
    // so this is not /dev/null but a file that is not there.
    let global =
        index(given).get(&b"npm_config_globalconfig"[..]).map(|path| PathBuf::from(OsStr::from_bytes(path)));
    if global.is_some_and(|path| profile.decide_path(PathAction::Read, &path).verdict == Verdict::Deny) {
        set("npm_config_globalconfig", tmp.join("no-npmrc").as_os_str());
    }
    // Caches are best effort: without a grant they are private and go with the script.
    let cache = home.map(|h| h.join(".cache"));
    let granted = cache
        .as_ref()
        .is_some_and(|cache| profile.kernel_grants().write.iter().any(|g| g.path().starts_with(cache)));
    if !granted {
        set("XDG_CACHE_HOME", tmp.join("cache").as_os_str());
    }
    let unreadable = |file: &str| {
        home.is_some_and(|h| profile.decide_path(PathAction::Read, &h.join(file)).verdict == Verdict::Deny)
    };
    if unreadable(".npmrc") {
        set("npm_config_userconfig", OsStr::new("/dev/null"));
    }
    // git gives up on a settings file that exists and cannot be read.
    if unreadable(".gitconfig") {
        set("GIT_CONFIG_GLOBAL", OsStr::new("/dev/null"));
    }
    ScriptEnvironment { entries, withheld }
}

/// Looks a name up among `NAME=value` entries; the last one counts, as in npm.
pub fn index(entries: &[Vec<u8>]) -> HashMap<&[u8], &[u8]> {
    entries
        .iter()
        .filter_map(|e| e.iter().position(|b| *b == b'=').map(|at| (&e[..at], &e[at + 1..])))
        .collect()
}

/// Programs whose installation scripts may need as a whole.
const TOOLS: &[&str] = &[
    "node",
    "npm",
    "python3",
    "python",
    "make",
    "cmake",
    "ninja",
    "cc",
    "c++",
    "gcc",
    "g++",
    "clang",
    "clang++",
    "ld",
    "ar",
    "pkg-config",
    "git",
];

/// Where toolchains outside the system directories live: the install prefixes of the
/// tools in `path`, and the roots of version managers whose shims stand in for them.
/// Never HOME itself or a directory above it.
pub fn toolchain(path: &OsStr, home: Option<&Path>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |path: PathBuf| {
        let too_wide = path.parent().is_none()
            || home.is_some_and(|h| {
                h.starts_with(&path) || path == h.join(".local") || path == h.join(".config")
            });
        if !too_wide && !is_system(&path) && !found.contains(&path) {
            found.push(path);
        }
    };
    for tool in TOOLS {
        let Some(program) = find_program(tool, path) else { continue };
        for file in [Some(program.clone()), program.canonicalize().ok()].into_iter().flatten() {
            if is_system(&file) {
                continue;
            }
            let Some(dir) = file.parent() else { continue };
            match dir.file_name().map(OsStrExt::as_bytes) {
                Some(b"shims") => add(dir.parent().unwrap_or(dir).to_owned()),
                Some(b"bin") => add(dir.parent().unwrap_or(dir).to_owned()),
                _ => {}
            }
            // Even where the prefix is too wide (`~/.local`), the program itself is not.
            add(file);
        }
    }
    found
}

fn is_system(path: &Path) -> bool {
    ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt"].iter().any(|dir| path.starts_with(dir))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn version_managers_are_granted_and_home_is_not() {
        let home = tempfile::tempdir().unwrap();
        let h = home.path().canonicalize().unwrap();
        program(&h.join(".pyenv/shims/python3"));
        program(&h.join(".nvm/versions/node/v20/bin/node"));
        program(&h.join(".local/bin/make"));
        program(&h.join("bin/ninja"));
        let path = std::env::join_paths([
            h.join(".pyenv/shims"),
            h.join(".nvm/versions/node/v20/bin"),
            h.join(".local/bin"),
            h.join("bin"),
        ])
        .unwrap();
        let found = toolchain(&path, Some(&h));
        assert!(found.contains(&h.join(".pyenv")));
        assert!(found.contains(&h.join(".nvm/versions/node/v20")));
        assert!(found.contains(&h.join(".local/bin/make")));
        assert!(!found.contains(&h.join(".local")));
        assert!(!found.contains(&h));
    }
}
