//! npm: where it is, how it is started, and what it may execute and write.
//!
//! npm runs scripts through the `script-shell` setting and git through `git`; both
//! are pinned on the command line and in the environment, because either alone loses
//! to some spelling elsewhere (measured with npm 11.19). `node-options` is pinned to
//! nothing: a project's `.npmrc` could otherwise load code into npm's own process.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::npmrc::{NpmConfig, normal_name};

/// npm could not be found or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpmError {
    /// No such program in `PATH`.
    #[error("`{0}` was not found in PATH")]
    NotFound(&'static str),
    /// What is called npm is not npm's JavaScript entry.
    #[error("`{}` is not npm's own script, and none was found beside `{}`", .npm.display(), .node.display())]
    Shim {
        /// What `PATH` has as npm.
        npm: PathBuf,
        /// What `PATH` has as node.
        node: PathBuf,
    },
}

/// What npm is told to start instead of a shell and of git.
#[derive(Debug, Clone)]
pub struct Stubs {
    /// Its `script-shell`.
    pub shell: PathBuf,
    /// Its `git`.
    pub git: PathBuf,
}

/// An npm installation.
#[derive(Debug, Clone)]
pub struct Npm {
    /// The node binary as found in `PATH`.
    pub node: PathBuf,
    /// npm's JavaScript entry.
    pub cli: PathBuf,
    /// git, if there is one.
    pub git: Option<PathBuf>,
}

/// The first file called `name` in the directories of `path` that can be executed.
pub fn find_program(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|p| nix::unistd::access(p.as_path(), nix::unistd::AccessFlags::X_OK).is_ok() && p.is_file())
}

impl Npm {
    /// Finds node, npm and git in `path` (the value of `PATH`).
    pub fn locate(path: &OsStr) -> Result<Npm, NpmError> {
        let npm = find_program("npm", path).ok_or(NpmError::NotFound("npm"))?;
        let node = find_program("node", path).ok_or(NpmError::NotFound("node"))?;
        let node = real_node(node);
        let beside = node
            .canonicalize()
            .ok()
            .and_then(|n| Some(n.parent()?.parent()?.join("lib/node_modules/npm/bin/npm-cli.js")));
        let cli = [npm.canonicalize().ok(), beside]
            .into_iter()
            .flatten()
            .find(|p| is_node_script(p))
            .ok_or(NpmError::Shim { npm, node: node.clone() })?;
        let git = find_program("git", path);
        Ok(Npm { node, cli, git })
    }

    /// The prefix that npm was installed under: where its global settings are.
    pub fn prefix(&self) -> PathBuf {
        let real = self.node.canonicalize().unwrap_or_else(|_| self.node.clone());
        real.parent().and_then(Path::parent).unwrap_or(Path::new("/usr")).to_owned()
    }

    /// The registry that npm asks when nobody says otherwise, and that lockfiles name for
    /// any registry: read from npm's own table of settings.
    pub fn default_registry(&self) -> Option<String> {
        let table = "node_modules/@npmcli/config/lib/definitions/definitions.js";
        let text = std::fs::read_to_string(self.cli.parent()?.parent()?.join(table)).ok()?;
        let (_, rest) = text.split_once("Definition('registry'")?;
        let (_, rest) = rest.split_once("default:")?;
        let url = rest.split('\'').nth(1)?;
        url.starts_with("http").then(|| url.to_owned())
    }

    /// Arguments of node: npm's entry, the pinned settings, then the user's words.
    pub fn arguments(&self, stubs: &Stubs, command: &str, rest: &[OsString]) -> Vec<OsString> {
        let flag = |name: &str, value: &Path| {
            let mut word = OsString::from(format!("--{name}="));
            word.push(value);
            word
        };
        let mut argv: Vec<OsString> = vec![self.node.clone().into(), self.cli.clone().into()];
        argv.push(flag("script-shell", &stubs.shell));
        argv.push(flag("git", &stubs.git));
        argv.push("--node-options=".into());
        argv.push(command.into());
        argv.extend(rest.iter().cloned());
        argv
    }

    /// The environment for npm: every spelling of a pinned setting removed, then one set.
    pub fn environment(&self, stubs: &Stubs, inherited: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut env: Vec<Vec<u8>> = inherited.iter().filter(|e| !is_pinned(e)).cloned().collect();
        let mut set = |name: &str, value: &Path| {
            env.push([name.as_bytes(), b"=", value.as_os_str().as_bytes()].concat());
        };
        set("npm_config_script_shell", &stubs.shell);
        set("npm_config_git", &stubs.git);
        with_tcp_lookups(&mut env);
        env
    }

    /// Files that npm's domain may execute, besides the stub: node and the dynamic
    /// loaders it needs.
    pub fn programs(&self) -> Vec<PathBuf> {
        let mut programs = vec![self.node.clone()];
        programs.extend(loaders());
        programs.into_iter().filter_map(|p| p.canonicalize().ok()).collect()
    }

    /// Where npm itself keeps things: its cache, logs and global packages.
    pub fn state(&self, config: &NpmConfig, home: Option<&Path>) -> Vec<PathBuf> {
        let mut state = Vec::new();
        state.extend(config.path("cache").or_else(|| home.map(|h| h.join(".npm"))));
        state.extend(config.path("logs_dir"));
        state
    }
}

/// The ELF interpreters of this machine; executing a dynamic program executes them.
pub fn loaders() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["/lib64", "/lib", "/usr/lib", "/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu"] {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.as_bytes();
            if name.starts_with(b"ld-linux") || name.starts_with(b"ld-musl") {
                found.push(entry.path());
            }
        }
    }
    found
}

/// Makes the C library and c-ares ask for names over TCP, where the supervisor answers;
/// what else the user says in `RES_OPTIONS` (`timeout:1`, `attempts:1`, …) stays.
pub fn with_tcp_lookups(environment: &mut Vec<Vec<u8>>) {
    const NAME: &[u8] = b"RES_OPTIONS=";
    let given = environment.iter().rev().find_map(|entry| entry.strip_prefix(NAME)).unwrap_or_default();
    let words = given.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty() && *word != b"use-vc");
    let words: Vec<&[u8]> = words.chain([&b"use-vc"[..]]).collect();
    let entry = [NAME, &words.join(&b' ')].concat();
    environment.retain(|entry| !entry.starts_with(NAME));
    environment.push(entry);
}

/// A version manager's stand-in for node names the real one.
fn real_node(node: PathBuf) -> PathBuf {
    let mut head = [0u8; 4];
    let is_elf =
        std::fs::File::open(&node).and_then(|mut f| f.read_exact(&mut head)).is_ok() && &head == b"\x7fELF";
    if is_elf && !node.components().any(|c| c.as_os_str() == "shims" || c.as_os_str() == ".volta") {
        return node;
    }
    std::process::Command::new(&node)
        .args(["-p", "process.execPath"])
        .output()
        .ok()
        .filter(|o| o.status.success())
        .map(|o| PathBuf::from(OsString::from_vec(o.stdout.trim_ascii().to_vec())))
        .filter(|p| p.is_absolute())
        .unwrap_or(node)
}

fn is_node_script(path: &Path) -> bool {
    let mut head = [0u8; 64];
    let Ok(n) = std::fs::File::open(path).and_then(|mut f| f.read(&mut head)) else { return false };
    let first = head[..n].split(|b| *b == b'\n').next().unwrap_or_default();
    first.starts_with(b"#!") && first.windows(4).any(|w| w == b"node")
}

/// Settings whose every spelling is removed from npm's environment, and from scripts'.
pub fn is_pinned(entry: &[u8]) -> bool {
    let name = entry.split(|b| *b == b'=').next().unwrap_or_default();
    normal_name(OsStr::from_bytes(name))
        .is_some_and(|n| ["script_shell", "git", "node_options"].contains(&n.as_str()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_pinned_setting_is_known() {
        for entry in [
            "npm_config_script_shell=/evil",
            "NPM_CONFIG_SCRIPT-SHELL=",
            "npm_config_node-options=x",
            "NPM_CONFIG_GIT=x",
        ] {
            assert!(is_pinned(entry.as_bytes()), "{entry}");
        }
        for entry in ["npm_config_nodedir=/usr", "GIT_DIR=x", "NODE_OPTIONS=--max-old-space-size=1"] {
            assert!(!is_pinned(entry.as_bytes()), "{entry}");
        }
    }

    #[test]
    fn names_are_asked_for_over_tcp_and_other_options_stay() {
        for (given, expected) in [
            (&[][..], "RES_OPTIONS=use-vc"),
            (&["RES_OPTIONS="][..], "RES_OPTIONS=use-vc"),
            (&["RES_OPTIONS=ndots:2  use-vc timeout:1"][..], "RES_OPTIONS=ndots:2 timeout:1 use-vc"),
            (&["RES_OPTIONS=a", "RES_OPTIONS=b"][..], "RES_OPTIONS=b use-vc"),
        ] {
            let mut environment: Vec<Vec<u8>> = given.iter().map(|e| e.as_bytes().to_vec()).collect();
            with_tcp_lookups(&mut environment);
            assert_eq!(environment, [expected.as_bytes()]);
        }
    }

    #[test]
    fn the_default_registry_is_npms_own() {
        let Ok(npm) = Npm::locate(&std::env::var_os("PATH").unwrap()) else { return };
        assert!(npm.default_registry().unwrap().starts_with("https://"));
    }

    #[test]
    fn pins_stand_on_the_command_line_and_in_the_environment() {
        let npm =
            Npm { node: "/n/node".into(), cli: "/n/npm-cli.js".into(), git: Some("/usr/bin/git".into()) };
        let stubs = Stubs { shell: "/r/stub".into(), git: "/r/git".into() };
        let argv = npm.arguments(&stubs, "ci", &["--loglevel=silly".into()]);
        assert_eq!(
            argv,
            [
                "/n/node",
                "/n/npm-cli.js",
                "--script-shell=/r/stub",
                "--git=/r/git",
                "--node-options=",
                "ci",
                "--loglevel=silly"
            ]
        );
        let env = npm.environment(&stubs, &[b"npm_config_Script-Shell=/evil".to_vec(), b"A=1".to_vec()]);
        let env: Vec<&str> = env.iter().map(|e| std::str::from_utf8(e).unwrap()).collect();
        assert_eq!(
            env,
            ["A=1", "npm_config_script_shell=/r/stub", "npm_config_git=/r/git", "RES_OPTIONS=use-vc"]
        );
    }
}
