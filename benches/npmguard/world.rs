//! A network and name service of the bench's own: a namespace with nothing but loopback,
//! where names are looked up in `/etc/hosts` and then at a server that knows one answer.
//! Nothing of the machine's own name service is asked or changed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::{Result, program};

/// What every name leads to: public, and never anybody's (RFC 5737).
const ANSWER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 53);
const READY: &str = "ready";

/// `$1` has the files, the rest is the server's command.
const SET_UP: &str = r#"
set -eu
from=$1; shift
ip link set lo up
for file in resolv.conf nsswitch.conf; do
    if [ -e "/etc/$file" ]; then mount --bind "$from/$file" "/etc/$file"; fi
done
exec "$@"
"#;

/// `$1` is the working directory: a mount namespace is entered at its root.
const ENTER: &str = r#"cd "$1"; shift; exec "$@""#;

/// The namespaces, which live as long as the server in them.
pub(crate) struct World {
    server: Child,
    pid: String,
}

impl World {
    /// Makes it; its files go to `directory`.
    pub(crate) fn new(directory: &Path) -> Result<World> {
        std::fs::write(directory.join("resolv.conf"), format!("nameserver {}\n", SERVER.0))?;
        std::fs::write(directory.join("nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files dns\n")?;
        let namespaces = if is_root() { "-mn" } else { "-Urmn" };
        let bench = std::env::current_exe()?;
        let mut server = Command::new("unshare")
            .args([namespaces, "sh", "-c", SET_UP, "sh"])
            .args([directory, &bench])
            .args(["--bench", "--serve-names"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("`unshare`: {error}"))?;
        let pid = server.id().to_string();
        let output = server.stdout.take().ok_or("no output")?;
        let world = World { server, pid };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if line.trim() != READY {
            return Err("a network namespace could not be made (this needs root or user namespaces, \
                        and iproute2)"
                .into());
        }
        Ok(world)
    }

    /// The words that start a command inside, in `directory`.
    pub(crate) fn enter<'a>(&'a self, directory: &'a Path) -> Result<Vec<&'a str>> {
        let mut words = vec!["nsenter", "--target", &self.pid, "--mount", "--net"];
        if !is_root() {
            words.extend(["--user", "--preserve-credentials"]);
        }
        words.extend(["sh", "-c", ENTER, "sh", program::text(directory)?]);
        Ok(words)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The server: answers until its input ends, that is, with the bench.
pub(crate) fn serve_names() -> Result<()> {
    let datagrams = UdpSocket::bind(SERVER)?;
    let streams = TcpListener::bind(SERVER)?;
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = datagrams.recv_from(&mut query) {
            if let Some(reply) = reply(&query[..length]) {
                let _ = datagrams.send_to(&reply, from);
            }
        }
    });
    std::thread::spawn(move || {
        for stream in streams.incoming().flatten() {
            std::thread::spawn(move || converse(stream));
        }
    });
    println!("{READY}");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn converse(mut stream: TcpStream) -> Option<()> {
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut query = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut query).ok()?;
        let reply = reply(&query)?;
        let length = u16::try_from(reply.len()).ok()?.to_be_bytes();
        stream.write_all(&[&length[..], &reply].concat()).ok()?;
    }
}

/// One A record for whoever asks for one, nothing of any other type (RFC 1035, 4.1).
fn reply(query: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 12;
    const A: &[u8] = &[0, 1];
    let name = query.get(HEADER..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(HEADER..HEADER + name + 4)?;
    let found = &question[name..name + 2] == A;
    let id = &query[..2];
    // An answer, from the authority; recursion as it was asked for.
    let flags = [0x84 | query[2] & 1, 0x80];
    let counts = [0, 1, 0, u8::from(found), 0, 0, 0, 0];
    let mut reply = [id, &flags, &counts, question].concat();
    if found {
        // The name of the question again, A, IN, 60 seconds, four bytes.
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(ANSWER.octets());
    }
    Some(reply)
}
