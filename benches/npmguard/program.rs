//! The bench's own small programs in C, which time themselves.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::measure::{Contestant, time_and_read};

/// Compiles `benches/NAME.c` into `directory`.
pub(crate) fn compile(name: &str, directory: &Path) -> Result<PathBuf> {
    let source = format!("{}/benches/{name}.c", env!("CARGO_MANIFEST_DIR"));
    let program = directory.join(name);
    let status = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(&source).status();
    match status {
        Ok(status) if status.success() => Ok(program),
        Ok(status) => Err(format!("`cc {source}`: {status}").into()),
        Err(error) => Err(format!("{name} needs a C compiler: `cc`: {error}").into()),
    }
}

/// A command whose last line is its result: nanoseconds.
pub(crate) fn contestant(name: &'static str, words: &[&str], directory: &Path) -> Contestant<'static> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(directory);
    let last_number = |text: &str| text.lines().last()?.trim().parse().ok();
    Contestant { name, run: Box::new(move || time_and_read(&mut command, &[0], last_number)) }
}

/// A path as an argument among others.
pub(crate) fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("`{}` is not UTF-8", path.display()).into())
}
