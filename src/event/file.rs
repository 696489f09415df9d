//! The log file: opened once, before any script runs, by the supervisor only. A line is
//! one write, so that other writers of the file cannot split it; after a failed write the
//! next line begins on a line of its own, so that two lines are never merged.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use thiserror::Error;

/// Why the log cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The directory of the log does not exist.
    #[error("cannot create the log `{}`: its directory `{}` does not exist\n\nhint: create it first, or name another place with --log", path.display(), directory.display())]
    NoDirectory {
        /// The log.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
    /// The path names something that is not a file.
    #[error("cannot write the log to `{}`: it is a {found}, not a regular file", path.display())]
    NotAFile {
        /// The log.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The log cannot be opened for writing.
    #[error("cannot open the log `{}` for writing", path.display())]
    Open {
        /// The log.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A line cannot be written.
    #[error("cannot write to the log `{}`", path.display())]
    Write {
        /// The log.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// An open log file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// The file does not end with a line feed.
    torn: bool,
}

impl LogFile {
    /// Opens `path` for appending and creates it, readable by its owner only, if need be.
    ///
    /// A link in the last component, a FIFO, a socket, a block device or a directory is
    /// refused; a character device is fine, and so are `/dev/stderr` and `/dev/stdout`.
    pub fn open(path: &Path) -> Result<LogFile, SinkError> {
        let owned = path.to_owned();
        let cannot = |source| SinkError::Open { path: path.to_owned(), source };
        if let Some(file) = inherited(path) {
            return Ok(LogFile { path: owned, file: file.map_err(cannot)?, torn: false });
        }
        if let Ok(meta) = path.symlink_metadata() {
            acceptable(path, meta.file_type())?;
        }
        // Non-blocking, so that a FIFO put here in the meantime cannot hold us up.
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits())
            .open(path)
            .map_err(|source| match missing_directory(path, &source) {
                Some(directory) => SinkError::NoDirectory { path: path.to_owned(), directory },
                None => cannot(source),
            })?;
        let meta = file.metadata().map_err(cannot)?;
        acceptable(path, meta.file_type())?;
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).map_err(|errno| cannot(errno.into()))?;
        let torn = meta.is_file() && meta.len() > 0 && !ends_with_line_feed(path, &meta);
        Ok(LogFile { path: owned, file, torn })
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one line; `line` has no line feed of its own.
    pub(super) fn write_line(&mut self, line: &str) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let written = match self.file.write(rest) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result,
            }
            .inspect_err(|_| self.torn |= rest.len() < bytes.len())?;
            rest = &rest[written..];
        }
        self.torn = false;
        Ok(())
    }

    /// Makes sure that what was written is on the disk. Devices cannot, and need not.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.file.sync_all() {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP)) => Ok(()),
            result => result,
        }
    }
}

/// `/dev/stderr` and `/dev/stdout` are links; what the user means is our own descriptor.
fn inherited(path: &Path) -> Option<io::Result<File>> {
    let descriptor = match path.to_str()? {
        "/dev/stderr" | "/dev/fd/2" => io::stderr().as_fd().try_clone_to_owned(),
        "/dev/stdout" | "/dev/fd/1" => io::stdout().as_fd().try_clone_to_owned(),
        _ => return None,
    };
    Some(descriptor.map(File::from))
}

fn acceptable(path: &Path, kind: std::fs::FileType) -> Result<(), SinkError> {
    let found = match kind {
        kind if kind.is_file() || kind.is_char_device() => return Ok(()),
        kind if kind.is_symlink() => "symbolic link",
        kind if kind.is_dir() => "directory",
        kind if kind.is_fifo() => "FIFO",
        kind if kind.is_socket() => "socket",
        kind if kind.is_block_device() => "block device",
        _ => "special file",
    };
    Err(SinkError::NotAFile { path: path.to_owned(), found })
}

fn missing_directory(path: &Path, error: &io::Error) -> Option<PathBuf> {
    let directory = match path.parent()? {
        parent if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent,
    };
    (error.kind() == io::ErrorKind::NotFound && !directory.exists()).then(|| directory.to_owned())
}

/// Whether the file at `path`, which must still be the one that was opened, ends a line.
/// Where it cannot be read the answer is no, which costs an empty line and no evidence.
fn ends_with_line_feed(path: &Path, opened: &std::fs::Metadata) -> bool {
    let last = || -> io::Result<bool> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)?;
        let meta = file.metadata()?;
        let mut byte = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut byte)?;
        Ok((meta.dev(), meta.ino()) == (opened.dev(), opened.ino()) && byte == *b"\n")
    };
    last().unwrap_or(false)
}
