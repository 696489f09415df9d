//! What can be wrong with a policy, in words: a place, a lower-case sentence
//! with the offending text in backticks, and a hint that says what to write
//! instead. Nothing here decides anything; loading and profile building fill it.

use std::fmt;
use std::path::PathBuf;

/// One mistake in one policy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file as the user knows it, for example `npmguard.yaml`.
    pub file: String,
    /// Line, from 1; 0 when the mistake has no line.
    pub line: u32,
    /// Column in characters, from 1; 0 when the mistake has no column.
    pub column: u32,
    /// What is wrong: a lower-case sentence without a full stop.
    pub message: String,
    /// What is allowed there and what to write instead.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&visible(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", visible(&self.message))
    }
}

/// Why a policy could not be loaded or turned into a profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A file could not be read.
    #[error("cannot read policy file `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is larger than any policy needs to be.
    #[error("policy file `{}` is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The project has two policy files and neither name wins.
    #[error("the project has both `{}` and `{}`", first.display(), second.display())]
    TwoFiles {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// One or more mistakes in the files.
    #[error("{}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Invalid(Vec<Problem>),
}

impl PolicyError {
    /// The full message: every mistake with its place, and a hint after each.
    pub fn render(&self) -> String {
        match self {
            Self::Read { .. } => {
                format!(
                    "{self}\n\nhint: check the path given with `--policy` or `extends`, and its permissions"
                )
            }
            Self::TooLarge { .. } => format!("{self}\n\nhint: split it, or use globs such as `@scope/*`"),
            Self::TwoFiles { .. } => format!("{self}\n\nhint: keep one of them"),
            Self::Invalid(problems) => {
                let texts: Vec<String> = problems
                    .iter()
                    .map(|problem| match &problem.hint {
                        Some(hint) => format!("{problem}\n\nhint: {}", visible(hint)),
                        None => problem.to_string(),
                    })
                    .collect();
                texts.join("\n\n")
            }
        }
    }
}

impl From<Problem> for PolicyError {
    fn from(problem: Problem) -> Self {
        Self::Invalid(vec![problem])
    }
}

/// The text with everything that a terminal would act on, or that reads as something else, escaped.
fn visible(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_deceptive(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    safe
}

/// Bidirectional and invisible characters, which make a text read differently from what it says.
pub(super) fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The sentence part of a hint for a misspelt word: `did you mean …?`, or nothing.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word.to_lowercase(), candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "`a`, `b` or `c`", with the conjunction of your choice.
pub(super) fn list_words<'a>(words: impl IntoIterator<Item = &'a str>, conjunction: &str) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} {conjunction} {last}", rest.join(", ")),
    }
}
