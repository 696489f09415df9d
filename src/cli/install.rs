//! `npmguard install`, `ci`, `add`, `update`, `rebuild`, `exec`, `npm`.

use std::ffi::OsString;

use super::{ManagerArgs, fail};
use crate::launch::supervisor::{self, exit};

/// Runs one npm command under guard, if the project is npm's.
pub(super) fn npm(command: &str, args: &ManagerArgs) -> i32 {
    let project = match project() {
        Ok(project) => project,
        Err(message) => return fail(&message, exit::USAGE),
    };
    if let Some(other) = crate::manager::project::other_manager(&project) {
        return other_manager(&crate::event::escape(other.as_bytes()), command);
    }
    let needs_manifest = match command {
        "ci" | "rebuild" | "update" => true,
        "install" => !crate::manager::project::names_packages(&args.rest),
        _ => false,
    };
    let elsewhere = args.rest.iter().any(|a| {
        let a = a.to_string_lossy();
        ["-g", "--global", "-C", "--help", "-h"].contains(&a.as_ref())
            || a.starts_with("--prefix")
            || a.starts_with("--location")
    });
    if needs_manifest && !elsewhere && !project.join("package.json").is_file() {
        return fail(
            &format!(
                "there is no `package.json` in `{}` or above\n\nhint: change to the project's directory, or `npm init`",
                crate::event::escape(std::os::unix::ffi::OsStrExt::as_bytes(project.as_os_str()))
            ),
            exit::USAGE,
        );
    }
    guarded(args, &project, command, &args.rest)
}

/// `npmguard pnpm` and the like.
pub(super) fn other(name: &str) -> i32 {
    other_manager(name, "install")
}

fn other_manager(name: &str, command: &str) -> i32 {
    fail(
        &format!(
            "this project uses {name}, and this version guards npm only\n\n\
             hint: `npmguard npm {command}` uses npm all the same"
        ),
        exit::USAGE,
    )
}

/// Runs any npm command under guard.
pub(super) fn any(args: &ManagerArgs) -> i32 {
    let Some((command, rest)) = args.rest.split_first() else {
        return fail("no npm command was given\n\nhint: `npmguard npm install`", exit::USAGE);
    };
    match project() {
        Ok(project) => guarded(args, &project, &command.to_string_lossy(), rest),
        Err(message) => fail(&message, exit::USAGE),
    }
}

/// Settings that npmguard itself pins; a second value on the command line would win.
fn pinned(rest: &[OsString]) -> Option<&'static str> {
    ["--script-shell", "--git", "--node-options"].into_iter().find(|flag| {
        rest.iter().take_while(|a| *a != "--").any(|a| {
            let a = a.to_string_lossy();
            a == *flag || a.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
        })
    })
}

fn guarded(args: &ManagerArgs, project: &std::path::Path, command: &str, rest: &[OsString]) -> i32 {
    let options = match args.guard.options() {
        Ok(options) => options,
        Err(message) => return fail(&message, exit::USAGE),
    };
    if let Some(flag) = pinned(rest) {
        return fail(
            &format!(
                "`{flag}` is set by npmguard itself, to see every script\n\nhint: leave it out; a shell of your own \
                 is taken from `script-shell` in your ~/.npmrc"
            ),
            exit::USAGE,
        );
    }
    match supervisor::npm(&options, project, command, rest) {
        Ok(code) => code,
        Err(error) => super::fail_with(&error),
    }
}

/// The project's directory, resolved.
pub(super) fn project() -> Result<std::path::PathBuf, String> {
    let cwd = std::env::current_dir().map_err(|e| format!("the working directory cannot be read: {e}"))?;
    Ok(crate::manager::project::project_of(&cwd))
}
