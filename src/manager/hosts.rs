//! Which hosts the manager has a reason to talk to: what `{registry}`, `{proxy}` and
//! `{git-hosts}` stand for in a policy.
//!
//! The user's own settings widen these groups: the environment, the command line, the
//! user's and the machine's file. The project's `.npmrc` is content of the repository
//! and by itself widens nothing: npm would send `${NPM_TOKEN}` to whatever host it names
//! (measured with npm 11.19). Such a host counts when something else knows it as well.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::Path;

use super::lockfile::Lockfile;
use super::npm::Npm;
use super::npmrc::{self, NpmConfig, Origin};
use super::project::{self, manifest_specs};
use super::spec::{self, Source};
use crate::policy::{Endpoint, KnownHosts};

/// More git hosts than any project has; what a lockfile names beyond is left out.
const MOST_GIT_HOSTS: usize = 64;

/// What the groups of hosts stand for in one run, and what was left out.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The groups.
    pub hosts: KnownHosts,
    /// Sentences for the user: which hosts do not count, and how to accept them.
    pub notes: Vec<String>,
}

/// Hosts, each with the widest of what was said of it.
#[derive(Default)]
struct Group(BTreeMap<(String, Option<u16>), bool>);

impl Group {
    fn add(&mut self, host: &str, port: Option<u16>, private: bool) {
        *self.0.entry((host.to_owned(), port)).or_default() |= private;
    }

    fn has_host(&self, host: &str) -> bool {
        self.0.keys().any(|(known, _)| known == host)
    }

    fn covers(&self, host: &str, port: Option<u16>) -> bool {
        self.0.keys().any(|(known, open)| known == host && (open.is_none() || *open == port))
    }

    fn into_endpoints(self) -> Vec<Endpoint> {
        self.0.into_iter().map(|((host, port), private)| Endpoint { host, port, private }).collect()
    }
}

/// Gathers the hosts of a project where npm itself is not started; `None` if there is no npm
/// in `path`.
pub fn known_hosts_of(project: &Path, home: Option<&Path>, path: &OsStr) -> Option<Known> {
    let npm = Npm::locate(path).ok()?;
    let config = NpmConfig::load(project, home, &npm.prefix());
    let lockfile = Lockfile::load(project);
    Some(known_hosts(project, &config, &lockfile, npm.default_registry(), &[]))
}

/// Gathers the hosts of a project. `arguments` are the words after npm's command.
pub fn known_hosts(
    project: &Path,
    config: &NpmConfig,
    lockfile: &Lockfile,
    default_registry: Option<String>,
    arguments: &[OsString],
) -> Known {
    let mut notes: Vec<String> = config
        .withheld()
        .map(|withheld| {
            format!(
                "`{}` in the project's `.npmrc` would put `{}` from the environment into an address, so \
                 it does not count; set it in your own configuration if you mean it",
                crate::event::escape(withheld.setting.as_bytes()),
                crate::event::escape(withheld.variable.as_bytes()),
            )
        })
        .collect();
    let flags = project::flags_of(arguments);
    let registry = registries(config, lockfile, default_registry, &flags, &mut notes);
    let proxy = proxies(config, &flags, &mut notes);
    let git_hosts = git_hosts(project, lockfile, arguments, &mut notes);
    notes.sort_unstable();
    notes.dedup();
    Known {
        hosts: KnownHosts {
            registry: registry.into_endpoints(),
            proxy: proxy.into_endpoints(),
            git_hosts: git_hosts.into_endpoints(),
        },
        notes,
    }
}

fn registries(
    config: &NpmConfig,
    lockfile: &Lockfile,
    default_registry: Option<String>,
    flags: &[(String, String)],
    notes: &mut Vec<String>,
) -> Group {
    let mut known = Group::default();
    if let Some((host, port)) = default_registry.as_deref().and_then(endpoint) {
        known.add(&host, port, false);
    }
    let users = config.registries_from().filter(|(origin, _)| *origin != Origin::Project);
    let given = flags.iter().filter(|(name, _)| npmrc::is_registry(name) || name == "reg");
    for url in users.map(|(_, url)| url).chain(given.map(|(_, url)| url.as_str())) {
        if let Some((host, port)) = endpoint(url) {
            known.add(&host, port, true);
        }
    }
    let kept = config.credential_hosts().filter(|(origin, _)| *origin != Origin::Project);
    for (host, port) in kept.filter_map(|(_, text)| spec::host_and_port(text)) {
        known.add(&host, port, true);
    }
    let projects = config.registries_from().filter(|(origin, _)| *origin == Origin::Project);
    let asked: Vec<_> = projects.filter_map(|(_, url)| endpoint(url)).collect();
    let locked = if asked.is_empty() { Vec::new() } else { lockfile.registry_hosts() };
    let mut accepted = Vec::new();
    for (host, port) in asked {
        if is_loopback(&host) || locked.contains(&host) {
            accepted.push((host, port, true));
        } else if known.has_host(&host) {
            // Another port of a host that is public stays public.
            let private = known.0.iter().any(|((k, _), private)| *k == host && *private);
            accepted.push((host, port, private));
        } else {
            notes.push(not_known(
                "points npm at",
                &host,
                port,
                "neither your own npm configuration nor the lockfile knows",
            ));
        }
    }
    for (host, port, private) in accepted {
        known.add(&host, port, private);
    }
    known
}

fn proxies(config: &NpmConfig, flags: &[(String, String)], notes: &mut Vec<String>) -> Group {
    let mut known = Group::default();
    let users = config.proxies_from().filter(|(origin, _)| *origin != Origin::Project).map(|(_, url)| url);
    let given = flags.iter().filter(|(name, _)| npmrc::is_proxy(name)).map(|(_, url)| url.as_str());
    for (host, port) in users.chain(given).filter_map(endpoint) {
        known.add(&host, port, true);
    }
    for (origin, url) in config.proxies_from() {
        let Some((host, port)) = endpoint(url).filter(|_| origin == Origin::Project) else { continue };
        if !known.covers(&host, port) {
            notes.push(not_known(
                "sends npm through the proxy",
                &host,
                port,
                "your own configuration does not name",
            ));
        }
    }
    known
}

fn git_hosts(project: &Path, lockfile: &Lockfile, arguments: &[OsString], notes: &mut Vec<String>) -> Group {
    let mut known = Group::default();
    // The user's own words first, so that a lockfile cannot crowd them out.
    let words = project::positionals_of(arguments);
    let mut sources: Vec<Source> = words.iter().map(|word| spec::parse_argument(word)).collect();
    for directory in std::iter::once(project.to_owned()).chain(project::workspaces(project)) {
        sources.extend(manifest_specs(&directory).iter().map(|(_, text)| spec::parse(text)));
    }
    let mut resolved: Vec<&str> = lockfile.entries().filter_map(|(_, e)| e.resolved.as_deref()).collect();
    resolved.sort_unstable();
    sources.extend(resolved.into_iter().map(spec::parse));
    let mut left_out = 0_usize;
    for source in sources.iter().filter(|source| matches!(source, Source::Git { .. })) {
        for (host, port) in source.hosts() {
            if known.0.len() < MOST_GIT_HOSTS || known.0.contains_key(&(host.clone(), port)) {
                known.add(&host, port, false);
            } else {
                left_out += 1;
            }
        }
    }
    if left_out > 0 {
        notes.push(format!(
            "the project names more than {MOST_GIT_HOSTS} git hosts; the rest is not in `{{git-hosts}}`"
        ));
    }
    known
}

/// A sentence about a host of the project's `.npmrc` that does not count.
fn not_known(does: &str, host: &str, port: Option<u16>, unknown: &str) -> String {
    let text = match (host.contains(':'), port) {
        (true, Some(port)) => format!("[{host}]:{port}"),
        (false, Some(port)) if ![80, 443].contains(&port) => format!("{host}:{port}"),
        _ => host.to_owned(),
    };
    let text = crate::event::escape(text.as_bytes());
    format!(
        "`.npmrc` of the project {does} `{text}`, which {unknown}; to accept it: \
         manager: {{ connect: {{ allow: [\"{text}\"] }} }}"
    )
}

/// Host and port of an address; the scheme's port where it has none.
fn endpoint(url: &str) -> Option<(String, Option<u16>)> {
    let url = npmrc::address(url)?;
    let port = url.port_or_known_default().or_else(|| url.scheme().starts_with("socks").then_some(1080));
    // Of schemes that are not the web's the host is kept as it is spelt, and may be anything.
    let host = url.host_str().and_then(|host| url::Host::parse(host).ok())?;
    Some((spec::host_text(&host)?, port))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        environment: Vec<(OsString, OsString)>,
    }

    impl Place {
        fn new() -> Place {
            Place { dir: tempfile::tempdir().unwrap(), environment: Vec::new() }
        }

        fn file(self, name: &str, text: &str) -> Place {
            let path = self.dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
            self
        }

        fn variable(mut self, name: &str, value: &str) -> Place {
            self.environment.push((name.into(), value.into()));
            self
        }

        fn hosts(&self, words: &[&str]) -> Known {
            let project = self.dir.path().join("project");
            std::fs::create_dir_all(&project).unwrap();
            let home = self.dir.path().join("home");
            let prefix = self.dir.path().join("prefix");
            let config = NpmConfig::from_sources(self.environment.clone(), &project, Some(&home), &prefix);
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let default = Some("https://default.test/".to_owned());
            known_hosts(&project, &config, &Lockfile::load(&project), default, &words)
        }
    }

    fn text(group: &[Endpoint]) -> Vec<String> {
        let show = |e: &Endpoint| {
            let port = e.port.map_or(String::new(), |port| format!(" {port}"));
            format!("{}{port}{}", e.host, if e.private { " private" } else { "" })
        };
        group.iter().map(show).collect()
    }

    #[test]
    fn the_users_own_settings_name_private_registries() {
        let place = Place::new()
            .file(
                "home/.npmrc",
                "@corp:registry=https://npm.corp.test:8443/r/\n//tarballs.corp.test/x/:_authToken=s3cret\n\
                 //certs.corp.test:99/:certfile=/x\n//nothing.test/:other=1\n",
            )
            .file("prefix/etc/npmrc", "registry=http://global.test/\n")
            .variable("npm_config_@env:registry", "https://env.test/")
            .variable("NPM_CONFIG_//My-Env.test/:_authToken", "s3cret");
        let hosts = place.hosts(&["--registry=https://me@flag.test/x", "--@a:registry", "https://[::1]:1/"]);
        assert_eq!(
            text(&hosts.hosts.registry),
            [
                "::1 1 private",
                "certs.corp.test 99 private",
                "default.test 443",
                "env.test 443 private",
                "flag.test 443 private",
                "global.test 80 private",
                "my-env.test private",
                "npm.corp.test 8443 private",
                "tarballs.corp.test private",
            ]
        );
        assert_eq!(hosts.notes, [""; 0]);
        assert!(!format!("{hosts:?}").contains("s3cret"));
    }

    #[test]
    fn a_registry_that_only_the_project_names_does_not_count() {
        let place = Place::new().file(
            "project/.npmrc",
            "registry=https://default.test@evil.test/\n@l:registry=http://127.0.0.1:4873/\n\
             @six:registry=http://[::1]:4873\n@p:registry=https://default.test:8443/\n\
             //evil.test/:_authToken=x\n",
        );
        let hosts = place.hosts(&[]);
        assert_eq!(
            text(&hosts.hosts.registry),
            ["127.0.0.1 4873 private", "::1 4873 private", "default.test 443", "default.test 8443"]
        );
        assert_eq!(
            hosts.notes,
            ["`.npmrc` of the project points npm at `evil.test`, which neither your own npm configuration \
              nor the lockfile knows; to accept it: manager: { connect: { allow: [\"evil.test\"] } }"]
        );
    }

    #[test]
    fn the_lockfile_vouches_for_a_registry_of_the_project() {
        let lock = |entry: &str| format!("{{\"packages\": {{\"node_modules/a\": {{{entry}}}}}}}");
        let npmrc = "registry=https://npm.corp.test/\n";
        let good = r#""version": "1.0.0", "integrity": "sha512-x", "resolved": "https://npm.corp.test/a/-/a-1.0.0.tgz""#;
        let place = Place::new().file("project/.npmrc", npmrc).file("project/package-lock.json", &lock(good));
        assert_eq!(text(&place.hosts(&[]).hosts.registry), ["default.test 443", "npm.corp.test 443 private"]);
        let git = r#""version": "1.0.0", "resolved": "git+https://npm.corp.test/a.git""#;
        let place = Place::new().file("project/.npmrc", npmrc).file("project/package-lock.json", &lock(git));
        let hosts = place.hosts(&[]);
        assert_eq!(text(&hosts.hosts.registry), ["default.test 443"]);
        assert_eq!(hosts.notes.len(), 1);
    }

    #[test]
    fn a_secret_in_an_address_of_the_project_never_counts() {
        let place = Place::new()
            .file(
                "project/.npmrc",
                "registry=http://127.0.0.1/${CI_TOKEN}/\nproxy=http://${CI_TOKEN}.evil.test\n",
            )
            .variable("CI_TOKEN", "s3cret");
        let hosts = place.hosts(&[]);
        assert_eq!(text(&hosts.hosts.registry), ["default.test 443"]);
        assert!(hosts.hosts.proxy.is_empty());
        assert_eq!(hosts.notes.len(), 2);
        assert!(hosts.notes.iter().all(|n| n.contains("CI_TOKEN") && !n.contains("s3cret")));
    }

    #[test]
    fn proxies_are_the_users() {
        let place = Place::new()
            .file("home/.npmrc", "https-proxy=http://u:p@proxy.corp.test:3128\n")
            .file("project/.npmrc", "proxy=http://evil.test:8080\n")
            .variable("HTTPS_PROXY", "http://env.test:1")
            .variable("http_proxy", "bare.test:2")
            .variable("ALL_PROXY", "socks5h://Socks.test")
            .variable("NO_PROXY", "internal.test");
        let hosts = place.hosts(&["--proxy", "http://[fd00::1]:3"]);
        assert_eq!(
            text(&hosts.hosts.proxy),
            [
                "bare.test 2 private",
                "env.test 1 private",
                "fd00::1 3 private",
                "proxy.corp.test 3128 private",
                "socks.test 1080 private",
            ]
        );
        assert!(hosts.notes[0].contains("`evil.test:8080`"), "{:?}", hosts.notes);
    }

    #[test]
    fn git_hosts_come_from_lockfile_manifests_and_words() {
        let place = Place::new()
            .file(
                "project/package.json",
                r#"{"workspaces": ["packages/*"], "dependencies": {"a": "github:u/a"},
                    "devDependencies": {"b": "git+ssh://git@dev.test:2222/b.git", "c": 1}}"#,
            )
            .file(
                "project/packages/w/package.json",
                r#"{"optionalDependencies": {"w": "git@ws.test:w/w.git"}}"#,
            )
            .file("project/node_modules/x/package.json", r#"{"dependencies": {"w": "git@no.test:w/w.git"}}"#)
            .file(
                "project/package-lock.json",
                r#"{"packages": {"node_modules/l": {"resolved": "git+https://user@lock.test/l.git#1"},
                    "node_modules/t": {"resolved": "https://tarball.test/t.tgz"}}}"#,
            );
        let hosts = place.hosts(&["--save", "-w", "not/this", "git+https://word.test/x", "left-pad"]);
        assert_eq!(
            text(&hosts.hosts.git_hosts),
            ["codeload.github.com", "dev.test 2222", "github.com", "lock.test", "word.test", "ws.test"]
        );
    }

    #[test]
    fn a_hostile_lockfile_names_only_so_many() {
        let entry = |n| format!("\"node_modules/p{n}\": {{\"resolved\": \"git://h{n}.test/x\"}}");
        let entries: Vec<String> = (0..500).map(entry).collect();
        let place = Place::new()
            .file("project/package-lock.json", &format!("{{\"packages\": {{{}}}}}", entries.join(",")));
        let hosts = place.hosts(&["git://zzz.test/x"]);
        assert_eq!(hosts.hosts.git_hosts.len(), MOST_GIT_HOSTS);
        assert!(hosts.hosts.git_hosts.iter().any(|e| e.host == "zzz.test"));
        assert_eq!(hosts.notes.len(), 1);
    }
}
