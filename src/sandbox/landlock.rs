//! Landlock rulesets: which trees and files a domain may read, write and execute.
//!
//! A ruleset is built in the supervisor and applied in the child, so that the child
//! has nothing left to decide. What was really granted comes back as a [`Cover`]:
//! the supervisor answers "continue" only inside it, because there the kernel
//! enforces the same decision (invariant I2). Facts: `landlock(7)`.

use std::collections::HashSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};
use nix::errno::Errno;

/// Rights that a ruleset could not be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LandlockError {
    /// The kernel has no Landlock, or a version without what the domain needs.
    #[error("landlock ABI {found} is too old, {needed} is needed")]
    TooOld {
        /// ABI the kernel (or the test setting) reports.
        found: u8,
        /// Lowest ABI that can carry the domain.
        needed: u8,
    },
    /// The kernel refused a ruleset.
    #[error("the landlock ruleset was refused")]
    Ruleset(#[from] RulesetError),
    /// Landlock is off although the probe saw it.
    #[error("landlock gave no ruleset")]
    NoRuleset,
}

/// The lowest ABI that the default policy can be enforced with: `REFER` (2), so that
/// renames inside a package work, and truncation (3).
pub const LOWEST_ABI: u8 = 3;

/// What a domain is to be granted. Directories stand for whole trees.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Trees and files to read; `None` leaves reading unrestricted.
    pub read: Option<Vec<PathBuf>>,
    /// Trees and files to write, and trees in which entries may be made and removed.
    pub write: Vec<PathBuf>,
    /// Trees and files to execute.
    pub execute: Vec<PathBuf>,
    /// Whether TCP bind and connect are taken from the domain (ABI 4).
    pub network: Network,
}

/// Landlock's part in network control.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    /// The domain may use TCP by itself.
    #[default]
    Free,
    /// Only the supervisor binds and connects.
    Supervised,
}

/// The trees and files that were really granted, as resolved paths.
#[derive(Debug, Clone, Default)]
pub struct Cover {
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    read_all: bool,
}

impl Cover {
    /// The kernel grants reading this object.
    pub fn reads(&self, path: &Path) -> bool {
        self.read_all || self.read.iter().any(|tree| path.starts_with(tree))
    }

    /// Whether one granted tree holds both, so that the kernel moves between them. Across
    /// trees it refuses when the new place has more rights (`EXDEV`).
    pub fn writes_as_one(&self, one: &Path, other: &Path) -> bool {
        self.write.iter().any(|tree| one.starts_with(tree) && other.starts_with(tree))
    }

    /// The kernel grants changing this object.
    pub fn writes(&self, path: &Path) -> bool {
        self.write.iter().any(|tree| path.starts_with(tree))
    }
}

/// A ruleset that waits to be applied.
#[derive(Debug)]
pub struct Fence {
    fd: OwnedFd,
}

impl AsFd for Fence {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

const WRITE_TREE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    WriteFile | Truncate | MakeReg | MakeDir | MakeSym | MakeFifo | MakeSock | RemoveFile | RemoveDir | Refer
});
const WRITE_FILE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{WriteFile | Truncate | IoctlDev});

fn abi(level: u8) -> ABI {
    match level {
        0 => ABI::Unsupported,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        _ => ABI::V7,
    }
}

/// Builds the ruleset of a domain at the given ABI level.
///
/// Grants whose path does not exist are left out of the ruleset and of the cover.
///
/// # Errors
/// [`LandlockError::TooOld`] below [`LOWEST_ABI`]; nothing is ever silently weakened.
pub fn build(grants: &Grants, level: u8) -> Result<(Fence, Cover), LandlockError> {
    if level < LOWEST_ABI {
        return Err(LandlockError::TooOld { found: level, needed: LOWEST_ABI });
    }
    let abi = abi(level);
    let mut handled = AccessFs::from_write(abi) | AccessFs::Execute;
    if grants.read.is_some() {
        handled |= AccessFs::ReadFile | AccessFs::ReadDir;
    }
    let mut ruleset =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(handled)?;
    if level >= 4 && grants.network == Network::Supervised {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    if level >= 6 {
        ruleset = ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket)?;
    }
    let mut created = ruleset.create()?;
    let mut cover = Cover { read_all: grants.read.is_none(), ..Cover::default() };
    let read_tree = AccessFs::ReadFile | AccessFs::ReadDir;
    for path in grants.read.iter().flatten() {
        created = add(created, path, read_tree, AccessFs::ReadFile.into(), handled, &mut cover.read)?;
    }
    for path in &grants.write {
        created = add(created, path, WRITE_TREE | AccessFs::IoctlDev, WRITE_FILE, handled, &mut cover.write)?;
    }
    let execute = AccessFs::Execute.into();
    for path in &grants.execute {
        created = add(created, path, execute, execute, handled, &mut Vec::new())?;
    }
    Ok((fence(created)?, cover))
}

fn fence(created: RulesetCreated) -> Result<Fence, LandlockError> {
    Option::<OwnedFd>::from(created).map(|fd| Fence { fd }).ok_or(LandlockError::NoRuleset)
}

fn add(
    ruleset: RulesetCreated,
    path: &Path,
    tree: BitFlags<AccessFs>,
    file: BitFlags<AccessFs>,
    handled: BitFlags<AccessFs>,
    cover: &mut Vec<PathBuf>,
) -> Result<RulesetCreated, LandlockError> {
    let Ok(fd) = PathFd::new(path) else { return Ok(ruleset) };
    let Ok(real) = fs::read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())) else {
        return Ok(ruleset);
    };
    // Procfs shows each process something else: the guard opens there. Pipes and the
    // like have no place.
    if !real.is_absolute() || real.starts_with("/proc") {
        return Ok(ruleset);
    }
    let rights = if real.is_dir() { tree } else { file } & handled;
    cover.push(real);
    Ok(ruleset.add_rule(PathBeneath::new(fd, rights))?)
}

/// A ruleset that takes execution of single files away and leaves everything else:
/// a second layer, because Landlock can only list what is allowed.
#[derive(Debug)]
pub struct ExecFence {
    /// The ruleset.
    pub fence: Fence,
    /// Programs that share their file with an allowed one (a multi-call binary such
    /// as busybox) and so cannot be taken away by file.
    pub inseparable: Vec<PathBuf>,
}

/// Builds the layer that denies executing `programs` (absolute paths; those that do
/// not exist are ignored).
pub fn build_exec_fence(programs: &[PathBuf]) -> Result<ExecFence, LandlockError> {
    let names: HashSet<_> = programs.iter().filter_map(|p| p.file_name()).collect();
    let mut denied: HashSet<(u64, u64)> = HashSet::new();
    let mut denied_paths: Vec<PathBuf> = Vec::new();
    let mut inseparable = Vec::new();
    for program in programs {
        let Ok(real) = fs::canonicalize(program) else { continue };
        let by_alternative = fs::read_link(program).is_ok_and(|t| t.starts_with("/etc/alternatives"));
        if !by_alternative && !real.file_name().is_some_and(|n| names.contains(n)) {
            inseparable.push(program.clone());
            continue;
        }
        if let Ok(meta) = fs::metadata(&real) {
            denied.insert((meta.dev(), meta.ino()));
            denied_paths.push(real);
        }
    }
    // A layer that does not grant REFER forbids every rename across directories.
    let mut created = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Execute | AccessFs::Refer)?
        .create()?;
    if let Ok(root) = PathFd::new("/") {
        created = created.add_rule(PathBeneath::new(root, AccessFs::Refer))?;
    }
    let mut allowed = Vec::new();
    all_but(Path::new("/"), &denied_paths, &denied, &mut allowed);
    for path in allowed {
        if let Ok(fd) = PathFd::new(&path) {
            created = created.add_rule(PathBeneath::new(fd, AccessFs::Execute))?;
        }
    }
    Ok(ExecFence { fence: fence(created)?, inseparable })
}

/// Collects the largest trees below `dir` that hold none of the denied files.
fn all_but(dir: &Path, denied_paths: &[PathBuf], denied: &HashSet<(u64, u64)>, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_dir() && denied_paths.iter().any(|p| p.starts_with(&path)) {
            all_but(&path, denied_paths, denied, out);
            continue;
        }
        // Never through a symlink: it may lead to a denied file. The inode number comes
        // with the entry; a thousand calls of stat would double the cost.
        let may_be = denied.iter().any(|(_, inode)| *inode == entry.ino());
        let is_denied = || may_be && entry.metadata().is_ok_and(|m| denied.contains(&(m.dev(), m.ino())));
        if kind.is_dir() || (kind.is_file() && !is_denied()) {
            out.push(path);
        }
    }
}

/// Applies a ruleset that was built elsewhere to the calling (single-threaded)
/// process. The process must have set `no_new_privs`.
pub fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the call takes a descriptor and flags by value.
    Errno::result(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })
        .map(drop)
}

/// The ABI level the running kernel reports; 0 without Landlock.
pub fn kernel_abi() -> u8 {
    // SAFETY: with the version flag the call takes no memory (landlock_create_ruleset(2)).
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            1u32, /* VERSION */
        )
    };
    u8::try_from(abi).unwrap_or(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_for_a_multi_call_program_is_reported_and_its_file_is_not_taken_away() {
        if kernel_abi() < LOWEST_ABI {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("manybox"), dir.path().join("wget"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("manybox", &link).unwrap();
        assert_eq!(
            build_exec_fence(std::slice::from_ref(&link)).unwrap().inseparable,
            std::slice::from_ref(&link)
        );
        assert!(build_exec_fence(&[link, file]).unwrap().inseparable.is_empty());
    }
}
