//! What scripts may read, write and change, through every way of naming a file.

mod harness;

use harness::{Site, users};
use serde_json::json;

/// Runs `js` as the postinstall of package `p`.
fn node(site: &mut Site, js: &str) -> harness::Run {
    site.package_with("p", json!({ "scripts": { "postinstall": "node p.js" } }), &[("p.js", js)]);
    site.install()
}

#[test]
fn aliases_of_a_secret_are_the_secret() {
    for user in users() {
        let mut site = Site::of(user);
        let run = node(
            &mut site,
            r"
            const fs = require('fs'), os = require('os'), home = os.homedir(), out = [];
            fs.symlinkSync(home + '/.npmrc', 'link');
            const up = '../'.repeat(20);
            for (const p of ['link', '/proc/self/root' + home + '/.npmrc', '/proc/thread-self/root' + home + '/.npmrc',
                             up + home.slice(1) + '/.npmrc', '/proc/self/cwd/link', home + '/.ssh/../.npmrc', '//' + home + '//.npmrc']) {
              try { out.push(p + ' ' + fs.readFileSync(p)); } catch (e) { out.push(e.code); }
            }
            fs.writeFileSync('out', out.join('\n'));",
        );
        let out = site.read("app/node_modules/p/out").expect("ran");
        assert!(!out.contains("SECRET"), "{user:?}: {out}");
        assert_eq!(out.matches("EACCES").count(), 7, "{out}");
        run.assert_denied("p", "/home/.npmrc");
        assert!(
            run.events("read", "p", "denied")
                .iter()
                .all(|e| e["target"]["path"].as_str().is_some_and(|p| p.ends_with("/.npmrc")))
        );
        run.assert_code(9);
    }
}

#[test]
fn every_call_that_changes_a_directory_is_refused_outside_and_works_inside() {
    for user in users() {
        let mut site = Site::of(user);
        site.write("home/Documents/thesis", "months\n");
        let run = node(
            &mut site,
            r"
            const fs = require('fs'), os = require('os'), d = os.homedir() + '/Documents', out = [];
            const t = (n, f) => { try { f(); out.push(n + ' ok'); } catch (e) { out.push(n + ' ' + e.code); } };
            for (const [where, base] of [['in', 'sub'], ['out', d]]) {
              if (where == 'in') { fs.mkdirSync('sub'); fs.writeFileSync('sub/thesis', 'x'); }
              t(where + ' mkdir', () => fs.mkdirSync(base + '/new'));
              t(where + ' symlink', () => fs.symlinkSync('x', base + '/sym'));
              t(where + ' link', () => fs.linkSync(base + '/thesis', base + '/hard'));
              t(where + ' rename', () => fs.renameSync(base + '/thesis', base + '/gone'));
              if (where == 'in') fs.renameSync(base + '/gone', base + '/thesis');
              t(where + ' truncate', () => fs.truncateSync(base + '/thesis', 1));
              t(where + ' chmod', () => fs.chmodSync(base + '/thesis', 0o600));
              t(where + ' utimes', () => fs.utimesSync(base + '/thesis', 1, 1));
              t(where + ' append', () => fs.appendFileSync(base + '/thesis', 'y'));
              t(where + ' create', () => fs.writeFileSync(base + '/made', 'y'));
              t(where + ' unlink', () => fs.unlinkSync(base + '/thesis'));
            }
            t('natural mkdir', () => fs.mkdirSync('/usr'));
            t('natural unlink', () => fs.unlinkSync('/usr/nothing-here'));
            t('natural open', () => fs.readFileSync('/home-that-is-not-there/x'));
            fs.writeFileSync('out', out.join('\n'));",
        );
        let out = site.read("app/node_modules/p/out").expect("ran");
        for line in out.lines().filter(|l| l.starts_with("in ")) {
            assert!(line.ends_with(" ok"), "{user:?}: {line}\n{}", run.stderr);
        }
        for line in out.lines().filter(|l| l.starts_with("out ")) {
            assert!(line.ends_with(" EACCES"), "{user:?}: {line}");
        }
        for line in ["natural mkdir EEXIST", "natural unlink ENOENT", "natural open ENOENT"] {
            assert!(out.contains(line), "{user:?}: errors are the ordinary ones: {out}");
        }
        assert_eq!(site.read("home/Documents/thesis").as_deref(), Some("months\n"));
        assert_eq!(run.events("metadata", "p", "denied").len(), 2, "chmod and utimes are seen");
        assert!(run.events("*", "p", "denied").iter().all(|e| e["rule"]["pointer"].is_string()));
    }
}

#[test]
fn other_processes_are_not_to_be_looked_at() {
    let mut site = Site::new();
    site.env("CALLERS_VALUE", "visible-only-above");
    let run = node(
        &mut site,
        r"
        const fs = require('fs'), out = [];
        const stat = (pid) => fs.readFileSync('/proc/' + pid + '/stat', 'utf8').split(') ')[1].split(' ')[1];
        try { out.push(fs.readFileSync('/proc/self/status', 'utf8').length > 100); } catch (e) { out.push(e.code); }
        try { out.push(fs.readFileSync('/proc/' + process.ppid + '/comm', 'utf8').trim()); } catch (e) { out.push(e.code); }
        for (const f of ['environ', 'cmdline', 'maps', 'fd/0', 'status']) {
          try { out.push(fs.readFileSync('/proc/1/' + f, 'utf8').length); } catch (e) { out.push(f + ' ' + e.code); }
        }
        fs.writeFileSync('out', out.join('\n'));",
    );
    let out = site.read("app/node_modules/p/out").expect("ran");
    assert_eq!(out, "true\nsh\nenviron EACCES\ncmdline EACCES\nmaps EACCES\nfd/0 EACCES\nstatus EACCES");
    run.assert_denied("p", "/proc/1");
}

#[test]
fn files_move_between_directories_of_the_package_and_from_its_temporary_directory() {
    let mut site = Site::new();
    let run = node(
        &mut site,
        r"
        const fs = require('fs'), os = require('os'), path = require('path');
        fs.mkdirSync('a/b', { recursive: true }); fs.mkdirSync('c');
        fs.writeFileSync('a/b/one', '1'); fs.renameSync('a/b/one', 'c/one');
        const tmp = path.join(os.tmpdir(), 'two'); fs.writeFileSync(tmp, '2'); fs.renameSync(tmp, 'c/two');
        fs.writeFileSync('c/three', '3'); fs.linkSync('c/three', 'a/b/three'); fs.renameSync('a/b', 'c/moved');",
    );
    run.assert_code(0);
    for (file, text) in [("c/one", "1"), ("c/two", "2"), ("c/moved/three", "3")] {
        assert_eq!(site.read(&format!("app/node_modules/p/{file}")).as_deref(), Some(text));
    }
}

#[test]
fn protected_files_of_the_project_cannot_be_carried_away_as_a_directory() {
    let site = Site::new();
    site.manifest(json!({ "scripts": { "postinstall": "mv .git g; echo evil > g/config; mv g .git; ln .git/config c; echo evil >> c; true" } }));
    let run = site.install();
    assert_eq!(site.read("app/.git/config").as_deref(), Some("[core]\n"), "{}", run.stderr);
    run.assert_denied("app", ".git/");
}

#[test]
fn a_grant_gives_exactly_what_it_names() {
    let mut site = Site::new();
    site.write(
        "app/npmguard.yaml",
        "version: 1\npackages:\n  granted@>=1:\n    reason: test\n    read: { allow: [\"{project}/.env\"] }\n    write: { allow: [\"{project}/out/**\"] }\n",
    );
    site.write("app/out/keep", "");
    let script = "cat ../../.env > env; echo x > ../../out/made; mkdir -p ../../out/deep/er; cat ~/.npmrc > npmrc; true";
    site.package("granted", script).package("other", script);
    let run = site.install();
    assert_eq!(site.read("app/node_modules/granted/env").as_deref(), Some("ENV-SECRET=1\n"));
    assert_eq!(site.read("app/out/made").as_deref(), Some("x\n"));
    assert!(site.path("app/out/deep/er").is_dir());
    assert_eq!(
        run.denied("granted"),
        [format!("read {}", site.path("home/.npmrc").canonicalize().expect("path").display())]
    );
    assert_eq!(site.read("app/node_modules/other/env").as_deref(), Some(""), "a sibling has none of it");
    run.assert_denied("other", "/.env");
    run.assert_denied("other", "/out/made");
}

#[test]
fn denials_carry_the_line_that_would_allow_them() {
    let mut site = Site::new();
    site.write("home/data/file", "data\n");
    site.package("asker", "cat ~/data/file > got; true");
    let run = site.install();
    let hint = run.events("read", "asker", "denied")[0]["hint"].as_str().expect("a hint").to_owned();
    site.write("app/npmguard.yaml", &format!("version: 1\n{hint}\n"));
    let run = site.guard(&["rebuild", "--", "--loglevel=error"]);
    run.assert_code(0);
    assert_eq!(site.read("app/node_modules/asker/got").as_deref(), Some("data\n"));
}

#[test]
fn the_log_and_the_policy_are_out_of_reach_wherever_they_lie() {
    let site = Site::new();
    site.write("app/npmguard.yaml", "version: 1\nroot:\n  write: { allow: [\"{project}/**\"] }\n");
    site.manifest(json!({ "scripts": { "postinstall":
        "echo x > npmguard.yaml; echo x > run.jsonl; mv run.jsonl gone; rm run.jsonl; ln run.jsonl l; chmod 666 run.jsonl; true" } }));
    let log = site.path("app/run.jsonl");
    let output = site
        .command(&["install", "--log", log.to_str().expect("UTF-8"), "--", "--no-audit", "--loglevel=error"])
        .output()
        .expect("npmguard starts");
    let run = site.outcome(&output, &log);
    assert_eq!(run.denied("app").iter().filter(|t| t.ends_with("/run.jsonl")).count(), 5, "{}", run.stderr);
    run.assert_denied("app", "npmguard.yaml");
    assert!(site.read("app/npmguard.yaml").expect("a policy").starts_with("version: 1"));
    // In a tree that the kernel would grant, too.
    site.write("app/build/keep", "");
    site.manifest(
        json!({ "scripts": { "postinstall": "echo x > build/run.jsonl; echo fine > build/fine; true" } }),
    );
    let log = site.path("app/build/run.jsonl");
    let output = site
        .command(&["install", "--log", log.to_str().expect("UTF-8"), "--", "--no-audit", "--loglevel=error"])
        .output()
        .expect("npmguard starts");
    let run = site.outcome(&output, &log);
    run.assert_denied("app", "build/run.jsonl");
    assert_eq!(site.read("app/build/fine").as_deref(), Some("fine\n"));
}

#[test]
fn a_home_that_is_the_project_keeps_its_secrets() {
    let site = Site::new();
    site.write("home/package.json", "{\"name\":\"home\",\"scripts\":{\"postinstall\":\"cat .npmrc .ssh/id_ed25519 > loot; echo x >> .bashrc; true\"}}");
    let mut command = site.command(&["install", "--", "--no-audit", "--loglevel=error"]);
    let output = command.current_dir(site.path("home")).output().expect("npmguard starts");
    assert_eq!(site.read("home/loot").as_deref(), Some(""), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(site.read("home/.bashrc").as_deref(), Some("# rc\n"));
}

#[test]
fn directories_on_the_way_to_a_grant_may_be_made_and_nothing_beside_them() {
    let mut site = Site::new();
    site.write(
        "app/npmguard.yaml",
        "version: 1\npackages:\n  p:\n    reason: test\n    write: { allow: [\"{home}/.cache/p/**\"] }\n    read: { allow: [\"{home}/.cache/p/**\"] }\n",
    );
    site.package(
        "p",
        "mkdir -p ~/.cache/p/v1 && echo x > ~/.cache/p/v1/f; mkdir ~/.cache/q; mkdir ~/.other; true",
    );
    let run = site.install();
    assert_eq!(site.read("home/.cache/p/v1/f").as_deref(), Some("x\n"), "{}", run.stderr);
    assert!(!site.path("home/.cache/q").exists() && !site.path("home/.other").exists());
    assert_eq!(run.denied("p").len(), 2, "{:?}", run.denied("p"));
}
