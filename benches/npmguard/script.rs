//! What one lifecycle script costs: hand-over to the broker, domain, spawn, reaping.

use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::measure::{Contestant, Sample, alternate, time};
use crate::report::{Table, rows};
use crate::{Options, Result, npmguard};

pub(crate) fn measure(options: &Options) -> Result<Table> {
    let directory = options.scratch()?;
    let packages = options.packages.max(1);
    write_project(directory.path(), packages)?;
    let contestant = |name, guard: &[&str]| {
        let mut command = if guard.is_empty() { Command::new("npm") } else { Command::new(npmguard()) };
        let words = if guard.is_empty() { &["rebuild"] } else { guard };
        command.args(words).args(["--loglevel=error", "--offline"]);
        command.current_dir(directory.path());
        Contestant { name, run: Box::new(move || time(&mut command, &[0])) }
    };
    let contestants = vec![
        contestant("native", &[]),
        contestant("npmguard enforce", &["rebuild", "--quiet", "--"]),
        contestant("npmguard audit", &["rebuild", "--quiet", "--mode", "audit", "--"]),
    ];
    let runs = options.runs_or(5);
    let results = alternate(runs, contestants);
    let count = packages as f64;
    let wall = |own: Sample, _| own.wall;
    let ratio = |own: Sample, native: Sample| own.wall / native.wall;
    let each = |own: Sample, native: Sample| (own.wall - native.wall) * 1e3 / count;
    let cpu = |own: Sample, native: Sample| (own.cpu - native.cpu) * 1e3 / count;
    Ok(Table {
        subject: "script",
        title: format!("`npm rebuild` of {packages} packages with `postinstall: true`, {runs} rounds"),
        budget: "per script over native <= 10 ms (stretch 4 ms), start-up included",
        rows: rows(
            results,
            &[("wall_s", &wall), ("wall_ratio", &ratio), ("per_script_ms", &each), ("cpu_script_ms", &cpu)],
            |sample| sample.wall,
        ),
    })
}

/// An installed project: no registry and no tarballs are needed to rebuild it.
fn write_project(root: &Path, packages: usize) -> Result<()> {
    let mut dependencies = Map::new();
    let mut locked = Map::new();
    for index in 0..packages {
        let name = format!("idle-{index}");
        let manifest = json!({
            "name": name, "version": "1.0.0", "scripts": { "postinstall": "true" },
        });
        let place = format!("node_modules/{name}");
        std::fs::create_dir_all(root.join(&place))?;
        write(&root.join(&place).join("package.json"), &manifest)?;
        dependencies.insert(name, json!("1.0.0"));
        locked.insert(place, json!({ "version": "1.0.0", "hasInstallScript": true }));
    }
    let app = json!({ "name": "bench-app", "version": "1.0.0", "dependencies": dependencies });
    write(&root.join("package.json"), &app)?;
    locked.insert(String::new(), app);
    let lock = json!({
        "name": "bench-app", "version": "1.0.0",
        "lockfileVersion": 3, "requires": true, "packages": locked,
    });
    write(&root.join("package-lock.json"), &lock)
}

fn write(path: &Path, value: &Value) -> Result<()> {
    Ok(std::fs::write(path, serde_json::to_string_pretty(value)?)?)
}
