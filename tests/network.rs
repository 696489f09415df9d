//! What scripts may connect to: nothing but their own loopback servers and granted
//! addresses.

mod harness;

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Site, users};
use serde_json::json;

fn node(site: &mut Site, js: &str) -> harness::Run {
    site.package_with("p", json!({ "scripts": { "postinstall": "node p.js" } }), &[("p.js", js)]);
    site.install()
}

/// A server on loopback that counts who talks to it.
fn server(listener: TcpListener) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = std::io::Write::write_all(&mut stream, b"hello");
            let _ = stream.read(&mut [0; 16]);
        }
    });
    count
}

#[test]
fn a_script_talks_to_its_own_server_and_to_nobody_elses() {
    for user in users() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let count = server(listener);
        let mut site = Site::of(user);
        let run = node(
            &mut site,
            &r"
            const net = require('net'), http = require('http'), fs = require('fs'), out = [];
            const done = (x) => { out.push(x); if (out.length == 3) fs.writeFileSync('out', out.sort().join(' ')); };
            const s = http.createServer((q, r) => r.end('mine')).listen(0, '127.0.0.1', () =>
              http.get({ host: '127.0.0.1', port: s.address().port }, (r) => {
                let body = ''; r.on('data', (d) => body += d); r.on('end', () => { s.close(); done(body); }); }));
            for (const host of ['127.0.0.1', '::ffff:127.0.0.1'])
              net.connect(PORT, host).on('error', (e) => done(e.code)).on('data', (d) => done('LEAK ' + d));"
                .replace("PORT", &port.to_string()),
        );
        assert_eq!(
            site.read("app/node_modules/p/out").as_deref(),
            Some("EACCES EACCES mine"),
            "{user:?} {}",
            run.stderr
        );
        assert_eq!(count.load(Ordering::SeqCst), 0);
        assert_eq!(
            run.denied("p"),
            [format!("connect 127.0.0.1:{port}"), format!("connect 127.0.0.1:{port}")]
        );
    }
}

#[test]
fn a_server_that_was_closed_gives_its_port_back() {
    let mut site = Site::new();
    let run = node(
        &mut site,
        r"
        const net = require('net'), fs = require('fs');
        const s = net.createServer().listen(0, '127.0.0.1', () => { const port = s.address().port; s.close(() => {
          const again = net.createServer().listen(port, '127.0.0.1', () => { again.close(); fs.writeFileSync('out', 'again'); }); }); });",
    );
    run.assert_code(0);
    assert_eq!(site.read("app/node_modules/p/out").as_deref(), Some("again"));
}

#[test]
fn blocking_clients_connect_to_their_own_servers_too() {
    let mut site = Site::new();
    let py = "import socket,threading\ns=socket.create_server(('127.0.0.1',0))\nc=socket.create_connection(s.getsockname())\na,_=s.accept()\na.sendall(b'ping')\nopen('out','w').write(c.recv(4).decode()+str(c.getpeername()==s.getsockname()))\n";
    site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", py)]);
    let run = site.install();
    assert_eq!(site.read("app/node_modules/p/out").as_deref(), Some("pingTrue"), "{}", run.stderr);
    run.assert_quiet("p");
}

#[test]
fn a_granted_address_is_reached_by_the_package_it_was_granted_to() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let count = server(listener);
    let mut site = Site::new();
    site.write("app/npmguard.yaml", &format!("version: 1\npackages:\n  granted:\n    reason: test\n    connect: {{ allow: [\"127.0.0.1:{port}\"] }}\n"));
    let js = format!(
        "require('net').connect({port}, '127.0.0.1').on('data', (d) => {{ require('fs').writeFileSync('out', d); process.exit(0); }}).on('error', (e) => require('fs').writeFileSync('out', e.code));"
    );
    for name in ["granted", "other"] {
        site.package_with(name, json!({ "scripts": { "postinstall": "node p.js" } }), &[("p.js", &js)]);
    }
    let run = site.install();
    assert_eq!(site.read("app/node_modules/granted/out").as_deref(), Some("hello"), "{}", run.stderr);
    assert_eq!(site.read("app/node_modules/other/out").as_deref(), Some("EACCES"));
    assert_eq!(count.load(Ordering::SeqCst), 1);
    run.assert_quiet("granted");
    assert_eq!(run.events("connect", "granted", "allowed").len(), 1, "granted connects are logged as well");
}

#[test]
fn other_sockets_do_not_exist_and_attempts_are_logged() {
    let mut site = Site::new();
    let py = r"
import socket
out=[]
def t(*a):
    try: socket.socket(*a).close(); out.append('made')
    except OSError as e: out.append(e.errno)
for a in [(socket.AF_INET,socket.SOCK_STREAM,262),
          (socket.AF_INET,socket.SOCK_DGRAM,1),(socket.AF_INET,socket.SOCK_DGRAM,136),(socket.AF_INET,socket.SOCK_RAW,1),
          (socket.AF_UNIX,socket.SOCK_DGRAM),(38,socket.SOCK_SEQPACKET),(40,socket.SOCK_STREAM),(socket.AF_PACKET,socket.SOCK_RAW),
          (16,3,16)]: t(*a)
t(socket.AF_INET,socket.SOCK_STREAM); t(16,3,0); t(socket.AF_UNIX,socket.SOCK_STREAM)
open('out','w').write(' '.join(map(str,out)))
";
    site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", py)]);
    let run = site.install();
    let out = site.read("app/node_modules/p/out").expect("ran");
    if harness::is_filtered() {
        // A container's own filter answers for two of the families.
        assert!(out.starts_with("13 13 13 13 13 ") && out.ends_with(" made made made"), "{out}");
        return;
    }
    assert_eq!(out, "13 13 13 13 13 97 97 97 97 made made made", "{}", run.stderr);
    assert_eq!(run.events("socket", "p", "denied").len(), 9);
}

#[test]
fn udp_sockets_exist_and_are_mute() {
    for user in users() {
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let peer6 = std::net::UdpSocket::bind("[::1]:0").expect("a port");
        let (port, port6) =
            (peer.local_addr().expect("bound").port(), peer6.local_addr().expect("bound").port());
        let mut site = Site::of(user);
        let py = r"
import socket,os,ctypes,struct
libc=ctypes.CDLL(None,use_errno=True)
out=[]
def t(f):
    try: f(); out.append('went')
    except OSError as e: out.append(e.errno)
for family,address in ((socket.AF_INET,('127.0.0.1',PORT)),(socket.AF_INET6,('::1',SIX))):
    s=socket.socket(family,socket.SOCK_DGRAM)
    s.bind(('',0))
    t(lambda: s.sendto(b'x',address))
    t(lambda: s.sendmsg([b'x'],[],0,address))
    t(lambda: s.sendmsg([b'x'],[],0x800,address))
    t(lambda: s.connect(address))
    t(lambda: s.send(b'x'))
    t(lambda: os.write(s.fileno(),b'x'))
    s.setsockopt(17,1,1); t(lambda: s.sendmsg([b'x'*100],[],0x8800,address)); t(lambda: s.setsockopt(17,1,0))
    libc.connect(s.fileno(),struct.pack('H14x',0),16)
    t(lambda: s.sendmsg([b'x'],[],0x800,address))
t(lambda: socket.socket(socket.AF_INET,socket.SOCK_DGRAM).setsockopt(0,35,socket.inet_aton('224.1.2.3')+bytes(4)))
open('out','w').write(' '.join(map(str,out)))
"
        .replace("PORT", &port.to_string())
        .replace("SIX", &port6.to_string());
        site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", &py)]);
        let run = site.install();
        let one = "13 13 32 13 89 89 32 went 32";
        assert_eq!(
            site.read("app/node_modules/p/out").as_deref(),
            Some(format!("{one} {one} 1").as_str()),
            "{user:?} {}",
            run.stderr
        );
        for peer in [peer, peer6] {
            peer.set_nonblocking(true).expect("nonblocking");
            assert!(peer.recv(&mut [0; 16]).is_err(), "something went through");
        }
        let denied = run.events("connect", "p", "denied");
        assert!(denied.iter().all(|e| e["target"]["kind"] == "udp"), "{denied:?}");
        run.assert_denied("p", &format!("connect 127.0.0.1:{port}"));
        run.assert_denied("p", &format!("connect [::1]:{port6}"));
        run.assert_denied("p", "multicast");
    }
}

#[test]
fn an_abstract_socket_of_its_own_is_reached() {
    let mut site = Site::new();
    let py = r"
import socket
s=socket.socket(socket.AF_UNIX); s.bind(b'\x00npmguard-own'); s.listen()
c=socket.socket(socket.AF_UNIX); c.connect(b'\x00npmguard-own'); c.sendall(b'ping')
open('out','w').write(s.accept()[0].recv(4).decode())
";
    site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", py)]);
    let run = site.install();
    assert_eq!(site.read("app/node_modules/p/out").as_deref(), Some("ping"), "{}", run.stderr);
    run.assert_quiet("p");
}

#[test]
fn fast_open_is_not_a_way_around_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let count = server(listener);
    let mut site = Site::new();
    let py = format!(
        "import socket\ns=socket.socket()\nout=[]\nfor f in (lambda: s.sendto(b'x',0x20000000,('127.0.0.1',{port})), lambda: s.sendmsg([b'x'],[],0x20000000,('127.0.0.1',{port}))):\n  try: f(); out.append('sent')\n  except OSError as e: out.append(str(e.errno))\nopen('out','w').write(' '.join(out))\n"
    );
    site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", &py)]);
    let run = site.install();
    assert_eq!(site.read("app/node_modules/p/out").as_deref(), Some("95 95"));
    assert_eq!(count.load(Ordering::SeqCst), 0);
    run.assert_denied("p", &format!("connect 127.0.0.1:{port}"));
}

#[test]
fn unix_sockets_outside_are_refused_by_every_name() {
    for user in users() {
        let mut site = Site::of(user);
        let path = site.path("home/docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("mode");
        listener.set_nonblocking(true).expect("nonblocking");
        let run = node(
            &mut site,
            r"
            const net = require('net'), fs = require('fs'), os = require('os'), out = [];
            const s = os.homedir() + '/docker.sock'; fs.symlinkSync(s, 'alias.sock');
            const names = [s, 'alias.sock', '../../../home/docker.sock', '\0abstract-name'];
            for (const n of names) net.connect(n).on('connect', () => done('LEAK')).on('error', (e) => done(e.code));
            const own = net.createServer((c) => c.end('mine')).listen(os.tmpdir() + '/own.sock', () =>
              net.connect(os.tmpdir() + '/own.sock').on('data', (d) => { own.close(); done('' + d); }));
            const done = (x) => { out.push(x); if (out.length == 5) fs.writeFileSync('out', out.sort().join(' ')); };",
        );
        let out = site.read("app/node_modules/p/out").expect("ran");
        assert_eq!(out, "EACCES EACCES EACCES EACCES mine", "{user:?} {}", run.stderr);
        assert!(listener.accept().is_err(), "nobody connected");
        run.assert_denied("p", "docker.sock");
        assert!(run.events("connect", "p", "denied").iter().any(|e| e["detail"]["service"] == "docker"));
    }
}

#[test]
fn servers_listen_on_loopback_only() {
    let mut site = Site::new();
    let py = r"
import socket
out=[]
for a in ['0.0.0.0','127.0.0.1']:
    s=socket.socket()
    try: s.bind((a,0)); s.listen(); out.append('ok')
    except OSError as e: out.append(e.errno)
s=socket.socket()
try: s.listen(); out.append('ok')
except OSError as e: out.append(e.errno)
open('out','w').write(' '.join(map(str,out)))
";
    site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", py)]);
    let run = site.install();
    assert_eq!(site.read("app/node_modules/p/out").as_deref(), Some("13 ok 13"), "{}", run.stderr);
    run.assert_denied("p", "0.0.0.0:0");
}

#[test]
fn refused_telemetry_is_no_violation_and_other_hosts_are() {
    for user in users() {
        let mut site = Site::of(user);
        let run = node(
            &mut site,
            "require('dns').lookup('opencollective.com', (e) => require('fs').writeFileSync('out', e.code));",
        );
        run.assert_code(0);
        assert_eq!(
            site.read("app/node_modules/p/out").as_deref(),
            Some("ENOTFOUND"),
            "{user:?} {}",
            run.stderr
        );
        let denied = run.events("resolve", "p", "denied");
        assert!(!denied.is_empty() && denied.iter().all(|e| e["detail"]["expected"] == true), "{denied:?}");
        assert!(!run.stderr.contains("denied"), "{}", run.stderr);
        assert!(run.stderr.contains("expected"), "{}", run.stderr);
        let mut site = Site::of(user);
        let run = node(&mut site, "require('dns').lookup('host.invalid', () => {});");
        run.assert_code(9);
        run.assert_denied("p", "resolve host.invalid");
        assert!(run.stderr.contains(r#"connect: { allow: ["host.invalid"]"#), "{}", run.stderr);
    }
}

#[test]
fn name_services_are_absent_so_that_programs_go_on_to_dns() {
    if !harness::is_root() || harness::is_filtered() {
        println!("skipped: only root, outside of a container, can put a name service in its place");
        return;
    }
    let mut site = Site::new();
    // A name service that would hang whoever asks it.
    let place = "mount -t tmpfs none /run && mkdir /run/nscd && exec 3>&1 && \
        (node -e \"require('net').createServer(()=>{}).listen('/run/nscd/socket')\" & while [ ! -S /run/nscd/socket ]; do sleep 0.05; done; \
        \"$@\"; s=$?; kill %1 2>/dev/null || pkill -P $$ node; exit $s)";
    site.through(&["unshare", "-m", "bash", "-c", place, "x"]);
    let py = "import socket\ntry: socket.getaddrinfo('host.invalid', 80)\nexcept socket.gaierror as e: open('out','w').write(str(e.errno))\n";
    site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", py)]);
    let run = site.install();
    assert_eq!(site.read("app/node_modules/p/out").as_deref(), Some("-2"), "{}", run.stderr);
    let mut denied = run.denied("p");
    denied.dedup();
    assert_eq!(denied, ["resolve host.invalid"], "the name service is no violation");
}

#[test]
fn a_port_that_is_shared_with_another_program_is_not_the_scripts_own() {
    // A service of the user that shares its port, as some do to restart without a gap.
    let py = "import socket,sys\ns=socket.socket()\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)\ns.bind(('127.0.0.1',0)); s.listen(64)\nprint(s.getsockname()[1], flush=True)\nn=0\nwhile True:\n  c,_=s.accept(); c.sendall(b'outside'); c.close()\n";
    let mut service = std::process::Command::new("python3")
        .args(["-c", py])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python");
    let mut port = String::new();
    let mut line = std::io::BufReader::new(service.stdout.take().expect("piped"));
    std::io::BufRead::read_line(&mut line, &mut port).expect("a port");
    let mut site = Site::new();
    let script = r"
import socket
s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1); s.bind(('127.0.0.1',NUMBER)); s.listen(64)
out=set()
for i in range(32):
    c=socket.socket(); c.settimeout(0.2)
    try: c.connect(('127.0.0.1',NUMBER)); out.add(c.recv(7).decode())
    except socket.timeout: out.add('own')
    except OSError as e: out.add(str(e.errno))
open('out','w').write(' '.join(sorted(out)))
"
    .replace("NUMBER", port.trim());
    site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", &script)]);
    let run = site.install();
    let _ = service.kill();
    let _ = service.wait();
    assert_eq!(site.read("app/node_modules/p/out").as_deref(), Some("13"), "{}", run.stderr);
}

#[test]
fn a_unix_client_tries_again_on_the_same_socket_until_its_server_is_there() {
    let mut site = Site::new();
    let py = r"
import errno,os,socket,tempfile
path=tempfile.gettempdir()+'/own.sock'
server=socket.socket(socket.AF_UNIX); server.bind(path)
client=socket.socket(socket.AF_UNIX); out=[]
def t():
    try: client.connect(path); out.append('connected')
    except OSError as e: out.append(errno.errorcode[e.errno])
t(); server.listen(); t(); t()
connection,_=server.accept(); client.close(); out.append(repr(connection.recv(1)))
open('out','w').write(' '.join(out))
";
    site.package_with("p", json!({ "scripts": { "postinstall": "python3 -B p.py" } }), &[("p.py", py)]);
    let run = site.install();
    assert_eq!(
        site.read("app/node_modules/p/out").as_deref(),
        Some("ECONNREFUSED connected EISCONN b''"),
        "{}",
        run.stderr
    );
}
