//! From a profile to Landlock rulesets and resource limits.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::resource::Resource;

use super::domain::{DomainError, Run, Task};
use crate::guard::Role;
use crate::policy::{Grant, Limits, Mode, PathAction, Profile, Verdict};
use crate::sandbox::landlock::{self, Cover, ExecFence, Fence, Grants, LandlockError, Network};

/// A ruleset stack and what it covers.
pub(super) struct Confinement {
    pub(super) fences: Vec<Fence>,
    pub(super) shared: Option<Arc<ExecFence>>,
    pub(super) cover: Cover,
}

impl Run {
    /// The rulesets of a task; none in audit mode.
    pub(super) fn confinement(&self, task: &Task<'_>, profile: &Profile) -> Result<Confinement, DomainError> {
        // Without Landlock the cover is empty, and the guard performs everything itself.
        if self.given.policy.mode() == Mode::Audit || self.given.kernel.landlock_abi == 0 {
            return Ok(Confinement { fences: Vec::new(), shared: None, cover: Cover::default() });
        }
        let abi = self.given.kernel.landlock_abi;
        let grants = profile.kernel_grants();
        if task.role == Role::Manager {
            let mut write = paths(&grants.write);
            write.extend(["/dev/pts", "/dev/tty", "/dev/null", "/dev/zero", "/dev/full"].map(PathBuf::from));
            write.extend(self.given.manager_state.iter().cloned());
            write.push(self.given.project.clone());
            write.push(task.tmp.clone());
            let execute = task.programs.clone();
            let grants = Grants { read: None, write, execute, network: Network::Supervised };
            let (fence, cover) = landlock::build(&grants, abi)?;
            return Ok(Confinement { fences: vec![fence], shared: None, cover });
        }
        let mut request = Grants {
            read: Some(paths(&grants.read)),
            write: paths(&grants.write),
            execute: paths(&grants.exec),
            network: Network::Supervised,
        };
        // The kernel cannot except the log and the policy from a tree: there the guard writes.
        request.write.retain(|tree| !self.given.own_files.iter().any(|own| own.starts_with(tree)));
        if matches!(task.role, Role::Root | Role::Run)
            && let Some(read) = &mut request.read
        {
            read.extend(programs_of(&self.given.project, profile));
        }
        let (fence, cover) = landlock::build(&request, abi)?;
        let shared = self.exec_fence(&grants.exec_except)?;
        Ok(Confinement { fences: vec![fence], shared, cover })
    }

    /// The layer that takes denied programs away is the same for most scripts.
    fn exec_fence(&self, programs: &[PathBuf]) -> Result<Option<Arc<ExecFence>>, LandlockError> {
        if programs.is_empty() {
            return Ok(None);
        }
        let mut cache = self.fences.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(fence) = cache.get(programs) {
            return Ok(Some(Arc::clone(fence)));
        }
        let fence = Arc::new(landlock::build_exec_fence(programs)?);
        for program in &fence.inseparable {
            tracing::info!(
                "`{}` shares its file with other programs: it is refused by name, and the kernel cannot take it away",
                crate::event::escape(program.as_os_str().as_bytes())
            );
        }
        cache.insert(programs.to_vec(), Arc::clone(&fence));
        Ok(Some(fence))
    }
}

/// Entries of the project that are looked at for programs.
const MOST_ENTRIES: usize = 5_000;

/// Programs of the project that its own scripts may start. The kernel reads a program
/// before it runs it, so in a tree whose files the guard opens one by one each of them
/// needs a grant of its own (Landlock asks for `READ_FILE` and `EXECUTE` at exec).
fn programs_of(project: &Path, profile: &Profile) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = std::collections::VecDeque::from([project.to_owned()]);
    let mut seen = 0;
    while let Some(dir) = todo.pop_front() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST_ENTRIES {
                return found;
            }
            let (Ok(kind), path) = (entry.file_type(), entry.path()) else { continue };
            if kind.is_dir() && !["node_modules", ".git"].iter().any(|name| path.ends_with(name)) {
                todo.push_back(path);
            } else if kind.is_file()
                && entry.metadata().is_ok_and(|m| m.mode() & 0o111 != 0)
                && profile.decide_path(PathAction::Exec, &path).verdict != Verdict::Deny
                && profile.decide_path(PathAction::Read, &path).verdict != Verdict::Deny
            {
                found.push(path);
            }
        }
    }
    found
}

/// Trees and files for Landlock. A grant of a directory alone cannot be expressed
/// there, nor can a file grant whose path is a directory: the guard decides on those.
fn paths(grants: &[Grant]) -> Vec<PathBuf> {
    grants
        .iter()
        .filter_map(|grant| match grant {
            Grant::Tree(path) => Some(path.clone()),
            Grant::File(path) if !path.is_dir() => Some(path.clone()),
            _ => None,
        })
        .collect()
}

/// Limits that the kernel keeps per process.
pub(super) fn resource_limits(limits: &Limits) -> Vec<(u64, u64)> {
    [
        (Resource::RLIMIT_NPROC, limits.processes),
        (Resource::RLIMIT_FSIZE, limits.file_size),
        (Resource::RLIMIT_NOFILE, limits.open_files),
    ]
    .into_iter()
    .filter_map(|(resource, value)| value.map(|v| (resource as u64, v)))
    .collect()
}
