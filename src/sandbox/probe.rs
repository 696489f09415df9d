//! What this kernel and container can enforce, found out by trying.
//!
//! A version number says nothing about a container's own filter or a kernel built
//! without Landlock, so each mechanism is used once, in a child where it would
//! change the process.

use std::fs;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag};

use super::child::in_child;
use super::landlock::{self, Grants, Network};
use super::process_memory::Memory;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Landlock ABI; 0 without Landlock.
    pub landlock_abi: u8,
    /// Seccomp listeners can be installed.
    pub notify: bool,
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
    pub wait_killable: bool,
}

/// The variable that makes npmguard believe in an older Landlock, for tests.
pub const ABI_VARIABLE: &str = "NPMGUARD_TEST_LANDLOCK_ABI";

/// Looks at what every run needs to know; costs microseconds and changes nothing.
pub fn quick() -> Capabilities {
    let kernel = landlock::kernel_abi();
    let lowered = std::env::var(ABI_VARIABLE).ok().and_then(|v| v.parse::<u8>().ok());
    Capabilities {
        landlock_abi: lowered.map_or(kernel, |abi| abi.min(kernel)),
        notify: flags_are_known(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER),
        wait_killable: flags_are_known(
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        ),
    }
}

/// With a null program a kernel that knows the flags says `EFAULT`, one that does not
/// says `EINVAL`; nothing is installed either way (seccomp(2)).
fn flags_are_known(flags: libc::c_ulong) -> bool {
    // SAFETY: the kernel checks the null program pointer itself.
    let rc = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::null::<u8>())
    };
    rc < 0 && Errno::last() == Errno::EFAULT
}

/// One mechanism that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The mechanism.
    pub name: &'static str,
    /// Whether it works here.
    pub works: bool,
    /// Why not, or which version.
    pub detail: String,
}

fn finding(name: &'static str, result: Result<String, String>) -> Finding {
    match result {
        Ok(detail) => Finding { name, works: true, detail },
        Err(detail) => Finding { name, works: false, detail },
    }
}

/// Tries everything. Must run while the process has one thread.
pub fn thorough() -> Vec<Finding> {
    let quick = quick();
    let said = |ok: bool, yes: &str, no: &str| if ok { Ok(yes.to_owned()) } else { Err(no.to_owned()) };
    vec![
        finding("landlock files", landlock_files(quick.landlock_abi)),
        finding("landlock tcp", landlock_tcp(quick.landlock_abi)),
        finding("landlock signal scope", landlock_signals(quick.landlock_abi)),
        finding("seccomp listener", listener(quick.wait_killable)),
        finding(
            "seccomp wait-killable",
            said(quick.wait_killable, "signals do not repeat a call", "signals may repeat a call"),
        ),
        finding("inject descriptors", inject()),
        finding("read target memory", read_memory()),
        finding("mute UDP", mute_udp()),
        finding("loopback TCP", loopback_tcp()),
        finding("subreaper", subreaper()),
        finding("user namespace", user_namespace()),
    ]
}

fn outcome(code: std::io::Result<u8>, yes: impl Into<String>) -> Result<String, String> {
    match code {
        Ok(0) => Ok(yes.into()),
        Ok(code) => match Errno::from_raw(i32::from(code)) {
            Errno::UnknownErrno => Err("had no effect".into()),
            errno => Err(errno.desc().to_lowercase()),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// Exit code of a probe whose mechanism did nothing.
const NO_EFFECT: u8 = 254;

fn restrict(grants: &Grants, abi: u8) -> Result<(), u8> {
    let (fence, _) = landlock::build(grants, abi).map_err(|_| Errno::ENOSYS as i32 as u8)?;
    nix::sys::prctl::set_no_new_privs().map_err(|e| e as i32 as u8)?;
    landlock::restrict_self(fence.as_fd()).map_err(|e| e as i32 as u8)
}

fn landlock_files(abi: u8) -> Result<String, String> {
    if abi < landlock::LOWEST_ABI {
        return Err(format!("ABI {abi}, at least {} is needed (Linux 6.2)", landlock::LOWEST_ABI));
    }
    let grants = Grants { read: Some(vec!["/usr".into()]), ..Grants::default() };
    let code = in_child(|| match restrict(&grants, abi) {
        Err(code) => code,
        Ok(()) if fs::File::open("/etc/passwd").is_ok() => NO_EFFECT,
        Ok(()) => 0,
    });
    outcome(code, format!("ABI {abi}"))
}

fn landlock_tcp(abi: u8) -> Result<String, String> {
    if abi < 4 {
        return Err(format!("ABI {abi}, 4 is needed (Linux 6.7); the supervisor decides alone"));
    }
    let grants = Grants { network: Network::Supervised, ..Grants::default() };
    let code = in_child(|| match restrict(&grants, abi) {
        Err(code) => code,
        Ok(()) => match std::net::TcpListener::bind(("127.0.0.1", 0)) {
            Ok(_) => NO_EFFECT,
            Err(_) => 0,
        },
    });
    outcome(code, "bind and connect are denied to scripts")
}

fn landlock_signals(abi: u8) -> Result<String, String> {
    if abi < 6 {
        return Err(format!("ABI {abi}, 6 is needed (Linux 6.12); the supervisor decides on the registers"));
    }
    let parent = nix::unistd::getpid();
    let code = in_child(|| match restrict(&Grants::default(), abi) {
        Err(code) => code,
        Ok(()) => match nix::sys::signal::kill(parent, None) {
            Ok(()) => NO_EFFECT,
            Err(_) => 0,
        },
    });
    outcome(code, "no signal leaves a domain")
}

/// A filter that reports one harmless call, `getppid`.
fn probe_filter() -> Option<seccompiler::BpfProgram> {
    use seccompiler::{SeccompAction, SeccompFilter, TargetArch};
    let rules = std::collections::BTreeMap::from([(libc::SYS_getppid, vec![])]);
    let arch = TargetArch::try_from(std::env::consts::ARCH).ok()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0x4e47), arch).ok()?;
    Some(super::seccomp::notify_instead_of_trace(filter.try_into().ok()?))
}

/// In a child: a second thread calls `getppid`, the first answers with `answer`.
fn round_trip(
    wait_killable: bool,
    answer: impl FnOnce(&super::notify::Listener, u64) -> std::io::Result<()>,
    check: impl FnOnce(i64) -> bool + Send + 'static,
) -> std::io::Result<u8> {
    in_child(|| {
        let Some(program) = probe_filter() else { return Errno::ENOSYS as i32 as u8 };
        if let Err(errno) = nix::sys::prctl::set_no_new_privs() {
            return errno as i32 as u8;
        }
        let fd = match super::child::install_with_listener(&program, wait_killable) {
            Ok(fd) => fd,
            Err(errno) => return errno as i32 as u8,
        };
        let listener = super::notify::Listener::from(fd);
        // SAFETY: getppid(2) takes nothing and cannot fail.
        let caller = std::thread::spawn(move || check(unsafe { libc::syscall(libc::SYS_getppid) }));
        let Ok(Some(notification)) = listener.receive() else { return NO_EFFECT };
        if let Err(error) = answer(&listener, notification.id) {
            return error.raw_os_error().unwrap_or(1) as u8;
        }
        if caller.join().unwrap_or(false) { 0 } else { NO_EFFECT }
    })
}

fn listener(wait_killable: bool) -> Result<String, String> {
    outcome(
        round_trip(wait_killable, |l, id| l.succeed(id, 4711), |v| v == 4711),
        "calls are reported and answered",
    )
}

fn inject() -> Result<String, String> {
    let code = round_trip(
        false,
        |l, id| {
            let null = fs::File::open("/dev/null")?;
            l.inject(id, std::os::fd::AsRawFd::as_raw_fd(&null), super::notify::OnExec::Close)
        },
        |fd| fd > 2 && fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|p| p.ends_with("null")),
    );
    outcome(code, "the supervisor opens and hands over")
}

fn read_memory() -> Result<String, String> {
    static MARK: [u8; 5] = *b"mark\0";
    let code = in_child(|| {
        // SAFETY: one thread; the grandchild only waits to be killed.
        match unsafe { nix::unistd::fork() } {
            Ok(nix::unistd::ForkResult::Child) => {
                nix::unistd::pause();
                0
            }
            Ok(nix::unistd::ForkResult::Parent { child }) => {
                let text = Memory::of(child.as_raw()).path(MARK.as_ptr() as u64);
                let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
                let _ = nix::sys::wait::waitpid(child, None);
                match text {
                    Ok(text) if text == b"mark" => 0,
                    Ok(_) => NO_EFFECT,
                    Err(errno) => errno as i32 as u8,
                }
            }
            Err(errno) => errno as i32 as u8,
        }
    });
    outcome(code, "arguments of reported calls can be seen")
}

/// Shut down for sending, a UDP socket must send nothing, connected or not.
fn mute_udp() -> Result<String, String> {
    let tried = || -> Result<bool, Errno> {
        let server = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).map_err(errno_of)?;
        server.set_nonblocking(true).map_err(errno_of)?;
        let to = server.local_addr().map_err(errno_of)?;
        let mute = super::socket::mute_udp(AddressFamily::Inet, SockFlag::SOCK_CLOEXEC)?;
        let mute = std::net::UdpSocket::from(mute);
        let refused = |sent: std::io::Result<usize>| sent.is_err_and(|e| errno_of(e) == Errno::EPIPE);
        let unconnected = refused(mute.send_to(b"probe", to));
        mute.connect(to).map_err(errno_of)?;
        let connected = refused(mute.send(b"probe"));
        Ok(unconnected && connected && server.recv(&mut [0; 8]).is_err())
    };
    match tried() {
        Ok(true) => Ok("scripts have UDP sockets that send nothing".into()),
        Ok(false) => Err("a socket that is shut down for sending can send".into()),
        Err(Errno::EADDRNOTAVAIL | Errno::ENETUNREACH) => Ok("not tried: there is no loopback here".into()),
        Err(errno) => Err(errno.desc().to_lowercase()),
    }
}

/// Look-ups, and connections that are verified, come to the supervisor over loopback.
fn loopback_tcp() -> Result<String, String> {
    let tried = || {
        let server = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        std::net::TcpStream::connect(server.local_addr()?)
    };
    match tried() {
        Ok(_) => Ok("look-ups reach the supervisor".into()),
        Err(error) => {
            Err(format!("{}; host names cannot be looked up", errno_of(error).desc().to_lowercase()))
        }
    }
}

fn errno_of(error: std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn subreaper() -> Result<String, String> {
    let code = in_child(|| match nix::sys::prctl::set_child_subreaper(true) {
        Ok(()) => 0,
        Err(errno) => errno as i32 as u8,
    });
    outcome(code, "nothing outlives its script")
}

fn user_namespace() -> Result<String, String> {
    // SAFETY: unshare(2) takes flags by value; the child ends right after.
    let code = in_child(|| match Errno::result(unsafe { libc::unshare(libc::CLONE_NEWUSER) }) {
        Ok(_) => 0,
        Err(errno) => errno as i32 as u8,
    });
    outcome(code, "available (not needed)")
}
