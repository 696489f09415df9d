//! Unusable input gets one clear error and the right code; unusual input works.

mod harness;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use harness::{Run, Site, User, users};
use serde_json::json;

fn plain(site: &Site, words: &[&str]) -> Run {
    let output = site.command(words).output().expect("npmguard starts");
    site.outcome(&output, &site.path("no-log"))
}

/// Asserts that there is exactly one error of npmguard's, with this code, naming all this.
#[track_caller]
fn assert_error(run: &Run, code: i32, words: &[&str]) {
    run.assert_code(code);
    assert_eq!(run.stderr.matches("npmguard: error:").count(), 1, "one error: {}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "`{word}` is not in: {}", run.stderr);
    }
}

fn executable(site: &Site, relative: &str, text: &str) {
    site.write(relative, text);
    fs::set_permissions(site.path(relative), fs::Permissions::from_mode(0o755)).expect("mode");
}

#[test]
fn no_npm_in_path_is_127() {
    let site = Site::new();
    fs::create_dir_all(site.path("empty")).expect("directory");
    let mut command = site.command(&["install"]);
    command.env("PATH", site.path("empty"));
    let run = site.outcome(&command.output().expect("starts"), &site.path("no-log"));
    assert_error(&run, 127, &["npm", "PATH"]);
}

#[test]
fn an_npm_that_is_no_node_script_is_126() {
    let site = Site::new();
    executable(&site, "bin/npm", "#!/bin/sh\ntouch ran\n");
    // A node without an npm beside it.
    let node = fs::canonicalize("/usr/bin/node").unwrap_or_else(|_| "/usr/local/bin/node".into());
    fs::copy(node, site.path("bin/node")).expect("node");
    let mut command = site.command(&["install"]);
    command.env("PATH", site.path("bin"));
    let run = site.outcome(&command.output().expect("starts"), &site.path("no-log"));
    assert_error(&run, 126, &["npm"]);
    assert!(!site.path("app/ran").exists());
}

#[test]
fn no_manifest_is_a_usage_error_with_a_hint() {
    let site = Site::new();
    fs::create_dir_all(site.path("nowhere")).expect("directory");
    for command in ["install", "ci", "update", "rebuild"] {
        let run = site.guard_in("nowhere", &[command]);
        assert_error(&run, 2, &["package.json", "hint:"]);
        assert_eq!(fs::read_dir(site.path("nowhere")).expect("list").count(), 0, "nothing was made");
    }
}

#[test]
fn a_broken_policy_is_named_with_file_line_and_column() {
    for (text, at, word) in [
        ("version: 1\nscripts:\n  read: { default: mayhem }\n", ":3:", "mayhem"),
        ("version: 1\nscripts: [\n", ":", "npmguard.yaml"),
        ("version: 7\n", ":1:", "7"),
        ("version: 1\nextends: fortress\n", ":2:", "fortress"),
        ("version: 1\nextends: ./gone.yaml\n", ":2:", "gone.yaml"),
        ("version: 1\nscripts:\n  read: { allow: [\"{hmoe}/x\"] }\n", ":3:", "{home}"),
        ("version: 1\npackages:\n  \"a@banana\": { run: never }\n", ":3:", "banana"),
        ("version: 1\n\u{1b}[31m: x\n", ":2:", "npmguard.yaml"),
        ("", "npmguard.yaml", "version"),
    ] {
        let mut site = Site::new();
        site.package("p", "echo ran > ran");
        site.write("app/npmguard.yaml", text);
        let run = plain(&site, &["install", "--", "--no-audit"]);
        assert_error(&run, 2, &["npmguard.yaml", at, word]);
        assert!(!run.stderr.contains('\x1b'), "escaped: {:?}", run.stderr);
        assert!(!site.path("app/node_modules/p").exists(), "nothing was installed");
    }
}

#[test]
fn a_policy_that_is_no_text_or_not_there_or_a_directory_is_a_policy_error() {
    let mut site = Site::new();
    site.package("p", "true");
    site.manifest(json!({}));
    assert_error(
        &plain(&site, &["install", "--policy", "missing.yaml"]),
        2,
        &["missing.yaml", "No such file"],
    );
    assert_error(&plain(&site, &["install", "--policy", "vendor"]), 2, &["vendor"]);
    fs::write(site.path("app/npmguard.yaml"), b"version: 1\n# \xff\xfe\n").expect("write");
    assert_error(&plain(&site, &["install"]), 2, &["npmguard.yaml"]);
}

#[test]
fn a_misspelled_verdict_gets_a_suggestion() {
    let site = Site::new();
    let run = plain(&site, &["install", "--fail-on", "denyed"]);
    assert_error(&run, 2, &["denyed", "`denied`"]);
}

#[test]
fn usage_errors_are_2() {
    let site = Site::new();
    for words in [
        &["frobnicate"][..],
        &[],
        &["run"],
        &["run", "--"],
        &["npm"],
        &["install", "--mode", "lax"],
        &["install", "--log"],
        &["install", "--allow-degraded", "seccomp"],
        &["policy", "shwo"],
    ] {
        let run = plain(&site, words);
        assert_eq!(run.code, 2, "{words:?}: {} {}", run.stdout, run.stderr);
        assert!(!run.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn projects_of_other_managers_get_a_hint() {
    for (file, text, name) in [
        ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n", "pnpm"),
        ("yarn.lock", "# yarn lockfile v1\n", "yarn"),
        ("bun.lock", "{}\n", "bun"),
    ] {
        let site = Site::new();
        site.manifest(json!({}));
        site.write(&format!("app/{file}"), text);
        assert_error(&plain(&site, &["install"]), 2, &[name, "hint:", "npmguard npm install"]);
        assert!(!site.path("app/package-lock.json").exists());
    }
    let site = Site::new();
    site.manifest(json!({ "packageManager": "pnpm@9.0.0" }));
    assert_error(&plain(&site, &["ci"]), 2, &["pnpm"]);
    let site = Site::new();
    site.manifest(json!({ "packageManager": "npm@11.0.0" }));
    site.write("app/yarn.lock", "");
    plain(&site, &["install", "--", "--no-audit"]).assert_code(0);
}

#[test]
fn an_unusual_home_does_not_keep_honest_scripts_from_working() {
    for user in users() {
        let mut site = Site::of(user);
        site.package("p", "echo ran > ran; cat ../../.env; true");
        site.write("flat", "a file\n");
        fs::create_dir_all(site.path("locked")).expect("directory");
        let cache = site.path("cache");
        fs::create_dir_all(&cache).expect("cache");
        let flat = site.path("flat");
        let gone = site.path("gone/deep");
        let homes: [(&str, Option<&OsStr>); 6] = [
            ("unset", None),
            ("empty", Some(OsStr::new(""))),
            ("relative", Some(OsStr::new("home"))),
            ("a file", Some(flat.as_os_str())),
            ("not there", Some(gone.as_os_str())),
            ("the root", Some(OsStr::new("/"))),
        ];
        for (what, home) in homes {
            // Without HOME and without an entry in passwd, npm itself gives up.
            if home.is_none() && user == User::Ordinary {
                continue;
            }
            let _ = fs::remove_dir_all(site.path("app/node_modules"));
            let log = site.path("tmp/log.jsonl");
            let _ = fs::remove_file(&log);
            let mut command =
                site.command(&["install", "--log", log.to_str().expect("UTF-8"), "--", "--no-audit"]);
            command.env("npm_config_cache", &cache).env_remove("HOME");
            if let Some(home) = home {
                command.env("HOME", home);
            }
            let run = site.outcome(&command.output().expect("starts"), &log);
            assert_eq!(run.code, 9, "{user:?}, HOME {what}: {}", run.stderr);
            assert!(site.path("app/node_modules/p/ran").exists(), "HOME {what}: {}", run.stderr);
            run.assert_denied("p", "/app/.env");
        }
    }
}

#[test]
fn an_unreadable_home_is_no_obstacle() {
    if !harness::is_root() {
        return;
    }
    let mut site = Site::of(User::Ordinary);
    site.package("p", "echo ran > ran");
    let cache = site.path("cache");
    fs::create_dir_all(&cache).expect("cache");
    let log = site.path("tmp/log.jsonl");
    let mut command = site.command(&["install", "--log", log.to_str().expect("UTF-8"), "--", "--no-audit"]);
    let shut = tempfile::tempdir().expect("a directory");
    fs::set_permissions(shut.path(), fs::Permissions::from_mode(0o700)).expect("mode");
    command.env("npm_config_cache", &cache).env("HOME", shut.path());
    let run = site.outcome(&command.output().expect("starts"), &log);
    run.assert_code(0);
    assert!(site.path("app/node_modules/p/ran").exists());
}

/// Moves the site's project to a directory with this name and installs there.
fn install_in(site: &Site, name: &OsStr) -> Run {
    site.manifest(json!({ "dependencies": { "p": "file:vendor/p.tgz" } }));
    let project = site.path("").join(name);
    fs::rename(site.path("app"), &project).expect("rename");
    let log = site.path("home/log.jsonl");
    fs::create_dir_all(site.path("app")).expect("placeholder");
    let mut command = site.command(&["install", "--log", log.to_str().expect("UTF-8"), "--", "--no-audit"]);
    let output = command.current_dir(&project).output().expect("starts");
    site.outcome(&output, &log)
}

#[test]
fn project_paths_with_spaces_quotes_and_newlines_work() {
    for user in users() {
        for name in
            ["with space", "qu'ote\"s", "new\nline", "glob[*]{a,b}?", "dollar$(touch x)`y`", "ünïcödé 🎉"]
        {
            let mut site = Site::of(user);
            site.package("p", "echo ran > ran; cat ~/.npmrc ../../.env; true");
            let run = install_in(&site, OsStr::new(name));
            assert_eq!(run.code, 9, "{user:?} {name:?}: {}", run.stderr);
            let project = site.path("").join(name);
            assert!(project.join("node_modules/p/ran").exists(), "{name:?}: {}", run.stderr);
            run.assert_denied("p", ".env");
            run.assert_denied("p", ".npmrc");
            assert_eq!(run.events("script_start", "p", "*")[0]["package"]["path"], "node_modules/p");
            assert_eq!(run.log.last().expect("a log")["kind"], "run_end", "every line is JSON");
        }
    }
}

/// node itself replaces bytes that are not UTF-8, so npm cannot work there.
#[test]
fn a_project_path_that_is_not_utf8_gets_npms_error_and_a_valid_log() {
    let mut site = Site::new();
    site.package("p", "echo ran > ran");
    let run = install_in(&site, OsStr::from_bytes(b"latin\xe9"));
    assert_ne!(run.code, 0, "{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
    for event in &run.log {
        assert!(!event.to_string().contains('\u{fffd}'), "bytes are escaped, not replaced: {event}");
    }
    let log = site.path("home/run.jsonl");
    let mut command = site.command(&["run", "--log", log.to_str().expect("UTF-8"), "--", "pwd"]);
    let project = site.path("").join(OsStr::from_bytes(b"latin\xe9"));
    let output = command.current_dir(&project).output().expect("starts");
    let run = site.outcome(&output, &log);
    run.assert_code(0);
    assert!(output.stdout.ends_with(b"latin\xe9\n"));
    assert!(
        run.log[0]["detail"]["project"].as_str().is_some_and(|p| p.contains("latin\\xe9")),
        "{}",
        run.log[0]
    );
}

#[test]
fn unusual_temporary_directories_work_or_are_named() {
    let mut site = Site::new();
    site.package("p", "echo \"$TMPDIR\" > tmp; echo x > \"$TMPDIR/x\" && echo ok > ok");
    let long = site.path(&format!("tmp/{}", "very-long-directory-name/".repeat(6)));
    fs::create_dir_all(&long).expect("directory");
    let relative = std::path::PathBuf::from("tmp");
    for tmp in [&long, &relative] {
        let mut command = site.command(&["install", "--", "--no-audit"]);
        command.env("TMPDIR", tmp);
        let run = site.outcome(&command.output().expect("starts"), &site.path("no-log"));
        run.assert_code(0);
        assert_eq!(site.read("app/node_modules/p/ok").as_deref(), Some("ok\n"), "{}", tmp.display());
        fs::remove_dir_all(site.path("app/node_modules")).expect("remove");
    }
    let missing = site.path("tmp/missing");
    let mut command = site.command(&["install", "--", "--no-audit"]);
    command.env("TMPDIR", &missing);
    let run = site.outcome(&command.output().expect("starts"), &site.path("no-log"));
    assert_error(&run, 125, &["No such file"]);
}

#[test]
fn nothing_is_left_in_the_temporary_directory() {
    for user in users() {
        let mut site = Site::of(user);
        site.package("p", "mkdir -p $TMPDIR/a/b && chmod 000 $TMPDIR/a/b; echo x > $TMPDIR/y");
        site.install().assert_code(0);
        let left: Vec<_> =
            fs::read_dir(site.path("tmp")).expect("list").flatten().map(|e| e.file_name()).collect();
        assert!(left.iter().all(|n| !n.as_bytes().starts_with(b"npmguard-")), "{user:?}: {left:?}");
    }
}

#[test]
fn a_broken_lockfile_or_manifest_gets_npms_own_error_and_code() {
    for (file, text) in [("package-lock.json", "{ broken"), ("package.json", "{ broken")] {
        let mut site = Site::new();
        site.package("p", "echo ran > ran");
        site.manifest(json!({}));
        site.write(&format!("app/{file}"), text);
        let run = plain(&site, &["ci", "--", "--no-audit"]);
        let native = site.command_of("npm", &["ci", "--no-audit"]).output().expect("npm");
        assert_eq!(Some(run.code), native.status.code(), "{file}: {}", run.stderr);
        assert_ne!(run.code, 0);
        assert!(run.stderr.contains("npm error"), "{file}: {}", run.stderr);
        assert!(!run.stderr.contains("npmguard: error"), "{}", run.stderr);
    }
}

#[test]
fn exit_codes_and_signals_pass_through() {
    for user in users() {
        let site = Site::of(user);
        for code in [0, 1, 3, 9, 125, 255] {
            plain(&site, &["run", "--", "sh", "-c", &format!("exit {code}")]).assert_code(code);
        }
        for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139), ("INT", 130)] {
            plain(&site, &["run", "--", "sh", "-c", &format!("kill -{signal} $$")]).assert_code(code);
        }
    }
}

#[test]
fn a_command_that_is_not_there_is_127_and_one_that_cannot_run_is_126() {
    for user in users() {
        let site = Site::of(user);
        site.write("app/plain.txt", "no program\n");
        executable(&site, "app/no-interpreter", "#!/nonexistent/interpreter\n");
        executable(&site, "app/garbage", "\u{7f}ELFgarbage");
        assert_error(&plain(&site, &["run", "--", "no-such-command"]), 127, &["no-such-command"]);
        assert_error(&plain(&site, &["run", "--", "./gone"]), 127, &["gone"]);
        plain(&site, &["run", "--", "./plain.txt"]).assert_code(126);
        plain(&site, &["run", "--", "./src-is-no-file/.."]).assert_code(127);
        plain(&site, &["run", "--", "/usr"]).assert_code(126);
        plain(&site, &["run", "--", "./garbage"]).assert_code(126);
        let run = plain(&site, &["run", "--", "./no-interpreter"]);
        assert!([126, 127].contains(&run.code), "{}", run.stderr);
    }
}

#[test]
fn a_log_that_is_a_directory_or_out_of_reach_is_125() {
    for user in users() {
        let mut site = Site::of(user);
        site.package("p", "echo ran > ran");
        assert_error(&plain(&site, &["install", "--log", "vendor"]), 125, &["vendor"]);
        assert!(!site.path("app/node_modules/p").exists());
        if user == User::Ordinary {
            let shut = tempfile::tempdir().expect("a directory");
            let log = shut.path().join("x.jsonl");
            let run = plain(&site, &["install", "--log", log.to_str().expect("UTF-8")]);
            assert_error(&run, 125, &["x.jsonl", "Permission denied"]);
        }
    }
}

#[test]
fn the_log_of_a_run_is_private_and_appended() {
    let site = Site::new();
    site.manifest(json!({}));
    for _ in 0..2 {
        plain(&site, &["run", "--log", "../home/x.jsonl", "--", "true"]).assert_code(0);
    }
    let log = harness::read_log(&site.path("home/x.jsonl"));
    assert_eq!(log.iter().filter(|e| e["kind"] == "run_start").count(), 2);
    let mode = fs::metadata(site.path("home/x.jsonl")).expect("log").permissions().mode();
    assert_eq!(mode & 0o077, 0, "what was run is nobody else's business: {mode:o}");
}
