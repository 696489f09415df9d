//! The table at the end of a run and the sentence below it. A script with nothing to
//! report is folded away in a long table, never one that was refused something; every
//! line fits the terminal whatever packages call themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use anstyle::Style;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Row, Table, presets};

use super::fit;
use crate::event::{Kind, ScriptRow, Totals, Verdict};

/// Rows before unremarkable ones are folded away.
const ROWS: usize = 15;
/// Columns below which there is no room for hosts.
const WITH_HOSTS: usize = 84;
/// The narrowest table that is drawn.
const NARROWEST: usize = 60;
/// Columns that are taken by everything but package and hosts, with the gaps between them.
const TAKEN: usize = 12 + 7 + 6 + 6 + 14 + 2 * 6;

/// The summary as plain text: a table of `rows` in at most `width` columns (but never less
/// than sixty), and the verdict in one sentence.
pub fn render_summary(rows: &[ScriptRow], totals: &Totals, width: usize) -> String {
    render(rows, totals, width, Style::new())
}

/// Prints [`render_summary`] to stderr, in colour where the user wants it.
pub fn print_summary(rows: &[ScriptRow], totals: &Totals, width: usize) {
    super::print(&render(rows, totals, width, Style::new().bold()));
}

fn render(rows: &[ScriptRow], totals: &Totals, width: usize, style: Style) -> String {
    let width = width.max(NARROWEST);
    let mut out = String::new();
    let fold = rows.len() > ROWS;
    let shown: Vec<&ScriptRow> = rows.iter().filter(|row| !fold || row.is_remarkable()).collect();
    if !shown.is_empty() {
        for line in table(&shown, width).lines() {
            out.push_str(fit(&line, width).trim_end());
            out.push('\n');
        }
    }
    match rows.len() - shown.len() {
        0 => {}
        1 => out.push_str("+ 1 script with nothing to report\n"),
        hidden => out.push_str(&format!("+ {hidden} scripts with nothing to report\n")),
    }
    out.push_str(&format!("{style}{}{style:#}\n", sentence(rows, totals)));
    out
}

fn table(rows: &[&ScriptRow], width: usize) -> Table {
    let hosts = width >= WITH_HOSTS;
    let free = width - TAKEN;
    let (package, host) = if hosts { (free / 2, free - free / 2) } else { (free, 0) };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let heads = ["package", "script", "time", "execs", "files", "hosts", "verdict"];
    table.set_header(heads.into_iter().filter(|head| hosts || *head != "hosts"));
    for row in rows {
        let name =
            row.version.as_ref().map_or_else(|| row.package.clone(), |v| format!("{}@{v}", row.package));
        let mut cells = vec![
            text(&name, package),
            text(&row.script, 12),
            number(&duration(row.duration), 7),
            number(&row.execs.to_string(), 6),
            number(&row.files_denied().to_string(), 6),
        ];
        if hosts {
            cells.push(text(&host_list(row), host));
        }
        cells.push(text(&verdict(row), 14));
        table.add_row(Row::from(cells));
    }
    let last = if hosts { 6 } else { 5 };
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index == last { 0 } else { 2 }));
    }
    table
}

fn text(value: &str, width: usize) -> Cell {
    Cell::new(fit(value, width))
}

fn number(value: &str, width: usize) -> Cell {
    text(value, width).set_alignment(CellAlignment::Right)
}

fn host_list(row: &ScriptRow) -> String {
    let refused = row.refused_hosts.iter().map(|host| format!("{host} (refused)"));
    refused.chain(row.hosts.iter().cloned()).collect::<Vec<_>>().join(", ")
}

fn verdict(row: &ScriptRow) -> String {
    match row.verdict {
        Verdict::Denied => format!("denied {}", row.denied),
        Verdict::WouldDeny => format!("would deny {}", row.would_deny),
        _ if row.leftovers > 0 => format!("left over {}", row.leftovers),
        _ if !row.succeeded() => row.exit.clone().unwrap_or_default(),
        Verdict::Logged => format!("logged {}", row.logged),
        Verdict::Allowed => "ok".to_owned(),
    }
}

fn duration(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds @ 1..=59 => format!("{seconds}.{}s", time.subsec_millis() / 100),
        seconds @ 60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

fn sentence(rows: &[ScriptRow], totals: &Totals) -> String {
    let scripts = totals.kinds.get(&Kind::ScriptStart).copied().unwrap_or(rows.len() as u64);
    let mut parts = vec![plural(scripts, "script")];
    let who = |refused: fn(&ScriptRow) -> u64| {
        let names: BTreeSet<_> =
            rows.iter().filter(|row| refused(row) > 0).map(|row| (&row.package, &row.version)).collect();
        plural(names.len() as u64, "package")
    };
    let denied = totals.denied.saturating_sub(totals.expected);
    let would_deny = totals.would_deny.saturating_sub(totals.expected);
    if denied > 0 {
        parts.push(format!("{} refused {}", who(|row| row.denied), plural(denied, "time")));
    }
    if would_deny > 0 {
        let times = plural(would_deny, "time");
        parts.push(format!("{} would be refused {times}", who(|row| row.would_deny)));
    }
    if denied + would_deny == 0 {
        parts.push("nothing refused".to_owned());
    }
    if totals.expected > 0 {
        parts.push(format!("{} expected", plural(totals.expected, "refusal")));
    }
    if totals.leftovers > 0 {
        let noun = if totals.leftovers == 1 { "process" } else { "processes" };
        parts.push(format!("{} leftover {noun}", totals.leftovers));
    }
    let mut out = format!("npmguard: {}", parts.join(", "));
    if totals.lost > 0 {
        out.push_str(&format!("; {} could not be written to the log", plural(totals.lost, "line")));
    }
    if let Some(log) = &totals.log {
        out.push_str(&format!("; log: {}", log.display()));
    }
    crate::event::escape::sanitize(&out).into_owned()
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
