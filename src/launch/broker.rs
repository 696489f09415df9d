//! The broker: takes requests from stubs and runs each script in its own domain.
//!
//! It believes nothing that the request says about itself: the peer must be this very
//! program, started by the manager, and the package is found from the directory that
//! the descriptor shows.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{UnixCredentials, getsockopt, sockopt::PeerCredentials};

use super::domain::{AsksFor, Request, Run};
use super::run_dir::GIT_STUB_NAME;
use super::wire::{LARGEST_REQUEST, Reader};
use crate::guard;
use crate::sandbox::ipc;

/// Exit status that tells the manager that a script could not be guarded: 125, as a
/// wait status.
const GUARD_BROKE: i32 = 125 << 8;

/// The broker of one run.
pub struct Broker {
    socket: std::path::PathBuf,
    stop: Arc<AtomicBool>,
    manager: Arc<AtomicI32>,
    thread: JoinHandle<()>,
}

impl Broker {
    /// Starts to listen. Requests are refused until [`Broker::trust`] names the manager.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn start(run: Arc<Run>) -> io::Result<Broker> {
        let listener = UnixListener::bind(run.dir.socket())?;
        if nix::unistd::Uid::effective().is_root() {
            // npm may start the stub as another user; the peer check decides.
            fs::set_permissions(run.dir.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        }
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let manager = Arc::new(AtomicI32::new(0));
        let socket = run.dir.socket();
        let thread = std::thread::Builder::new().name("broker".into()).spawn({
            let (stop, manager) = (Arc::clone(&stop), Arc::clone(&manager));
            move || accept(&run, &listener, &stop, &manager)
        })?;
        Ok(Broker { socket, stop, manager, thread })
    }

    /// Says whose descendants may ask: the reaper above the manager.
    pub fn trust(&self, reaper: i32) {
        self.manager.store(reaper, Ordering::SeqCst);
    }

    /// Waits for the scripts that still run to end (their stubs are gone by now, which
    /// ends them) and stops listening.
    pub fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread; it looks at the flag before it serves anybody.
        let _ = UnixStream::connect(&self.socket);
        let _ = self.thread.join();
    }
}

fn accept(run: &Arc<Run>, listener: &UnixListener, stop: &AtomicBool, manager: &Arc<AtomicI32>) {
    let mut sessions: Vec<JoinHandle<()>> = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        while let Ok((stream, _)) = listener.accept() {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let (served, manager) = (Arc::clone(run), Arc::clone(manager));
            let session = std::thread::Builder::new().name("script".into()).spawn(move || {
                // An optional dependency's failure is no failure to npm; a guard's is one to us.
                let serve = || session(&served, &stream, manager.load(Ordering::SeqCst));
                let served_it = std::panic::catch_unwind(std::panic::AssertUnwindSafe(serve));
                let status = match served_it.unwrap_or_else(|_| Err("a guard panicked".into())) {
                    Ok(status) => status,
                    Err(why) => {
                        served.breach.raise(why);
                        GUARD_BROKE
                    }
                };
                let _ = ipc::send(stream.as_fd(), &status.to_le_bytes(), &[]);
            });
            match session {
                Ok(handle) => sessions.push(handle),
                Err(error) => run.breach.raise(format!("a script could not be served: {error}")),
            }
        }
        sessions.retain(|s| !s.is_finished());
    }
    for session in sessions {
        let _ = session.join();
    }
}

/// Serves one stub; the wait status of its script.
fn session(run: &Run, stream: &UnixStream, manager: i32) -> Result<i32, String> {
    stream.set_nonblocking(false).map_err(|e| format!("a stub could not be served: {e}"))?;
    let peer = getsockopt(stream, PeerCredentials).map_err(|e| format!("a peer is unknown: {e}"))?;
    if let Err(why) = check_peer(run, &peer, manager) {
        // A stub that was killed meanwhile can no longer be told from a stranger; neither
        // is served, and only the stranger is worth a word.
        let gone = !std::path::Path::new(&format!("/proc/{}", peer.pid())).exists();
        return if gone { Ok(GUARD_BROKE) } else { Err(why) };
    }
    let request = match receive(stream, &peer) {
        Ok(request) => request,
        // The stub was killed, with its manager; there is no script to speak of.
        Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(GUARD_BROKE),
        Err(errno) => return Err(format!("a stub's request was unreadable: {errno}")),
    };
    let client: OwnedFd = stream.try_clone().map_err(|e| format!("a stub could not be served: {e}"))?.into();
    match request.asks_for {
        AsksFor::Script => run.script(request, client),
        AsksFor::Git => run.git(request, client),
    }
}

/// The peer must be this program, below the manager.
fn check_peer(run: &Run, peer: &UnixCredentials, manager: i32) -> Result<(), String> {
    let exe = fs::metadata(format!("/proc/{}/exe", peer.pid()));
    let same = exe.is_ok_and(|exe| (exe.dev(), exe.ino()) == run.binary_inode);
    if same && manager > 0 && guard::descends_from(peer.pid(), manager) {
        return Ok(());
    }
    Err(format!("process {} asked the broker for a script and is not the manager's stub", peer.pid()))
}

fn receive(stream: &UnixStream, peer: &UnixCredentials) -> Result<Request, Errno> {
    let mut length = [0u8; 8];
    let (n, fds) = ipc::receive(stream.as_fd(), &mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
    let [stdin, stdout, stderr, cwd] = <[OwnedFd; 4]>::try_from(fds).map_err(|_| Errno::EBADMSG)?;
    if n != 8 || length > LARGEST_REQUEST {
        return Err(Errno::EBADMSG);
    }
    let mut data = vec![0u8; length];
    let mut filled = 0;
    while filled < length {
        match ipc::receive(stream.as_fd(), &mut data[filled..]) {
            Ok((0, _)) => return Err(Errno::EPIPE),
            Ok((n, _)) => filled += n,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    let mut r = Reader::new(&data);
    let name = r.bytes()?;
    let (argv, environment, umask) = (r.list()?, r.list()?, r.number()? as u32);
    r.end()?;
    Ok(Request {
        asks_for: if name == GIT_STUB_NAME.as_bytes() { AsksFor::Git } else { AsksFor::Script },
        argv: argv.into_iter().map(OsString::from_vec).collect(),
        environment,
        umask,
        stdio: [stdin, stdout, stderr],
        cwd,
        uid: peer.uid(),
        gid: peer.gid(),
        pid: peer.pid(),
    })
}
