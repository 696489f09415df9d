//! What the kernel promises of a socket, with a guard that makes the connection in the
//! script's stead: every program must see what it would see without one.

mod harness;

use std::collections::BTreeSet;

use harness::world::{self, BLACKHOLE, World};
use harness::{User, users};
use serde_json::json;

/// Runs Python with these grants, and what it wrote.
fn python(world: &World, user: User, grants: &[&str], py: &str) -> (String, harness::Run) {
    let mut site = world.site(user);
    site.py(world, "p", py);
    site.grant(&[("p", grants)]);
    let run = site.attempt();
    (site.out("p"), run)
}

#[test]
fn blocking_and_nonblocking_connects_behave_as_ever() {
    let Some(world) = world::open() else { return };
    world.name("modes.sock.test", json!({ "a": ["203.0.113.50"], "aaaa": ["2001:db8:1::50"] }));
    for user in users() {
        let (out, run) = python(
            world,
            user,
            &["modes.sock.test"],
            r"
import select
host = 'modes.sock.test'
for family in (socket.AF_INET, socket.AF_INET6):
    there = socket.getaddrinfo(host, 7777, family, socket.SOCK_STREAM)[0][4]
    shut = there[:1] + (7779,) + there[2:]
    # Blocking.
    s = socket.socket(family)
    say(code(lambda: s.connect(there)), s.recv(5).decode(), s.getpeername() == there, s.getsockname()[1] > 0, '')
    say(code(lambda: s.connect(there)), '')
    s.close()
    say(code(lambda: socket.socket(family).connect(shut)), '')
    # Non-blocking: the answer comes later, by poll and SO_ERROR.
    for target in (there, shut):
        s = socket.socket(family); s.setblocking(False)
        first = s.connect_ex(target)
        p = select.poll(); p.register(s, select.POLLOUT); ready = p.poll(3000)
        say(first in (0, errno.EINPROGRESS, errno.ECONNREFUSED), bool(ready) or first != errno.EINPROGRESS, errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or (first if first != errno.EINPROGRESS else 0), 'connected'), '')
        s.close()
    # With a time-out, which Python makes of a non-blocking connect.
    s = socket.create_connection(there[:2], 3); say(s.recv(5).decode(), ''); s.close()
    # Made non-blocking between socket() and connect(), and back.
    s = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK); s.setblocking(True)
    say(code(lambda: s.connect(there)), s.recv(5).decode(), '')
    # Options that were set before survive.
    s = socket.socket(family); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.connect(there); say(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), s.get_inheritable(), '|')",
        );
        let one = "ok hello True True EISCONN ECONNREFUSED True True connected True True ECONNREFUSED hello ok hello 1 1 False |";
        assert_eq!(out, format!("{one}{one}"), "{user:?} {}", run.stderr);
        run.assert_quiet("p");
        let results: BTreeSet<String> = run
            .events("connect", "p", "allowed")
            .iter()
            .map(|e| e["detail"]["result"].as_str().unwrap_or("?").to_owned())
            .collect();
        // The error of a non-blocking connect is the script's to fetch, once: it may be gone.
        let told: BTreeSet<&str> = results.iter().map(String::as_str).filter(|r| *r != "failed").collect();
        assert_eq!(told, BTreeSet::from(["connected", "ECONNREFUSED"]));
    }
}

#[test]
fn wrong_arguments_get_the_kernels_own_errors() {
    let Some(world) = world::open() else { return };
    let (out, run) = python(
        world,
        User::Caller,
        &["\"203.0.113.51:7777\""],
        r"
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def raw(fd, data, length=None):
    r = libc.connect(fd, data, len(data) if length is None else length)
    return 'ok' if r == 0 else errno.errorcode[ctypes.get_errno()]
there = struct.pack('=H', socket.AF_INET) + struct.pack('>H', 7777) + socket.inet_aton('203.0.113.51') + bytes(8)
s = socket.socket()
say(raw(s.fileno(), there, 8), raw(s.fileno(), there, 100000), raw(s.fileno(), None, 16), raw(999, there), raw(os.open('p.py', 0), there), '')
# A shorter address than the structure is enough for the kernel; so is a longer one.
s, l = socket.socket(), socket.socket()
say(raw(s.fileno(), there), raw(l.fileno(), there + bytes(40)), '')
# Natively AF_UNSPEC takes a connection apart; here a connection stays what it was decided to be.
s = socket.socket(); s.connect(('203.0.113.51', 7777)); say(raw(s.fileno(), bytes(16)), raw(s.fileno(), there), '')
s = socket.socket(socket.AF_INET6); say(raw(s.fileno(), there))",
    );
    assert_eq!(
        out, "EINVAL EINVAL EFAULT EBADF ENOTSOCK ok ok EAFNOSUPPORT EISCONN EINVAL",
        "{}",
        run.stderr
    );
}

#[test]
fn a_signal_ends_a_blocking_connect_as_without_a_guard() {
    let Some(world) = world::open() else { return };
    for user in users() {
        let mut site = world.site(user);
        // Python retries by itself, and connect(2) of it cannot be told not to: libc can.
        site.py(
            world,
            "p",
            &r"
import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
there = struct.pack('=H', socket.AF_INET) + struct.pack('>H', 80) + socket.inet_aton('BLACKHOLE') + bytes(8)
caught = []
def blocked(restart):
    signal.signal(signal.SIGALRM, lambda *a: caught.append(1)); signal.siginterrupt(signal.SIGALRM, not restart)
    s = socket.socket(); signal.setitimer(signal.ITIMER_REAL, 0.3)
    if restart: threading.Timer(1.2, lambda: os._exit(7)).start()
    t = time.time(); r = libc.connect(s.fileno(), there, 16); e = ctypes.get_errno()
    return errno.errorcode.get(e, str(r)), 0.2 < time.time() - t < 1
say(*blocked(False), len(caught), '')
pid = os.fork()
if pid == 0:
    blocked(True); os._exit(3)
# With SA_RESTART the call begins again: the child still waits when its time is over.
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), '')
# A deadly signal ends the process in the middle of the call.
pid = os.fork()
if pid == 0:
    signal.signal(signal.SIGTERM, signal.SIG_DFL); socket.socket().connect(('BLACKHOLE', 80)); os._exit(0)
time.sleep(0.3); t = time.time(); os.kill(pid, signal.SIGTERM); status = os.waitpid(pid, 0)[1]
say(os.WTERMSIG(status) == signal.SIGTERM, time.time() - t < 1)"
                .replace("BLACKHOLE", BLACKHOLE),
        );
        site.grant(&[("p", &[&format!("\"{BLACKHOLE}:80\"")])]);
        let run = site.attempt();
        assert_eq!(site.out("p"), "EINTR True 1 7 True True", "{user:?} {}", run.stderr);
    }
}

#[test]
fn time_limits_of_a_connect_are_kept() {
    let Some(world) = world::open() else { return };
    let py = r"
import struct
# SO_SNDTIMEO bounds a blocking connect.
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 500000))
t = time.time(); say(code(lambda: s.connect(('BLACKHOLE', 80))), 0.4 < time.time() - t < 2, '')
# So does the program's own patience.
t = time.time(); say(code(lambda: socket.create_connection(('BLACKHOLE', 80), 0.5)), 0.4 < time.time() - t < 2, '')
# And the kernel's count of attempts.
s = socket.socket(); s.setsockopt(socket.IPPROTO_TCP, 18, 700)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
t = time.time(); say(code(lambda: s.connect(('BLACKHOLE', 80))), time.time() - t < 6, '')
# A non-blocking connect returns at once.
s = socket.socket(); s.setblocking(False)
t = time.time(); say(errno.errorcode[s.connect_ex(('BLACKHOLE', 80))], errno.errorcode[s.connect_ex(('BLACKHOLE', 80))], time.time() - t < 0.3)"
        .replace("BLACKHOLE", BLACKHOLE);
    for user in users() {
        let (out, run) = python(world, user, &[&format!("\"{BLACKHOLE}:80\"")], &py);
        assert_eq!(
            out, "EINPROGRESS True timeout True ETIMEDOUT True EINPROGRESS EALREADY True",
            "{user:?} {}",
            run.stderr
        );
    }
}

#[test]
fn duplicated_and_inherited_sockets_connect() {
    let Some(world) = world::open() else { return };
    world.host("dup.sock.test", "203.0.113.52");
    for user in users() {
        let (out, run) = python(
            world,
            user,
            &["dup.sock.test:7777"],
            r"
import subprocess
there = socket.getaddrinfo('dup.sock.test', 7777, socket.AF_INET, socket.SOCK_STREAM)[0][4]
# dup, dup2, F_DUPFD: whichever number connects, all of them are connected.
s = socket.socket(); d = s.dup()
say(code(lambda: d.connect(there)), s.recv(5).decode(), s.getpeername() == there, '')
s = socket.socket(); os.dup2(s.fileno(), 77); c = socket.socket(fileno=77)
say(code(lambda: c.connect(there)), s.recv(5).decode(), '')
# A child connects the socket of its parent: by fork, and by exec.
s = socket.socket(); pid = os.fork()
if pid == 0: s.connect(there); os._exit(0)
os.waitpid(pid, 0); say(s.recv(5).decode(), '')
s = socket.socket(); s.set_inheritable(True)
child = 'import socket,sys; s=socket.socket(fileno=%d); s.connect((%r,7777))' % (s.fileno(), there[0])
say(subprocess.call([sys.executable, '-B', '-c', child], close_fds=False), s.recv(5).decode(), '')
# Passed over a Unix socket.
a, b = socket.socketpair(); s = socket.socket(); socket.send_fds(a, [b'x'], [s.fileno()]); fd = socket.recv_fds(b, 1, 1)[1][0]
say(code(lambda: socket.socket(fileno=fd).connect(there)), s.getpeername() == there, '')
# Made by a child, connected after its maker has gone.
a, b = socket.socketpair(); pid = os.fork()
if pid == 0: m = socket.socket(); socket.send_fds(a, [b'x'], [m.fileno()]); os._exit(0)
os.waitpid(pid, 0); fd = socket.recv_fds(b, 1, 1)[1][0]; s = socket.socket(fileno=fd)
say(code(lambda: s.connect(there)), s.recv(5).decode(), '')
# In another thread, while this one has closed its number for it.
s = socket.socket(); d = s.dup(); s.close(); r = []
t = threading.Thread(target=lambda: r.append(code(lambda: d.connect(there)))); t.start(); t.join(); say(*r)",
        );
        assert_eq!(
            out, "ok hello True ok hello hello 0 hello ok True ok hello ok",
            "{user:?} {}",
            run.stderr
        );
        run.assert_quiet("p");
    }
}

#[test]
fn a_dead_address_does_not_keep_a_client_from_the_living_one() {
    let Some(world) = world::open() else { return };
    for name in ["eyes-net", "eyes-fetch", "eyes-curl"] {
        world.name(&format!("{name}.world.test"), json!({ "a": ["203.0.113.53"], "aaaa": ["2001:db8::66"] }));
    }
    let mut site = world.site(User::Caller);
    site.js(
        world,
        "net",
        "const t = Date.now(), s = require('net').connect(7777, 'eyes-net.world.test').on('data', (d) => { say(d + (Date.now() - t < 3000)); s.end(); }).on('error', (e) => say(e.code ?? e))",
    );
    site.js(
        world,
        "fetch",
        "const t = Date.now(); fetch('https://eyes-fetch.world.test/').then((r) => say(r.status + ' ' + (Date.now() - t < 4000)), (e) => say(e.cause.code))",
    );
    site.sh(world, "curl", "curl -sS -m 5 --cacert ca.pem https://eyes-curl.world.test/");
    site.grant(&[
        ("net", &["eyes-net.world.test"]),
        ("fetch", &["eyes-fetch.world.test"]),
        ("curl", &["eyes-curl.world.test"]),
    ]);
    let run = site.attempt();
    assert_eq!(site.out("net"), "hello\ntrue", "{}", run.stderr);
    assert_eq!(site.out("fetch"), "200 true", "{}", run.stderr);
    assert!(site.out("curl").starts_with("hello from"), "{} {}", site.out("curl"), run.stderr);
}

#[test]
fn ipv4_addresses_in_ipv6_clothes_are_the_same_addresses() {
    let Some(world) = world::open() else { return };
    world.host("mapped.sock.test", "203.0.113.54");
    let (out, run) = python(
        world,
        User::Caller,
        &["mapped.sock.test:7777"],
        r"
say(code(lambda: socket.create_connection(('::ffff:203.0.113.54', 7777), 3)), '')
say(socket.getaddrinfo('mapped.sock.test', 7777, socket.AF_INET6, socket.SOCK_STREAM, 0, socket.AI_V4MAPPED)[0][4][0], '')
say(code(lambda: socket.create_connection(('::ffff:203.0.113.54', 7777), 3)), code(lambda: socket.create_connection(('::ffff:203.0.113.55', 7777), 3)), '')
say(code(lambda: socket.create_connection(('::203.0.113.54', 7777), 3)) in ('EACCES', 'ENETUNREACH'))",
    );
    assert_eq!(out, "EACCES ::ffff:203.0.113.54 ok EACCES True", "{}", run.stderr);
    run.assert_denied("p", "connect 203.0.113.55:7777");
}

#[test]
fn closing_a_socket_ends_the_connection() {
    let Some(world) = world::open() else { return };
    for user in users() {
        let address = if user == User::Caller { "203.0.113.56" } else { "203.0.113.57" };
        let (out, run) = python(
            world,
            user,
            &[&format!("\"{address}:7777\"")],
            &r"
import struct
there = ('ADDRESS', 7777)
def said(s, how):
    s.recv(100); say('%s=%d ' % (how, s.getsockname()[1])); return s
def closed(how): say('%s=%d ' % (how, int(time.time() * 1000))); time.sleep(0.7)
s = socket.socket(); s.connect(there); said(s, 'a'); s.close(); closed('a')
s = socket.socket(); s.setblocking(False); s.connect_ex(there); s.setblocking(True); said(s, 'b'); s.close(); closed('b')
s = socket.socket(); s.connect(there); said(s, 'c'); d = s.dup(); s.close(); d.close(); closed('c')
s = socket.socket(); pid = os.fork()
if pid == 0: s.connect(there); os._exit(0)
os.waitpid(pid, 0); said(s, 'd'); s.close(); closed('d')
# The process ends without closing.
pid = os.fork()
if pid == 0: s = socket.socket(); s.connect(there); said(s, 'e'); os._exit(0)
os.waitpid(pid, 0); closed('e')"
                .replace("ADDRESS", address),
        );
        let marks: Vec<(&str, i64)> = out
            .split_whitespace()
            .filter_map(|w| w.split_once('='))
            .map(|(k, v)| (k, v.parse().expect("a number")))
            .collect();
        assert_eq!(marks.len(), 10, "{out} {}", run.stderr);
        for pair in marks.chunks(2) {
            let (how, port, at) = (pair[0].0, pair[0].1, pair[1].1);
            let from = format!("192.0.2.2:{port}");
            let end = world
                .wait_for("tcp", |r| {
                    r["event"] == "end" && r["from"] == *from && r["local"] == format!("{address}:7777")
                })
                .unwrap_or_else(|| panic!("{user:?} {how}: the server never saw the end"));
            let late = end["at"].as_i64().expect("a time") - at;
            assert!(late < 500, "{user:?} {how}: the server saw the end {late} ms after");
        }
    }
}

#[test]
fn a_blocked_connect_holds_up_nobody_else() {
    let Some(world) = world::open() else { return };
    world.host("busy.sock.test", "203.0.113.58");
    for user in users() {
        let (out, run) = python(
            world,
            user,
            &["busy.sock.test", &format!("\"{BLACKHOLE}:80\"")],
            &r"
import subprocess
# Forty processes and threads wait for an answer that never comes.
pids = []
for n in range(20):
    pid = os.fork()
    if pid == 0:
        try: socket.socket().connect(('BLACKHOLE', 80))
        finally: os._exit(0)
    pids.append(pid)
for n in range(20): threading.Thread(target=lambda: code(lambda: socket.socket().connect(('BLACKHOLE', 80))), daemon=True).start()
time.sleep(0.3); t = time.time()
for n in range(20):
    open('made%d' % n, 'w').close(); s = socket.create_connection(('busy.sock.test', 7777), 5); s.recv(5); s.close()
say(subprocess.call(['true']), time.time() - t < 3, '')
for pid in pids: os.kill(pid, signal.SIGKILL)
for pid in pids: os.waitpid(pid, 0)
say(time.time() - t < 5); os._exit(0)"
                .replace("BLACKHOLE", BLACKHOLE),
        );
        assert_eq!(out, "0 True True", "{user:?} {}", run.stderr);
    }
}

#[test]
fn a_script_that_ends_amid_connects_ends() {
    let Some(world) = world::open() else { return };
    let start = std::time::Instant::now();
    let (out, run) = python(
        world,
        User::Caller,
        &[&format!("\"{BLACKHOLE}:80\"")],
        &r"
for n in range(10): threading.Thread(target=lambda: code(lambda: socket.socket().connect(('BLACKHOLE', 80))), daemon=True).start()
time.sleep(0.5); say('end'); os._exit(0)"
            .replace("BLACKHOLE", BLACKHOLE),
    );
    assert_eq!(out, "end", "{}", run.stderr);
    run.assert_code(0);
    assert!(start.elapsed().as_secs() < 15, "{:?}", start.elapsed());
}

#[test]
fn many_connections_and_much_data_pass() {
    let Some(world) = world::open() else { return };
    world.host("many.world.test", "203.0.113.59");
    let mut site = world.site(User::Caller);
    let js = r"
        (async () => {
          let bytes = 0;
          for (let n = 0; n < 10; n += 1) {
            const all = Array.from({ length: 20 }, (_, i) => fetch('http://many.world.test:8080/big/' + (100000 + i), { headers: { connection: 'close' } }).then((r) => r.arrayBuffer()));
            for (const b of await Promise.all(all)) bytes += b.byteLength;
          }
          say(bytes);
        })().catch((e) => say(e.cause ?? e));";
    site.js(world, "plain", js);
    site.js(world, "relayed", js);
    site.grant(&[
        ("plain", &["many.world.test"]),
        ("relayed", &["{ host: \"many.world.test:8080\", verify: sni }"]),
    ]);
    let run = site.attempt();
    for package in ["plain", "relayed"] {
        assert_eq!(
            site.out(package),
            (10 * (0..20).map(|i| 100_000 + i).sum::<u32>()).to_string(),
            "{package} {}",
            run.stderr
        );
        run.assert_quiet(package);
    }
}

#[test]
fn two_threads_that_connect_one_socket_both_get_an_answer() {
    let Some(world) = world::open() else { return };
    let py = r"
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, __import__('struct').pack('ll', 1, 0))
said = []
threads = [threading.Thread(target=lambda: said.append(code(lambda: s.connect(('BLACKHOLE', 80))))) for _ in range(3)]
[t.start() for t in threads]; [t.join(5) for t in threads]
say(len(said), all(e in ('EALREADY', 'EINPROGRESS', 'EAGAIN', 'timeout') for e in said) or said)"
        .replace("BLACKHOLE", BLACKHOLE);
    let (out, run) = python(world, User::Caller, &[&format!("\"{BLACKHOLE}:80\"")], &py);
    assert_eq!(out, "3 True", "{}", run.stderr);
}
