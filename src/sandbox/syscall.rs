//! The system calls that a guarded domain reports, by what they do.
//!
//! A number is looked up once when a notification arrives; the rest of the guard
//! speaks of [`Call`]s. Numbers come from `libc`; those newer than it are stated
//! here with the kernel that brought them (numbers above 424 are the same on every
//! architecture).

/// `fchmodat2(2)`, Linux 6.6.
pub const SYS_FCHMODAT2: i64 = 452;
/// `setxattrat(2)`, Linux 6.13.
pub const SYS_SETXATTRAT: i64 = 463;
/// `removexattrat(2)`, Linux 6.13.
pub const SYS_REMOVEXATTRAT: i64 = 466;
/// `open_tree_attr(2)`, Linux 6.15.
pub const SYS_OPEN_TREE_ATTR: i64 = 467;
/// `file_setattr(2)`, Linux 6.17.
pub const SYS_FILE_SETATTR: i64 = 469;
/// The highest number this version knows (Linux 6.18); a script that uses a newer
/// one gets `ENOSYS`, because nobody has read what the call can do.
pub const HIGHEST_KNOWN: u32 = 469;

/// What a notified system call does, in the guard's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// `execve`, `execveat`.
    Exec(ExecCall),
    /// `open` and its family.
    Open(OpenCall),
    /// Creates, removes or renames a directory entry, or truncates by path.
    Path(PathCall),
    /// Changes mode, owner, times or extended attributes.
    Metadata(MetadataCall),
    /// Creates or uses a socket.
    Socket(SocketCall),
    /// Signals, limits or schedules a process named by a register.
    Process(ProcessCall),
    /// Refused in every script domain (invariant I6).
    Refused(Refusal),
}

/// Forms of exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ExecCall {
    Execve,
    Execveat,
}

/// Forms of open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum OpenCall {
    Open,
    Openat,
    Openat2,
    Creat,
}

/// Calls that change a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum PathCall {
    Mkdir,
    Mkdirat,
    Rmdir,
    Unlink,
    Unlinkat,
    Rename,
    Renameat,
    Renameat2,
    Link,
    Linkat,
    Symlink,
    Symlinkat,
    Mknod,
    Mknodat,
    Truncate,
}

/// Calls that change an inode's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum MetadataCall {
    Chmod,
    Fchmod,
    Fchmodat,
    Fchmodat2,
    Chown,
    Lchown,
    Fchown,
    Fchownat,
    Utime,
    Utimes,
    Futimesat,
    Utimensat,
    Setxattr,
    Lsetxattr,
    Fsetxattr,
    Removexattr,
    Lremovexattr,
    Fremovexattr,
    Setxattrat,
    Removexattrat,
    FileSetattr,
}

/// Socket calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SocketCall {
    Socket,
    Socketpair,
    Connect,
    Bind,
    Listen,
    Sendto,
    Sendmsg,
    Sendmmsg,
}

/// Calls that name another process in a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ProcessCall {
    Kill,
    Tkill,
    Tgkill,
    RtSigqueueinfo,
    RtTgsigqueueinfo,
    PidfdSendSignal,
    Prlimit64,
    Setpriority,
    SchedSetaffinity,
    SchedSetscheduler,
    SchedSetparam,
    SchedSetattr,
    IoprioSet,
}

/// Why a refused call is refused, and with which error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// Name of the call as in its man page.
    pub name: &'static str,
    /// The error number the caller gets.
    pub errno: i32,
    /// ATT&CK technique the attempt belongs to, where one fits.
    pub technique: Option<&'static str>,
}

/// One notified call: number, name, meaning.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// System call number on this architecture.
    pub nr: i64,
    /// Name as in its man page.
    pub name: &'static str,
    /// What it does.
    pub call: Call,
}

macro_rules! entries {
    ($($nr:expr, $name:literal, $call:expr;)*) => {
        &[$(Entry { nr: $nr as i64, name: $name, call: $call }),*]
    };
}

use libc as l;

/// Calls on paths, files, sockets and processes that exist on every architecture.
const COMMON: &[Entry] = entries! {
    l::SYS_execve, "execve", Call::Exec(ExecCall::Execve);
    l::SYS_execveat, "execveat", Call::Exec(ExecCall::Execveat);
    l::SYS_openat, "openat", Call::Open(OpenCall::Openat);
    l::SYS_openat2, "openat2", Call::Open(OpenCall::Openat2);
    l::SYS_mkdirat, "mkdirat", Call::Path(PathCall::Mkdirat);
    l::SYS_unlinkat, "unlinkat", Call::Path(PathCall::Unlinkat);
    l::SYS_renameat, "renameat", Call::Path(PathCall::Renameat);
    l::SYS_renameat2, "renameat2", Call::Path(PathCall::Renameat2);
    l::SYS_linkat, "linkat", Call::Path(PathCall::Linkat);
    l::SYS_symlinkat, "symlinkat", Call::Path(PathCall::Symlinkat);
    l::SYS_mknodat, "mknodat", Call::Path(PathCall::Mknodat);
    l::SYS_truncate, "truncate", Call::Path(PathCall::Truncate);
    l::SYS_fchmod, "fchmod", Call::Metadata(MetadataCall::Fchmod);
    l::SYS_fchmodat, "fchmodat", Call::Metadata(MetadataCall::Fchmodat);
    SYS_FCHMODAT2, "fchmodat2", Call::Metadata(MetadataCall::Fchmodat2);
    l::SYS_fchown, "fchown", Call::Metadata(MetadataCall::Fchown);
    l::SYS_fchownat, "fchownat", Call::Metadata(MetadataCall::Fchownat);
    l::SYS_utimensat, "utimensat", Call::Metadata(MetadataCall::Utimensat);
    l::SYS_setxattr, "setxattr", Call::Metadata(MetadataCall::Setxattr);
    l::SYS_lsetxattr, "lsetxattr", Call::Metadata(MetadataCall::Lsetxattr);
    l::SYS_fsetxattr, "fsetxattr", Call::Metadata(MetadataCall::Fsetxattr);
    l::SYS_removexattr, "removexattr", Call::Metadata(MetadataCall::Removexattr);
    l::SYS_lremovexattr, "lremovexattr", Call::Metadata(MetadataCall::Lremovexattr);
    l::SYS_fremovexattr, "fremovexattr", Call::Metadata(MetadataCall::Fremovexattr);
    SYS_SETXATTRAT, "setxattrat", Call::Metadata(MetadataCall::Setxattrat);
    SYS_REMOVEXATTRAT, "removexattrat", Call::Metadata(MetadataCall::Removexattrat);
    SYS_FILE_SETATTR, "file_setattr", Call::Metadata(MetadataCall::FileSetattr);
    l::SYS_socket, "socket", Call::Socket(SocketCall::Socket);
    l::SYS_socketpair, "socketpair", Call::Socket(SocketCall::Socketpair);
    l::SYS_connect, "connect", Call::Socket(SocketCall::Connect);
    l::SYS_bind, "bind", Call::Socket(SocketCall::Bind);
    l::SYS_listen, "listen", Call::Socket(SocketCall::Listen);
    l::SYS_sendto, "sendto", Call::Socket(SocketCall::Sendto);
    l::SYS_sendmsg, "sendmsg", Call::Socket(SocketCall::Sendmsg);
    l::SYS_sendmmsg, "sendmmsg", Call::Socket(SocketCall::Sendmmsg);
    l::SYS_kill, "kill", Call::Process(ProcessCall::Kill);
    l::SYS_tkill, "tkill", Call::Process(ProcessCall::Tkill);
    l::SYS_tgkill, "tgkill", Call::Process(ProcessCall::Tgkill);
    l::SYS_rt_sigqueueinfo, "rt_sigqueueinfo", Call::Process(ProcessCall::RtSigqueueinfo);
    l::SYS_rt_tgsigqueueinfo, "rt_tgsigqueueinfo", Call::Process(ProcessCall::RtTgsigqueueinfo);
    l::SYS_pidfd_send_signal, "pidfd_send_signal", Call::Process(ProcessCall::PidfdSendSignal);
    l::SYS_prlimit64, "prlimit64", Call::Process(ProcessCall::Prlimit64);
    l::SYS_setpriority, "setpriority", Call::Process(ProcessCall::Setpriority);
    l::SYS_sched_setaffinity, "sched_setaffinity", Call::Process(ProcessCall::SchedSetaffinity);
    l::SYS_sched_setscheduler, "sched_setscheduler", Call::Process(ProcessCall::SchedSetscheduler);
    l::SYS_sched_setparam, "sched_setparam", Call::Process(ProcessCall::SchedSetparam);
    l::SYS_sched_setattr, "sched_setattr", Call::Process(ProcessCall::SchedSetattr);
    l::SYS_ioprio_set, "ioprio_set", Call::Process(ProcessCall::IoprioSet);
};

/// Calls that newer architectures no longer have.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[Entry] = entries! {
    l::SYS_open, "open", Call::Open(OpenCall::Open);
    l::SYS_creat, "creat", Call::Open(OpenCall::Creat);
    l::SYS_mkdir, "mkdir", Call::Path(PathCall::Mkdir);
    l::SYS_rmdir, "rmdir", Call::Path(PathCall::Rmdir);
    l::SYS_unlink, "unlink", Call::Path(PathCall::Unlink);
    l::SYS_rename, "rename", Call::Path(PathCall::Rename);
    l::SYS_link, "link", Call::Path(PathCall::Link);
    l::SYS_symlink, "symlink", Call::Path(PathCall::Symlink);
    l::SYS_mknod, "mknod", Call::Path(PathCall::Mknod);
    l::SYS_chmod, "chmod", Call::Metadata(MetadataCall::Chmod);
    l::SYS_chown, "chown", Call::Metadata(MetadataCall::Chown);
    l::SYS_lchown, "lchown", Call::Metadata(MetadataCall::Lchown);
    l::SYS_utime, "utime", Call::Metadata(MetadataCall::Utime);
    l::SYS_utimes, "utimes", Call::Metadata(MetadataCall::Utimes);
    l::SYS_futimesat, "futimesat", Call::Metadata(MetadataCall::Futimesat);
};
#[cfg(not(target_arch = "x86_64"))]
const LEGACY: &[Entry] = &[];

const fn refuse(name: &'static str, errno: i32) -> Call {
    Call::Refused(Refusal { name, errno, technique: None })
}
const fn refuse_as(name: &'static str, errno: i32, technique: &'static str) -> Call {
    Call::Refused(Refusal { name, errno, technique: Some(technique) })
}

/// ATT&CK: escape to host.
const ESCAPE: &str = "T1611";
/// ATT&CK: process injection by ptrace and the like.
const INJECTION: &str = "T1055.008";

/// Calls that a script has no use for and that would let it leave its domain, watch
/// others or change the machine (invariant I6); refused whatever their arguments.
const REFUSED: &[Entry] = entries! {
    l::SYS_io_uring_setup, "io_uring_setup", refuse_as("io_uring_setup", l::ENOSYS, ESCAPE);
    l::SYS_io_uring_enter, "io_uring_enter", refuse_as("io_uring_enter", l::ENOSYS, ESCAPE);
    l::SYS_io_uring_register, "io_uring_register", refuse_as("io_uring_register", l::ENOSYS, ESCAPE);
    l::SYS_ptrace, "ptrace", refuse_as("ptrace", l::EPERM, INJECTION);
    l::SYS_process_vm_writev, "process_vm_writev", refuse_as("process_vm_writev", l::EPERM, INJECTION);
    l::SYS_process_vm_readv, "process_vm_readv", refuse_as("process_vm_readv", l::EPERM, INJECTION);
    l::SYS_pidfd_getfd, "pidfd_getfd", refuse_as("pidfd_getfd", l::EPERM, INJECTION);
    l::SYS_process_madvise, "process_madvise", refuse_as("process_madvise", l::EPERM, INJECTION);
    l::SYS_kcmp, "kcmp", refuse("kcmp", l::EPERM);
    l::SYS_bpf, "bpf", refuse_as("bpf", l::EPERM, ESCAPE);
    l::SYS_perf_event_open, "perf_event_open", refuse("perf_event_open", l::EACCES);
    l::SYS_userfaultfd, "userfaultfd", refuse_as("userfaultfd", l::EPERM, ESCAPE);
    l::SYS_add_key, "add_key", refuse_as("add_key", l::ENOSYS, "T1555");
    l::SYS_request_key, "request_key", refuse_as("request_key", l::ENOSYS, "T1555");
    l::SYS_keyctl, "keyctl", refuse_as("keyctl", l::ENOSYS, "T1555");
    l::SYS_mount, "mount", refuse_as("mount", l::EPERM, ESCAPE);
    l::SYS_umount2, "umount2", refuse_as("umount2", l::EPERM, ESCAPE);
    l::SYS_move_mount, "move_mount", refuse_as("move_mount", l::EPERM, ESCAPE);
    l::SYS_open_tree, "open_tree", refuse_as("open_tree", l::EPERM, ESCAPE);
    SYS_OPEN_TREE_ATTR, "open_tree_attr", refuse_as("open_tree_attr", l::EPERM, ESCAPE);
    l::SYS_fsopen, "fsopen", refuse_as("fsopen", l::EPERM, ESCAPE);
    l::SYS_fsconfig, "fsconfig", refuse_as("fsconfig", l::EPERM, ESCAPE);
    l::SYS_fsmount, "fsmount", refuse_as("fsmount", l::EPERM, ESCAPE);
    l::SYS_fspick, "fspick", refuse_as("fspick", l::EPERM, ESCAPE);
    l::SYS_mount_setattr, "mount_setattr", refuse_as("mount_setattr", l::EPERM, ESCAPE);
    l::SYS_pivot_root, "pivot_root", refuse_as("pivot_root", l::EPERM, ESCAPE);
    l::SYS_chroot, "chroot", refuse_as("chroot", l::EPERM, ESCAPE);
    l::SYS_setns, "setns", refuse_as("setns", l::EPERM, ESCAPE);
    l::SYS_unshare, "unshare", refuse_as("unshare", l::EPERM, ESCAPE);
    l::SYS_open_by_handle_at, "open_by_handle_at", refuse_as("open_by_handle_at", l::EPERM, ESCAPE);
    l::SYS_fanotify_init, "fanotify_init", refuse("fanotify_init", l::EPERM);
    l::SYS_memfd_secret, "memfd_secret", refuse("memfd_secret", l::ENOSYS);
    l::SYS_mq_open, "mq_open", refuse("mq_open", l::EACCES);
    l::SYS_mq_unlink, "mq_unlink", refuse("mq_unlink", l::EACCES);
    l::SYS_kexec_load, "kexec_load", refuse("kexec_load", l::EPERM);
    l::SYS_init_module, "init_module", refuse_as("init_module", l::EPERM, "T1547.006");
    l::SYS_finit_module, "finit_module", refuse_as("finit_module", l::EPERM, "T1547.006");
    l::SYS_delete_module, "delete_module", refuse("delete_module", l::EPERM);
    l::SYS_reboot, "reboot", refuse_as("reboot", l::EPERM, "T1529");
    l::SYS_swapon, "swapon", refuse("swapon", l::EPERM);
    l::SYS_swapoff, "swapoff", refuse("swapoff", l::EPERM);
    l::SYS_acct, "acct", refuse("acct", l::EPERM);
    l::SYS_quotactl, "quotactl", refuse("quotactl", l::EPERM);
    l::SYS_settimeofday, "settimeofday", refuse("settimeofday", l::EPERM);
    l::SYS_clock_settime, "clock_settime", refuse("clock_settime", l::EPERM);
    l::SYS_sethostname, "sethostname", refuse("sethostname", l::EPERM);
    l::SYS_setdomainname, "setdomainname", refuse("setdomainname", l::EPERM);
    l::SYS_syslog, "syslog", refuse("syslog", l::EPERM);
    l::SYS_vhangup, "vhangup", refuse("vhangup", l::EPERM);
};

/// Calls that are refused only with certain arguments; the filter compares registers.
pub const CONDITIONAL: &[Entry] = entries! {
    l::SYS_clone, "clone", refuse_as("clone", l::EPERM, ESCAPE);
    l::SYS_memfd_create, "memfd_create", refuse_as("memfd_create", l::EACCES, "T1620");
    l::SYS_ioctl, "ioctl", refuse_as("ioctl", l::EPERM, "T1056");
    l::SYS_shmget, "shmget", refuse("shmget", l::EACCES);
    l::SYS_semget, "semget", refuse("semget", l::EACCES);
    l::SYS_msgget, "msgget", refuse("msgget", l::EACCES);
    l::SYS_setsockopt, "setsockopt", refuse_as("setsockopt: join a multicast group", l::EPERM, "T1095");
};

/// Every call that is notified whatever its arguments, but for the socket, process
/// and conditional ones, whose registers the filter looks at first.
pub fn all() -> impl Iterator<Item = &'static Entry> {
    COMMON.iter().chain(LEGACY).chain(REFUSED).chain(CONDITIONAL)
}

/// The refused calls of invariant I6.
pub fn refused() -> impl Iterator<Item = &'static Entry> {
    REFUSED.iter()
}

/// What the call with this number does, if a filter of ours can report it.
pub fn lookup(nr: i64) -> Option<&'static Entry> {
    all().find(|entry| entry.nr == nr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_known_once() {
        let mut numbers: Vec<i64> = all().map(|e| e.nr).collect();
        numbers.sort_unstable();
        let before = numbers.len();
        numbers.dedup();
        assert_eq!(before, numbers.len(), "a system call stands in two tables");
        assert!(numbers.iter().all(|nr| *nr <= i64::from(HIGHEST_KNOWN)));
    }
}
