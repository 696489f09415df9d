//! What it costs to start under the guard at all: a command that does nothing.

use std::ffi::OsString;
use std::process::Command;

use crate::measure::{Contestant, Sample, alternate, available, time};
use crate::report::{Table, rows};
use crate::{Options, Result, npmguard};

pub(crate) fn measure(options: &Options) -> Result<Table> {
    let directory = options.scratch()?;
    let contestant = |name, words: &[&str], program: OsString| {
        let mut command = Command::new(program);
        command.args(words).current_dir(directory.path());
        Contestant { name, run: Box::new(move || time(&mut command, &[0])) }
    };
    let mut contestants = vec![
        contestant("native", &[], "true".into()),
        contestant("npmguard run", &["run", "--", "true"], npmguard().into()),
    ];
    if available("bwrap") {
        let isolation = ["--ro-bind", "/", "/", "--unshare-all", "true"];
        contestants.push(contestant("bwrap --unshare-all", &isolation, "bwrap".into()));
    }
    let runs = options.runs_or(20);
    let results = alternate(runs, contestants);
    let wall = |own: Sample, _| own.wall * 1e3;
    let over = |own: Sample, native: Sample| (own.wall - native.wall) * 1e3;
    Ok(Table {
        subject: "startup",
        title: format!("`true`, {runs} rounds"),
        budget: "npmguard over native <= 15 ms (stretch 6 ms, and not slower than bwrap)",
        rows: rows(results, &[("wall_ms", &wall), ("over_native_ms", &over)], |sample| sample.wall),
    })
}
