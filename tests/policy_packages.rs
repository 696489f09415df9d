//! What single packages are granted by name, and that nobody else is.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod policy_support;
use std::path::Path;

use npmguard::policy::{PathAction, Verdict};
use policy_support::{default_policy, dependency, policy, profile, root, unverified, verdict};

use PathAction::{Read, Write};
use Verdict::{Allow, Deny};

#[test]
fn husky_in_a_root_script_is_a_grant_by_name() {
    let policy = policy(
        "version: 1\nextends: default\nroot:\n  read: { allow: [\"{project}/.git/**\"] }\n  \
         write: { allow: [\"{project}/.git/config*\", \"{project}/.husky/**\"] }\n",
    );
    let own = profile(&policy, &root());
    for path in ["/home/u/app/.git/config", "/home/u/app/.git/config.lock", "/home/u/app/.husky/_/pre-commit"]
    {
        assert_eq!(verdict(&own, Write, path), Allow, "{path}");
    }
    assert_eq!(verdict(&own, Read, "/home/u/app/.git/config"), Allow);
    assert_eq!(verdict(&own, Write, "/home/u/app/.git/hooks/pre-commit"), Deny);
}

#[test]
fn a_hook_installer_has_its_built_in_grant_and_nobody_else() {
    let hook = "/home/u/app/.git/hooks/pre-commit";
    let granted = profile(&default_policy(), &dependency("lefthook"));
    let decision = granted.decide_path(Write, Path::new(hook));
    assert_eq!(decision.verdict, Allow);
    assert_eq!(decision.rule.source, "preset:packages/git-hooks");
    assert_eq!(decision.rule.pointer, "packages.\"lefthook\".write.allow[0]");
    assert_eq!(verdict(&profile(&default_policy(), &dependency("lefthoook")), Write, hook), Deny);
    assert_eq!(verdict(&profile(&default_policy(), &unverified("lefthook")), Write, hook), Deny);
    let strict = policy("version: 1\nextends: strict\n");
    assert_eq!(verdict(&profile(&strict, &dependency("lefthook")), Write, hook), Deny);
}

#[test]
fn a_package_that_moves_a_binary_writes_its_platform_packages_and_no_others() {
    for (name, own, foreign) in [
        ("esbuild", "@esbuild/linux-x64/bin/esbuild", "@cloudflare/workerd-linux-64/bin/workerd"),
        ("workerd", "@cloudflare/workerd-linux-64/bin/workerd", "@cloudflare/kv-asset-handler/index.js"),
        ("deno", "@deno/linux-x64-glibc/deno", "@esbuild/linux-x64/bin/esbuild"),
        ("deno", ".bin/deno", ".bin/npm"),
        ("@prisma/client", ".prisma/client/index.js", "prisma/index.js"),
    ] {
        let granted = profile(&default_policy(), &dependency(name));
        let modules = "/home/u/app/node_modules";
        assert_eq!(verdict(&granted, Write, &format!("{modules}/{own}")), Allow, "{name}: {own}");
        assert_eq!(verdict(&granted, Write, &format!("{modules}/{foreign}")), Deny, "{name}: {foreign}");
        assert_eq!(
            verdict(&profile(&default_policy(), &dependency("x")), Write, &format!("{modules}/{own}")),
            Deny
        );
    }
    let msw = profile(&default_policy(), &dependency("msw"));
    assert_eq!(verdict(&msw, Write, "/home/u/app/public/mockServiceWorker.js"), Allow);
    assert_eq!(verdict(&msw, Write, "/home/u/app/public/index.html"), Deny);
    for name in ["ghooks", "pre-commit", "pre-push"] {
        let granted = profile(&default_policy(), &dependency(name));
        assert_eq!(verdict(&granted, Write, "/home/u/app/.git/hooks/pre-push"), Allow, "{name}");
        assert_eq!(verdict(&granted, Write, "/home/u/app/.git/config"), Deny, "{name}");
    }
}
