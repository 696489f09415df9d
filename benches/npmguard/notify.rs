//! What one notified open costs, beside the floor that a bare notification loop sets.
//!
//! Where the scheduler puts the two sides decides more than any code: a wake-up on another
//! core costs several times one on the same core. Hence two groups, one free and one with
//! everything on a single CPU; compare within a group.

use std::path::Path;

use crate::measure::{Sample, alternate, available};
use crate::report::{Row, Table, rows};
use crate::{Options, Result, npmguard, program};

/// A file that any policy lets a script read.
const FILE: &str = "/usr/bin/env";

/// Names of the bare loop (which ratios refer to), native, npmguard and strace.
const FREE: [&str; 4] = ["bare notify loop", "native", "npmguard run", "strace --seccomp-bpf"];
const PINNED: [&str; 4] =
    ["bare notify loop, 1 cpu", "native, 1 cpu", "npmguard run, 1 cpu", "strace, 1 cpu"];

pub(crate) fn measure(options: &Options) -> Result<Table> {
    let directory = options.scratch()?;
    let program = program::compile("notify_loop", directory.path())?;
    let mut rows = group(options, &program, &[], FREE)?;
    if available("taskset") {
        rows.extend(group(options, &program, &["taskset", "-c", "0"], PINNED)?);
    }
    let (count, runs) = (options.opens, options.runs_or(5));
    Ok(Table {
        subject: "notify",
        title: format!("one open and close of a file, {count} a run, {runs} rounds"),
        budget: "npmguard run <= 1.3 x the bare notify loop",
        rows,
    })
}

/// `prefix` comes before every command.
fn group(options: &Options, program: &Path, prefix: &[&str], names: [&'static str; 4]) -> Result<Vec<Row>> {
    let (binary, count) = (npmguard(), options.opens.to_string());
    let binary = binary.to_str().ok_or("npmguard's path is not UTF-8")?;
    let program = program.to_str().ok_or("the temporary directory's path is not UTF-8")?;
    let directory = Path::new(program).parent().ok_or("the program has no directory")?;
    let contestant = |name, launcher: &[&str], mode| {
        let words = [prefix, launcher, &[program, mode, FILE, &count]].concat();
        program::contestant(name, &words, directory)
    };
    let strace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=openat", "-o", "/dev/null"];
    let mut contestants = vec![
        contestant(names[0], &[], "notify"),
        contestant(names[1], &[], "opens"),
        contestant(names[2], &[binary, "run", "--"], "opens"),
    ];
    if available("strace") {
        contestants.push(contestant(names[3], &strace, "opens"));
    }
    let results = alternate(options.runs_or(5), contestants);
    let micros = |own: Sample, _| own.own / 1e3;
    let ratio = |own: Sample, loop_: Sample| own.own / loop_.own;
    Ok(rows(results, &[("us", &micros), ("loop_ratio", &ratio)], |sample| sample.own))
}
