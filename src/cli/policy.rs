//! `npmguard policy check` and `npmguard policy show`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::fail;
use crate::launch::supervisor::{self, Options, exit};
use crate::manager::hosts::known_hosts_of;
use crate::manager::{environment, identity};
use crate::policy::{self, KnownHosts, Policy, PolicyError, Subject, Variables};
use crate::report;

/// What to do with the policy.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Read the policy and report the first error in it
    Check(PolicyArgs),
    /// Print the resolved policy with the origin of every line
    Show(ShowArgs),
}

/// Which policy.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    /// Policy file instead of the project's npmguard.yaml; may be repeated, later ones win
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
}

/// What to show of it.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    policy: PolicyArgs,
    /// For the scripts of this dependency: NAME or NAME@VERSION (default: the project's own)
    #[arg(long, value_name = "NAME")]
    package: Option<String>,
    /// For the package manager
    #[arg(long, conflicts_with = "package")]
    manager: bool,
    /// List the {groups} and {variables} instead
    #[arg(long)]
    groups: bool,
}

/// Carries out a policy command; the exit code.
pub(super) fn policy(command: &PolicyCommand) -> i32 {
    match run(command) {
        Ok(text) => {
            anstream::print!("{text}");
            0
        }
        Err(message) => fail(&message, exit::USAGE),
    }
}

fn run(command: &PolicyCommand) -> Result<String, String> {
    let args = match command {
        PolicyCommand::Check(args) => args,
        PolicyCommand::Show(args) if args.groups => return Ok(policy::show_groups()),
        PolicyCommand::Show(args) => &args.policy,
    };
    let project = super::install::project()?;
    let options = Options { policies: args.policy.clone(), ..Options::default() };
    let policy = supervisor::load_policy(&options, &project).map_err(|e| e.render())?;
    match command {
        PolicyCommand::Check(_) => check(&policy, &project).map_err(|e| e.render()),
        PolicyCommand::Show(show) => {
            let subject = subject(show)?;
            let hosts =
                if show.manager || policy.needs_hosts() { hosts(&project) } else { KnownHosts::default() };
            let variables = variables(&subject, &project, hosts);
            policy::show(&policy, &subject, &variables).map_err(|e| e.render())
        }
    }
}

/// Loading finds most errors; some show only when rules become grants for a subject.
fn check(policy: &Policy, project: &Path) -> Result<String, PolicyError> {
    let name = "some-package".to_owned();
    for subject in [
        Subject::Dependency { name, version: None, granted: true },
        Subject::Root { name: None, version: None },
        Subject::Manager,
    ] {
        policy.profile(&subject, &variables(&subject, project, KnownHosts::default()))?;
    }
    Ok(format!("ok: {}\n", policy.summary()))
}

fn subject(args: &ShowArgs) -> Result<Subject, String> {
    if args.manager {
        return Ok(Subject::Manager);
    }
    let Some(package) = &args.package else { return Ok(Subject::Root { name: None, version: None }) };
    let (name, version) = match package.get(1..).and_then(|rest| rest.find('@')) {
        Some(at) => (&package[..=at], Some(&package[at + 2..])),
        None => (package.as_str(), None),
    };
    let version = version
        .map(|v| {
            semver::Version::parse(v)
                .map_err(|e| format!("`{v}` is not a version: {e}\n\nhint: write NAME@1.2.3"))
        })
        .transpose()?;
    Ok(Subject::Dependency { name: name.to_owned(), version, granted: true })
}

/// The hosts that npm is set up to use here; what does not count is said on stderr.
fn hosts(project: &Path) -> KnownHosts {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(known) = known_hosts_of(project, supervisor::home().as_deref(), &path) else {
        report::print_line("npmguard: note: npm was not found, so its groups of hosts are empty here");
        return KnownHosts::default();
    };
    for note in &known.notes {
        report::print_line(&format!("npmguard: note: {note}"));
    }
    known.hosts
}

fn variables(subject: &Subject, project: &Path, hosts: KnownHosts) -> Variables {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = supervisor::home();
    let package = match subject {
        Subject::Dependency { name, .. } => project.join("node_modules").join(name),
        _ => project.to_owned(),
    };
    Variables {
        node_modules: identity::node_modules(&package, project),
        toolchain: environment::toolchain(&path, home.as_deref()),
        path_dirs: std::env::split_paths(&path).filter(|p| p.is_absolute()).collect(),
        node: crate::manager::npm::find_program("node", &path).into_iter().collect(),
        project: project.to_owned(),
        tmp: std::env::temp_dir().join("npmguard-RUN/tmp-N"),
        cache: None,
        manager_state: Vec::new(),
        hosts,
        package,
        home,
    }
}
