//! The directory of one run: the broker's socket, the name under which the manager
//! calls the stub, and the scripts' temporary directories.
//!
//! It is private to the user. Only root, whose npm may run scripts as other users,
//! lets others pass through it, and there the broker checks every peer.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;

/// Name of the stub: what npm calls its script shell.
pub const STUB_NAME: &str = "npmguard-script-shell";
/// Name of the stub where npm calls it for git.
pub const GIT_STUB_NAME: &str = "npmguard-git";
/// Name of the broker's socket, beside the stub.
pub const SOCKET_NAME: &str = "broker";
/// The file whose lock says that the run lives.
const LOCK_NAME: &str = "lock";
/// Longest path of a Unix socket, with the zero (unix(7)).
const LONGEST_SOCKET_PATH: usize = 108;

/// A run's directory; removed when dropped.
#[derive(Debug)]
pub struct RunDir {
    dir: tempfile::TempDir,
    /// Held as long as the run lives, so that others know.
    _lock: Flock<fs::File>,
    /// The file that the stub really is, for Landlock and for the peer check.
    pub binary: PathBuf,
}

impl RunDir {
    /// Creates the directory below `$TMPDIR`, or `/tmp` where that path is too long.
    ///
    /// # Errors
    /// When no directory can be made, or this program's file cannot be used from it.
    pub fn create() -> io::Result<RunDir> {
        let base = std::env::temp_dir();
        let fits = |b: &Path| {
            b.as_os_str().len() + "/npmguard-XXXXXXXX/".len() + SOCKET_NAME.len() + 1 < LONGEST_SOCKET_PATH
        };
        let base = if fits(&base) && base.is_absolute() { base } else { PathBuf::from("/tmp") };
        let dir = tempfile::Builder::new()
            .prefix("npmguard-")
            .rand_bytes(8)
            .permissions(Permissions::from_mode(if Uid::effective().is_root() { 0o711 } else { 0o700 }))
            .tempdir_in(base.canonicalize()?)?;
        let lock = fs::File::create(dir.path().join(LOCK_NAME))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        if let Some(base) = dir.path().parent() {
            remove_abandoned(base);
        }
        let own = std::env::current_exe()?;
        let binary = if Uid::effective().is_root() && !everyone_can_execute(&own) {
            let copy = dir.path().join("npmguard");
            fs::copy(&own, &copy)?;
            fs::set_permissions(&copy, Permissions::from_mode(0o755))?;
            copy
        } else {
            own
        };
        for name in [STUB_NAME, GIT_STUB_NAME] {
            symlink(&binary, dir.path().join(name))?;
        }
        Ok(RunDir { dir, _lock: lock, binary })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What npm is told to be its script shell.
    pub fn stub(&self) -> PathBuf {
        self.path().join(STUB_NAME)
    }

    /// What npm is told to be git.
    pub fn git_stub(&self) -> PathBuf {
        self.path().join(GIT_STUB_NAME)
    }

    /// Where the broker listens.
    pub fn socket(&self) -> PathBuf {
        self.path().join(SOCKET_NAME)
    }

    /// Writes what scripts are shown in place of resolv.conf(5); its path.
    pub fn write_resolv_conf(&self, text: &str) -> io::Result<PathBuf> {
        let path = self.path().join("resolv.conf");
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o444))?;
        Ok(path)
    }

    /// Makes the private temporary directory of script number `key`.
    pub fn make_tmp(&self, key: u64, owner: Option<(Uid, nix::unistd::Gid)>) -> io::Result<PathBuf> {
        let tmp = self.path().join(format!("tmp-{key}"));
        fs::create_dir(&tmp)?;
        fs::set_permissions(&tmp, Permissions::from_mode(0o700))?;
        if let Some((uid, gid)) = owner {
            chown(&tmp, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
        Ok(tmp)
    }
}

/// Removes a script's temporary directory, also one whose parts the script made
/// unreadable for itself. Best effort: the whole run directory goes at the end.
pub fn remove_tmp(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    open_up(path);
    let _ = fs::remove_dir_all(path);
}

/// Removes directories of this user's runs whose supervisor was killed.
fn remove_abandoned(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_run = name.to_str().and_then(|n| n.strip_prefix("npmguard-")).is_some_and(|n| n.len() == 8);
        let is_ours = entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == Uid::effective().as_raw());
        if !is_run || !is_ours {
            continue;
        }
        let Ok(lock) = fs::File::open(entry.path().join(LOCK_NAME)) else { continue };
        if Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok() {
            remove_tmp(&entry.path());
        }
    }
}

fn open_up(dir: &Path) {
    let _ = fs::set_permissions(dir, Permissions::from_mode(0o700));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}

fn everyone_can_execute(file: &Path) -> bool {
    let mode = |p: &Path| fs::metadata(p).map(|m| m.mode()).unwrap_or(0);
    mode(file) & 0o005 == 0o005 && file.ancestors().skip(1).all(|dir| mode(dir) & 0o001 != 0)
}

impl Drop for RunDir {
    fn drop(&mut self) {
        remove_tmp(self.dir.path());
    }
}
