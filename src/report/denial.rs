//! One line for a refusal, while the run goes on: who, what, which target, and the hint
//! that would allow it. Everything in it may come from a script and is made harmless.

use std::path::Path;

use anstyle::{AnsiColor, Style};

use crate::event::escape::{sanitize, sanitize_bounded};
use crate::event::{Domain, Event, Target, Verdict};

/// Bytes of a target or command that are shown; the log has all of it.
const SHOWN: usize = 200;

/// The line for `event` and, indented below it, its hint; plain text that ends a line.
///
/// Paths under `home` begin with `~`.
pub fn render_denial(event: &Event, home: Option<&Path>) -> String {
    render(event, home, Styles::plain())
}

/// Prints [`render_denial`] to stderr, in colour where the user wants it.
pub fn print_denial(event: &Event, home: Option<&Path>) {
    super::print(&render(event, home, Styles::coloured()));
}

#[derive(Clone, Copy)]
struct Styles {
    verdict: Style,
    who: Style,
    hint: Style,
}

impl Styles {
    const fn plain() -> Styles {
        Styles { verdict: Style::new(), who: Style::new(), hint: Style::new() }
    }

    const fn coloured() -> Styles {
        Styles {
            verdict: AnsiColor::Red.on_default().bold(),
            who: Style::new().bold(),
            hint: AnsiColor::Cyan.on_default(),
        }
    }
}

fn render(event: &Event, home: Option<&Path>, styles: Styles) -> String {
    let Styles { verdict, who, hint } = styles;
    let mut out = format!("npmguard: {who}{}{who:#}: ", subject(event));
    out.push_str(&format!("{verdict}{}{verdict:#} {}", verb(event.verdict), event.kind.as_str()));
    if let Some(target) = event.target.as_ref().and_then(|target| aim(target, home)) {
        out.push(' ');
        out.push_str(&target);
    }
    if let Some(process) = &event.process {
        let command = if process.argv.is_empty() { process.exe.clone() } else { process.argv.join(" ") };
        // A program that names itself (npm does) leaves the rest of its arguments empty.
        out.push_str(&format!(" ({})", sanitize_bounded(command.trim_end(), SHOWN)));
    }
    out.push('\n');
    if let Some(text) = &event.hint {
        for (index, line) in text.trim_end().split('\n').enumerate() {
            let lead = if index == 0 { format!("{hint}hint:{hint:#} ") } else { "      ".to_owned() };
            out.push_str(&format!("  {lead}{}\n", sanitize(line)));
        }
    }
    out
}

fn subject(event: &Event) -> String {
    let who = match (&event.package, event.domain) {
        (Some(package), _) => package.label(),
        (None, Domain::Manager) => "package manager".to_owned(),
        (None, Domain::Run) => "command".to_owned(),
        (None, Domain::Script | Domain::Root) => "unknown package".to_owned(),
    };
    let script = event.script.as_ref().map(|script| format!(" {}", script.event)).unwrap_or_default();
    sanitize_bounded(&format!("{who}{script}"), SHOWN).into_owned()
}

const fn verb(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Logged => "logged",
        Verdict::Denied => "denied",
        Verdict::WouldDeny => "would deny",
    }
}

fn aim(target: &Target, home: Option<&Path>) -> Option<String> {
    let text = match (&target.path, &target.host, &target.address) {
        (Some(path), _, _) => shorten(path, home),
        (None, Some(host), Some(address)) => format!("{host} ({address})"),
        (None, Some(one), None) | (None, None, Some(one)) => one.clone(),
        (None, None, None) => return None,
    };
    Some(sanitize_bounded(&text, SHOWN).into_owned())
}

fn shorten(path: &str, home: Option<&Path>) -> String {
    let below = home
        .filter(|home| home.parent().is_some())
        .and_then(|home| Path::new(path).strip_prefix(home).ok())
        .and_then(Path::to_str);
    match below {
        Some("") => "~".to_owned(),
        Some(below) => format!("~/{below}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Kind, Package, Process, Script, TargetKind};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn denial(name: &str, path: &str, argument: &str) -> Event {
        let mut event = Event::new(Kind::Read, Domain::Script, Verdict::Denied);
        let package =
            Package { name: name.to_owned(), version: Some("1.3.0".to_owned()), ..Package::default() };
        event.package = Some(Arc::new(package));
        event.script = Some(Arc::new(Script::new(b"postinstall", b"node x.js")));
        event.target = Some(Target { path: Some(path.to_owned()), ..Target::new(TargetKind::File) });
        event.process =
            Some(Process { argv: vec!["node".to_owned(), argument.to_owned()], ..Process::default() });
        event
    }

    #[test]
    fn a_denial_names_package_script_act_target_and_command() {
        let mut event = denial("left-pad", "/home/u/.npmrc", "x.js");
        let home = Some(Path::new("/home/u"));
        let line = "npmguard: left-pad@1.3.0 postinstall: denied read ~/.npmrc (node x.js)\n";
        assert_eq!(render_denial(&event, home), line);
        event.hint = Some("packages:\n  left-pad: …\n".to_owned());
        assert_eq!(render_denial(&event, home), format!("{line}  hint: packages:\n          left-pad: …\n"));
    }

    #[test]
    fn empty_arguments_after_a_process_title_are_not_shown() {
        let mut event = denial("npm", "/x", "install");
        let arguments = std::iter::repeat_n(String::new(), 60);
        event.process.as_mut().map(|process| process.argv.extend(arguments)).unwrap_or_default();
        assert!(render_denial(&event, None).ends_with("(node install)\n"));
    }

    #[test]
    fn a_home_of_slash_or_a_sibling_of_home_is_not_abbreviated() {
        let event = denial("a", "/home/user2/x", "x.js");
        assert!(render_denial(&event, Some(Path::new("/home/user"))).contains(" /home/user2/x "));
        assert!(render_denial(&event, Some(Path::new("/"))).contains(" /home/user2/x "));
    }

    #[test]
    fn styles_add_escape_sequences_and_nothing_else() {
        let event = denial("left-pad", "/x", "x.js");
        let styled = render(&event, None, Styles::coloured());
        assert_ne!(styled, render_denial(&event, None));
        assert_eq!(anstream::adapter::strip_str(&styled).to_string(), render_denial(&event, None));
    }

    proptest! {
        #[test]
        fn hostile_text_stays_on_its_line(name in any::<String>(), path in any::<String>(),
                                          argument in any::<String>()) {
            let text = render_denial(&denial(&name, &path, &argument), None);
            prop_assert_eq!(text.matches('\n').count(), 1);
            prop_assert!(!text.trim_end().chars().any(crate::event::escape::is_unsafe));
        }
    }
}
