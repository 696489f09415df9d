//! What one TCP connection to a granted address costs, with the socket it is made on.
//!
//! The servers are threads of the bench, on loopback: what is measured is the guard, not a
//! network. Each group has a native row of its own, to which its ratios refer.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use crate::measure::{Sample, alternate, available};
use crate::report::{Row, Table, rows};
use crate::{Options, Result, npmguard, program};

/// A name that hosts(5) has everywhere.
const NAME: &str = "localhost";
const ADDRESS: &str = "127.0.0.1";

/// What a client is told to do, and the rows of those who do it: a name and the launcher's
/// words.
struct Group<'a> {
    client: [&'a str; 3],
    rows: Vec<(&'static str, Vec<&'a str>)>,
}

pub(crate) fn measure(options: &Options) -> Result<Table> {
    let directory = options.scratch()?;
    let here = directory.path();
    let client = program::compile("net_client", here)?;
    let count = options.connections.to_string();
    let silent = serve(drop)?.to_string();
    let web = serve(answer)?.to_string();
    let by_address =
        policy(here, "address", &[format!("\"{ADDRESS}:{silent}\""), format!("\"{ADDRESS}:{web}\"")])?;
    let by_name = policy(here, "name", &[format!("\"{NAME}:{silent}\"")])?;
    let verified = policy(here, "verified", &[format!("{{ host: \"{NAME}:{web}\", verify: sni }}")])?;
    let npmguard = npmguard();
    let guard = program::text(&npmguard)?;
    let guarded = |policy| vec![guard, "run", "--policy", policy, "--"];

    let mut blocking = vec![
        ("native", vec![]),
        ("npmguard, by address", guarded(&by_address)),
        ("npmguard, by name", guarded(&by_name)),
    ];
    if available("strace") {
        let words = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect", "-o", "/dev/null"];
        blocking.push(("strace --seccomp-bpf", words.to_vec()));
    }
    if available("bwrap") {
        let words = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-all", "--share-net"];
        blocking.push(("bwrap", words.to_vec()));
    }
    let groups = [
        Group { client: ["connect", ADDRESS, &silent], rows: blocking },
        Group {
            client: ["poll", ADDRESS, &silent],
            rows: vec![("native, non-blocking", vec![]), ("npmguard, non-blocking", guarded(&by_address))],
        },
        Group {
            client: ["name", NAME, &silent],
            rows: vec![("native, hosts file", vec![]), ("npmguard, hosts file", guarded(&by_name))],
        },
        Group {
            client: ["get", ADDRESS, &web],
            rows: vec![
                ("native, HTTP", vec![]),
                ("npmguard, HTTP", guarded(&by_address)),
                ("npmguard, verify: sni", guarded(&verified)),
            ],
        },
    ];
    let mut rows = Vec::new();
    for group in groups {
        rows.extend(run(options, &group, program::text(&client)?, &count, here));
    }
    Ok(Table {
        subject: "connect",
        title: format!("one connection to {ADDRESS}, {count} a run, {} rounds", options.runs_or(5)),
        budget: "none: for comparison",
        rows,
    })
}

fn run(options: &Options, group: &Group<'_>, program: &str, count: &str, directory: &Path) -> Vec<Row> {
    let client = [&[program], &group.client[..], &[count]].concat();
    let contestants = group.rows.iter().map(|(name, launcher)| {
        program::contestant(name, &[launcher.as_slice(), &client].concat(), directory)
    });
    costs(alternate(options.runs_or(5), contestants.collect()))
}

/// Microseconds of one, what the first row does not pay, and how many times as much it is.
pub(crate) fn costs(results: Vec<crate::measure::Rounds>) -> Vec<Row> {
    let micros = |own: Sample, _| own.own / 1e3;
    let over = |own: Sample, native: Sample| (own.own - native.own) / 1e3;
    let ratio = |own: Sample, native: Sample| own.own / native.own;
    rows(results, &[("us", &micros), ("over_native_us", &over), ("ratio", &ratio)], |sample| sample.own)
}

/// Writes a policy that grants connections; its path.
pub(crate) fn policy(directory: &Path, name: &str, entries: &[String]) -> Result<String> {
    let path = directory.join(format!("{name}.yaml"));
    let entries = entries.join(", ");
    std::fs::write(&path, format!("version: 1\nroot: {{ connect: {{ allow: [{entries}] }} }}\n"))?;
    Ok(program::text(&path)?.to_owned())
}

/// Serves one connection after the other, as long as the bench runs; the port.
fn serve(each: fn(TcpStream)) -> Result<u16> {
    let listener = TcpListener::bind((ADDRESS, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(each));
    Ok(port)
}

/// Answers one HTTP request, whatever it asks.
fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut bytes = [0; 512];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(count) if count > 0 => request.extend_from_slice(&bytes[..count]),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}
