//! Runs commands and takes their wall time, CPU time and memory; alternates launchers;
//! medians. Nothing here knows what is measured.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::Result;

/// One competitor: a name, and how to start it.
pub(crate) struct Contestant<'a> {
    pub(crate) name: &'static str,
    /// Runs it once, preparation and cleaning up outside what is timed.
    pub(crate) run: Box<dyn FnMut() -> Result<Sample> + 'a>,
}

/// One run. Seconds.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    /// What the run itself reported, if it did (see `notify`).
    pub(crate) own: f64,
}

impl Sample {
    /// For a launcher that leaves without waiting for its child, as bubblewrap does: the
    /// kernel then accounts the child's CPU time to nobody we can ask.
    pub(crate) fn without_cpu(self) -> Self {
        Self { cpu: f64::NAN, ..self }
    }
}

/// The rounds of one contestant, or why there are none.
pub(crate) struct Rounds {
    pub(crate) name: &'static str,
    pub(crate) samples: std::result::Result<Vec<Sample>, String>,
}

/// Whether `program` is installed; says so if it is not.
pub(crate) fn available(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        eprintln!("bench: warning: `{program}` is not installed, its rows are left out");
    }
    found
}

/// Runs a command to its end, its output thrown away. The children's CPU time comes from
/// the kernel's account of waited-for descendants. `accepted` are the codes that count as
/// success.
pub(crate) fn time(command: &mut Command, accepted: &[i32]) -> Result<Sample> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let before = cpu()?;
    let start = Instant::now();
    let child = command.stderr(Stdio::piped()).spawn();
    let child = child.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let output = child.wait_with_output()?;
    let wall = start.elapsed().as_secs_f64();
    check(&output, accepted)?;
    Ok(Sample { wall, cpu: cpu()? - before, own: 0.0 })
}

/// As [`time`], with what `parse` reads from the command's output.
pub(crate) fn time_and_read(
    command: &mut Command,
    accepted: &[i32],
    parse: impl Fn(&str) -> Option<f64>,
) -> Result<Sample> {
    let before = cpu()?;
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let wall = start.elapsed().as_secs_f64();
    check(&output, accepted)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let own = parse(&text).ok_or_else(|| format!("unexpected output: {text:?}"))?;
    Ok(Sample { wall, cpu: cpu()? - before, own })
}

fn check(output: &std::process::Output, accepted: &[i32]) -> Result<()> {
    if output.status.code().is_some_and(|code| accepted.contains(&code)) {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let last = message.lines().rfind(|line| !line.trim().is_empty());
    Err(format!("{}: {}", output.status, last.unwrap_or("no message")).into())
}

/// Runs a command and returns the peak resident memory (KiB) of its first process, which
/// is read every 10 ms while it lives: the high-water mark never falls, so that only what
/// it gains in its last 10 ms can be missed.
pub(crate) fn peak_memory(command: &mut Command, accepted: &[i32]) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child: Child = command.spawn()?;
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = 0.0_f64;
    let status = loop {
        let text = std::fs::read_to_string(&status_file).unwrap_or_default();
        if let Some(value) = text.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            let number = value.split_whitespace().next().and_then(|n| n.parse().ok());
            peak = peak.max(number.unwrap_or(0.0));
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    if status.code().is_some_and(|code| accepted.contains(&code)) {
        Ok(peak)
    } else {
        Err(status.to_string().into())
    }
}

/// CPU seconds of all children waited for so far.
fn cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(micros as f64 / 1e6)
}

/// Runs `rounds` rounds and one before that to warm up. A contestant that fails is out.
pub(crate) fn alternate(rounds: usize, mut contestants: Vec<Contestant<'_>>) -> Vec<Rounds> {
    let mut results: Vec<Rounds> = contestants
        .iter()
        .map(|contestant| Rounds { name: contestant.name, samples: Ok(Vec::new()) })
        .collect();
    for round in 0..=rounds {
        for index in shuffled(contestants.len()) {
            let result = &mut results[index];
            let Ok(samples) = &mut result.samples else { continue };
            match (contestants[index].run)() {
                Ok(sample) if round > 0 => samples.push(sample),
                Ok(_) => {}
                Err(error) => {
                    eprintln!("bench: warning: {}: {error}", result.name);
                    result.samples = Err(error.to_string());
                }
            }
        }
    }
    results
}

/// `0..count` in random order.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_cached_key(|_| RandomState::new().build_hasher().finish());
    order
}

/// The middle value, the mean of the two middle ones for an even count.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}
