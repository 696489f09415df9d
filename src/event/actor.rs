//! Who acts: the package, its script, the process. Names and paths come from manifests
//! and from processes that a script controls, so the constructors escape them.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde::Serialize;

use super::escape::{escape, escape_bounded};
use super::line::{self, bound};

/// The package a script belongs to, as the manager and the file system say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Name in the manifest.
    #[serde(serialize_with = "line::name")]
    pub name: String,
    /// Version in the manifest.
    #[serde(serialize_with = "line::name_opt")]
    pub version: Option<String>,
    /// Package URL.
    #[serde(serialize_with = "line::name_opt")]
    pub purl: Option<String>,
    /// Directory, relative to the project where it is inside.
    #[serde(serialize_with = "line::path")]
    pub path: String,
    /// The project itself or a workspace of it.
    pub root: bool,
    /// The shortest chain of dependants, outermost first.
    #[serde(serialize_with = "line::names")]
    pub dependency_of: Vec<String>,
    /// Integrity from the lockfile.
    #[serde(serialize_with = "line::name_opt")]
    pub integrity: Option<String>,
    /// Digest of `package.json` before the script ran.
    #[serde(serialize_with = "line::name_opt")]
    pub manifest_sha256: Option<String>,
}

impl Package {
    /// A package with its raw name and directory, which are escaped here.
    pub fn new(name: &[u8], path: &Path) -> Package {
        Package { name: escape(name), path: escape_path(path), ..Package::default() }
    }

    /// `name@version`, or the name.
    pub fn label(&self) -> String {
        match &self.version {
            Some(version) => format!("{}@{version}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The lifecycle script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Script {
    /// Lifecycle event, such as `postinstall`.
    #[serde(serialize_with = "line::name")]
    pub event: String,
    /// The command line in the manifest.
    #[serde(serialize_with = "line::path")]
    pub command: String,
}

impl Script {
    /// A script with its raw event name and command, which are escaped here.
    pub fn new(event: &[u8], command: &[u8]) -> Script {
        Script { event: escape(event), command: escape(command) }
    }
}

/// The process that acted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its id, as the supervisor sees it.
    pub pid: i32,
    /// Its parent's id.
    pub ppid: i32,
    /// The program it runs.
    #[serde(serialize_with = "line::path")]
    pub exe: String,
    /// Its arguments.
    #[serde(serialize_with = "line::argv")]
    pub argv: Vec<String>,
    /// Whether arguments were left out or cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub argv_truncated: bool,
    /// Its working directory.
    #[serde(serialize_with = "line::path")]
    pub cwd: String,
    /// Program names from the script's first process down to this one.
    #[serde(serialize_with = "line::names")]
    pub chain: Vec<String>,
}

impl Process {
    /// Sets the arguments from raw bytes: escaped, and cut to what a line can hold, which
    /// [`Process::argv_truncated`] then says.
    pub fn set_argv<'a>(&mut self, argv: impl IntoIterator<Item = &'a [u8]>) {
        self.argv.clear();
        self.argv_truncated = false;
        for argument in argv {
            if self.argv.len() == bound::ARGUMENTS {
                self.argv_truncated = true;
                break;
            }
            let mut text = escape(argument);
            if text.len() > bound::ARGUMENT {
                self.argv_truncated = true;
                text = escape_bounded(argument, bound::ARGUMENT);
            }
            self.argv.push(text);
        }
    }
}

pub(super) fn escape_path(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}
