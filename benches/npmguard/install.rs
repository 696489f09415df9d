//! What a whole `npm ci` costs, in time and in the supervisor's memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::{Contestant, Sample, alternate, available, median, peak_memory, time};
use crate::report::{Cell, Row, Table, rows};
use crate::{Options, Result, npmguard};

/// Files of a project that decide what is installed.
const FILES: &[&str] = &["package.json", "package-lock.json", ".npmrc"];

/// For every launcher: from the cache where possible, and quiet.
const NPM: &[&str] = &["--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error"];

/// Where npm gets the packages from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// A cache that has them.
    Cache(&'a Path),
    /// The registry at this address; the cache is fresh and empty.
    Registry(&'a str),
}

/// 9: installed, and the policy was violated. The time is as good.
const ACCEPTED: &[i32] = &[0, 9];

#[derive(Clone, Copy)]
enum Launcher {
    Native,
    Npmguard { mode: &'static str },
    Strace,
    Bwrap,
}

impl Launcher {
    fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Npmguard { mode: "audit" } => "npmguard audit",
            Self::Npmguard { .. } => "npmguard enforce",
            Self::Strace => "strace --seccomp-bpf",
            Self::Bwrap => "bwrap",
        }
    }

    /// `npm ci` in `project`, which has an `app` directory and room for a log and a cache.
    fn command(self, project: &Path, source: Source<'_>) -> Command {
        let app = project.join("app");
        let cache = match source {
            Source::Cache(cache) => cache.to_owned(),
            Source::Registry(_) => project.join("cache"),
        };
        let mut command = match self {
            Self::Native => words(&["npm", "ci"]),
            Self::Npmguard { mode } => {
                let mut command = Command::new(npmguard());
                command.args(["ci", "--quiet", "--mode", mode, "--log"]);
                command.arg(project.join("log.jsonl")).arg("--");
                command
            }
            Self::Strace => words(&[
                "strace",
                "-f",
                "--seccomp-bpf",
                "-e",
                "trace=execve,openat,connect",
                "-o",
                "/dev/null",
                "npm",
                "ci",
            ]),
            Self::Bwrap => {
                let mut command = words(&["bwrap", "--ro-bind", "/", "/", "--dev", "/dev"]);
                command.args(["--proc", "/proc", "--unshare-all", "--share-net", "--bind"]);
                command.arg(&app).arg(&app).arg("--bind").arg(&cache).arg(&cache);
                command.args(["npm", "ci"]);
                command
            }
        };
        command.args(NPM).current_dir(app);
        if let Source::Registry(address) = source {
            command.env("npm_config_cache", cache).env("npm_config_registry", address);
            // Also for a lockfile that says where its packages once came from.
            command.env("npm_config_replace_registry_host", "always");
        }
        command
    }
}

fn words(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

pub(crate) fn measure(options: &Options) -> Result<Table> {
    let project = options.project()?;
    let runs = options.runs_or(5);
    Ok(Table {
        subject: "install",
        title: format!("`npm ci` of {}, {runs} rounds", title(project)),
        budget: "npmguard enforce: wall ratio <= 1.05 (stretch 1.02), and clearly below strace",
        rows: compare(options, project, Source::Cache(&npm_cache()?), runs),
    })
}

/// All launchers, side by side.
pub(crate) fn compare(options: &Options, project: &Path, source: Source<'_>, runs: usize) -> Vec<Row> {
    let mut launchers =
        vec![Launcher::Native, Launcher::Npmguard { mode: "enforce" }, Launcher::Npmguard { mode: "audit" }];
    if available("strace") {
        launchers.push(Launcher::Strace);
    }
    if available("bwrap") {
        launchers.push(Launcher::Bwrap);
    }
    let run = |launcher: Launcher| {
        let fresh = fresh_project(options, project)?;
        let sample = time(&mut launcher.command(fresh.path(), source), ACCEPTED)?;
        Ok(if matches!(launcher, Launcher::Bwrap) { sample.without_cpu() } else { sample })
    };
    let contestants = launchers
        .into_iter()
        .map(|launcher| Contestant { name: launcher.name(), run: Box::new(move || run(launcher)) });
    let results = alternate(runs, contestants.collect());
    let wall = |own: Sample, _| own.wall;
    let wall_ratio = |own: Sample, native: Sample| own.wall / native.wall;
    let cpu = |own: Sample, _| own.cpu;
    let cpu_ratio = |own: Sample, native: Sample| own.cpu / native.cpu;
    rows(
        results,
        &[("wall_s", &wall), ("wall_ratio", &wall_ratio), ("cpu_s", &cpu), ("cpu_ratio", &cpu_ratio)],
        |sample| sample.wall,
    )
}

/// One plain install that is not measured.
pub(crate) fn install_once(options: &Options, project: &Path, source: Source<'_>) -> Result<()> {
    let fresh = fresh_project(options, project)?;
    let mut command = Launcher::Native.command(fresh.path(), source);
    time(command.arg("--ignore-scripts"), ACCEPTED)?;
    Ok(())
}

pub(crate) fn memory(options: &Options) -> Result<Table> {
    let project = options.project()?;
    let cache = npm_cache()?;
    let runs = options.runs_or(3);
    let launcher = Launcher::Npmguard { mode: "enforce" };
    let mut peaks = Vec::new();
    let mut failure = None;
    for _ in 0..runs {
        let fresh = fresh_project(options, project)?;
        match peak_memory(&mut launcher.command(fresh.path(), Source::Cache(&cache)), ACCEPTED) {
            Ok(kib) => peaks.push(kib / 1024.0),
            Err(error) => failure = Some(error.to_string()),
        }
    }
    let row = match failure {
        Some(why) => Row::failed(launcher.name(), why),
        None => {
            let highest = peaks.iter().copied().fold(f64::NAN, f64::max);
            let cells = vec![
                Cell { name: "median_mib", value: median(peaks.clone()) },
                Cell { name: "highest_mib", value: highest },
            ];
            Row::new(launcher.name(), cells, peaks)
        }
    };
    Ok(Table {
        subject: "memory",
        title: format!("peak memory of the supervisor, `npm ci` of {}, {runs} runs", title(project)),
        budget: "<= 30 MiB (stretch 15 MiB) for 1,200 packages",
        rows: vec![row],
    })
}

/// A directory with a copy of the project in `app`; what was written before is on disk by
/// then, so that no run pays for the one before it.
fn fresh_project(options: &Options, project: &Path) -> Result<tempfile::TempDir> {
    let fresh = options.scratch()?;
    let app = fresh.path().join("app");
    std::fs::create_dir(&app)?;
    std::fs::create_dir(fresh.path().join("cache"))?;
    for file in FILES {
        let from = project.join(file);
        if from.exists() {
            // Written anew, not copied: a read-only original must not make a read-only copy.
            std::fs::write(app.join(file), std::fs::read(&from)?)?;
        } else if *file == "package.json" {
            return Err(format!("`{}` does not exist", from.display()).into());
        }
    }
    nix::unistd::sync();
    Ok(fresh)
}

fn npm_cache() -> Result<PathBuf> {
    let output = Command::new("npm").args(["config", "get", "cache"]).output()?;
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// The directory's own name and its number of locked packages: no path of this machine.
pub(crate) fn title(project: &Path) -> String {
    let name = project.file_name().map_or("the project".into(), |name| name.to_string_lossy());
    let lock = std::fs::read_to_string(project.join("package-lock.json")).unwrap_or_default();
    let entries = serde_json::from_str::<serde_json::Value>(&lock)
        .ok()
        .and_then(|lock| lock["packages"].as_object().map(serde_json::Map::len));
    format!("`{name}` ({} lock entries)", entries.unwrap_or(0))
}
