//! Packages of the real registry install and load under npmguard as without it: no
//! denial, and the same files with the same modes and contents.
//!
//! Skipped, and said so, where the registry cannot be reached.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use harness::{Run, Site, User, users};
use serde_json::json;

/// A site that can reach the registry as the caller can, or `None` after saying why.
fn online(user: User) -> Option<Site> {
    let mut site = Site::of(user);
    // The caller's own way to the registry: proxies and certificates, never credentials.
    for (name, value) in std::env::vars() {
        let lower = name.to_ascii_lowercase();
        if lower.ends_with("_proxy") || lower.contains("ca_certs") || lower.starts_with("ssl_cert") {
            site.env(&name, &value);
        }
    }
    let registry = Command::new("npm").args(["config", "get", "registry"]).output().expect("npm");
    let registry = String::from_utf8_lossy(&registry.stdout).trim().to_owned();
    if !registry.is_empty() {
        site.env("npm_config_registry", &registry);
    }
    if Path::new("/usr/include/node").is_dir() {
        site.env("npm_config_nodedir", "/usr");
    }
    site.manifest(json!({}));
    let mut probe = Command::new("timeout");
    probe.args(["20", "npm", "view", "is-number", "version", "--fetch-retries=0"]);
    if probe.output().is_ok_and(|o| o.status.success()) {
        return Some(site);
    }
    eprintln!("skipped: the registry {registry} cannot be reached");
    None
}

/// Installs `specs` natively and under npmguard from the same lockfile; the guarded run.
/// The trees must be the same but for what `noise` names.
fn install_both_ways(site: &Site, specs: &[&str], flags: &[&str], noise: fn(&str) -> bool) -> Run {
    let mut words = vec!["install", "--no-audit", "--no-fund", "--loglevel=error"];
    words.extend(flags);
    words.extend(specs);
    let native = site.command_of("npm", &words).output().expect("npm");
    assert!(native.status.success(), "native: {}", String::from_utf8_lossy(&native.stderr));
    let expected = tree(&site.path("app/node_modules"), noise);
    fs::remove_dir_all(site.path("app/node_modules")).expect("remove");
    let mut words = vec!["ci", "--", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"];
    words.extend(flags);
    let run = site.guard(&words);
    let found = tree(&site.path("app/node_modules"), noise);
    for (path, entry) in &expected {
        assert_eq!(found.get(path), Some(entry), "{path}\n{}", run.stderr);
    }
    assert_eq!(found.len(), expected.len(), "nothing more than without npmguard");
    run
}

/// Path → mode and content of every entry.
fn tree(root: &Path, noise: fn(&str) -> bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("list").flatten() {
            let path = entry.path();
            let name = path.strip_prefix(root).expect("below").display().to_string();
            let meta = entry.metadata().expect("metadata");
            if name == ".package-lock.json" || noise(&name) {
                continue;
            }
            let mode = meta.permissions().mode();
            let content = if meta.is_symlink() {
                fs::read_link(&path).expect("link").display().to_string()
            } else if meta.is_dir() {
                open.push(path);
                String::new()
            } else {
                digest(&path)
            };
            found.insert(name, format!("{mode:o} {content}"));
        }
    }
    found
}

fn digest(path: &Path) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(fs::read(path).expect("read"));
    hash.iter().map(|b| format!("{b:02x}")).collect()
}

fn no_noise(_: &str) -> bool {
    false
}

#[track_caller]
fn assert_loads(site: &Site, package: &str, expression: &str) {
    let script = format!("const m = require('{package}'); process.stdout.write(String({expression}))");
    let output = site.command_of("node", &["-e", &script]).output().expect("node");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "true", "{package}: {stderr}");
}

#[test]
fn packages_with_harmless_scripts_install_as_without_npmguard() {
    for user in users() {
        let Some(site) = online(user) else { return };
        let run = install_both_ways(&site, &["protobufjs@7.4.0", "es5-ext@0.10.64"], &[], no_noise);
        run.assert_code(0);
        run.assert_quiet("*");
        for package in ["protobufjs", "es5-ext"] {
            assert_eq!(run.events("script_start", package, "allowed").len(), 1, "{user:?}");
        }
        assert_loads(&site, "protobufjs", "typeof m.load === 'function'");
        assert_loads(&site, "es5-ext", "typeof m === 'object'");
    }
}

#[test]
fn a_platform_binary_installs_as_without_npmguard() {
    let Some(site) = online(User::Caller) else { return };
    let run = install_both_ways(&site, &["@swc/core@1.7.26"], &[], no_noise);
    run.assert_code(0);
    run.assert_quiet("*");
    assert_eq!(run.events("script_start", "@swc/core", "allowed").len(), 1);
    assert_loads(&site, "@swc/core", "m.transformSync('let a = 1').code.includes('a = 1')");
}

#[test]
fn a_native_addon_builds_from_source_as_without_npmguard() {
    for user in users() {
        let Some(site) = online(user) else { return };
        // Objects and makefiles hold times and temporary names.
        let run = install_both_ways(&site, &["bufferutil@4.0.8"], &["--build-from-source"], |name| {
            name.contains("/build/") && !name.ends_with(".node")
        });
        run.assert_code(0);
        run.assert_quiet("*");
        assert!(site.path("app/node_modules/bufferutil/build/Release/bufferutil.node").exists(), "{user:?}");
        assert!(run.events("exec", "bufferutil", "*").len() > 5, "a compiler ran");
        assert_loads(&site, "bufferutil", "typeof m.mask === 'function'");
    }
}

#[test]
fn lefthook_writes_its_hooks_by_its_grant_and_nothing_else() {
    for user in users() {
        let Some(site) = online(user) else { return };
        repository(&site);
        site.write("app/lefthook.yml", "pre-commit:\n  commands:\n    x: { run: \"true\" }\n");
        let before = tree(&site.path("app"), outside_of_the_grant);
        let words = ["install", "--", "--no-audit", "--no-fund", "--loglevel=error", "lefthook@1.7.18"];
        let run = site.guard(&words);
        run.assert_code(0);
        run.assert_quiet("*");
        assert!(site.path("app/.git/hooks/pre-commit").exists(), "{user:?}: {}", run.stderr);
        assert_eq!(site.read("app/.env").as_deref(), Some("ENV-SECRET=1\n"));
        let after = tree(&site.path("app"), outside_of_the_grant);
        assert_eq!(before, after, "nothing else was written");
    }
}

fn outside_of_the_grant(name: &str) -> bool {
    ["node_modules", ".git/hooks", ".git/info", "lefthook.yml", "package"].iter().any(|p| name.starts_with(p))
}

#[test]
fn a_denied_hook_names_the_rule_that_denies_it() {
    let Some(site) = online(User::Caller) else { return };
    repository(&site);
    site.write("app/lefthook.yml", "pre-commit:\n  commands:\n    x: { run: \"true\" }\n");
    site.write(
        "app/npmguard.yaml",
        "version: 1\npackages:\n  lefthook:\n    reason: no hooks here\n    write: { deny: [\"{project}/.git/hooks/**\"] }\n",
    );
    let words = ["install", "--", "--no-audit", "--no-fund", "--loglevel=error", "lefthook@1.7.18"];
    let run = site.guard(&words);
    assert_ne!(run.code, 0);
    run.assert_denied("lefthook", ".git/hooks");
    let denied = run.events("write", "lefthook", "denied");
    let hint = denied[0]["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("lefthook") && hint.contains("{project}/.git/hooks"), "{hint}");
    assert!(denied.iter().any(|e| {
        e["rule"]["source"].as_str().is_some_and(|s| s.ends_with("npmguard.yaml")) && e["rule"]["line"] == 5
    }));
    assert!(!site.path("app/.git/hooks/pre-commit").exists());
}

/// The site's project as a git repository.
fn repository(site: &Site) {
    fs::remove_dir_all(site.path("app/.git")).expect("remove");
    let made = Command::new("git").args(["init", "-q"]).arg(site.path("app")).status().expect("git");
    assert!(made.success());
    for sample in fs::read_dir(site.path("app/.git/hooks")).into_iter().flatten().flatten() {
        fs::remove_file(sample.path()).expect("remove");
    }
}
