//! The relay between real sockets, with node and openssl as the far ends.
#![allow(missing_docs, clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use npmguard::relay::{self, Outcome, Spoken, Verdict};

/// Two ends of one connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    for end in [&near, &far] {
        end.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    }
    (near, far)
}

/// A client and a server with a relay between them that lets only `good.test` pass.
struct Between {
    client: TcpStream,
    server: TcpStream,
    judged: Arc<Mutex<Vec<Spoken>>>,
    relay: JoinHandle<Outcome>,
    thread: i32,
}

fn is_good(spoken: &Spoken) -> bool {
    match spoken {
        Spoken::Tls { server_name: host } | Spoken::Http { host, .. } => host.as_deref() == Some("good.test"),
        Spoken::Connect { host, port } => host == "good.test" && *port == 443,
        _ => false,
    }
}

fn between() -> Between {
    let (client, accepted) = pair();
    let (upstream, server) = pair();
    let judged = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&judged);
    let (tell, told) = std::sync::mpsc::channel();
    let relay = thread::spawn(move || {
        tell.send(nix::unistd::gettid().as_raw()).unwrap();
        relay::run(accepted, upstream, &mut |spoken| {
            seen.lock().unwrap().push(spoken.clone());
            is_good(spoken)
        })
    });
    Between { client, server, judged, relay, thread: told.recv().unwrap() }
}

fn read_exactly(stream: &mut TcpStream, expected: &str) {
    let mut got = vec![0; expected.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), expected);
}

fn read_rest(stream: &mut TcpStream) -> String {
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    got
}

fn is_reset(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0; 64]).is_err_and(|e| e.kind() == ErrorKind::ConnectionReset)
}

const GET: &str = "GET /1 HTTP/1.1\r\nHost: good.test\r\n\r\n";
const EVIL: &str = "GET /2 HTTP/1.1\r\nHost: evil.test\r\n\r\n";

#[test]
fn bytes_pass_both_ways_and_half_closing_is_kept() {
    let mut b = between();
    let half = GET.len() / 2;
    b.client.write_all(&GET.as_bytes()[..half]).unwrap();
    thread::sleep(Duration::from_millis(50));
    b.client.write_all(&GET.as_bytes()[half..]).unwrap();
    b.client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_rest(&mut b.server), GET);
    b.server.write_all(b"answer").unwrap();
    drop(b.server);
    assert_eq!(read_rest(&mut b.client), "answer");
    let outcome = b.relay.join().unwrap();
    assert_eq!(outcome.verdict, Verdict::Passed);
    assert_eq!((outcome.totals.bytes_out, outcome.totals.bytes_in), (GET.len() as u64, 6));
    assert!(outcome.error.is_none());
}

#[test]
fn a_refused_client_is_reset_and_nothing_goes_out() {
    for first in [EVIL, "GET / HTTP/1.1\r\n\r\n", "EHLO x\r\n", "\u{1}"] {
        let mut b = between();
        b.client.write_all(first.as_bytes()).unwrap();
        assert!(is_reset(&mut b.client), "{first}");
        assert_eq!(read_rest(&mut b.server), "", "{first}");
        let outcome = b.relay.join().unwrap();
        assert!(matches!(outcome.verdict, Verdict::Refused(_)), "{first}");
        assert_eq!(outcome.totals.bytes_out, 0);
    }
}

#[test]
fn a_client_that_says_nothing_gets_nothing() {
    let mut b = between();
    b.server.write_all(b"220 hello, who are you?\r\n").unwrap();
    b.client.shutdown(Shutdown::Write).unwrap();
    let outcome = b.relay.join().unwrap();
    assert_eq!(outcome.verdict, Verdict::NothingSaid);
    assert_eq!(outcome.totals, relay::Totals::default());
    assert!(is_reset(&mut b.client));
}

#[test]
fn a_later_request_on_the_same_connection_is_judged_as_well() {
    let posted = "POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\n\r\nHost:";
    let chunked =
        "PUT / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n";
    for first in [GET, posted, chunked] {
        // In one piece and byte by byte.
        for step in [1000, 1] {
            let mut b = between();
            b.client.set_nodelay(true).unwrap();
            for piece in first.as_bytes().chunks(step) {
                b.client.write_all(piece).unwrap();
            }
            read_exactly(&mut b.server, first);
            b.server.write_all(b"HTTP/1.1 204 No\r\n\r\n").unwrap();
            read_exactly(&mut b.client, "HTTP/1.1 204 No\r\n\r\n");
            b.client.write_all(GET.as_bytes()).unwrap();
            read_exactly(&mut b.server, GET);
            b.client.write_all(EVIL.as_bytes()).unwrap();
            assert!(is_reset(&mut b.client));
            assert_eq!(read_rest(&mut b.server), "");
            let refused = Spoken::Http { host: Some("evil.test".into()), port: None, method: "GET".into() };
            assert_eq!(b.relay.join().unwrap().verdict, Verdict::Refused(refused));
            assert_eq!(b.judged.lock().unwrap().len(), 3);
        }
    }
}

#[test]
fn a_request_hidden_behind_an_unclear_body_does_not_pass() {
    for body in [
        "Transfer-Encoding: chunked\r\n\r\n0;x=\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nHost: x\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n00000000000000000000\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\nx\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n\u{1}\u{2}",
        "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let mut b = between();
        b.client.write_all(format!("POST / HTTP/1.1\r\nHost: good.test\r\n{body}").as_bytes()).unwrap();
        assert!(is_reset(&mut b.client), "{body}");
        assert_eq!(b.relay.join().unwrap().verdict, Verdict::Refused(Spoken::Unknown), "{body}");
        assert!(!read_rest(&mut b.server).contains("\r\n\r\n0"), "{body}");
    }
}

#[test]
fn a_tunnel_stands_only_when_the_proxy_says_so() {
    let connect = "CONNECT good.test:443 HTTP/1.1\r\nHost: good.test:443\r\n\r\n";
    let mut b = between();
    b.client.write_all(format!("{connect}early").as_bytes()).unwrap();
    read_exactly(&mut b.server, connect);
    b.server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    read_exactly(&mut b.server, "early");
    b.client.write_all(b"\x01\x02").unwrap();
    read_exactly(&mut b.server, "\u{1}\u{2}");
    drop(b.client);
    drop(b.server);
    assert_eq!(b.relay.join().unwrap().verdict, Verdict::Passed);

    let mut b = between();
    b.client.write_all(connect.as_bytes()).unwrap();
    b.server.write_all(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n").unwrap();
    read_exactly(&mut b.client, "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n");
    b.client.write_all(b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n").unwrap();
    assert!(is_reset(&mut b.client));
    assert_eq!(read_rest(&mut b.server), connect);

    // The answer to the first request must not open a tunnel for the second.
    let mut b = between();
    b.client.write_all(format!("{GET}{connect}").as_bytes()).unwrap();
    assert!(is_reset(&mut b.client));
}

#[test]
fn a_stalled_peer_stalls_the_other_and_no_memory_grows() {
    let mut b = between();
    b.client.set_nonblocking(true).unwrap();
    b.client.write_all(b"POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 999999999\r\n\r\n").unwrap();
    let data = vec![0; 1 << 20];
    let mut taken = 0;
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(500) {
        match b.client.write(&data) {
            Ok(count) => (taken, last) = (taken + count, Instant::now()),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    assert!(taken < 64 << 20, "{taken} bytes were taken although nobody reads");
    let idle = cpu_of(b.thread);
    thread::sleep(Duration::from_millis(500));
    assert!(cpu_of(b.thread) - idle < 20, "the relay is busy while nothing moves");
    drop(b.client);
    thread::spawn(move || std::io::copy(&mut b.server, &mut std::io::sink()));
    b.relay.join().unwrap();
}

/// Clock ticks that a thread used, in hundredths of a second.
fn cpu_of(thread: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn an_answer_of_a_server_that_does_not_read_still_arrives() {
    let mut b = between();
    b.client.write_all(b"POST / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 9999999\r\n\r\n").unwrap();
    b.server.read_exact(&mut [0; 10]).unwrap();
    b.server.write_all(b"HTTP/1.1 413 No\r\n\r\n").unwrap();
    b.server.shutdown(Shutdown::Both).unwrap();
    read_exactly(&mut b.client, "HTTP/1.1 413 No\r\n\r\n");
    drop(b.client);
    b.relay.join().unwrap();
}

/// A listener whose every connection is relayed to `to`.
fn relay_to(to: u16) -> (u16, Arc<Mutex<Vec<Spoken>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let judged = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&judged);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || {
                let upstream = TcpStream::connect(("127.0.0.1", to)).unwrap();
                relay::run(client, upstream, &mut |spoken| {
                    seen.lock().unwrap().push(spoken.clone());
                    is_good(spoken)
                })
            });
        }
    });
    (port, judged)
}

struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A pre-shared key does without certificates.
const KEY: &str = "const psk = Buffer.alloc(16, 7), https = require('https');
const tls = { ciphers: 'PSK-AES128-GCM-SHA256:@SECLEVEL=0', maxVersion: 'TLSv1.2' };";

fn node_server() -> (Node, u16) {
    let script = format!(
        "{KEY} const s = https.createServer({{ ...tls, pskCallback: () => psk }}, (q, r) => \
         q.pipe(r)).listen(0, '127.0.0.1', () => console.log(s.address().port))"
    );
    let mut child = Command::new("node").args(["-e", &script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = Vec::new();
    let mut out = child.stdout.take().unwrap();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    (Node(child), String::from_utf8(line).unwrap().trim().parse().unwrap())
}

#[test]
fn node_speaks_tls_through_it_under_the_good_name_only() {
    let (_server, to) = node_server();
    let (port, judged) = relay_to(to);
    for (name, expected) in [("good.test", "300000"), ("evil.test", "ECONNRESET")] {
        let script = format!(
            "{KEY} const q = https.request({{ ...tls, host: '127.0.0.1', port: {port}, method: 'POST', \
             servername: '{name}', checkServerIdentity() {{}}, \
             pskCallback: () => ({{ psk, identity: 'x' }}) }}, r => {{ let n = 0; \
             r.on('data', d => n += d.length).on('end', () => console.log(n)) }}); \
             q.on('error', e => console.log(e.code)); q.end('x'.repeat(300000))"
        );
        let out = Command::new("node").args(["-e", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), expected, "{out:?}");
    }
    let name = |name: &str| Spoken::Tls { server_name: Some(name.into()) };
    assert_eq!(*judged.lock().unwrap(), [name("good.test"), name("evil.test")]);
}

#[test]
fn the_client_hellos_of_openssl_are_understood() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for (words, expected) in [
        (&["-servername", "Good.Test"][..], Some("good.test")),
        (&["-servername", "good.test", "-tls1_2"][..], Some("good.test")),
        (&["-servername", "good.test", "-tls1_3", "-groups", "P-521:X25519"][..], Some("good.test")),
        (&["-noservername"][..], None),
    ] {
        let child = Command::new("openssl")
            .args(["s_client", "-connect", &address])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _child = Node(child);
        let mut stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = Vec::new();
        let said = loop {
            let mut some = [0; 50];
            let count = stream.read(&mut some).unwrap();
            bytes.extend(&some[..count]);
            if let Some(said) = relay::inspect(&bytes) {
                break said;
            }
        };
        assert_eq!(said, Spoken::Tls { server_name: expected.map(str::to_owned) }, "{words:?}");
    }
}
