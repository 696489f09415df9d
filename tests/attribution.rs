//! Whose script it is (DESIGN, identity): the place decides, with the file system and
//! the lockfile as witnesses, and nothing that a package says about itself.

mod harness;

use std::process::Command;

use harness::{Run, Site, users};
use serde_json::{Value, json};

/// The one start of a script of the package with that name.
#[track_caller]
fn start<'a>(run: &'a Run, name: &str) -> &'a Value {
    let starts = run.events("script_start", name, "*");
    assert_eq!(starts.len(), 1, "starts of {name}\n{}", run.stderr);
    starts[0]
}

fn identity(event: &Value) -> &str {
    event["detail"]["identity"].as_str().unwrap_or("?")
}

/// A policy that lets each of these packages write into the project's `out/`.
fn grant_out(site: &Site, names: &[&str]) {
    let mut text = String::from("version: 1\npackages:\n");
    for name in names {
        text += &format!("  \"{name}\": {{ reason: test, write: {{ allow: [\"{{project}}/out/**\"] }} }}\n");
    }
    site.write("app/npmguard.yaml", &text);
    std::fs::create_dir_all(site.path("app/out")).expect("out");
}

/// A postinstall that tries to write `out/NAME` in the project, from anywhere.
fn writes_out(name: &str) -> Value {
    json!({ "scripts": { "postinstall": format!("echo x > \"$INIT_CWD/out/{name}\"; true") } })
}

#[test]
fn an_alias_is_named_by_its_place_and_gets_no_grant_of_either_name() {
    for user in users() {
        let mut site = Site::of(user);
        site.publish("real", "1.2.3", writes_out("alias"), &[]).depend("nick", "npm:real@1.2.3");
        grant_out(&site, &["real", "nick"]);
        let run = site.install();
        run.assert_code(9);
        run.assert_denied("nick", "out/alias");
        assert!(site.read("app/out/alias").is_none());
        let event = start(&run, "nick");
        assert_eq!(event["package"]["path"], "node_modules/nick");
        assert_eq!(event["package"]["version"], "1.2.3");
        assert!(identity(event).contains("real"), "{user:?}: {}", identity(event));
        // The same with the lockfile that npm has written by now.
        let run = site.guard(&["ci", "--", "--no-audit"]);
        run.assert_denied("nick", "out/alias");
        assert!(identity(start(&run, "nick")).contains("alias of `real`"));
        assert_eq!(start(&run, "nick")["package"]["dependency_of"], json!(["app"]));
    }
}

#[test]
fn a_tarball_under_another_name_is_named_by_its_place() {
    let mut site = Site::new();
    site.tarball("inside", writes_out("file"), &[], "x.tgz");
    site.depend("nick", "file:vendor/x.tgz");
    grant_out(&site, &["inside", "nick"]);
    let run = site.install();
    run.assert_denied("nick", "out/file");
    assert!(identity(start(&run, "nick")).contains("its manifest calls it `inside`"));
}

#[test]
fn a_dependency_that_calls_itself_like_a_granted_package_gets_no_grant() {
    let mut site = Site::new();
    let hook = "echo evil > \"$INIT_CWD/.git/hooks/pre-commit\"; true";
    site.publish("innocent", "1.0.0", json!({ "scripts": { "postinstall": hook } }), &[]);
    let tarball = site.path("registry/innocent/1.0.0.tgz");
    // The registry says `innocent`, the manifest in its tarball says `lefthook`.
    site.tarball("lefthook", json!({ "scripts": { "postinstall": hook } }), &[], "swap.tgz");
    std::fs::rename(site.path("app/vendor/swap.tgz"), &tarball).expect("swap");
    let metadata = site.path("registry/innocent/1.0.0.json");
    let mut text: Value =
        serde_json::from_str(&std::fs::read_to_string(&metadata).expect("read")).expect("JSON");
    text["dist"].as_object_mut().expect("dist").remove("integrity");
    text["hasInstallScript"] = json!(true);
    std::fs::write(&metadata, text.to_string()).expect("write");
    site.depend("innocent", "1.0.0");
    let run = site.install();
    run.assert_denied("innocent", ".git/hooks/pre-commit");
    assert!(site.read("app/.git/hooks/pre-commit").is_none());
    assert!(identity(start(&run, "innocent")).contains("its manifest calls it `lefthook`"));
    assert!(run.events("*", "lefthook", "*").is_empty());
}

#[test]
fn two_versions_of_one_name_are_two_packages() {
    for user in users() {
        let mut site = Site::of(user);
        site.publish("dep", "1.0.0", writes_out("one"), &[])
            .publish("dep", "2.0.0", writes_out("two"), &[])
            .publish("mid", "1.0.0", json!({ "dependencies": { "dep": "^1.0.0" } }), &[])
            .depend("dep", "^2.0.0")
            .depend("mid", "1.0.0");
        grant_out(&site, &["dep@2"]);
        for command in ["install", "ci"] {
            let run = site.guard(&[command, "--", "--no-audit"]);
            run.assert_code(9);
            assert!(site.read("app/out/two").is_some(), "{user:?}: {}", run.stderr);
            assert!(site.read("app/out/one").is_none());
            let starts: Vec<_> = run
                .events("script_start", "dep", "*")
                .iter()
                .map(|e| {
                    (
                        e["package"]["version"].to_string(),
                        e["package"]["path"].as_str().expect("a path").to_owned(),
                    )
                })
                .collect();
            assert!(starts.contains(&("\"2.0.0\"".into(), "node_modules/dep".into())), "{starts:?}");
            assert!(
                starts.contains(&("\"1.0.0\"".into(), "node_modules/mid/node_modules/dep".into())),
                "{starts:?}"
            );
            for event in run.events("*", "dep", "denied") {
                assert_eq!(event["package"]["version"], "1.0.0");
                assert_eq!(event["package"]["purl"], "pkg:npm/dep@1.0.0");
            }
            if command == "ci" {
                let denied = run.events("write", "dep", "denied");
                assert_eq!(denied[0]["package"]["dependency_of"], json!(["app", "mid"]));
                assert!(denied[0]["package"]["integrity"].as_str().is_some_and(|i| i.starts_with("sha512-")));
            }
        }
    }
}

#[test]
fn an_update_is_attributed_to_the_version_that_runs_not_to_the_lockfiles() {
    let mut site = Site::new();
    site.publish("dep", "1.0.0", writes_out("one"), &[])
        .publish("dep", "2.0.0", writes_out("two"), &[])
        .depend("dep", "^1.0.0");
    grant_out(&site, &["dep@1"]);
    site.install().assert_code(0);
    assert!(site.read("app/out/one").is_some());
    let run = site.guard(&["add", "--", "dep@2", "--no-audit"]);
    assert_eq!(start(&run, "dep")["package"]["version"], "2.0.0", "{}", run.stderr);
    assert!(site.read("app/out/two").is_none(), "a grant to dep@1 is none to dep@2");
    run.assert_denied("dep", "out/two");
    let integrity = &start(&run, "dep")["package"]["integrity"];
    let lock: Value = serde_json::from_str(&site.read("app/package-lock.json").expect("lock")).expect("JSON");
    assert_eq!(*integrity, lock["packages"]["node_modules/dep"]["integrity"]);
}

#[test]
fn a_workspace_is_the_projects_own_under_its_own_name() {
    for user in users() {
        let site = Site::of(user);
        site.manifest(json!({ "workspaces": ["packages/*"] }));
        site.write(
            "app/packages/ws/package.json",
            r#"{"name":"@me/ws","version":"3.1.0","scripts":{"postinstall":"mkdir -p dist && echo built > dist/x; cat ../../.env > stolen; true"}}"#,
        );
        let run = site.install();
        run.assert_code(9);
        let event = start(&run, "@me/ws");
        assert_eq!(event["package"]["root"], true, "{user:?}");
        assert_eq!(event["domain"], "root");
        assert_eq!(event["package"]["version"], "3.1.0");
        assert_eq!(event["package"]["path"], "packages/ws");
        assert_eq!(site.read("app/packages/ws/dist/x").as_deref(), Some("built\n"), "{}", run.stderr);
        assert_eq!(site.read("app/packages/ws/stolen").as_deref(), Some(""));
        run.assert_denied("@me/ws", "/app/.env");
    }
}

#[test]
fn a_workspace_installed_from_its_own_directory_belongs_to_the_root_project() {
    let mut site = Site::new();
    site.package("dep", "echo x > here");
    site.manifest(json!({ "workspaces": ["packages/*"], "dependencies": {} }));
    site.write(
        "app/packages/ws/package.json",
        r#"{"name":"ws","version":"1.0.0","dependencies":{"dep":"file:../../vendor/dep.tgz"}}"#,
    );
    let run = site.guard_in("app/packages/ws", &["install", "--", "--no-audit"]);
    run.assert_code(0);
    assert_eq!(start(&run, "dep")["package"]["path"], "node_modules/dep");
}

#[test]
fn a_directory_dependency_outside_the_project_is_a_stranger_with_its_own_directory_only() {
    for user in users() {
        let mut site = Site::of(user);
        site.write(
            "elsewhere/package.json",
            r#"{"name":"lefthook","version":"1.0.0","scripts":{"postinstall":"echo x > mine; echo evil > \"$INIT_CWD/.git/hooks/pre-commit\"; true"}}"#,
        );
        site.depend("lefthook", "file:../elsewhere");
        let run = site.install();
        run.assert_code(9);
        let event = start(&run, "lefthook");
        assert_eq!(event["package"]["root"], false);
        assert_eq!(event["domain"], "script");
        let place = site.path("elsewhere").canonicalize().expect("a path");
        assert_eq!(event["package"]["path"].as_str(), place.to_str());
        assert!(identity(event).contains("outside of node_modules"), "{user:?}: {}", identity(event));
        assert_eq!(site.read("elsewhere/mine").as_deref(), Some("x\n"));
        run.assert_denied("lefthook", ".git/hooks/pre-commit");
        assert!(site.read("app/.git/hooks/pre-commit").is_none());
    }
}

#[test]
fn a_directory_dependency_inside_the_project_is_the_projects_own_code() {
    let mut site = Site::new();
    site.write(
        "app/libs/inner/package.json",
        r#"{"name":"inner","version":"1.0.0","scripts":{"postinstall":"echo x > made; cat ../../.env > stolen; true"}}"#,
    );
    site.depend("inner", "file:libs/inner");
    let run = site.install();
    let event = start(&run, "inner");
    assert_eq!(event["package"]["path"], "libs/inner");
    assert_eq!(event["package"]["root"], true);
    assert_eq!(site.read("app/libs/inner/made").as_deref(), Some("x\n"));
    run.assert_denied("inner", "/app/.env");
}

#[test]
fn the_prepare_script_of_a_git_dependency_is_confined_and_a_stranger() {
    for user in users() {
        let mut site = Site::of(user);
        let manifest = r#"{"name":"lefthook","version":"1.0.0","scripts":{"prepare":"echo built > built; cat ~/.npmrc > stolen; echo evil > \"$INIT_CWD/.git/hooks/pre-commit\"; touch ~/evil; true"}}"#;
        repository(&site, "repo", manifest, "index.js");
        let host = harness::registry::serve(site.path("registry"));
        site.depend("lefthook", &format!("git+{host}/repo.git"));
        let run = site.install();
        run.assert_code(9);
        let prepare: Vec<_> = run
            .events("script_start", "lefthook", "*")
            .into_iter()
            .filter(|e| e["script"]["event"] == "prepare")
            .collect();
        assert!(!prepare.is_empty(), "{user:?}: {}", run.stderr);
        for event in prepare {
            assert_eq!(event["package"]["root"], false);
            assert!(identity(event).starts_with("no grants by name"), "{}", identity(event));
        }
        run.assert_denied("lefthook", "/home/.npmrc");
        run.assert_denied("lefthook", "/home/evil");
        assert_eq!(site.read("app/node_modules/lefthook/built").as_deref(), Some("built\n"));
        assert_ne!(site.read("app/node_modules/lefthook/stolen").map(|s| s.contains("SECRET")), Some(true));
        assert!(site.read("app/.git/hooks/pre-commit").is_none());
        assert!(!site.path("home/evil").exists());
    }
}

/// A bare repository in the site's registry directory, with this manifest and file.
fn repository(site: &Site, name: &str, manifest: &str, file: &str) -> std::path::PathBuf {
    site.write(&format!("work-{name}/package.json"), manifest);
    site.write(&format!("work-{name}/{file}"), "content\n");
    std::fs::create_dir_all(site.path("registry")).expect("registry");
    let script = format!(
        "git init -q . && git add . && git -c user.name=t -c user.email=t@t commit -qm x \
         && git clone -q --bare . ../registry/{name}.git && git -C ../registry/{name}.git update-server-info"
    );
    let made = Command::new("sh")
        .args(["-c", &script])
        .current_dir(site.path(&format!("work-{name}")))
        .status()
        .expect("git");
    assert!(made.success());
    site.path(&format!("registry/{name}.git"))
}

#[test]
fn a_git_dependency_with_a_submodule_installs() {
    let mut site = Site::new();
    repository(&site, "part", r#"{"name":"part"}"#, "part.txt");
    let host = harness::registry::serve(site.path("registry"));
    repository(&site, "whole", r#"{"name":"whole","version":"1.0.0"}"#, "whole.txt");
    let script = format!(
        "git submodule -q add {host}/part.git sub && git -c user.name=t -c user.email=t@t commit -qm sub \
         && git push -q ../registry/whole.git HEAD && git -C ../registry/whole.git update-server-info"
    );
    let made =
        Command::new("sh").args(["-c", &script]).current_dir(site.path("work-whole")).status().expect("git");
    assert!(made.success());
    site.depend("whole", &format!("git+{host}/whole.git"));
    let run = site.install();
    run.assert_code(0);
    assert!(site.path("app/node_modules/whole/whole.txt").exists());
    assert!(site.path("app/node_modules/whole/sub/part.txt").exists(), "{}", run.stderr);
}

/// The stand-in for ssh lies in a directory of the user's, as ssh does under Nix or Homebrew.
#[test]
fn a_git_dependency_over_ssh_installs_and_ssh_gets_npms_or_the_users_words() {
    for (wish, first) in
        [(None, "-oStrictHostKeyChecking=accept-new"), (Some("ssh -p 2222 -oBatchMode=yes"), "-p")]
    {
        let mut site = Site::new();
        let bare = repository(&site, "dep", r#"{"name":"dep","version":"1.0.0"}"#, "dep.txt");
        let node = Command::new("node").args(["-p", "process.execPath"]).output().expect("node");
        let ssh = format!(
            "#!{}\nconst fs = require('fs'), cp = require('child_process');\n\
             fs.appendFileSync('{}', JSON.stringify(process.argv.slice(2)) + '\\n');\n\
             if (process.argv.includes('-G')) process.exit(0);\n\
             process.exit(cp.spawnSync('git', ['upload-pack', '{}'], {{ stdio: 'inherit' }}).status);\n",
            String::from_utf8_lossy(&node.stdout).trim(),
            site.path("home/.npm/words").display(),
            bare.display()
        );
        site.write("bin/ssh", &ssh);
        std::fs::create_dir_all(site.path("home/.npm")).expect("cache");
        std::fs::set_permissions(site.path("bin/ssh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("mode");
        site.depend("dep", "git+ssh://git@host.invalid/dep.git");
        site.package("looks", "env > env; true");
        if let Some(wish) = wish {
            site.env("GIT_SSH_COMMAND", wish);
        }
        let path = format!("{}:{}", site.path("bin").display(), std::env::var("PATH").expect("PATH"));
        let run = site.env("PATH", &path).install();
        run.assert_code(0);
        assert!(site.path("app/node_modules/dep/dep.txt").exists(), "{}", run.stderr);
        let words = site.read("home/.npm/words").expect("ssh was called");
        let words: Vec<String> = serde_json::from_str(words.lines().next().expect("a call")).expect("JSON");
        assert_eq!(words[0], first, "{words:?}");
        let env = site.read("app/node_modules/looks/env").expect("ran");
        assert!(!env.contains("GIT_EXEC_PATH") && !env.contains("GIT_SSH"), "{env}");
    }
}

#[test]
fn a_bundled_dependency_is_named_by_its_place_and_gets_no_grant() {
    for user in users() {
        let mut site = Site::of(user);
        let inner = r#"{"name":"lefthook","version":"1.0.0","scripts":{"postinstall":"echo evil > \"$INIT_CWD/.git/hooks/pre-commit\"; echo ran > ran"}}"#;
        site.publish(
            "outer",
            "1.0.0",
            json!({ "dependencies": { "lefthook": "1.0.0" }, "bundleDependencies": ["lefthook"] }),
            &[("node_modules/lefthook/package.json", inner)],
        )
        .depend("outer", "1.0.0");
        for command in ["install", "ci"] {
            let run = site.guard(&[command, "--", "--no-audit"]);
            let event = start(&run, "lefthook");
            assert_eq!(event["package"]["path"], "node_modules/outer/node_modules/lefthook");
            assert!(
                identity(event).starts_with("no grants by name"),
                "{command} {user:?}: {}",
                identity(event)
            );
            assert!(site.read("app/node_modules/outer/node_modules/lefthook/ran").is_some());
            run.assert_denied("lefthook", ".git/hooks/pre-commit");
            assert!(site.read("app/.git/hooks/pre-commit").is_none(), "a bundled name earns nothing");
            run.assert_code(9);
        }
    }
}

#[test]
fn what_a_dependency_fetches_from_elsewhere_under_a_granted_name_gets_no_grant() {
    let mut site = Site::new();
    let hook =
        json!({ "scripts": { "postinstall": "echo evil > \"$INIT_CWD/.git/hooks/pre-commit\"; true" } });
    // The address looks like a registry's; the dependency asks for it by address.
    site.publish("lefthook", "1.0.0", hook, &[]);
    let other = harness::registry::serve(site.path("registry"));
    let address = format!("{other}/lefthook/-/1.0.0.tgz");
    // Without this npm would not get there at all.
    let host = other.trim_start_matches("http://");
    site.write(
        "app/npmguard.yaml",
        &format!("version: 1\nmanager: {{ connect: {{ allow: [\"{host}\"] }} }}\n"),
    );
    site.publish("evil", "1.0.0", json!({ "dependencies": { "lefthook": address } }), &[])
        .depend("evil", "1.0.0");
    for command in ["install", "ci"] {
        let run = site.guard(&[command, "--", "--no-audit", "--allow-remote=all"]);
        assert!(
            identity(start(&run, "lefthook")).starts_with("no grants by name"),
            "{command}: {}",
            identity(start(&run, "lefthook"))
        );
        run.assert_denied("lefthook", ".git/hooks/pre-commit");
    }
}

#[test]
fn a_name_that_the_project_asks_for_is_not_lent_to_a_deeper_stranger() {
    let mut site = Site::new();
    let hook =
        json!({ "scripts": { "postinstall": "echo evil > \"$INIT_CWD/.git/hooks/pre-commit\"; true" } });
    site.publish("lefthook", "1.0.0", json!({}), &[]);
    let inner = json!({ "name": "lefthook", "version": "9.0.0", "scripts": hook["scripts"] }).to_string();
    site.publish(
        "outer",
        "1.0.0",
        json!({ "dependencies": { "lefthook": "9.0.0" }, "bundleDependencies": ["lefthook"] }),
        &[("node_modules/lefthook/package.json", &inner)],
    )
    .depend("outer", "1.0.0")
    .depend("lefthook", "1.0.0");
    let run = site.install();
    assert_eq!(start(&run, "lefthook")["package"]["path"], "node_modules/outer/node_modules/lefthook");
    run.assert_denied("lefthook", ".git/hooks/pre-commit");
}

#[test]
fn a_registry_package_under_its_own_name_gets_its_grant_at_any_depth() {
    let mut site = Site::new();
    site.publish("wanted", "1.0.0", writes_out("wanted"), &[])
        .publish("wanted", "2.0.0", json!({}), &[])
        .publish("@s/mid", "1.0.0", json!({ "dependencies": { "wanted": "1.0.0" } }), &[])
        .depend("@s/mid", "1.0.0")
        .depend("wanted", "2.0.0");
    grant_out(&site, &["wanted"]);
    for command in ["install", "ci"] {
        let run = site.guard(&[command, "--", "--no-audit"]);
        run.assert_code(0);
        assert_eq!(identity(start(&run, "wanted")), "verified");
        assert_eq!(start(&run, "wanted")["package"]["path"], "node_modules/@s/mid/node_modules/wanted");
        assert!(site.read("app/out/wanted").is_some());
        std::fs::remove_file(site.path("app/out/wanted")).expect("remove");
    }
}

#[test]
fn a_run_from_a_subdirectory_is_a_run_of_the_project() {
    let mut site = Site::new();
    site.package("dep", "echo x > here; cat ../../.env > loot; true");
    site.manifest(json!({ "scripts": { "postinstall": "pwd > where" } }));
    site.write("app/src/deep/x.js", "");
    site.write("app/npmguard.yaml", "version: 1\npackages:\n  dep: { run: never, reason: seen }\n");
    let run = site.guard_in("app/src/deep", &["install", "--", "--no-audit"]);
    run.assert_code(0);
    assert_eq!(start(&run, "dep")["verdict"], "logged", "the project's policy is obeyed: {}", run.stderr);
    assert_eq!(start(&run, "app")["package"]["path"], ".");
    let app = site.path("app").canonicalize().expect("a path");
    assert_eq!(site.read("app/where").as_deref(), Some(format!("{}\n", app.display()).as_str()));
}

#[test]
fn names_in_the_environment_are_nobodys_identity() {
    let mut site = Site::new();
    for (name, value) in [
        ("npm_package_name", "lefthook"),
        ("npm_package_version", "9.9.9"),
        ("npm_package_json", "/nonexistent"),
        ("npm_package_resolved", "https://registry.npmjs.org/lefthook/-/lefthook-1.0.0.tgz"),
        ("npm_lifecycle_event", "test"),
    ] {
        site.env(name, value);
    }
    site.package("dep", "echo evil > \"$INIT_CWD/.git/hooks/pre-commit\"; true");
    let run = site.install();
    let event = start(&run, "dep");
    assert_eq!(event["package"]["version"], "1.0.0");
    assert_eq!(event["script"]["event"], "postinstall");
    run.assert_denied("dep", ".git/hooks/pre-commit");
    assert!(run.events("*", "lefthook", "*").is_empty());
}

#[test]
fn a_manager_that_names_another_package_than_the_place_does_is_on_record() {
    let mut site = Site::new();
    site.package("dep", "true");
    site.install().assert_code(0);
    let rogue = "#!/usr/bin/env node\n\
        const cp = require('child_process'), shell = process.env.npm_config_script_shell;\n\
        const env = { ...process.env, npm_package_name: 'lefthook', npm_lifecycle_event: 'postinstall' };\n\
        const script = 'echo evil > ../../.git/hooks/pre-commit; true';\n\
        process.exit(cp.spawnSync(shell, ['-c', script], { cwd: 'node_modules/dep', stdio: 'inherit', env }).status);\n";
    site.write("bin/npm", rogue);
    std::fs::set_permissions(site.path("bin/npm"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("mode");
    let log = site.path("home/log2.jsonl");
    let mut command = site.command(&["npm", "--log", log.to_str().expect("UTF-8"), "whatever"]);
    command.env("PATH", format!("{}:{}", site.path("bin").display(), std::env::var("PATH").expect("PATH")));
    let run = site.outcome(&command.output().expect("npmguard starts"), &log);
    assert_eq!(start(&run, "dep")["detail"]["claimed_name"], "lefthook", "{}", run.stderr);
    run.assert_denied("dep", ".git/hooks/pre-commit");
}

#[test]
fn the_manifest_is_hashed_before_the_script_can_change_it() {
    let mut site = Site::new();
    site.package(
        "dep",
        "sha256sum package.json | cut -c1-64 > before; echo '{\"name\":\"lefthook\",\"version\":\"6.6.6\"}' > package.json; cat ~/.npmrc; true",
    );
    let run = site.install();
    let before = site.read("app/node_modules/dep/before").expect("ran");
    for event in run.events("*", "dep", "*") {
        assert_eq!(event["package"]["manifest_sha256"].as_str(), Some(before.trim()));
        assert_eq!(event["package"]["version"], "1.0.0");
    }
    run.assert_denied("dep", ".npmrc");
}

#[test]
fn the_way_from_the_project_to_the_package_is_told() {
    let mut site = Site::new();
    site.publish("deep", "1.0.0", json!({ "scripts": { "postinstall": "true" } }), &[])
        .publish("b", "1.0.0", json!({ "dependencies": { "deep": "1" } }), &[])
        .publish("a", "1.0.0", json!({ "dependencies": { "b": "1" } }), &[])
        .depend("a", "1.0.0");
    site.install().assert_code(0);
    let run = site.guard(&["ci", "--", "--no-audit"]);
    run.assert_code(0);
    assert_eq!(start(&run, "deep")["package"]["dependency_of"], json!(["app", "a", "b"]));
    assert_eq!(start(&run, "deep")["package"]["path"], "node_modules/deep");
}

#[test]
fn a_siblings_program_acts_for_the_package_that_runs_it() {
    for user in users() {
        let mut site = Site::of(user);
        site.package_with(
            "tool",
            json!({ "bin": { "tool": "tool.js" } }),
            &[("tool.js", "#!/usr/bin/env node\nconst fs = require('fs');\ntry { fs.readFileSync(require('os').homedir() + '/.npmrc'); } catch {}\nfs.writeFileSync('made', 'x');\n")],
        );
        site.package_with(
            "caller",
            json!({ "scripts": { "postinstall": "tool" }, "dependencies": { "tool": "*" } }),
            &[],
        );
        let run = site.install();
        assert!(site.read("app/node_modules/caller/made").is_some(), "{user:?}: {}", run.stderr);
        run.assert_denied("caller", "/home/.npmrc");
        assert!(run.events("*", "tool", "*").is_empty());
        assert!(
            run.events("exec", "caller", "*")
                .iter()
                .any(|e| e["process"]["argv"].to_string().contains("tool")),
            "its start is the caller's"
        );
    }
}

#[test]
fn run_as_a_name_is_logged_and_judged_under_that_name() {
    let site = Site::new();
    site.manifest(json!({}));
    grant_out(&site, &["some-dep"]);
    let script = "echo x > out/made; cat ~/.npmrc; echo y > forbidden; true";
    let run = site.guard(&["run", "--as", "some-dep", "--", "sh", "-c", script]);
    run.assert_code(9);
    run.assert_denied("some-dep", ".npmrc");
    assert!(site.read("app/out/made").is_some(), "{}", run.stderr);
    assert!(run.events("*", "app", "*").is_empty());
    let plain = site.guard(&["run", "--", "sh", "-c", script]);
    plain.assert_denied("app", ".npmrc");
    assert!(site.read("app/forbidden").is_some(), "the project's own may write the project");
}
