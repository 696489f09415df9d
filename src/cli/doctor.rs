//! `npmguard doctor`: what this kernel and container can enforce, by trying.

use std::fmt::Write as _;

use clap::Args;

use crate::launch::{datagrams, supervisor::exit};
use crate::resolver::Resolver;
use crate::sandbox::probe::{self, Finding};

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whether a mechanism of that name works here.
type Works<'a> = &'a dyn Fn(&str) -> bool;

/// A guarantee of the default policy, and the mechanisms it needs here.
struct Guarantee {
    name: &'static str,
    what: &'static str,
    needs: &'static [&'static str],
    rests_on: fn(Works<'_>) -> &'static str,
}

const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        name: "G1 reads",
        what: "scripts open only what policy lists",
        needs: &["landlock files", "seccomp listener", "inject descriptors", "read target memory"],
        rests_on: |_| "landlock; denied parts of a tree: the supervisor opens",
    },
    Guarantee {
        name: "G2 writes",
        what: "scripts change only their own directory and a private temporary one",
        needs: &["landlock files", "seccomp listener", "read target memory"],
        rests_on: |_| "landlock; mode, owner, times, attributes: the supervisor",
    },
    Guarantee {
        name: "G3 network",
        what: "scripts reach only their own loopback servers and granted hosts and addresses",
        needs: &["seccomp listener", "inject descriptors", "read target memory", "mute UDP"],
        rests_on: |works| {
            if works("landlock tcp") {
                "the supervisor, which resolves names and connects; landlock denies the script TCP; UDP is mute"
            } else {
                "the supervisor, which resolves names and connects; UDP is mute"
            }
        },
    },
    Guarantee {
        name: "G4 local IPC",
        what: "no Unix socket, signal or trace outside",
        needs: &["seccomp listener", "read target memory"],
        rests_on: |works| {
            if works("landlock signal scope") {
                "the supervisor for sockets; landlock for signals and tracing"
            } else {
                "the supervisor for sockets and signals; landlock for tracing"
            }
        },
    },
    Guarantee {
        name: "G5 environment",
        what: "no variable that carries a credential",
        needs: &[],
        rests_on: |_| "the broker builds the environment",
    },
    Guarantee {
        name: "G6 lifetime",
        what: "no process outlives its script",
        needs: &["subreaper"],
        rests_on: |_| "a reaper per script",
    },
    Guarantee {
        name: "G7 evidence",
        what: "every denied attempt, exec and connect is logged with its package",
        needs: &["seccomp listener", "read target memory"],
        rests_on: |_| "one listener per script",
    },
    Guarantee {
        name: "G8 fail closed",
        what: "a dead guard makes calls fail",
        needs: &["seccomp listener"],
        rests_on: |_| "the kernel answers ENOSYS for a dead listener",
    },
];

/// Prints what was found; 125 if the default policy cannot be enforced here.
pub(super) fn doctor(args: &DoctorArgs) -> i32 {
    let mut findings = probe::thorough();
    findings.push(name_servers(&Resolver::system()));
    findings.push(private_udp());
    let works = |name: &str| findings.iter().any(|f| f.name == name && f.works);
    let missing: Vec<&Guarantee> = GUARANTEES.iter().filter(|g| !g.needs.iter().all(|n| works(n))).collect();
    let text = if args.json { json(&findings) } else { text(&findings, &works) };
    anstream::print!("{text}");
    i32::from(!missing.is_empty()) * exit::GUARD
}

/// Whom the supervisor asks for names; without an answer a look-up fails, and nothing else.
fn name_servers(resolver: &Resolver) -> Finding {
    let servers: Vec<String> = resolver.name_servers().iter().map(|server| server.ip().to_string()).collect();
    let works = !servers.is_empty();
    let detail = match works {
        true => format!("{}; asked by the supervisor for granted names", servers.join(", ")),
        false => "none in /etc/resolv.conf; this machine itself is asked".to_owned(),
    };
    Finding { name: "name servers", works, detail }
}

/// Whether programs that ask name servers over UDP only can look names up.
fn private_udp() -> Finding {
    let tried = datagrams::works();
    let detail = match &tried {
        Ok(()) => "programs that use musl (Alpine) look names up over it".to_owned(),
        Err(error) => format!(
            "{error}: no network namespace, so programs that use musl (Alpine) resolve no name in a script's domain"
        ),
    };
    Finding { name: "private UDP", works: tried.is_ok(), detail }
}

fn text(findings: &[Finding], works: &dyn Fn(&str) -> bool) -> String {
    let mut out = String::from("mechanisms, each tried just now:\n");
    for f in findings {
        let _ = writeln!(out, "  {:<3} {:<22} {}", if f.works { "yes" } else { "no" }, f.name, f.detail);
    }
    out.push_str("\nguarantees of the default policy here:\n");
    let mut broken = Vec::new();
    for g in GUARANTEES {
        let missing: Vec<&str> = g.needs.iter().copied().filter(|n| !works(n)).collect();
        if missing.is_empty() {
            let _ = writeln!(out, "  yes {:<15} {}\n      by {}", g.name, g.what, (g.rests_on)(works));
        } else {
            let _ = writeln!(out, "  no  {:<15} {}\n      missing: {}", g.name, g.what, missing.join(", "));
            broken.push(g.name);
        }
    }
    out.push_str(
        "\nnot available to scripts on any kernel with this version: datagrams to anywhere (UDP sockets exist \
         and are mute), and every socket but TCP, Unix stream and netlink route\n",
    );
    if broken.is_empty() {
        out.push_str("\nthe default policy can be enforced here\n");
    } else {
        let _ = writeln!(
            out,
            "\nthe default policy cannot be enforced here ({})\n\nhint: Linux 6.2 or newer with Landlock \
             (`lsm=…,landlock` on the kernel command line); in a container, a seccomp profile that allows \
             `seccomp`, `landlock_*` and `process_vm_readv`, as Docker's default profile does",
            broken.join(", ")
        );
    }
    out
}

fn json(findings: &[Finding]) -> String {
    let works = |name: &str| findings.iter().any(|f| f.name == name && f.works);
    let mechanisms: Vec<_> = findings
        .iter()
        .map(|f| serde_json::json!({ "name": f.name, "works": f.works, "detail": f.detail }))
        .collect();
    let guarantees: Vec<_> = GUARANTEES
        .iter()
        .map(|g| {
            let held = g.needs.iter().all(|n| works(n));
            serde_json::json!({ "name": g.name, "held": held, "by": held.then(|| (g.rests_on)(&works)) })
        })
        .collect();
    format!("{:#}\n", serde_json::json!({ "mechanisms": mechanisms, "guarantees": guarantees }))
}
