//! Seccomp filters as data: which calls of a domain are answered by the kernel
//! itself and which are reported to the supervisor.
//!
//! `seccompiler` compiles the rules. It has no notify action, so the notify filter
//! is compiled with `SeccompAction::Trace` and that return value is rewritten to
//! `SECCOMP_RET_USER_NOTIF`; and it compares only the architecture, so the check
//! that turns x32 (and, for scripts, unknown future) numbers away is prepended.
//! One program has one match action, so a domain is a small stack of programs; of
//! several answers the kernel takes the strictest (`seccomp(2)`).

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};

use super::syscall::{self, Call, HIGHEST_KNOWN};

/// x32 calls carry this bit (`__X32_SYSCALL_BIT`).
pub const X32_BIT: u32 = 0x4000_0000;
/// The marker that stands for "notify" until the program is rewritten.
const NOTIFY_MARKER: u32 = 0x4e47;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_ERRNO: u32 = 0x0005_0000;

/// Which domain a set of filters is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterKind {
    /// A lifecycle script, or the command of `npmguard run`.
    Script,
    /// The package manager.
    Manager,
    /// A script in audit mode: the same reports, no refusals by the kernel.
    Audit,
}

/// A rule set that could not be compiled: a defect of ours, never of the user's.
#[derive(Debug, thiserror::Error)]
#[error("the seccomp filter for `{name}` could not be compiled")]
pub struct FilterError {
    name: &'static str,
    #[source]
    source: seccompiler::Error,
}

/// The programs of one domain, in the order in which they are to be installed: the
/// one with the listener first, because the last one forbids new listeners.
#[derive(Debug, Clone, PartialEq)]
pub struct Filters {
    /// Reports to the supervisor.
    pub notify: BpfProgram,
    /// Answered by the kernel alone, and so still in force when the supervisor is dead.
    pub fixed: Vec<BpfProgram>,
}

/// From `linux/in.h` and `linux/in6.h`; not in `libc`.
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_JOIN_SOURCE_GROUP: i32 = 46;
const IPV6_JOIN_ANYCAST: i32 = 27;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Builds the filters of a domain for this architecture.
///
/// `signals` adds the thread-directed signal calls, which kernels before Landlock
/// ABI 6 leave unrestricted; with the scope they would only cost time (the Go
/// runtime uses `tgkill` for preemption).
pub fn filters(kind: FilterKind, signals: Signals) -> Result<Filters, FilterError> {
    let limit = match kind {
        FilterKind::Manager | FilterKind::Audit => X32_BIT,
        FilterKind::Script => HIGHEST_KNOWN + 1,
    };
    let rules = match kind {
        FilterKind::Manager => manager_rules(),
        FilterKind::Script | FilterKind::Audit => script_rules(signals),
    };
    let notify = prepend_number_limit(notify_program(rules?)?, limit);
    let mut fixed = vec![
        compile("dumpable", dumpable_rules()?, SeccompAction::Errno(0))?,
        compile("listener", listener_rules()?, SeccompAction::Errno(libc::EBUSY as u32))?,
    ];
    if kind == FilterKind::Script {
        fixed.insert(0, compile("clone3", clone3_rules(), SeccompAction::Errno(libc::ENOSYS as u32))?);
    }
    Ok(Filters { notify, fixed })
}

/// Whether thread-directed signals are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signals {
    /// Landlock's signal scope decides.
    ByLandlock,
    /// The supervisor decides on the registers.
    BySupervisor,
}

/// Rewrites the marked trace return of a compiled program to a notification.
pub fn notify_instead_of_trace(mut program: BpfProgram) -> BpfProgram {
    const BPF_RET_K: u16 = 0x06;
    for insn in &mut program {
        if insn.code == BPF_RET_K && insn.k == RET_TRACE | NOTIFY_MARKER {
            insn.k = RET_USER_NOTIF;
        }
    }
    program
}

/// Puts a check in front of `program` that answers `ENOSYS` for every call number
/// from `first_unknown` on. x32 numbers have [`X32_BIT`] set and so are included.
pub fn prepend_number_limit(program: BpfProgram, first_unknown: u32) -> BpfProgram {
    const LOAD_NR: sock_filter = sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
    let mut out = vec![
        LOAD_NR,
        sock_filter { code: 0x35, jt: 0, jf: 1, k: first_unknown },
        sock_filter { code: 0x06, jt: 0, jf: 0, k: RET_ERRNO | libc::ENOSYS as u32 },
    ];
    out.extend(program);
    out
}

fn notify_program(rules: Rules) -> Result<BpfProgram, FilterError> {
    compile("notify", rules, SeccompAction::Trace(NOTIFY_MARKER)).map(notify_instead_of_trace)
}

fn compile(name: &'static str, rules: Rules, action: SeccompAction) -> Result<BpfProgram, FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|e| FilterError { name, source: seccompiler::Error::Backend(e) })?;
    SeccompFilter::new(rules, SeccompAction::Allow, action, arch)
        .and_then(BpfProgram::try_from)
        .map_err(|e| FilterError { name, source: seccompiler::Error::Backend(e) })
}

/// Shorthand for a rule of `(argument, comparison, value)` conditions on 32 bits,
/// the width of the flags and numbers compared here.
fn rule(conditions: &[(u8, Op, u64)]) -> Result<SeccompRule, FilterError> {
    let wrap = |e| FilterError { name: "rule", source: seccompiler::Error::Backend(e) };
    let conditions = conditions
        .iter()
        .map(|(arg, op, value)| SeccompCondition::new(*arg, Len::Dword, op.clone(), *value))
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrap)?;
    SeccompRule::new(conditions).map_err(wrap)
}

const ALWAYS: Vec<SeccompRule> = Vec::new();

fn script_rules(signals: Signals) -> Result<Rules, FilterError> {
    let mut rules: Rules = Rules::new();
    for entry in syscall::all() {
        rules.insert(entry.nr, ALWAYS);
    }
    let one = |conditions: &[(u8, Op, u64)]| rule(conditions).map(|r| vec![r]);
    // clone with any namespace flag; the low 32 bits hold them all.
    rules.insert(libc::SYS_clone, namespace_rules()?);
    rules.insert(libc::SYS_memfd_create, one(&[(1, Op::MaskedEq(u64::from(libc::MFD_NOEXEC_SEAL)), 0)])?);
    // Pushing characters into the terminal's input would type into the user's shell.
    rules.insert(
        libc::SYS_ioctl,
        vec![rule(&[(1, Op::Eq, libc::TIOCSTI)])?, rule(&[(1, Op::Eq, 0x541c /* TIOCLINUX */)])?],
    );
    // System V objects with a key are shared with other programs of the user.
    for nr in [libc::SYS_shmget, libc::SYS_semget, libc::SYS_msgget] {
        rules.insert(nr, one(&[(0, Op::Ne, libc::IPC_PRIVATE as u64)])?);
    }
    // Joining a group announces it to the network (IGMP, MLD) without any send.
    let ip = [
        (
            libc::IPPROTO_IP,
            [
                libc::IP_ADD_MEMBERSHIP,
                libc::IP_ADD_SOURCE_MEMBERSHIP,
                MCAST_JOIN_GROUP,
                MCAST_JOIN_SOURCE_GROUP,
            ],
        ),
        (
            libc::IPPROTO_IPV6,
            [libc::IPV6_ADD_MEMBERSHIP, IPV6_JOIN_ANYCAST, MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP],
        ),
    ];
    let joins = ip.iter().flat_map(|(level, names)| names.iter().map(move |name| (*level, *name)));
    let joins = joins.map(|(level, name)| rule(&[(1, Op::Eq, level as u64), (2, Op::Eq, name as u64)]));
    rules.insert(libc::SYS_setsockopt, joins.collect::<Result<_, _>>()?);
    // A destination or fast open makes a send a connect. Without an address the
    // call goes where the socket was connected, and that was decided before.
    let fast_open = libc::MSG_FASTOPEN as u64;
    rules.insert(libc::SYS_sendto, vec![rule(&[(3, Op::MaskedEq(fast_open), fast_open)])?, address_rule(4)?]);
    let unreported = super::ipc::UNREPORTED as u64;
    let sendmsg =
        [rule(&[(2, Op::MaskedEq(fast_open), fast_open)])?, rule(&[(2, Op::MaskedEq(unreported), 0)])?];
    rules.insert(libc::SYS_sendmsg, sendmsg.into());
    // Changing one's own limits is nobody else's business; the first argument is a pid.
    for nr in [
        libc::SYS_prlimit64,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setattr,
    ] {
        rules.insert(nr, one(&[(0, Op::Ne, 0)])?);
    }
    for nr in [libc::SYS_setpriority, libc::SYS_ioprio_set] {
        rules.insert(nr, one(&[(1, Op::Ne, 0)])?);
    }
    if signals == Signals::ByLandlock {
        rules.remove(&libc::SYS_tkill);
        rules.remove(&libc::SYS_tgkill);
        rules.remove(&libc::SYS_rt_tgsigqueueinfo);
    }
    Ok(rules)
}

fn manager_rules() -> Result<Rules, FilterError> {
    let mut rules: Rules = syscall::refused().map(|entry| (entry.nr, ALWAYS)).collect();
    rules.insert(libc::SYS_clone, namespace_rules()?);
    for entry in syscall::all() {
        if matches!(entry.call, Call::Exec(_)) || [libc::SYS_socket, libc::SYS_connect].contains(&entry.nr) {
            rules.insert(entry.nr, ALWAYS);
        }
    }
    Ok(rules)
}

fn namespace_rules() -> Result<Vec<SeccompRule>, FilterError> {
    [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ]
    .into_iter()
    .map(|flag| rule(&[(0, Op::MaskedEq(flag as u64), flag as u64)]))
    .collect()
}

/// An address is given: all 64 bits of the pointer count.
fn address_rule(arg: u8) -> Result<SeccompRule, FilterError> {
    let wrap = |e| FilterError { name: "rule", source: seccompiler::Error::Backend(e) };
    SeccompRule::new(vec![SeccompCondition::new(arg, Len::Qword, Op::Ne, 0).map_err(wrap)?]).map_err(wrap)
}

/// `clone3` hides its flags in memory; with `ENOSYS` the C library falls back to
/// `clone`, whose flags are a register.
fn clone3_rules() -> Rules {
    Rules::from([(libc::SYS_clone3, ALWAYS)])
}

/// `PR_SET_DUMPABLE 0` would make the process unreadable for the supervisor; it
/// appears to succeed and does nothing.
fn dumpable_rules() -> Result<Rules, FilterError> {
    Ok(Rules::from([(
        libc::SYS_prctl,
        vec![rule(&[(0, Op::Eq, libc::PR_SET_DUMPABLE as u64), (1, Op::Eq, 0)])?],
    )]))
}

/// After the supervisor's death a script could install a listener of its own and
/// answer its own notifications (measured on 6.18), so new listeners are refused by
/// the kernel.
fn listener_rules() -> Result<Rules, FilterError> {
    let flag: u64 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    Ok(Rules::from([(libc::SYS_seccomp, vec![rule(&[(1, Op::MaskedEq(flag), flag)])?])]))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Interprets a classic BPF program over one call, as the kernel would.
    fn run(program: &[sock_filter], nr: u32, arch: u32, args: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&nr.to_le_bytes());
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (i, arg) in args.iter().enumerate() {
            data[16 + i * 8..24 + i * 8].copy_from_slice(&arg.to_le_bytes());
        }
        let (mut acc, mut pc) = (0u32, 0usize);
        loop {
            let i = &program[pc];
            pc += 1;
            let jump = |cond: bool| usize::from(if cond { i.jt } else { i.jf });
            match i.code {
                0x20 => {
                    acc = u32::from_le_bytes(data[i.k as usize..i.k as usize + 4].try_into().unwrap());
                }
                0x05 => pc += i.k as usize,
                0x15 => pc += jump(acc == i.k),
                0x25 => pc += jump(acc > i.k),
                0x35 => pc += jump(acc >= i.k),
                0x54 => acc &= i.k,
                0x06 => return i.k,
                other => panic!("unknown BPF instruction {other:#x}"),
            }
        }
    }

    const ARCH: u32 = 0xc000_003e;
    const KILL: u32 = 0x8000_0000;
    const ALLOW: u32 = 0x7fff_0000;

    fn verdict(kind: FilterKind, nr: i64, args: [u64; 6]) -> u32 {
        let filters = filters(kind, Signals::ByLandlock).unwrap();
        std::iter::once(&filters.notify)
            .chain(&filters.fixed)
            .map(|p| run(p, nr as u32, ARCH, args))
            // The kernel's order of precedence: the lowest action wins, as a signed number.
            .min_by_key(|ret| (ret & 0xffff_0000) as i32)
            .unwrap()
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_foreign_architecture_kills_and_x32_numbers_do_not_exist() {
        for kind in [FilterKind::Script, FilterKind::Manager, FilterKind::Audit] {
            let f = filters(kind, Signals::ByLandlock).unwrap();
            assert_eq!(run(&f.notify, 5, 0x4000_0003, [0; 6]), KILL);
            let x32_open = X32_BIT | 2;
            assert_eq!(run(&f.notify, x32_open, ARCH, [0; 6]), RET_ERRNO | libc::ENOSYS as u32);
        }
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn scripts_report_opens_execs_and_sockets_and_keep_the_fast_calls() {
        for nr in [libc::SYS_openat, libc::SYS_execve, libc::SYS_socket, libc::SYS_io_uring_setup] {
            assert_eq!(verdict(FilterKind::Script, nr, [0; 6]), RET_USER_NOTIF, "{nr}");
        }
        for nr in [libc::SYS_read, libc::SYS_close, libc::SYS_futex, libc::SYS_wait4, libc::SYS_newfstatat] {
            assert_eq!(verdict(FilterKind::Script, nr, [0; 6]), ALLOW, "{nr}");
        }
        assert_eq!(verdict(FilterKind::Manager, libc::SYS_openat, [0; 6]), ALLOW);
        assert_eq!(verdict(FilterKind::Manager, libc::SYS_execve, [0; 6]), RET_USER_NOTIF);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn what_must_outlive_the_supervisor_is_a_return_value_of_the_filter() {
        let listener = [1, 8, 0, 0, 0, 0];
        assert_eq!(verdict(FilterKind::Script, libc::SYS_seccomp, listener), RET_ERRNO | libc::EBUSY as u32);
        assert_eq!(verdict(FilterKind::Script, libc::SYS_clone3, [0; 6]), RET_ERRNO | libc::ENOSYS as u32);
        let number = i64::from(HIGHEST_KNOWN) + 1;
        assert_eq!(verdict(FilterKind::Script, number, [0; 6]), RET_ERRNO | libc::ENOSYS as u32);
        assert_eq!(verdict(FilterKind::Script, libc::SYS_prctl, [4, 0, 0, 0, 0, 0]), RET_ERRNO);
        assert_eq!(verdict(FilterKind::Script, libc::SYS_prctl, [4, 1, 0, 0, 0, 0]), ALLOW);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn register_conditions_tell_the_harmless_form_from_the_other() {
        let cases: &[(i64, [u64; 6], bool)] = &[
            (libc::SYS_clone, [libc::CLONE_NEWUSER as u64 | 17, 0, 0, 0, 0, 0], true),
            (libc::SYS_clone, [17, 0, 0, 0, 0, 0], false),
            (libc::SYS_memfd_create, [0, 1, 0, 0, 0, 0], true),
            (libc::SYS_memfd_create, [0, 8 | 1, 0, 0, 0, 0], false),
            (libc::SYS_ioctl, [0, 0x5412, 0, 0, 0, 0], true),
            (libc::SYS_ioctl, [0, 0x5401, 0, 0, 0, 0], false),
            (libc::SYS_sendto, [3, 1, 1, 0x2000_0000, 0, 0], true),
            (libc::SYS_sendto, [3, 1, 1, 0, 0x7f00_0000_0000, 16], true),
            (libc::SYS_sendto, [3, 1, 1, 0, 0, 0], false),
            (libc::SYS_sendmsg, [3, 1, 0, 0, 0, 0], true),
            (libc::SYS_setsockopt, [3, 0, 35, 0, 0, 0], true),
            (libc::SYS_setsockopt, [3, 41, 20, 0, 0, 0], true),
            (libc::SYS_setsockopt, [3, 1, 35, 0, 0, 0], false),
            (libc::SYS_setsockopt, [3, 6, 1, 0, 0, 0], false),
            (libc::SYS_shmget, [42, 0, 0, 0, 0, 0], true),
            (libc::SYS_shmget, [0, 0, 0, 0, 0, 0], false),
            (libc::SYS_prlimit64, [0, 7, 0, 0, 0, 0], false),
        ];
        for (nr, args, reported) in cases {
            let want = if *reported { RET_USER_NOTIF } else { ALLOW };
            assert_eq!(verdict(FilterKind::Script, *nr, *args), want, "{nr} {args:x?}");
        }
    }
}
