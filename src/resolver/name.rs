//! Names as text. What is no plain host name never becomes one by way of text: a label
//! with a dot in it is `\x2e`, not two labels.

use hickory_proto::rr::Name;

use crate::event::escape::escape;

/// Longest name in text form (RFC 1035, 2.3.4: 255 octets on the wire).
const LONGEST: usize = 253;
const LONGEST_LABEL: usize = 63;

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// The name in lower case and without a trailing dot, if every label is letters, digits,
/// `-` and `_` only. The root is no host name.
pub(super) fn host(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(LONGEST);
    for label in name.iter() {
        if label.is_empty() || !label.iter().copied().all(is_plain) {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    (!text.is_empty() && text.len() <= LONGEST).then_some(text)
}

/// Any name, fit for a log.
pub(super) fn escaped(name: &Name) -> String {
    if name.is_root() {
        return ".".to_owned();
    }
    let labels: Vec<String> = name.iter().map(|label| escape(label).replace('.', "\\x2e")).collect();
    labels.join(".")
}

/// A name from a configuration file in the form of [`host`].
pub(super) fn from_text(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| (1..=LONGEST_LABEL).contains(&label.len()) && label.bytes().all(is_plain);
    (text.len() <= LONGEST && text.split('.').all(label)).then(|| text.to_ascii_lowercase())
}

/// The name as it is asked for.
pub(super) fn wire(host: &str) -> Option<Name> {
    let mut name = Name::from_labels(host.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn labels(labels: &[&[u8]]) -> Name {
        Name::from_labels(labels.iter().copied()).unwrap()
    }

    #[test]
    fn a_host_name_is_lower_case_and_plain() {
        assert_eq!(host(&labels(&[b"WWW", b"Example", b"test"])).as_deref(), Some("www.example.test"));
        assert_eq!(host(&labels(&[b"_sip._tcp", b"test"])), None);
        assert_eq!(host(&labels(&[b"a b", b"test"])), None);
        assert_eq!(host(&labels(&["ü".as_bytes(), b"test"])), None);
        assert_eq!(host(&Name::root()), None);
    }

    #[test]
    fn what_is_no_host_name_is_escaped() {
        assert_eq!(escaped(&labels(&[b"a.b", b"c\n"])), r"a\x2eb.c\x0a");
        assert_eq!(escaped(&Name::root()), ".");
    }

    #[test]
    fn text_and_wire_agree() {
        assert_eq!(from_text("Example.Test."), Some("example.test".into()));
        for broken in ["", ".", "a..b", "a b", "ü.test", &"a".repeat(64), &"a.".repeat(130)] {
            assert_eq!(from_text(broken), None, "{broken}");
        }
        assert_eq!(host(&wire("a.example").unwrap()).unwrap(), "a.example");
    }
}
