//! What npm itself and its git may reach: registries, proxies and git hosts that the user
//! or the lockfile knows, with verdaccio as the registry, and nothing that a dependency
//! or the project's `.npmrc` names.
//!
//! Skipped, and said so, where no world can be made or verdaccio cannot be installed.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use harness::world::{self, World};
use harness::{Run, Site, User, users};
use serde_json::{Value, json};

const VERDACCIO: &str = "6.1.2";
/// A dependency of it that names a tag, which not every mirror of the registry has.
const NODE_FETCH: &str = "2.7.0";
const REGISTRY: &str = "http://registry.world.test:4873";

/// Verdaccio's program, installed once into the target directory.
fn verdaccio() -> Result<PathBuf, String> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let place = cache.join(format!("verdaccio-{VERDACCIO}"));
    let program = "node_modules/verdaccio/bin/verdaccio";
    if !place.join(program).exists() {
        let stage =
            tempfile::Builder::new().prefix("verdaccio-").tempdir_in(cache).map_err(|e| e.to_string())?;
        let manifest = json!({
            "name": "verdaccio-for-tests", "private": true,
            "dependencies": { "verdaccio": VERDACCIO }, "overrides": { "node-fetch": NODE_FETCH },
        });
        fs::write(stage.path().join("package.json"), manifest.to_string()).map_err(|e| e.to_string())?;
        let output = Command::new("timeout")
            .args([
                "180",
                "npm",
                "install",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--fetch-retries=1",
                "--loglevel=error",
            ])
            .current_dir(stage.path())
            .output()
            .map_err(|e| e.to_string())?;
        if !output.status.success() {
            return Err(format!(
                "verdaccio cannot be installed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ));
        }
        // Two test runs may come here at once; the first to arrive is as good as the second.
        let _ = fs::rename(stage.keep(), &place);
    }
    Ok(place.join(program))
}

/// The world with a registry in it and what was published there, and the registry's token.
struct Registry {
    world: &'static World,
    token: String,
}

fn registry() -> Option<&'static Registry> {
    static REGISTRY_OF_TESTS: OnceLock<Option<Registry>> = OnceLock::new();
    REGISTRY_OF_TESTS.get_or_init(start).as_ref()
}

fn start() -> Option<Registry> {
    let world = world::open()?;
    let program = match verdaccio() {
        Ok(program) => program,
        Err(reason) => {
            println!("skipped: {reason}");
            return None;
        }
    };
    // It lies beside what the world serves, and goes with it.
    let home = world.www().join("../verdaccio");
    fs::create_dir_all(&home).expect("a directory");
    let home = home.canonicalize().expect("a directory");
    let config = home.join("config.yaml");
    let text = format!(
        "storage: {0}/storage\nauth: {{ htpasswd: {{ file: {0}/htpasswd, max_users: 10 }} }}\nuplinks: {{}}\npackages:\n  '@private/*': {{ access: $authenticated, publish: $authenticated }}\n  '**': {{ access: $all, publish: $authenticated }}\nlog: {{ type: stdout, format: json, level: warn }}\n",
        home.display()
    );
    fs::write(&config, text).expect("a configuration");
    world.registry(&program, &config, &home);
    for name in [
        "registry",
        "npm",
        "registry-tls",
        "registry-proxied",
        "elsewhere",
        "evil",
        "wicked",
        "code",
        "proxy",
    ] {
        world.host(&format!("{name}.world.test"), "198.51.100.10");
    }
    world.name("registry-six.world.test", json!({ "aaaa": ["2001:db8:1::10"] }));
    let mut registry = Registry { world, token: String::new() };
    let site = world.site(User::Caller);
    let user = json!({ "name": "tester", "password": "a-test-password" });
    let made = site.native(
        "curl",
        &[
            "-sS",
            "-X",
            "PUT",
            "-H",
            "content-type: application/json",
            "-d",
            &user.to_string(),
            &format!("{REGISTRY}/-/user/org.couchdb.user:tester"),
        ],
    );
    let answer: Value =
        serde_json::from_str(&made.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", made.stdout, made.stderr));
    registry.token = answer["token"].as_str().expect("a token").to_owned();
    registry.fixtures();
    Some(registry)
}

const DOWNLOAD: &str = r"
fetch('http://registry.world.test:4873/platform-linux/-/platform-linux-1.0.0.tgz')
  .then(async (r) => require('fs').writeFileSync('out', r.status + ' ' + ((await r.arrayBuffer()).byteLength > 100)), (e) => require('fs').writeFileSync('out', e.cause.code));";

impl Registry {
    fn fixtures(&self) {
        let site = self.site(User::Caller, "");
        let plain = |name: &str, dependencies: Value| {
            (name.to_owned(), json!({ "dependencies": dependencies }), vec![("index.js", "1")])
        };
        let script = |name: &str| {
            (name.to_owned(), json!({ "scripts": { "postinstall": "node p.js" } }), vec![("p.js", DOWNLOAD)])
        };
        for (name, extra, files) in [
            plain("plainlib", json!({})),
            plain("@private/lib", json!({ "plainlib": "1" })),
            plain("@scope/lib", json!({})),
            plain("platform-linux", json!({})),
            script("downloader"),
            script("sneaker"),
            plain("asks-evil", json!({ "evil": "http://evil.world.test/from-registry.tgz" })),
            plain("asks-wicked", json!({ "wicked": "http://wicked.world.test/from-lockfile.tgz" })),
            plain("above-asks-evil", json!({ "asks-evil": "1" })),
            plain("asks-git", json!({ "gitty": "git+http://evil.world.test/evil.git" })),
        ] {
            site.tarball(&name, extra, &files, "fixture.tgz");
            let run = site
                .native("npm", &["publish", "./vendor/fixture.tgz", "--loglevel=error", "--access=public"]);
            assert_eq!(run.code, 0, "{name}: {} {}", run.stdout, run.stderr);
        }
        // What nobody should ever get, and a package of a git host.
        let evil = site.path("app/vendor/evil.tgz");
        site.tarball("evil", json!({}), &[("index.js", "1")], "evil.tgz");
        for path in ["from-registry.tgz", "from-tarball.tgz", "from-lockfile.tgz"] {
            self.world.serve(path, &fs::read(&evil).expect("a tarball"));
        }
        for name in ["code.git", "evil.git"] {
            self.repository(name);
        }
    }

    /// A repository with one package, as git's plain ("dumb") HTTP.
    fn repository(&self, name: &str) {
        let script = r#"
            git init -q --bare -b main $0 && t=$(mktemp -d) && cd $t && git init -q -b main . &&
            echo '{"name":"gitty","version":"1.0.0"}' >package.json && git add package.json &&
            git -c user.name=t -c user.email=t@t.test commit -qm one &&
            git push -q $0 main && git -C $0 update-server-info && rm -rf $t"#;
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(self.world.www().join(name)).env("GIT_CONFIG_GLOBAL", "/dev/null");
        assert!(command.status().expect("git").success());
    }

    /// A site whose user has this registry and this further configuration.
    fn site(&self, user: User, npmrc: &str) -> Site {
        let site = self.world.site(user);
        let token = &self.token;
        site.write(
            "home/.npmrc",
            &format!("registry={REGISTRY}/\n//registry.world.test:4873/:_authToken={token}\nfetch-retries=0\nupdate-notifier=false\naudit=false\nfund=false\n{npmrc}"),
        );
        site
    }

    fn requests(&self, host: &str) -> usize {
        self.world
            .seen("http")
            .iter()
            .filter(|r| r["host"].as_str().is_some_and(|h| h.starts_with(host)))
            .count()
    }
}

/// Hosts of the manager's connections with this verdict.
fn manager_hosts(run: &Run, verdict: &str) -> Vec<String> {
    let mut hosts: Vec<String> = run
        .events("connect", "*", verdict)
        .iter()
        .filter(|e| e["domain"] != "script")
        .map(|e| e["target"]["host"].as_str().unwrap_or("-").to_owned())
        .collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn installed(site: &Site, package: &str) -> bool {
    site.path(&format!("app/node_modules/{package}/package.json")).exists()
}

#[test]
fn private_and_scoped_registries_of_the_user_work() {
    let Some(registry) = registry() else { return };
    for user in users() {
        let scope = format!(
            "@scope:registry=http://npm.world.test:8080/\n//npm.world.test:8080/:_authToken={}\n",
            registry.token
        );
        let mut site = registry.site(user, &scope);
        site.depend("plainlib", "^1.0.0").depend("@private/lib", "1").depend("@scope/lib", "1");
        let run = site.attempt();
        run.assert_code(0);
        for package in ["plainlib", "@private/lib", "@scope/lib"] {
            assert!(installed(&site, package), "{package}");
        }
        let sent = registry.world.seen_of("http", "npm.world.test:8080");
        assert!(sent.iter().any(|r| r["path"].as_str().is_some_and(|p| p.contains("scope"))));
        assert_eq!(manager_hosts(&run, "allowed"), ["npm.world.test", "registry.world.test"], "{user:?}");
        assert_eq!(run.denied("*"), Vec::<String>::new(), "{}", run.stderr);
        // And from the lockfile alone.
        fs::remove_dir_all(site.path("app/node_modules")).expect("installed");
        let run = site.guard(&["ci", "--", "--loglevel=error"]);
        run.assert_code(0);
        assert!(installed(&site, "@private/lib"));
    }
}

#[test]
fn a_registry_with_an_ipv6_address_only_works() {
    let Some(registry) = registry() else { return };
    for user in users() {
        let mut site = registry.site(user, "registry=http://registry-six.world.test/\n");
        site.depend("plainlib", "1");
        let run = site.attempt();
        run.assert_code(0);
        assert!(installed(&site, "plainlib"));
        assert_eq!(manager_hosts(&run, "allowed"), ["registry-six.world.test"]);
    }
    let seen = registry.world.seen_of("http", "registry-six.world.test");
    assert!(seen.iter().all(|r| r["from"] == "2001:db8::2") && !seen.is_empty());
}

#[test]
fn a_registry_behind_a_proxy_works_with_and_without_tls() {
    let Some(registry) = registry() else { return };
    for user in users() {
        for (host, scheme) in [("registry-tls.world.test", "https"), ("registry-proxied.world.test", "http")]
        {
            let mut site = registry.site(
                user,
                &format!(
                    "registry={scheme}://{host}/\nhttps-proxy=http://proxy.world.test:3128/\nproxy=http://proxy.world.test:3128/\ncafile={}\n",
                    registry.world.authority().display()
                ),
            );
            site.depend("plainlib", "1");
            let run = site.attempt();
            run.assert_code(0);
            assert!(installed(&site, "plainlib"), "{host}");
            let seen = registry.world.seen_of("proxy", host);
            assert!(!seen.is_empty(), "{host} was not asked for through the proxy");
            assert!(seen.iter().all(|r| (r["method"] == "CONNECT") == (scheme == "https")), "{seen:?}");
            // What is asked of the proxy is what counts.
            assert_eq!(manager_hosts(&run, "allowed"), [host], "{user:?} {host}");
            assert_eq!(run.denied("*"), Vec::<String>::new(), "{}", run.stderr);
        }
    }
}

#[test]
fn a_remote_url_dependency_is_refused_through_a_proxy_as_well() {
    let Some(registry) = registry() else { return };
    for scheme in ["http", "https"] {
        let proxy = "https-proxy=http://proxy.world.test:3128/\nproxy=http://proxy.world.test:3128/\n";
        let mut site = registry.site(User::Caller, &format!("registry={REGISTRY}/\n{proxy}"));
        let evil = json!({ "dependencies": { "evil": format!("{scheme}://evil.world.test/by-proxy.tgz") } });
        site.package_with("local-asker", evil, &[]);
        let run = site.attempt();
        assert_ne!(run.code, 0, "{}", run.stderr);
        assert!(!installed(&site, "evil"));
        assert!(
            run.events("connect", "local-asker", "denied")
                .iter()
                .any(|e| e["target"]["host"] == "evil.world.test"),
            "{scheme}: {:?} {}",
            run.denied("*"),
            run.stderr
        );
    }
    assert_eq!(registry.world.seen_of("proxy", "evil.world.test").len(), 0, "the proxy was asked");
}

#[test]
fn a_tls_registry_with_the_users_own_authority_works() {
    let Some(registry) = registry() else { return };
    let authority = registry.world.authority();
    let mut site = registry.site(
        User::Caller,
        &format!("registry=https://registry-tls.world.test:8443/\ncafile={}\n", authority.display()),
    );
    site.depend("plainlib", "1");
    let run = site.attempt();
    run.assert_code(0);
    assert!(installed(&site, "plainlib"));
    assert_eq!(manager_hosts(&run, "allowed"), ["registry-tls.world.test"]);
}

#[test]
fn a_script_gets_its_binary_from_the_registry_by_a_grant_and_its_sibling_does_not() {
    let Some(registry) = registry() else { return };
    for user in users() {
        let mut site = registry.site(user, "");
        site.depend("downloader", "1").depend("sneaker", "1");
        site.grant(&[("downloader", &["\"{registry}\""])]);
        let run = site.attempt();
        assert_eq!(site.out("downloader"), "200 true", "{user:?} {}", run.stderr);
        assert_eq!(site.out("sneaker"), "ENOTFOUND");
        run.assert_quiet("downloader");
        run.assert_denied("sneaker", "resolve registry.world.test");
        run.assert_code(9);
    }
}

#[test]
fn a_remote_url_dependency_is_refused_and_put_down_to_the_package_that_asked() {
    let Some(registry) = registry() else { return };
    let before = registry.requests("evil.world.test");
    for user in users() {
        // Deep in the registry, and in a local tarball.
        for (asker, path) in [("asks-evil", "from-registry.tgz"), ("local-asker", "from-tarball.tgz")] {
            let mut site = registry.site(user, "");
            if asker == "asks-evil" {
                site.depend("above-asks-evil", "1");
            } else {
                let evil = json!({ "dependencies": { "evil": format!("http://evil.world.test/{path}") } });
                site.package_with(asker, evil, &[]);
            }
            let run = site.attempt();
            assert_ne!(run.code, 0, "{asker} {}", run.stderr);
            assert!(!installed(&site, "evil"));
            let denied: Vec<_> = run
                .log
                .iter()
                .filter(|e| e["verdict"] == "denied" && e["target"]["host"] == "evil.world.test")
                .collect();
            assert!(!denied.is_empty(), "{user:?} {asker} {}", run.stderr);
            // What a package of the registry asks for only npm knows, before there is a lockfile.
            if asker == "local-asker" {
                assert!(denied.iter().any(|e| e["package"]["name"] == asker), "{user:?} {asker}: {denied:?}");
                assert!(run.stderr.contains(asker), "the terminal names the package: {}", run.stderr);
            }
        }
    }
    assert_eq!(registry.requests("evil.world.test"), before, "nothing reached the host");
    assert_eq!(registry.world.asked("evil.world.test"), Vec::<String>::new());
}

#[test]
fn a_lockfile_that_names_another_host_is_refused_there() {
    let Some(registry) = registry() else { return };
    let mut site = registry.site(User::Caller, "");
    site.depend("asks-wicked", "1");
    site.native_install().assert_code(0);
    assert!(installed(&site, "wicked"), "natively it comes from the other host");
    fs::remove_dir_all(site.path("app/node_modules")).expect("installed");
    let _ = fs::remove_dir_all(site.path("home/.npm"));
    let run = site.guard(&["ci", "--", "--loglevel=error"]);
    assert_ne!(run.code, 0, "{}", run.stderr);
    assert!(!installed(&site, "wicked"));
    assert!(
        run.log.iter().any(|e| e["verdict"] == "denied"
            && e["target"]["host"] == "wicked.world.test"
            && e["package"]["name"] == "asks-wicked"),
        "{:?}",
        run.denied("*")
    );
}

#[test]
fn the_projects_npmrc_points_npm_nowhere_that_the_user_does_not_know() {
    let Some(registry) = registry() else { return };
    for user in users() {
        let before = registry.requests("elsewhere.world.test");
        let mut site = registry.site(user, "");
        site.env("NPM_TOKEN", "npm_SECRET_OF_THE_USER").depend("plainlib", "1");
        site.write(
            "app/.npmrc",
            "registry=http://elsewhere.world.test:4873/\n//elsewhere.world.test:4873/:_authToken=${NPM_TOKEN}\n",
        );
        let run = site.attempt();
        assert_ne!(run.code, 0, "{}", run.stderr);
        assert_eq!(registry.requests("elsewhere.world.test"), before, "{user:?}");
        assert_eq!(registry.world.seen_of("http", "npm_SECRET_OF_THE_USER").len(), 0);
        assert!(
            run.log.iter().any(|e| e["verdict"] == "denied"
                && e["target"]["host"] == "elsewhere.world.test"
                && e["package"]["name"] == "app"),
            "{:?}",
            run.denied("*")
        );
        assert!(
            run.stderr.contains(".npmrc") && run.stderr.contains("elsewhere.world.test"),
            "{}",
            run.stderr
        );

        // A proxy of the project's is no better, and a host that the user knows is fine.
        site.write("app/.npmrc", "proxy=http://elsewhere.world.test:3128/\n");
        let run = site.attempt();
        assert_ne!(run.code, 0, "{}", run.stderr);
        assert_eq!(registry.world.seen_of("proxy", "elsewhere").len(), 0);
        site.write("app/.npmrc", "registry=http://registry.world.test:4873/\n");
        site.attempt().assert_code(0);
        assert!(installed(&site, "plainlib"));
    }
    assert_eq!(registry.world.asked("elsewhere.world.test"), Vec::<String>::new());
}

#[test]
fn git_dependencies_come_from_hosts_that_the_project_names() {
    let Some(registry) = registry() else { return };
    for user in users() {
        let mut site = registry.site(user, "");
        site.depend("gitty", "git+http://code.world.test/code.git");
        let run = site.attempt();
        run.assert_code(0);
        assert!(installed(&site, "gitty"), "{}", run.stderr);
        fs::remove_dir_all(site.path("app/node_modules")).expect("installed");
        let _ = fs::remove_dir_all(site.path("home/.npm"));
        let run = site.guard(&["ci", "--", "--loglevel=error"]);
        run.assert_code(0);
        assert!(installed(&site, "gitty"), "{}", run.stderr);
        assert_eq!(run.denied("*"), Vec::<String>::new());
        assert!(
            run.events("connect", "*", "allowed").iter().any(|e| e["target"]["host"] == "code.world.test")
        );
    }
}

#[test]
fn a_git_dependency_on_a_host_that_only_a_dependency_names_is_refused() {
    let Some(registry) = registry() else { return };
    let before = registry.world.seen_of("http", "evil.git").len();
    for user in users() {
        let mut site = registry.site(user, "");
        site.depend("asks-git", "1");
        let run = site.attempt();
        assert_ne!(run.code, 0, "{}", run.stderr);
        assert!(!installed(&site, "gitty"));
        assert_eq!(registry.world.seen_of("http", "evil.git").len(), before, "{user:?}");
        let denied: Vec<_> = run
            .log
            .iter()
            .filter(|e| e["verdict"] == "denied" && e["target"]["host"] == "evil.world.test")
            .collect();
        assert!(!denied.is_empty(), "{user:?} {}", run.stderr);
    }
}
