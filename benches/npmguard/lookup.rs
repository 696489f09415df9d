//! What it costs to look up a granted name. The C library and node are measured side by
//! side; the server is on loopback (see `world`), so that the guard's part shows.
//!
//! Under the guard a look-up goes over TCP to the supervisor and from there over UDP to the
//! server. `options use-vc` is the native row that does the first of these steps.

use crate::connect::{costs, policy};
use crate::measure::{alternate, available};
use crate::report::Table;
use crate::world::World;
use crate::{Options, Result, npmguard, program};

const NAME: &str = "downloads.bench.example";

/// As `net_client lookup`: nanoseconds, the median over nine chunks.
const NODE: &str = "
const { lookup } = require('dns').promises;
const [name, count] = process.argv.slice(1);
const each = Math.max(1, Math.floor(count / 9));
(async () => {
  const chunks = [];
  for (let chunk = 0; chunk < 9; chunk++) {
    const start = process.hrtime.bigint();
    for (let n = 0; n < each; n++) await lookup(name);
    chunks.push(Number(process.hrtime.bigint() - start) / each);
  }
  console.log(chunks.sort((a, b) => a - b)[4]);
})();";

pub(crate) fn measure(options: &Options) -> Result<Table> {
    let directory = options.scratch()?;
    let here = directory.path();
    let world = World::new(here)?;
    let enter = world.enter(here)?;
    let granted = policy(here, "granted", &[format!("\"{NAME}\"")])?;
    let npmguard = npmguard();
    let guard = [program::text(&npmguard)?, "run", "--policy", &granted, "--"];
    let use_vc = ["env", "RES_OPTIONS=use-vc"];
    let client = program::compile("net_client", here)?;
    let count = options.lookups.to_string();
    let client = [program::text(&client)?, "lookup", NAME, "443", &count];
    let node = ["node", "-e", NODE, NAME, &count];

    let contestant = |name, launcher: &[&str], client: &[&str]| {
        program::contestant(name, &[&enter, launcher, client].concat(), here)
    };
    let runs = options.runs_or(5);
    let mut rows = costs(alternate(
        runs,
        vec![
            contestant("native getaddrinfo", &[], &client),
            contestant("native, use-vc", &use_vc, &client),
            contestant("npmguard getaddrinfo", &guard, &client),
        ],
    ));
    if available("node") {
        rows.extend(costs(alternate(
            runs,
            vec![
                contestant("native node", &[], &node),
                contestant("native node, use-vc", &use_vc, &node),
                contestant("npmguard node", &guard, &node),
            ],
        )));
    }
    Ok(Table {
        subject: "lookup",
        title: format!("one look-up of a name (A and AAAA), {count} a run, {runs} rounds"),
        budget: "none: for comparison",
        rows,
    })
}
