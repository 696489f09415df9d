//! `npmguard run`: the guard around any command.

use std::ffi::OsString;

use clap::Args;

use super::{GuardArgs, fail};
use crate::launch::supervisor::{self, exit};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  npmguard run -- npm test
  npmguard run --as left-pad -- node suspicious.js    under the policy for that dependency
  npmguard run --mode audit --log run.jsonl -- npx some-tool")]
pub(super) struct RunArgs {
    #[command(flatten)]
    guard: GuardArgs,
    /// Run under the policy for the dependency NAME instead of the project's own
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command; the exit code.
pub(super) fn run(args: &RunArgs) -> i32 {
    let prepared = args.guard.options().and_then(|options| Ok((options, super::install::project()?)));
    let (options, project) = match prepared {
        Ok(prepared) => prepared,
        Err(message) => return fail(&message, exit::USAGE),
    };
    match supervisor::command(&options, &project, &args.command, args.name.as_deref()) {
        Ok(code) => code,
        Err(error) => super::fail_with(&error),
    }
}
