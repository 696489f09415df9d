//! Patterns over environment variable names: `*`, `?` and alternation, without
//! regard to case, because `npm_config_…`, `NPM_CONFIG_…` and `http_proxy` are
//! spelt both ways. Names are bytes; a name that is not UTF-8 still has a verdict.

use super::pattern::expand_braces;

/// Whether `*` (any bytes) and `?` (one byte) in `pattern` cover all of `text`.
/// Linear in the product of the lengths, whatever the input.
pub(super) fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match retry {
                Some((after_star, from)) => {
                    p = after_star;
                    t = from + 1;
                    retry = Some((after_star, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// A pattern over names, lower-cased, alternation already expanded.
#[derive(Debug, Clone)]
pub(super) struct NamePattern {
    pub(super) negated: bool,
    alternatives: Vec<Box<[u8]>>,
}

impl NamePattern {
    /// Reads a pattern; the error is the sentence and the hint.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let hint = || {
            "write a variable name such as `NPM_TOKEN` or `AWS_*`; only `*`, `?` and `{a,b}` are special"
                .to_owned()
        };
        let (negated, body) = match text.strip_prefix('!') {
            Some(body) => (true, body),
            None => (false, text),
        };
        if body.is_empty() || body.contains(['=', '\0', '[', ']']) || body.chars().any(char::is_control) {
            return Err((format!("`{}` is not a variable name pattern", text.escape_debug()), hint()));
        }
        let alternatives = expand_braces(body).map_err(|why| (format!("`{text}`: {why}"), hint()))?;
        let alternatives =
            alternatives.into_iter().map(|name| name.to_ascii_lowercase().into_bytes().into()).collect();
        Ok(Self { negated, alternatives })
    }

    /// Whether the pattern covers this name, which must be in lower case.
    pub(super) fn matches(&self, lower: &[u8]) -> bool {
        self.alternatives.iter().any(|pattern| wildcard(pattern, lower))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_whole_names() {
        for (pattern, text, expected) in [
            ("aws_*", "aws_region", true),
            ("aws_*", "aws", false),
            ("*token*", "my_token_2", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbx", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(wildcard(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_name_costs_no_more_than_its_length() {
        let pattern = b"*a*a*a*a*a*a*a*a*b";
        let text = vec![b'a'; 100_000];
        assert!(!wildcard(pattern, &text));
    }
}
