//! Turns bytes that a script controls into text that is safe in a log line, in a
//! terminal and in a report. What would move a cursor, reorder or hide text, or is
//! not UTF-8, becomes `\xNN`; nothing is removed, so evidence can be read back.
//!
//! [`escape`] is reversible and therefore cannot be idempotent: apply it exactly
//! once, where bytes become text. [`sanitize`] is idempotent and is what the log
//! and the terminal apply again to text that should be escaped already.

use std::borrow::Cow;
use std::fmt::Write as _;

/// True for characters that must never reach a terminal, a log or a report as they are.
///
/// Control characters (C0, DEL, C1), bidirectional controls, and everything that
/// takes no room on the screen and so can hide text: zero-width characters, fillers,
/// variation selectors, tags.
pub fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Escapes `bytes` into printable text, reversibly.
///
/// Each byte of an unsafe character ([`is_unsafe`]) and each byte that is not UTF-8
/// becomes `\xNN`. A backslash stays as it is unless `x` and two hex digits follow it,
/// when it becomes `\x5c`, so that [`unescape`] gives back the same bytes. Escaping
/// twice is harmless to the terminal but changes such a backslash again: do it once.
///
/// ```
/// use npmguard::event::escape::escape;
/// assert_eq!(escape(b"a\x1b[31mb"), r"a\x1b[31mb");
/// assert_eq!(escape(br"C:\temp \x41"), r"C:\temp \x5cx41");
/// ```
pub fn escape(bytes: &[u8]) -> String {
    escape_bounded(bytes, usize::MAX)
}

/// Like [`escape`], with at most `max` bytes of text before a cut marker `…[+N bytes]`,
/// where N counts the bytes of the input that are not shown.
pub fn escape_bounded(bytes: &[u8], max: usize) -> String {
    let mut out = Bounded::new(bytes.len(), max);
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let ambiguous = c == '\\' && is_escape(&bytes[at..]);
            if !out.push(c, ambiguous || is_unsafe(c)) {
                return out.cut(at);
            }
            at += c.len_utf8();
        }
        for byte in chunk.invalid() {
            if !out.push_hex(&[*byte]) {
                return out.cut(at);
            }
            at += 1;
        }
    }
    out.text
}

/// Gives back the bytes that [`escape`] was given.
pub fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if is_escape(&bytes[at..]) {
            out.push(hex(bytes[at + 2]) << 4 | hex(bytes[at + 3]));
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

/// Makes text harmless that should have been escaped already: unsafe characters become
/// `\xNN`, backslashes are left alone. Idempotent, and the identity on what [`escape`]
/// returns.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    sanitize_bounded(text, usize::MAX)
}

/// Like [`sanitize`], cut like [`escape_bounded`].
pub fn sanitize_bounded(text: &str, max: usize) -> Cow<'_, str> {
    sanitize_keeping(text, max, None)
}

/// Like [`sanitize_bounded`] for text of several lines: line feeds stay.
pub fn sanitize_lines(text: &str, max: usize) -> Cow<'_, str> {
    sanitize_keeping(text, max, Some('\n'))
}

fn sanitize_keeping(text: &str, max: usize, keep: Option<char>) -> Cow<'_, str> {
    let must_go = |c: char| is_unsafe(c) && Some(c) != keep;
    if text.len() <= max && !text.chars().any(must_go) {
        return Cow::Borrowed(text);
    }
    let mut out = Bounded::new(text.len(), max);
    for (at, c) in text.char_indices() {
        if !out.push(c, must_go(c)) {
            return Cow::Owned(out.cut(at));
        }
    }
    Cow::Owned(out.text)
}

/// The text written so far and how much of it there may be.
struct Bounded {
    text: String,
    max: usize,
    input: usize,
}

impl Bounded {
    fn new(input: usize, max: usize) -> Bounded {
        Bounded { text: String::with_capacity(input.min(max).min(4096)), max, input }
    }

    /// False when there is no room left for `c`.
    fn push(&mut self, c: char, escaped: bool) -> bool {
        let mut buffer = [0; 4];
        let encoded = c.encode_utf8(&mut buffer);
        if escaped {
            return self.push_hex(encoded.as_bytes());
        }
        if encoded.len() > self.room() {
            return false;
        }
        self.text.push_str(encoded);
        true
    }

    fn push_hex(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() * 4 > self.room() {
            return false;
        }
        for byte in bytes {
            // Writing into a String cannot fail.
            let _ = write!(self.text, "\\x{byte:02x}");
        }
        true
    }

    fn room(&self) -> usize {
        self.max - self.text.len()
    }

    fn cut(mut self, at: usize) -> String {
        let _ = write!(self.text, "…[+{} bytes]", self.input - at);
        self.text
    }
}

/// Whether `bytes` starts with `\xNN`.
fn is_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'\\', b'x', a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_moves_reorders_or_hides_text_is_spelled_out() {
        assert_eq!(escape(b"a\r\n\x00b"), r"a\x0d\x0a\x00b");
        assert_eq!(escape("\u{9b}31m".as_bytes()), r"\xc2\x9b31m");
        assert_eq!(escape("\u{202e}txt".as_bytes()), r"\xe2\x80\xaetxt");
        assert_eq!(escape("\u{e0041}".as_bytes()), r"\xf3\xa0\x81\x81");
        assert_eq!(escape(b"caf\xe9"), r"caf\xe9");
        assert_eq!(escape("café 日本 😀".as_bytes()), "café 日本 😀");
    }

    #[test]
    fn a_backslash_changes_only_where_it_could_be_taken_for_an_escape() {
        assert_eq!(escape(br"a\b\\c\x4"), r"a\b\\c\x4");
        assert_eq!(escape(br"\\x1b"), r"\\x5cx1b");
        assert_eq!(escape(br"\xZZ\xAf"), r"\xZZ\x5cxAf");
    }

    #[test]
    fn a_cut_text_says_how_much_is_missing() {
        assert_eq!(escape_bounded(b"abcdef", 6), "abcdef");
        assert_eq!(escape_bounded(b"abcdef", 4), "abcd…[+2 bytes]");
        assert_eq!(escape_bounded(b"ab\x1bcd", 5), "ab…[+3 bytes]");
        assert_eq!(escape_bounded("aé".as_bytes(), 2), "a…[+2 bytes]");
        assert_eq!(sanitize_bounded("abcdef", 4), "abcd…[+2 bytes]");
    }

    proptest! {
        #[test]
        fn escaped_text_is_safe_and_reads_back(bytes in any::<Vec<u8>>()) {
            let text = escape(&bytes);
            prop_assert!(!text.chars().any(is_unsafe));
            prop_assert_eq!(unescape(&text), bytes);
        }

        #[test]
        fn escaped_strings_with_backslashes_read_back(text in r"[\\x0-9a-fA-F\u{200b}\u{202e}\n]{0,40}") {
            let escaped = escape(text.as_bytes());
            prop_assert!(!escaped.chars().any(is_unsafe));
            prop_assert_eq!(unescape(&escaped), text.as_bytes());
            let again = sanitize(&escaped).into_owned();
            prop_assert_eq!(again, escaped);
        }

        #[test]
        fn bounded_text_keeps_its_bound(bytes in any::<Vec<u8>>(), max in 0usize..64) {
            let text = escape_bounded(&bytes, max);
            let marker = "…[+ bytes]".len() + 20;
            prop_assert!(text.len() <= max + marker);
            prop_assert!(!text.chars().any(is_unsafe));
            prop_assert!(!sanitize_bounded(&String::from_utf8_lossy(&bytes), max).chars().any(is_unsafe));
        }
    }
}
