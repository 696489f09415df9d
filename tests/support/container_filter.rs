//! Runs a command under the refusals of Docker's default seccomp profile.
//!
//! ```text
//! container-filter COMMAND [ARGUMENT…]    the command, filtered
//! container-filter --self-test            what each refused call answers here
//! ```
//!
//! npmguard promises to work in an ordinary container without added capabilities. This
//! program makes one of any machine, without root and without an image: the calls below
//! fail as they do there, so the test suite can be run a second time under it. The list is
//! that of moby's default profile for a container without capabilities. It is not that
//! profile: what the profile does not know is refused there and passes here.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Refused with `EPERM`, whatever the arguments.
const REFUSED: &[(&str, i64)] = &[
    ("add_key", libc::SYS_add_key),
    ("bpf", libc::SYS_bpf),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("fsopen", libc::SYS_fsopen),
    ("fspick", libc::SYS_fspick),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("kcmp", libc::SYS_kcmp),
    ("keyctl", libc::SYS_keyctl),
    ("mount", libc::SYS_mount),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("open_tree", libc::SYS_open_tree),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("pivot_root", libc::SYS_pivot_root),
    ("process_madvise", libc::SYS_process_madvise),
    ("request_key", libc::SYS_request_key),
    ("setns", libc::SYS_setns),
    ("umount2", libc::SYS_umount2),
    ("unshare", libc::SYS_unshare),
    ("userfaultfd", libc::SYS_userfaultfd),
];

/// `clone` is refused with `EPERM` if one of these is set. (A time namespace cannot be
/// asked for by `clone`: its bit belongs to the exit signal there.)
const NAMESPACE_FLAGS: &[i32] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Socket families that do not exist in a container.
const FAMILIES: &[(&str, i32)] = &[("socket AF_ALG", libc::AF_ALG), ("socket AF_VSOCK", libc::AF_VSOCK)];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: container-filter COMMAND [ARGUMENT…] | --self-test");
        return ExitCode::from(2);
    };
    if program == "--self-test" {
        self_test::print();
        return ExitCode::SUCCESS;
    }
    if let Err(error) = install() {
        eprintln!("container-filter: the filter cannot be installed: {error}");
        return ExitCode::from(125);
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("container-filter: `{}`: {error}", program.display());
    ExitCode::from(match error.kind() {
        std::io::ErrorKind::NotFound => 127,
        _ => 126,
    })
}

/// A filter has one action for all that it matches, hence two: one for `EPERM`, and one
/// that hides `clone3`, whose flags a filter cannot see, so that libc falls back to `clone`.
fn install() -> Result<(), Box<dyn Error>> {
    let hidden = Rules::from([(libc::SYS_clone3, Vec::new())]);
    for (rules, errno) in [(refusals()?, libc::EPERM), (hidden, libc::ENOSYS)] {
        seccompiler::apply_filter(&program(rules, errno)?)?;
    }
    Ok(())
}

fn refusals() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|(_, number)| (*number, Vec::new())).collect();
    let mut clone = Vec::new();
    for flag in NAMESPACE_FLAGS {
        let flag = u64::from(flag.cast_unsigned());
        clone.push(first_argument(Op::MaskedEq(flag), flag)?);
    }
    rules.insert(libc::SYS_clone, clone);
    let mut socket = Vec::new();
    for (_, family) in FAMILIES {
        socket.push(first_argument(Op::Eq, u64::from(family.cast_unsigned()))?);
    }
    rules.insert(libc::SYS_socket, socket);
    Ok(rules)
}

fn first_argument(op: Op, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(0, Len::Dword, op, value)?])
}

fn program(rules: Rules, errno: i32) -> Result<BpfProgram, Box<dyn Error>> {
    let refuse = SeccompAction::Errno(errno.cast_unsigned());
    let here = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, here)?.try_into()?)
}

/// Makes every refused call once and prints `NAME ERRNO`, one a line.
mod self_test {
    use super::{FAMILIES, REFUSED};

    pub(super) fn print() {
        // All bits set: no descriptor, no address, no valid flag. Nothing happens even
        // where the call is allowed.
        for (name, number) in REFUSED {
            show(name, call(*number, [-1; 5]));
        }
        for (name, family) in FAMILIES {
            let kind = i64::from(libc::SOCK_STREAM);
            show(name, call(libc::SYS_socket, [i64::from(*family), kind, 0, 0, 0]));
        }
        // CLONE_THREAD without CLONE_VM is EINVAL in the kernel: no process is made.
        let flags = i64::from(libc::CLONE_NEWUSER | libc::CLONE_THREAD);
        show("clone", call(libc::SYS_clone, [flags, 0, 0, 0, 0]));
        show("clone3", call(libc::SYS_clone3, [-1; 5]));
        let threads = std::thread::Builder::new().spawn(|| ());
        println!("threads {}", if threads.is_ok() { "work" } else { "fail" });
    }

    fn show(name: &str, result: nix::Result<i64>) {
        match result {
            Ok(_) => println!("{name} ok"),
            Err(errno) => println!("{name} {errno:?}"),
        }
    }

    /// One call by number.
    #[allow(unsafe_code)]
    fn call(number: i64, a: [i64; 5]) -> nix::Result<i64> {
        // SAFETY: `print` passes no address that is mapped, so the kernel reads and writes
        // none of our memory, and the only arguments that could succeed make a socket.
        let value = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4]) };
        nix::errno::Errno::result(value)
    }
}
