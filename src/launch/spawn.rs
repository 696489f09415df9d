//! The supervisor's side of a confined process tree: start a reaper, hand it what
//! to run, and receive what it reports.
//!
//! The reaper is a process of its own, because only an ancestor with
//! `PR_SET_CHILD_SUBREAPER` sees every process that a script leaves behind, and only
//! one reaper per script can tell whose they are (`prctl(2)`).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::Resource;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{Gid, Uid};

use super::wire::{Malformed, Reader, Writer};
use crate::sandbox::child::{Capabilities, MESSAGE_FAILED, MESSAGE_LISTENER, Step};
use crate::sandbox::creds::Identity;
use crate::sandbox::ipc;
use crate::sandbox::notify::Listener;
use crate::sandbox::seccomp::{FilterKind, Signals};

/// The word by which the binary knows that it is to be a reaper.
pub const REAPER_ARGUMENT: &str = "__npmguard-reaper";

/// What a reaper is to run; everything but descriptors.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Absolute path of the program.
    pub program: Vec<u8>,
    /// Arguments, the name first.
    pub argv: Vec<Vec<u8>>,
    /// Environment as `NAME=value`.
    pub envp: Vec<Vec<u8>>,
    /// File mode creation mask.
    pub umask: u32,
    /// Who to become.
    pub identity: Option<Identity>,
    /// What becomes of root's capabilities.
    pub capabilities: Capabilities,
    /// Which filters; `None` for no filter at all (never used for package code).
    pub filters: Option<FilterKind>,
    /// Who decides on thread-directed signals.
    pub signals: Signals,
    /// Whether the kernel has `WAIT_KILLABLE_RECV`.
    pub wait_killable: bool,
    /// Resource limits as (resource number, value).
    pub limits: Vec<(u64, u64)>,
    /// Signals to ignore.
    pub ignored: Vec<u64>,
    /// How long processes left behind may take to end by themselves, in milliseconds.
    pub grace_ms: u64,
}

impl Spec {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&self.program).list(&self.argv).list(&self.envp).number(u64::from(self.umask));
        match &self.identity {
            None => w.numbers(&[]),
            Some(id) => {
                let mut all = vec![u64::from(id.uid.as_raw()), u64::from(id.gid.as_raw())];
                all.extend(id.groups.iter().map(|g| u64::from(g.as_raw())));
                w.numbers(&all)
            }
        };
        w.number(u64::from(self.capabilities == Capabilities::DropAllButFileOwnership));
        w.number(match self.filters {
            None => 0,
            Some(FilterKind::Script) => 1,
            Some(FilterKind::Manager) => 2,
            Some(FilterKind::Audit) => 3,
        });
        w.number(u64::from(self.signals == Signals::BySupervisor)).number(u64::from(self.wait_killable));
        let limits: Vec<u64> = self.limits.iter().flat_map(|(r, v)| [*r, *v]).collect();
        w.numbers(&limits).numbers(&self.ignored).number(self.grace_ms);
        w.finish()
    }

    /// Reads the byte form.
    pub fn decode(data: &[u8]) -> Result<Spec, Malformed> {
        let mut r = Reader::new(data);
        let (program, argv, envp) = (r.bytes()?, r.list()?, r.list()?);
        let umask = r.number()? as u32;
        let ids = r.numbers()?;
        let identity = match ids.as_slice() {
            [uid, gid, groups @ ..] => Some(Identity {
                uid: Uid::from_raw(*uid as u32),
                gid: Gid::from_raw(*gid as u32),
                groups: groups.iter().map(|g| Gid::from_raw(*g as u32)).collect(),
            }),
            _ => None,
        };
        let capabilities =
            if r.number()? == 1 { Capabilities::DropAllButFileOwnership } else { Capabilities::Keep };
        let filters = match r.number()? {
            1 => Some(FilterKind::Script),
            2 => Some(FilterKind::Manager),
            3 => Some(FilterKind::Audit),
            _ => None,
        };
        let signals = if r.number()? == 1 { Signals::BySupervisor } else { Signals::ByLandlock };
        let wait_killable = r.number()? == 1;
        let limits = r.numbers()?.chunks_exact(2).map(|c| (c[0], c[1])).collect();
        let (ignored, grace_ms) = (r.numbers()?, r.number()?);
        r.end()?;
        Ok(Spec {
            program,
            argv,
            envp,
            umask,
            identity,
            capabilities,
            filters,
            signals,
            wait_killable,
            limits,
            ignored,
            grace_ms,
        })
    }
}

/// The resources a policy can limit, with stable numbers.
pub fn resource(number: u64) -> Option<Resource> {
    [Resource::RLIMIT_NPROC, Resource::RLIMIT_FSIZE, Resource::RLIMIT_NOFILE, Resource::RLIMIT_CORE]
        .into_iter()
        .find(|r| *r as u64 == number)
}

/// A process that was still there after its script had ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Process number.
    pub pid: i32,
    /// Program file.
    pub exe: Vec<u8>,
    /// Arguments.
    pub argv: Vec<Vec<u8>>,
}

/// What a reaper says.
#[derive(Debug)]
pub enum Report {
    /// The domain's listener; the program is about to be executed.
    Listener(Listener),
    /// The child could not be confined or executed.
    Failed(Option<Step>, Errno),
    /// The first process ended with this wait status.
    Ended(i32),
    /// Processes that outlived the first one; they have been killed.
    Leftovers(Vec<Leftover>),
    /// Nothing of the tree is left.
    Done,
}

/// A confined process tree.
#[derive(Debug)]
pub struct Confined {
    control: OwnedFd,
    reaper: Child,
}

/// Descriptors that go with a [`Spec`].
#[derive(Debug)]
pub struct Handles<'a> {
    /// Standard input, output, error.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Working directory.
    pub cwd: BorrowedFd<'a>,
    /// Landlock rulesets in the order of their application.
    pub rulesets: Vec<BorrowedFd<'a>>,
}

/// A reaper that waits to be told what to run.
#[derive(Debug)]
pub struct Waiting(Confined);

impl Confined {
    /// Starts a reaper; `binary` is this program's own file. It comes up while the
    /// caller prepares what it is to run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn prepare(binary: &std::path::Path) -> io::Result<Waiting> {
        let (control, reaper) = start_helper(binary, REAPER_ARGUMENT)?;
        Ok(Waiting(Confined { control, reaper }))
    }

    /// Process number of the reaper: the root of the tree.
    pub fn reaper_pid(&self) -> i32 {
        self.reaper.id() as i32
    }

    /// Sends a signal to the first process.
    pub fn signal(&self, signal: i32) {
        self.tell(&[b's', signal as u8]);
    }

    /// Ends the whole tree now.
    pub fn terminate(&self) {
        self.tell(b"t");
    }

    fn tell(&self, message: &[u8]) {
        let _ = ipc::send(self.control.as_fd(), message, &[]);
    }

    /// The next report; `None` when the reaper is gone.
    pub fn receive(&self) -> io::Result<Option<Report>> {
        let mut buffer = vec![0u8; 64 << 10];
        // A reaper that ended without reading our last word makes the first receive fail;
        // what it said before is still there.
        let (len, fds) = match ipc::receive(self.control.as_fd(), &mut buffer) {
            Err(Errno::ECONNRESET) => ipc::receive(self.control.as_fd(), &mut buffer)?,
            received => received?,
        };
        let listener = fds.into_iter().next();
        let data = &buffer[..len];
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let number = |at: usize| -> io::Result<i32> {
            let raw = data.get(at..at + 4).ok_or_else(malformed)?;
            Ok(i32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]))
        };
        Ok(Some(match (data.first().copied(), listener) {
            (None, _) => return Ok(None),
            (Some(MESSAGE_LISTENER), Some(fd)) => Report::Listener(Listener::from(fd)),
            (Some(MESSAGE_FAILED), _) => {
                Report::Failed(data.get(1).and_then(|n| Step::from_number(*n)), Errno::from_raw(number(2)?))
            }
            (Some(b'X'), _) => Report::Ended(number(1)?),
            (Some(b'K'), _) => Report::Leftovers(decode_leftovers(&data[1..]).map_err(|_| malformed())?),
            (Some(b'D'), _) => Report::Done,
            _ => return Err(malformed()),
        }))
    }

    /// Waits for the reaper itself; to be called after [`Report::Done`].
    pub fn wait(&mut self) {
        let _ = self.reaper.wait();
    }
}

impl Waiting {
    /// Lets the reaper run `spec`.
    ///
    /// # Errors
    /// When it does not take the request.
    pub fn run(self, spec: &Spec, handles: &Handles<'_>) -> io::Result<Confined> {
        let memory = sealed_memory(&spec.encode())?;
        let mut fds = vec![memory.as_raw_fd()];
        fds.extend(handles.stdio.iter().map(AsRawFd::as_raw_fd));
        fds.push(handles.cwd.as_raw_fd());
        fds.extend(handles.rulesets.iter().map(AsRawFd::as_raw_fd));
        ipc::send(self.0.control.as_fd(), b"S", &fds)?;
        Ok(self.0)
    }
}

impl AsFd for Confined {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        self.terminate();
        let _ = self.reaper.wait();
    }
}

/// Starts this program (`binary`) as one of its helper processes, which hears on its
/// standard input from the socket that is returned.
///
/// # Errors
/// When it cannot be started.
pub fn start_helper(binary: &std::path::Path, argument: &str) -> io::Result<(OwnedFd, Child)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let helper = Command::new(binary)
        .arg(argument)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok((ours, helper))
}

fn sealed_memory(data: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"npmguard-spec", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = std::fs::File::from(fd);
    io::Write::write_all(&mut file, data)?;
    io::Seek::rewind(&mut file)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(file.into())
}

/// The byte form of a list of leftovers, cut to what one message carries.
pub fn encode_leftovers(leftovers: &[Leftover]) -> Vec<u8> {
    const ROOM: usize = 48 << 10;
    let mut out = Writer::new();
    let mut items = Vec::new();
    let mut used = 0;
    for leftover in leftovers {
        let mut w = Writer::new();
        w.number(leftover.pid as u64).bytes(&leftover.exe).list(&leftover.argv);
        let item = w.finish();
        used += item.len() + 8;
        if used > ROOM {
            break;
        }
        items.push(item);
    }
    out.list(&items);
    out.finish()
}

fn decode_leftovers(data: &[u8]) -> Result<Vec<Leftover>, Malformed> {
    let mut r = Reader::new(data);
    r.list()?
        .iter()
        .map(|item| {
            let mut r = Reader::new(item);
            Ok(Leftover { pid: r.number()? as i32, exe: r.bytes()?, argv: r.list()? })
        })
        .collect()
}

/// A wait status as the shell shows it: the exit code, or 128 + signal.
pub fn exit_code(wait_status: i32) -> i32 {
    if libc::WIFSIGNALED(wait_status) {
        128 + libc::WTERMSIG(wait_status)
    } else {
        libc::WEXITSTATUS(wait_status)
    }
}

/// The environment of this process as `NAME=value`.
pub fn own_environment() -> Vec<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    std::env::vars_os()
        .map(|(name, value)| {
            let mut entry = OsString::into_vec(name);
            entry.push(b'=');
            entry.extend(value.into_vec());
            entry
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_survives_the_wire() {
        let spec = Spec {
            program: b"/bin/sh".to_vec(),
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), b"echo \xff".to_vec()],
            envp: vec![b"A=b".to_vec()],
            umask: 0o27,
            identity: Some(Identity {
                uid: Uid::from_raw(7),
                gid: Gid::from_raw(8),
                groups: vec![Gid::from_raw(9)],
            }),
            capabilities: Capabilities::DropAllButFileOwnership,
            filters: Some(FilterKind::Audit),
            signals: Signals::BySupervisor,
            wait_killable: true,
            limits: vec![(Resource::RLIMIT_FSIZE as u64, 1 << 31)],
            ignored: vec![1],
            grace_ms: 300,
        };
        assert_eq!(Spec::decode(&spec.encode()).unwrap(), spec);
        assert!(Spec::decode(&spec.encode()[..40]).is_err());
    }

    #[test]
    fn leftovers_are_cut_to_one_message() {
        let many: Vec<_> = (0..5000)
            .map(|pid| Leftover { pid, exe: b"/usr/bin/sleep".to_vec(), argv: vec![b"sleep".to_vec()] })
            .collect();
        let data = encode_leftovers(&many);
        assert!(data.len() < 64 << 10);
        assert_eq!(decode_leftovers(&data).unwrap()[0], many[0]);
    }
}
