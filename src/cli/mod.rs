//! The command line: flags are defined once here, and each command has a file.
//!
//! npmguard's own flags come before the package manager's arguments; what it does not
//! know it passes on, and `--` ends its own.

mod doctor;
mod install;
mod policy;
mod run;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::launch::supervisor::{Layer, Options, exit};
use crate::policy::{FailOn, Mode};

const EXAMPLES: &str = "\
Examples:
  npmguard ci                                  install the lockfile, every script in its sandbox
  npmguard install --log npmguard.jsonl        the same for `npm install`, with an event log
  npmguard install --mode audit                observe only: what would be refused?
  npmguard run -- npm test                     the same guard around any command
  npmguard policy show --package esbuild       what that package's scripts may do, and why
  npmguard doctor                              what this kernel can enforce

Exit codes:
  the package manager's own when it fails; 0 success; 2 usage or policy error;
  9 violations although the manager succeeded; 125 the guard could not be set up or broke;
  126/127 command not executable / not found; 128+n ended by signal n";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold());

/// Runs npm with every lifecycle script in its own sandbox, and says which package did what.
#[derive(Debug, Parser)]
#[command(name = "npmguard", version, styles = STYLES, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// `npm install`, guarded
    #[command(visible_alias = "i")]
    Install(ManagerArgs),
    /// `npm ci`, guarded
    #[command(visible_alias = "clean-install")]
    Ci(ManagerArgs),
    /// `npm install PACKAGE…`, guarded
    Add(ManagerArgs),
    /// `npm update`, guarded
    Update(ManagerArgs),
    /// `npm rebuild`, guarded
    Rebuild(ManagerArgs),
    /// `npm exec`, guarded
    Exec(ManagerArgs),
    /// Any npm command, guarded: `npmguard npm install-test`
    Npm(ManagerArgs),
    #[command(hide = true)]
    Pnpm(ManagerArgs),
    #[command(hide = true)]
    Yarn(ManagerArgs),
    #[command(hide = true)]
    Bun(ManagerArgs),
    /// Run any command under the policy of the project's own scripts
    Run(run::RunArgs),
    /// Check or show the policy
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Try what this kernel and container can enforce
    Doctor(doctor::DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Flags of every command that runs something.
#[derive(Debug, Args)]
struct GuardArgs {
    /// Policy file instead of the project's npmguard.yaml; may be repeated, later ones win
    #[arg(long, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Enforce the policy, or only observe (audit protects nothing)
    #[arg(long, value_enum, value_name = "MODE")]
    mode: Option<ModeArg>,
    /// Write events to FILE, one JSON object a line (appended)
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Verdicts that make the exit code 9: denied, would_deny, logged, leftover (comma-separated)
    #[arg(long, value_name = "VERDICTS", value_delimiter = ',')]
    fail_on: Option<Vec<String>>,
    /// Run although this layer is missing here
    #[arg(long, value_enum, value_name = "LAYER")]
    allow_degraded: Vec<LayerArg>,
    /// Print nothing but errors (the package manager's own output stays)
    #[arg(long, short)]
    quiet: bool,
    /// Print what npmguard does; repeat for more
    #[arg(long, short, action = clap::ArgAction::Count)]
    verbose: u8,
    /// When to use colour
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    color: ColorArg,
}

/// A guarded npm command.
#[derive(Debug, Args)]
struct ManagerArgs {
    #[command(flatten)]
    guard: GuardArgs,
    /// Arguments for npm
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "NPM ARGUMENTS")]
    rest: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModeArg {
    Enforce,
    Audit,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LayerArg {
    Landlock,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ColorArg {
    Auto,
    Always,
    Never,
}

impl GuardArgs {
    fn options(&self) -> Result<Options, String> {
        let choice = match self.color {
            ColorArg::Auto => None,
            ColorArg::Always => Some(anstream::ColorChoice::Always),
            ColorArg::Never => Some(anstream::ColorChoice::Never),
        };
        if let Some(choice) = choice {
            choice.write_global();
        }
        let fail_on = match &self.fail_on {
            None => None,
            Some(words) => Some(
                words
                    .iter()
                    .map(|word| {
                        word.parse::<FailOn>().map_err(|e| format!("--fail-on: {e}\n\nhint: {}", e.hint()))
                    })
                    .collect::<Result<Vec<_>, _>>()?,
            ),
        };
        if fail_on.as_ref().is_some_and(|words| words.contains(&FailOn::Drift)) {
            return Err("--fail-on: `drift` needs a behaviour lock, which this version does not have".into());
        }
        Ok(Options {
            policies: self.policy.clone(),
            mode: self.mode.map(|m| match m {
                ModeArg::Enforce => Mode::Enforce,
                ModeArg::Audit => Mode::Audit,
            }),
            log: self.log.clone(),
            fail_on,
            allow_degraded: self.allow_degraded.iter().map(|LayerArg::Landlock| Layer::Landlock).collect(),
            quiet: self.quiet,
            verbosity: self.verbose,
        })
    }
}

/// Parses the command line and carries it out; the exit code.
pub fn main() -> i32 {
    let cli = Cli::parse();
    match cli.command {
        Command::Install(args) => install::npm("install", &args),
        Command::Ci(args) => install::npm("ci", &args),
        Command::Add(args) => install::npm("install", &args),
        Command::Update(args) => install::npm("update", &args),
        Command::Rebuild(args) => install::npm("rebuild", &args),
        Command::Exec(args) => install::npm("exec", &args),
        Command::Npm(args) => install::any(&args),
        Command::Pnpm(_) => install::other("pnpm"),
        Command::Yarn(_) => install::other("yarn"),
        Command::Bun(_) => install::other("bun"),
        Command::Run(args) => run::run(&args),
        Command::Policy(command) => policy::policy(&command),
        Command::Doctor(args) => doctor::doctor(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "npmguard", &mut std::io::stdout());
            0
        }
        Command::Man => match clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()) {
            Ok(()) => 0,
            // Whoever stopped reading has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
            Err(error) => fail(&error.to_string(), exit::USAGE),
        },
    }
}

/// Prints an error and gives its exit code back.
fn fail(message: &str, code: i32) -> i32 {
    crate::report::print_line(&format!("npmguard: error: {message}"));
    code
}

/// Prints a run's error with what caused it.
fn fail_with(error: &crate::launch::supervisor::RunError) -> i32 {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            // A hint stays last.
            match message.split_once("\n\nhint:") {
                Some((what, hint)) => message = format!("{what}: {text}\n\nhint:{hint}"),
                None => message = format!("{message}: {text}"),
            }
        }
        cause = error.source();
    }
    fail(&message, error.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_npmguard_does_not_know_is_npms() {
        let words = ["npmguard", "install", "--log", "x.jsonl", "--save-dev", "left-pad", "--log", "mine"];
        let Ok(Cli { command: Command::Install(args) }) = Cli::try_parse_from(words) else { panic!() };
        assert_eq!(args.guard.log, Some(PathBuf::from("x.jsonl")));
        assert_eq!(args.rest, ["--save-dev", "left-pad", "--log", "mine"]);
        let words = ["npmguard", "ci", "-q", "--", "--no-audit"];
        let Ok(Cli { command: Command::Ci(args) }) = Cli::try_parse_from(words) else { panic!() };
        assert!(args.guard.quiet);
        assert_eq!(args.rest, ["--no-audit"]);
    }
}
