//! The summary on the terminal: it fits, it folds, and it says what matters.

use std::path::PathBuf;
use std::time::Duration;

use npmguard::event::{Kind, ScriptRow, Totals, Verdict};
use npmguard::report::render_summary;
use proptest::prelude::*;
use unicode_width::UnicodeWidthStr as _;

fn refused(package: &str) -> ScriptRow {
    let mut row = ScriptRow::new(package, Some("1.3.0"), "postinstall");
    row.duration = Duration::from_millis(1_250);
    row.execs = 2;
    row.denied = 3;
    row.denied_kinds = [(Kind::Read, 2), (Kind::Connect, 1)].into();
    row.refused_hosts = vec!["evil.test".to_owned()];
    row.exit = Some("exit 0".to_owned());
    row.verdict = Verdict::Denied;
    row
}

#[test]
fn the_summary_has_a_row_per_script_and_ends_with_the_verdict() {
    let rows = [refused("left-pad"), ScriptRow::new("esbuild", Some("0.25.0"), "postinstall")];
    let totals = Totals { denied: 3, log: Some(PathBuf::from("guard.jsonl")), ..Totals::default() };
    let expected = "\
package          script       time   execs  files  hosts                verdict
left-pad@1.3.0   postinstall  1.2s       2      2  evil.test (refused)  denied 3
esbuild@0.25.0   postinstall   0ms       0      0                       ok
npmguard: 2 scripts, 1 package refused 3 times; log: guard.jsonl
";
    let collapse = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(collapse(&render_summary(&rows, &totals, 100)), collapse(expected));
    assert!(!render_summary(&rows, &totals, 70).contains("hosts"), "a narrow terminal has no room for hosts");
}

#[test]
fn a_long_table_folds_what_is_not_remarkable_and_nothing_else() {
    let mut rows: Vec<_> = (0..214).map(|n| ScriptRow::new(&format!("p{n}"), None, "install")).collect();
    rows.push(refused("left-pad"));
    let mut failed = ScriptRow::new("broken", None, "install");
    failed.exit = Some("exit 1".to_owned());
    rows.push(failed);
    let text = render_summary(&rows, &Totals { denied: 3, ..Totals::default() }, 100);
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.contains("left-pad@1.3.0") && text.contains("exit 1"));
    assert!(text.contains("\n+ 214 scripts with nothing to report\n"));
}

#[test]
fn a_quiet_run_says_that_nothing_was_refused_and_lost_lines_are_named() {
    assert_eq!(render_summary(&[], &Totals::default(), 80), "npmguard: 0 scripts, nothing refused\n");
    let totals = Totals { lost: 2, leftovers: 1, ..Totals::default() };
    let expected =
        "npmguard: 0 scripts, nothing refused, 1 leftover process; 2 lines could not be written to the log\n";
    assert_eq!(render_summary(&[], &totals, 80), expected);
}

proptest! {
    #[test]
    fn hostile_names_never_break_the_table(
        name in any::<String>(), version in any::<String>(), script in any::<String>(), host in any::<String>(),
        execs in any::<u64>(), width in 0usize..200,
    ) {
        let mut row = ScriptRow::new(&name, Some(&version), &script);
        row.execs = execs;
        row.hosts = vec![host.clone(), host];
        row.exit = Some(name);
        row.duration = Duration::from_secs(execs);
        let text = render_summary(&[row, refused("left-pad")], &Totals::default(), width);
        let lines: Vec<_> = text.lines().collect();
        prop_assert_eq!(lines.len(), 4);
        prop_assert!(lines[..3].iter().all(|line| line.width() <= width.max(60)), "{}", text);
        prop_assert!(!text.chars().any(|c| c != '\n' && npmguard::event::escape::is_unsafe(c)));
    }
}
