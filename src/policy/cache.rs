//! What the profiles of one run share: where programs are, and compiled globs. Both
//! depend on values that are the same for every script, and both are the dear part.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use globset::{GlobSet, GlobSetBuilder};

use super::pattern::add_globs;
use super::programs::Programs;

/// Shared by all profiles of a policy.
#[derive(Debug, Default)]
pub(super) struct Cache {
    programs: Mutex<Vec<(Vec<PathBuf>, Arc<Programs>)>>,
    globs: Globs,
}

/// Compiled globs by their texts. They are relative to a base and hold no variables.
#[derive(Debug, Default)]
pub(super) struct Globs(Mutex<HashMap<Vec<Box<str>>, Arc<GlobSet>>>);

impl Cache {
    /// The programs of this `PATH`, looked for at the first question.
    pub(super) fn programs(&self, path_dirs: &[PathBuf]) -> Arc<Programs> {
        let mut known = lock(&self.programs);
        if let Some((_, programs)) = known.iter().find(|(dirs, _)| dirs == path_dirs) {
            return Arc::clone(programs);
        }
        let programs = Arc::new(Programs::look(path_dirs));
        known.push((path_dirs.to_vec(), Arc::clone(&programs)));
        programs
    }

    pub(super) fn globs(&self) -> &Globs {
        &self.globs
    }
}

impl Globs {
    /// One set of these globs, each with as many places in it as [`add_globs`] says.
    pub(super) fn compiled(&self, texts: &[Box<str>]) -> Result<Arc<GlobSet>, globset::Error> {
        if let Some(set) = lock(&self.0).get(texts) {
            return Ok(Arc::clone(set));
        }
        let mut builder = GlobSetBuilder::new();
        for text in texts {
            add_globs(&mut builder, text)?;
        }
        let set = Arc::new(builder.build()?);
        lock(&self.0).insert(texts.to_vec(), Arc::clone(&set));
        Ok(set)
    }
}

/// What is cached is never half-written, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
