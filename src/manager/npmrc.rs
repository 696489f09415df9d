//! The few settings of npm that say where npm itself writes.
//!
//! npm's own answer (`npm config get`) costs a third of a second, so the three files
//! and the environment are read here, in npm's order of precedence. Only paths and
//! registries are looked up; secrets in the same files are never kept.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Settings from the environment and `.npmrc` files; earlier sources win.
#[derive(Debug, Default)]
pub struct NpmConfig {
    layers: Vec<HashMap<String, String>>,
}

/// The environment as npm reads it: a name's spelling in lower case with `_` for `-`.
pub fn normal_name(name: &OsStr) -> Option<String> {
    let name = name.to_str()?.to_ascii_lowercase();
    name.strip_prefix("npm_config_").map(|n| n.replace('-', "_"))
}

/// Index of the user's file among the layers, after the environment and the project's.
const USERS_LAYER: usize = 2;

impl NpmConfig {
    /// Reads the environment, then the project's, the user's and the global file.
    pub fn load(project: &Path, home: Option<&Path>, prefix: &Path) -> NpmConfig {
        let mut environment = HashMap::new();
        for (name, value) in std::env::vars_os() {
            if let (Some(name), Some(value)) = (normal_name(&name), value.to_str()) {
                environment.insert(name, value.to_owned());
            }
        }
        let mut config = NpmConfig { layers: vec![environment] };
        config.layers.push(read(&project.join(".npmrc")));
        let user = config.path("userconfig").or_else(|| home.map(|h| h.join(".npmrc")));
        config.layers.push(user.map(|p| read(&p)).unwrap_or_default());
        let global = config.path("globalconfig").unwrap_or_else(|| prefix.join("etc/npmrc"));
        config.layers.push(read(&global));
        config
    }

    /// The value of a setting (`cache`, `logs_dir`, `prefix`, …).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.layers.iter().find_map(|layer| layer.get(name)).map(String::as_str)
    }

    /// The shell that the user's or the machine's file names, if it is the system's. The
    /// environment and the project's file do not count: both can come from elsewhere.
    pub fn users_shell(&self) -> Option<PathBuf> {
        let shell = self.layers.iter().skip(USERS_LAYER).find_map(|layer| layer.get("script_shell"))?;
        let shell = Path::new(shell).canonicalize().ok()?;
        (shell.is_file() && ["/usr", "/bin", "/opt", "/nix"].iter().any(|dir| shell.starts_with(dir)))
            .then_some(shell)
    }

    /// The same for an absolute path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|p| p.is_absolute())
    }

    /// Every registry that is named anywhere, for all packages or for a scope.
    pub fn registries(&self) -> Vec<String> {
        self.layers
            .iter()
            .flatten()
            .filter(|(name, _)| is_registry(name))
            .map(|(_, value)| value.clone())
            .collect()
    }
}

/// `registry` or `@scope:registry`.
pub fn is_registry(name: &str) -> bool {
    name == "registry" || (name.starts_with('@') && name.ends_with(":registry"))
}

fn read(path: &Path) -> HashMap<String, String> {
    parse(&std::fs::read_to_string(path).unwrap_or_default())
}

/// `key = value` lines of npm's ini dialect, with `${NAME}` replaced and `~/` left to
/// the caller's HOME.
fn parse(text: &str) -> HashMap<String, String> {
    let mut values = HashMap::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with([';', '#', '[']) {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.trim().replace('-', "_");
        let is_path = ["cache", "logs_dir", "prefix", "globalconfig", "userconfig", "script_shell"]
            .contains(&key.as_str());
        if !is_path && !is_registry(&key) {
            continue;
        }
        let value = value.trim().trim_matches(['"', '\'']);
        let mut value = expand(value);
        if let (Some(rest), Some(home)) = (value.strip_prefix("~/"), std::env::var_os("HOME")) {
            value = Path::new(&home).join(rest).to_string_lossy().into_owned();
        }
        values.insert(key, value);
    }
    values
}

fn expand(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        match after.split_once('}') {
            Some((name, after)) => {
                let name = name.trim_end_matches('?');
                out.push_str(&std::env::var(name).unwrap_or_default());
                rest = after;
            }
            None => {
                out.push_str("${");
                rest = after;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_and_secrets_are_not_kept() {
        let values = parse(
            "; comment\ncache = \"/var/cache/npm\"\n//registry/:_authToken=s3cret\nlogs-dir=/x\n@s:registry=https://r.test/\n",
        );
        assert_eq!(values.get("cache").map(String::as_str), Some("/var/cache/npm"));
        assert_eq!(values.get("logs_dir").map(String::as_str), Some("/x"));
        assert_eq!(values.get("@s:registry").map(String::as_str), Some("https://r.test/"));
        assert_eq!(values.len(), 3);
    }

    #[test]
    fn spellings_of_a_name_are_one_name() {
        for name in ["npm_config_script_shell", "NPM_CONFIG_SCRIPT_SHELL", "npm_config_script-shell"] {
            assert_eq!(normal_name(OsStr::new(name)).as_deref(), Some("script_shell"));
        }
        assert_eq!(normal_name(OsStr::new("PATH")), None);
    }
}
