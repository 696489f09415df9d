//! Facts about processes, read from procfs: who a thread belongs to, whose
//! descendant it is, and what to say about it in an event.
//!
//! Only called for what is logged or lies in procfs; the fast path asks nothing here.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::event::{self, escape_bounded};

/// Longest chain of ancestors that an event shows.
const LONGEST_CHAIN: usize = 16;
/// Longest argument list that an event shows, in bytes.
const LONGEST_ARGV: usize = 16 << 10;

/// The process a thread belongs to (`Tgid` in `proc_pid_status(5)`).
pub(super) fn thread_group(tid: i32) -> Option<i32> {
    status_field(tid, "Tgid:").and_then(|v| v.parse().ok())
}

/// File mode creation mask of a process.
pub(super) fn umask(tid: i32) -> Option<u32> {
    status_field(tid, "Umask:").and_then(|v| u32::from_str_radix(&v, 8).ok())
}

/// Reads a file of procfs with one call; growing a buffer costs a call a step, because
/// these files say that they are empty.
fn read(path: &str) -> Option<Vec<u8>> {
    let file = fs::File::open(path).ok()?;
    let mut buffer = vec![0u8; 4096];
    let mut filled = 0;
    loop {
        match nix::unistd::read(&file, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return None,
        }
        if filled == buffer.len() {
            if filled >= LONGEST_ARGV {
                break;
            }
            buffer.resize(filled * 2, 0);
        }
    }
    buffer.truncate(filled);
    Some(buffer)
}

fn status_field(tid: i32, name: &str) -> Option<String> {
    let status = read(&format!("/proc/{tid}/status"))?;
    let text = String::from_utf8_lossy(&status);
    text.lines().find_map(|line| line.strip_prefix(name)).map(|v| v.trim().to_owned())
}

/// Name and parent of a process (`proc_pid_stat(5)`).
pub(super) fn name_and_parent(pid: i32) -> Option<(Vec<u8>, i32)> {
    let stat = read(&format!("/proc/{pid}/stat"))?;
    let open = stat.iter().position(|b| *b == b'(')?;
    // The name may hold parentheses and spaces: it ends at the last parenthesis.
    let close = stat.iter().rposition(|b| *b == b')')?;
    let parent = stat.get(close + 2..)?.split(|b| *b == b' ').nth(1)?;
    Some((stat[open + 1..close].to_vec(), std::str::from_utf8(parent).ok()?.parse().ok()?))
}

/// Whether `pid` is `root` or one of its descendants.
pub fn descends_from(pid: i32, root: i32) -> bool {
    let mut at = pid;
    for _ in 0..4096 {
        if at == root {
            return true;
        }
        match name_and_parent(at) {
            Some((_, parent)) if parent > 1 => at = parent,
            _ => return false,
        }
    }
    false
}

/// What an event says about the thread `tid`; `root` is the reaper above its script.
pub(super) fn describe(tid: i32, root: i32) -> event::Process {
    let pid = thread_group(tid).unwrap_or(tid);
    let link = |name: &str| {
        fs::read_link(format!("/proc/{pid}/{name}"))
            .map(|p| escape_bounded(p.as_os_str().as_bytes(), 4096))
            .unwrap_or_default()
    };
    let mut chain = Vec::new();
    let mut at = pid;
    let mut ppid = 0;
    while chain.len() < LONGEST_CHAIN && at != root && at > 1 {
        let Some((name, parent)) = name_and_parent(at) else { break };
        if at == pid {
            ppid = parent;
        }
        chain.push(escape_bounded(&name, 64));
        at = parent;
    }
    chain.reverse();
    let mut process = event::Process {
        pid,
        ppid,
        exe: link("exe"),
        argv: Vec::new(),
        argv_truncated: false,
        cwd: link("cwd"),
        chain,
    };
    process.set_argv(command_line(pid).iter().map(Vec::as_slice));
    process
}

/// The arguments a process was started with.
pub(super) fn command_line(pid: i32) -> Vec<Vec<u8>> {
    let raw = read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let raw = raw.strip_suffix(b"\0").unwrap_or(&raw);
    raw.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
}

/// Normalises a path in procfs for policy: a process of the tree below `root` becomes
/// `/proc/self`, whoever of them asks. `None` for paths elsewhere.
pub(super) fn proc_path(path: &Path, root: i32) -> Option<ProcPath> {
    let rest = path.strip_prefix("/proc").ok()?;
    let mut parts = rest.components();
    let Some(pid) = parts.next().and_then(|c| c.as_os_str().to_str()).and_then(|n| n.parse::<i32>().ok())
    else {
        return Some(ProcPath::Global);
    };
    let group = thread_group(pid).unwrap_or(pid);
    if descends_from(group, root) && group != root {
        Some(ProcPath::Own(Path::new("/proc/self").join(parts.as_path())))
    } else {
        Some(ProcPath::Foreign)
    }
}

/// Where in procfs a path lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProcPath {
    /// About the machine.
    Global,
    /// About a process of the same script, as `/proc/self/…`.
    Own(std::path::PathBuf),
    /// About somebody else's process.
    Foreign,
}

/// Whether a signal waits that would end or restart the thread's system call: not
/// blocked and not ignored (proc_pid_status(5)).
pub(super) fn has_pending_signal(tid: i32) -> bool {
    let Ok(status) = std::fs::read_to_string(format!("/proc/{tid}/status")) else { return false };
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| u64::from_str_radix(value.trim(), 16).ok()).unwrap_or(0)
    };
    (mask("SigPnd:") | mask("ShdPnd:")) & !mask("SigBlk:") & !mask("SigIgn:") != 0
}

/// Whether the program uses musl, whose resolver knows UDP only.
pub(super) fn is_musl(pid: i32) -> bool {
    use std::io::Read;
    // The interpreter's name is in the program's first page (elf(5), PT_INTERP).
    let mut page = [0; 4096];
    let read = std::fs::File::open(format!("/proc/{pid}/exe")).and_then(|mut exe| exe.read(&mut page));
    let read = read.unwrap_or(0);
    page[..read].windows(9).any(|w| w == b"/ld-musl-")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn own_processes_become_self_and_others_are_foreign() {
        let pid = std::process::id() as i32;
        let (_, parent) = name_and_parent(pid).unwrap();
        assert_eq!(
            proc_path(Path::new(&format!("/proc/{pid}/environ")), parent),
            Some(ProcPath::Own("/proc/self/environ".into()))
        );
        assert_eq!(proc_path(Path::new("/proc/1/environ"), pid), Some(ProcPath::Foreign));
        assert_eq!(proc_path(Path::new("/proc/meminfo"), pid), Some(ProcPath::Global));
        assert_eq!(proc_path(Path::new("/etc/passwd"), pid), None);
    }
}
