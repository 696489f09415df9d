//! What the user sees of a run on the terminal: a line per first denial, a summary at
//! the end. It shows events and totals and decides nothing; colour is decoration, and
//! no text from a package or a script reaches the terminal unescaped.

mod denial;
mod summary;

pub use crate::event::{ScriptRow, Totals};
pub use denial::{print_denial, render_denial};
pub use summary::{print_summary, render_summary};

use std::borrow::Cow;
use std::io::Write as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::event::escape::sanitize;

/// `text` made safe for a terminal and cut to `width` columns, the last of them `…`.
pub fn fit(text: &str, width: usize) -> Cow<'_, str> {
    let text = sanitize(text);
    if text.width() <= width {
        return text;
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used >= width {
            break;
        }
        cut.push(c);
    }
    // The width of a string is not always the sum of its parts.
    while !cut.is_empty() && cut.width() >= width {
        cut.pop();
    }
    if width > 0 {
        cut.push('…');
    }
    Cow::Owned(cut)
}

/// Prints to stderr, without colour where it is not wanted. Whoever closed stderr does
/// not want to know, so that is no error.
fn print(text: &str) {
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// Prints a message of npmguard's own to stderr; control characters in it, which can only
/// come from names and paths, are escaped.
pub fn print_line(text: &str) {
    for line in text.lines() {
        print(&format!("{}\n", sanitize(line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fitted_text_fits_and_has_no_controls(text in any::<String>(), width in 0usize..40) {
            let fitted = fit(&text, width);
            prop_assert!(fitted.width() <= width);
            prop_assert!(!fitted.chars().any(crate::event::escape::is_unsafe));
        }
    }
}
