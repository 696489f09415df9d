//! Results as a table for people and as JSON for everything else, from the same rows.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::Result;
use crate::measure::{Rounds, Sample, median};

/// One subject's results.
pub(crate) struct Table {
    pub(crate) subject: &'static str,
    /// What was run, in one line.
    pub(crate) title: String,
    /// What the project promises about it.
    pub(crate) budget: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// One launcher.
pub(crate) struct Row {
    launcher: &'static str,
    cells: Vec<Cell>,
    /// Why there are no numbers.
    failure: Option<String>,
    samples: Vec<f64>,
}

/// One number, under the name that both the table's head and the JSON use.
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
}

/// A column: its name, and what it takes from a round, given this launcher's sample and the
/// first launcher's.
type Column<'a> = (&'static str, &'a dyn Fn(Sample, Sample) -> f64);

/// Rows of the medians over the rounds; the first contestant is what ratios refer to.
pub(crate) fn rows(results: Vec<Rounds>, columns: &[Column<'_>], raw: fn(&Sample) -> f64) -> Vec<Row> {
    let first: Vec<Sample> = match results.first() {
        Some(Rounds { samples: Ok(samples), .. }) => samples.clone(),
        _ => Vec::new(),
    };
    results
        .into_iter()
        .map(|result| match result.samples {
            Ok(samples) => {
                let cell = |(name, of): &Column<'_>| {
                    let pairs = samples.iter().zip(&first);
                    let value = median(pairs.map(|(own, first)| of(*own, *first)).collect());
                    Cell { name, value }
                };
                Row {
                    launcher: result.name,
                    cells: columns.iter().map(cell).collect(),
                    failure: None,
                    samples: samples.iter().map(raw).collect(),
                }
            }
            Err(failure) => Row::failed(result.name, failure),
        })
        .collect()
}

impl Row {
    pub(crate) fn new(launcher: &'static str, cells: Vec<Cell>, samples: Vec<f64>) -> Self {
        Self { launcher, cells, failure: None, samples }
    }

    pub(crate) fn failed(launcher: &'static str, failure: String) -> Self {
        Self { launcher, cells: Vec::new(), failure: Some(failure), samples: Vec::new() }
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("launcher".into(), json!(self.launcher));
        for cell in &self.cells {
            object.insert(cell.name.into(), json!(cell.value));
        }
        match &self.failure {
            Some(failure) => object.insert("failure".into(), json!(failure)),
            None => object.insert("samples".into(), json!(self.samples)),
        };
        Value::Object(object)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}: {}", self.subject, self.title)?;
        let head = self.rows.iter().find(|row| !row.cells.is_empty());
        write!(out, "  {:<26}", "")?;
        for cell in head.map_or(&[][..], |row| &row.cells) {
            write!(out, " {:>14}", cell.name)?;
        }
        writeln!(out)?;
        for row in &self.rows {
            write!(out, "  {:<26}", row.launcher)?;
            for cell in &row.cells {
                if cell.value.is_nan() {
                    write!(out, " {:>14}", "-")?;
                } else {
                    write!(out, " {:>14.3}", cell.value)?;
                }
            }
            writeln!(
                out,
                "{}",
                row.failure.as_deref().map_or(String::new(), |why| format!(" failed: {why}"))
            )?;
        }
        writeln!(out, "  budget: {}", self.budget)
    }
}

/// Writes all tables with a word about the machine; names of people and hosts stay out.
pub(crate) fn write_json(path: &Path, tables: &[Table]) -> Result<()> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let tables: Vec<Value> = tables
        .iter()
        .map(|table| {
            json!({
                "subject": table.subject,
                "title": table.title,
                "budget": table.budget,
                "rows": table.rows.iter().map(Row::json).collect::<Vec<_>>(),
            })
        })
        .collect();
    let document = json!({
        "kernel": kernel.trim(),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "results": tables,
    });
    let text = serde_json::to_string_pretty(&document)?;
    Ok(std::fs::write(path, text + "\n").map_err(|error| format!("`{}`: {error}", path.display()))?)
}
