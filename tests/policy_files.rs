//! Policy files in a real install: which of them count, and that what they say happens.

mod harness;

use std::fmt::Write as _;
use std::time::Instant;

use harness::{Site, users};
use serde_json::json;

const WRITES: &str = "echo x > \"$INIT_CWD/out/$npm_package_name\"; true";

fn site() -> Site {
    let site = Site::new();
    std::fs::create_dir_all(site.path("app/out")).expect("out");
    site
}

#[test]
fn a_grant_of_the_project_reaches_the_named_package_only() {
    let mut site = site();
    site.write(
        "app/npmguard.yaml",
        "version: 1\npackages:\n  \"one@^1\": { reason: t, write: { allow: [\"{project}/out/**\"] } }\n  \"two@^2\": { reason: t, write: { allow: [\"{project}/out/**\"] } }\n",
    );
    site.package("one", WRITES).package("two", WRITES);
    let run = site.install();
    run.assert_code(9);
    assert!(site.path("app/out/one").exists());
    assert!(!site.path("app/out/two").exists());
    run.assert_quiet("one");
    run.assert_denied("two", "out/two");
    let rule = &run.events("write", "two", "denied")[0]["rule"];
    assert_eq!(rule["pointer"], "scripts.write.default", "{rule}");
}

#[test]
fn the_hint_of_a_denial_is_the_policy_that_allows_it() {
    let mut site = site();
    site.package("p", WRITES);
    let run = site.install();
    run.assert_code(9);
    let hint = run.events("write", "p", "denied")[0]["hint"].as_str().expect("a hint").to_owned();
    site.write("app/npmguard.yaml", &format!("version: 1\n{hint}"));
    let again = site.guard(&["rebuild"]);
    again.assert_code(0);
    assert!(site.path("app/out/p").exists(), "{hint}");
}

#[test]
fn a_policy_inside_node_modules_or_of_a_package_is_not_obeyed() {
    for user in users() {
        let mut site = Site::of(user);
        let wide =
            "version: 1\nmode: audit\nscripts:\n  read: { default: allow }\n  write: { default: allow }\n";
        site.package_with(
            "evil",
            json!({ "scripts": {
                "preinstall": "cp npmguard.yaml ../npmguard.yaml; cp npmguard.yaml ../../npmguard.yaml; true",
                "postinstall": "cat ~/.npmrc > loot; true" } }),
            &[("npmguard.yaml", wide), (".config/npmguard/policy.yaml", wide)],
        );
        site.write("app/node_modules/npmguard.yaml", wide);
        for _ in 0..2 {
            let run = site.install();
            run.assert_code(9);
            run.assert_denied("evil", ".npmrc");
            run.assert_denied("evil", "/app/npmguard.yaml");
            assert!(!site.path("app/npmguard.yaml").exists(), "{user:?}");
            assert_eq!(site.read("app/node_modules/evil/loot").as_deref(), Some(""));
            std::fs::remove_dir_all(site.path("app/node_modules/evil")).expect("remove");
        }
    }
}

#[test]
fn the_projects_own_scripts_cannot_rewrite_the_policy() {
    let site = Site::new();
    site.write("app/npmguard.yaml", "version: 1\n");
    site.manifest(json!({ "scripts": { "postinstall":
        "echo 'mode: audit' >> npmguard.yaml; mv npmguard.yaml old; rm -f npmguard.yaml; true" } }));
    let run = site.install();
    run.assert_code(9);
    run.assert_denied("app", "/app/npmguard.yaml");
    assert_eq!(site.read("app/npmguard.yaml").as_deref(), Some("version: 1\n"));
}

#[test]
fn the_users_policy_applies_and_the_projects_wins() {
    let mut site = site();
    site.write(
        "home/.config/npmguard/policy.yaml",
        "version: 1\npackages:\n  one: { run: never, reason: mine }\n  two: { reason: t, write: { allow: [\"{project}/out/**\"] } }\n",
    );
    site.write(
        "app/npmguard.yaml",
        "version: 1\npackages:\n  two: { reason: t, write: { deny: [\"{project}/out/**\"] } }\n",
    );
    site.package("one", "echo ran > ran").package("two", WRITES);
    let run = site.install();
    run.assert_code(9);
    assert!(!site.path("app/node_modules/one/ran").exists());
    run.assert_denied("two", "out/two");
    let rule = &run.events("write", "two", "denied")[0]["rule"];
    assert!(rule["source"].as_str().is_some_and(|s| s.ends_with("npmguard.yaml")), "{rule}");
    let layers = run.log[0]["detail"]["policy"].to_string();
    assert!(layers.contains("policy.yaml") && layers.contains("npmguard.yaml"), "{layers}");
}

#[test]
fn extends_takes_presets_and_files_and_flags_take_several() {
    let mut site = site();
    site.write(
        "app/base/shared.yaml",
        "version: 1\nextends: strict\npackages:\n  p: { run: never, reason: base }\n",
    );
    site.write("app/npmguard.yaml", "version: 1\nextends: ./base/shared.yaml\n");
    site.package("p", "echo ran > ran");
    site.install().assert_code(0);
    assert!(!site.path("app/node_modules/p/ran").exists());
    site.write("app/other.yaml", "version: 1\n");
    site.write("app/never.yaml", "version: 1\npackages:\n  p: { run: never, reason: flag }\n");
    let run = site.guard(&["rebuild", "--policy", "other.yaml"]);
    run.assert_code(0);
    assert!(site.path("app/node_modules/p/ran").exists(), "--policy replaces the project's");
    std::fs::remove_file(site.path("app/node_modules/p/ran")).expect("remove");
    site.guard(&["rebuild", "--policy", "other.yaml", "--policy", "never.yaml"]).assert_code(0);
    assert!(!site.path("app/node_modules/p/ran").exists(), "a second one adds to the first");
}

#[test]
fn strict_installs_an_honest_package() {
    for user in users() {
        let mut site = Site::of(user);
        site.write("app/npmguard.yaml", "version: 1\nextends: strict\n");
        site.package("p", "node -e \"fs.writeFileSync('made', 'x')\"");
        let run = site.install();
        run.assert_code(0);
        assert_eq!(site.read("app/node_modules/p/made").as_deref(), Some("x"), "{user:?}: {}", run.stderr);
    }
}

#[test]
fn ten_thousand_entries_load_and_the_right_one_is_used() {
    let mut site = site();
    let mut text = String::from("version: 1\npackages:\n");
    for n in 0..10_000 {
        let _ = writeln!(
            text,
            "  \"package-{n}@>=1\":\n    reason: number {n}\n    write: {{ allow: [\"{{project}}/out/{n}/**\"] }}"
        );
    }
    site.write("app/npmguard.yaml", &text);
    std::fs::create_dir_all(site.path("app/out/7777")).expect("out");
    site.package("package-7777", "echo x > \"$INIT_CWD/out/7777/x\"; echo x > \"$INIT_CWD/out/7778\"; true");
    let began = Instant::now();
    let run = site.install();
    run.assert_code(9);
    assert!(site.path("app/out/7777/x").exists(), "{}", run.stderr);
    run.assert_denied("package-7777", "out/7778");
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    let began = Instant::now();
    let output = site.command(&["policy", "check"]).output().expect("starts");
    assert_eq!(output.status.code(), Some(0));
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

#[test]
fn fail_on_decides_what_makes_a_run_fail() {
    let mut site = Site::new();
    site.package("p", "cat ~/.npmrc; true");
    for (fail_on, code) in [("denied", 9), ("would_deny", 0), ("leftover", 0), ("would_deny,denied", 9)] {
        let run = site.guard(&["install", "--fail-on", fail_on, "--", "--no-audit"]);
        assert_eq!(run.code, code, "{fail_on}: {}", run.stderr);
        std::fs::remove_dir_all(site.path("app/node_modules")).expect("remove");
    }
    site.write("app/npmguard.yaml", "version: 1\nfail-on: []\n");
    site.install().assert_code(0);
}
