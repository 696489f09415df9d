//! What scripts may reach by name: grants of hosts, against servers in an internet of the
//! tests' own. The resolver's own conduct is in `network_resolver.rs`, the sockets' in
//! `network_sockets.rs`.

mod harness;

use harness::world::{self, World};
use harness::{Run, Site, User, target, users};
use serde_json::json;

const HELLO: &str = "hello from";

/// The events of a kind with this host.
fn events<'a>(run: &'a Run, kind: &str, package: &str, host: &str) -> Vec<&'a serde_json::Value> {
    run.events(kind, package, "*").into_iter().filter(|e| e["target"]["host"] == host).collect()
}

fn http_requests(world: &World, host: &str) -> usize {
    world.seen("http").iter().filter(|r| r["host"].as_str().is_some_and(|h| h.starts_with(host))).count()
}

#[test]
fn the_world_works_without_npmguard() {
    let Some(world) = world::open() else { return };
    world.host("plain.world.test", "203.0.113.10");
    for user in users() {
        let mut site = world.site(user);
        site.js(world, "p", "fetch('https://plain.world.test/x').then((r) => r.text()).then(say, say)");
        let run = site.native_install();
        run.assert_code(0);
        assert_eq!(site.out("p"), "hello from plain.world.test\n");
    }
    assert_eq!(world.seen_of("tls", "plain.world.test").len(), users().len());
}

/// One package for each client, each with a host of its own.
const CLIENTS: [(&str, &str); 7] = [
    (
        "https",
        "require('https').get('https://HOST/x', (r) => r.on('data', say)).on('error', (e) => say(e.code))",
    ),
    (
        "http",
        "require('http').get('http://HOST:8080/x', (r) => r.on('data', say)).on('error', (e) => say(e.code))",
    ),
    ("fetch", "fetch('https://HOST/x').then((r) => r.text()).then(say, (e) => say(e.cause.code))"),
    (
        "lookup",
        "require('dns').lookup('HOST', { all: true, family: 4 }, (e, a) => say(e?.code ?? a.map((x) => x.address)))",
    ),
    ("resolve4", "require('dns').resolve4('HOST', (e, a) => say(e?.code ?? a))"),
    ("resolve6", "require('dns').promises.resolve6('HOST').then(say, (e) => say(e.code))"),
    (
        "parallel",
        "Promise.all(Array.from({ length: 40 }, (_, n) => fetch('https://HOST/' + n).then((r) => r.status))).then((all) => say([...new Set(all)]), (e) => say(e.cause.code))",
    ),
];

#[test]
fn nodes_clients_reach_a_granted_name_and_no_other() {
    let Some(world) = world::open() else { return };
    for user in users() {
        let id = format!("{user:?}").to_lowercase();
        let mut site = world.site(user);
        let mut grants = Vec::new();
        for (client, js) in CLIENTS {
            let (good, bad) =
                (format!("{client}.{id}.cdn.world.test"), format!("{client}-bad.{id}.cdn.world.test"));
            // The certificate's wildcard covers one label only.
            let (good, bad) = (good.replacen('.', "-", 1), bad.replacen('.', "-", 1));
            for name in [&good, &bad] {
                world.name(name, json!({ "a": ["203.0.113.11"], "aaaa": ["2001:db8:1::11"] }));
            }
            site.js(world, client, &js.replace("HOST", &good));
            site.js(world, &format!("{client}-bad"), &js.replace("HOST", &bad));
            grants.push((client, vec![good]));
        }
        let lists: Vec<(&str, Vec<&str>)> =
            grants.iter().map(|(p, hosts)| (*p, hosts.iter().map(String::as_str).collect())).collect();
        site.grant(&lists.iter().map(|(p, hosts)| (*p, hosts.as_slice())).collect::<Vec<_>>());
        let run = site.attempt();
        for (client, want) in [
            ("https", HELLO),
            ("http", HELLO),
            ("fetch", HELLO),
            ("lookup", "203.0.113.11"),
            ("resolve4", "203.0.113.11"),
            ("resolve6", "2001:db8:1::11"),
            ("parallel", "200"),
        ] {
            let host = format!("{client}-{id}.cdn.world.test");
            let bad_host = format!("{client}-bad-{id}.cdn.world.test");
            assert!(site.out(client).starts_with(want), "{client}: {} {}", site.out(client), run.stderr);
            assert_eq!(site.out(&format!("{client}-bad")), "ENOTFOUND", "{client} {user:?}");
            assert_eq!(world.asked(&bad_host), Vec::<String>::new(), "a denied name is not asked for");
            run.assert_quiet(client);
            let resolved = events(&run, "resolve", client, &host);
            assert!(
                resolved
                    .iter()
                    .any(|e| e["verdict"] == "allowed"
                        && e["detail"]["addresses"].to_string().contains("11\"")),
                "{resolved:?}"
            );
            let bad = format!("{client}-bad");
            assert!(
                run.denied(&bad).iter().all(|t| *t == format!("resolve {bad_host}")),
                "{:?}",
                run.denied(&bad)
            );
            assert!(!run.denied(&bad).is_empty());
            if want == HELLO {
                let connects = events(&run, "connect", client, &host);
                assert_eq!(connects.len(), 1, "{connects:?}");
                assert_eq!(connects[0]["verdict"], "allowed");
                assert_eq!(connects[0]["detail"]["result"], "connected");
                assert!(connects[0]["detail"]["connect_us"].as_u64().is_some_and(|us| us < 2_000_000));
                assert!(
                    connects[0]["target"]["address"].as_str().is_some_and(|a| a.contains(":")),
                    "{connects:?}"
                );
            }
        }
    }
}

#[test]
fn curl_git_and_python_reach_a_granted_name_and_no_other() {
    let Some(world) = world::open() else { return };
    dumb_repository(world, "tools.git");
    for user in users() {
        let id = format!("{user:?}").to_lowercase();
        let mut site = world.site(user);
        let mut grants: Vec<(&str, String)> = Vec::new();
        for tool in ["curl", "git", "python", "urllib"] {
            for name in [tool.to_owned(), format!("{tool}-bad")] {
                let host = format!("{name}-{id}.world.test");
                world.host(&host, "203.0.113.12");
                match tool {
                    "curl" => site.sh(world, &name, &format!("curl -sS --cacert ca.pem https://{host}/x")),
                    "git" => site.sh(
                        world,
                        &name,
                        &format!("git -c http.sslCAInfo=$PWD/ca.pem clone -q https://{host}/tools.git clone && cat clone/file"),
                    ),
                    "python" => site.py(
                        world,
                        &name,
                        &format!("say(code(lambda: say(socket.create_connection(('{host}', 7777)).recv(5).decode())))"),
                    ),
                    _ => site.py(
                        world,
                        &name,
                        &format!(
                            "import urllib.request\ntry: say(urllib.request.urlopen('https://{host}/x').read().decode())\nexcept Exception as e: say(e)"
                        ),
                    ),
                };
            }
            grants.push((tool, format!("{tool}-{id}.world.test")));
        }
        let lists: Vec<(&str, [&str; 1])> = grants.iter().map(|(p, host)| (*p, [host.as_str()])).collect();
        site.grant(&lists.iter().map(|(p, hosts)| (*p, hosts.as_slice())).collect::<Vec<_>>());
        let run = site.attempt();
        for (tool, good, bad) in [
            ("curl", HELLO, "Could not resolve host"),
            ("git", "content", "Could not resolve host"),
            ("python", "hellook", "NONAME"),
            ("urllib", HELLO, "Name or service not known"),
        ] {
            let (got, refused) = (site.out(tool), site.out(&format!("{tool}-bad")));
            assert!(got.starts_with(good), "{user:?} {tool}: {got} {}", run.stderr);
            assert!(refused.contains(bad), "{user:?} {tool}: {refused}");
            run.assert_quiet(tool);
            run.assert_denied(&format!("{tool}-bad"), &format!("resolve {tool}-bad-{id}.world.test"));
            assert_eq!(world.asked(&format!("{tool}-bad-{id}.world.test")), Vec::<String>::new());
        }
    }
}

/// A repository with one commit, as git's plain ("dumb") HTTP.
fn dumb_repository(world: &World, name: &str) {
    let script = r"
        git init -q --bare -b main $0 && t=$(mktemp -d) && cd $t && git init -q -b main . &&
        echo content >file && git add file &&
        git -c user.name=t -c user.email=t@t.test commit -qm one &&
        git push -q $0 main && git -C $0 update-server-info && rm -rf $t";
    let status = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(world.www().join(name))
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status()
        .expect("git");
    assert!(status.success());
}

#[test]
fn a_grant_of_one_package_is_no_help_to_its_sibling() {
    let Some(world) = world::open() else { return };
    for user in users() {
        let host = format!("sibling-{user:?}.world.test").to_lowercase();
        world.host(&host, "203.0.113.13");
        let mut site = world.site(user);
        let granted = format!(
            "fetch('https://{host}/granted').then((r) => r.text()).then(say, (e) => say(e.cause.code))"
        );
        // It waits until the name is known, then tries the name and the very address.
        let other = format!(
            r"
            const net = require('net');
            setTimeout(() => {{
              const s = net.connect(443, '203.0.113.13').on('connect', () => {{ say('LEAK'); s.end(); }}).on('error', (e) => {{ say(e.code + ' ');
                fetch('https://{host}/other').then((r) => r.text()).then(say, (e) => say(e.cause.code)); }});
            }}, 1500);"
        );
        site.js(world, "granted", &granted).js(world, "other", &other);
        site.grant(&[("granted", &[&format!("\"{host}:443\"")])]);
        let run = site.attempt();
        assert!(site.out("granted").starts_with(HELLO), "{} {}", site.out("granted"), run.stderr);
        assert_eq!(site.out("other"), "EACCES ENOTFOUND");
        assert_eq!(http_requests(world, &host), 1);
        run.assert_quiet("granted");
        run.assert_denied("other", "connect 203.0.113.13:443");
        run.assert_denied("other", &format!("resolve {host}"));
    }
}

#[test]
fn the_address_of_a_granted_name_is_refused_until_the_script_has_resolved_it() {
    let Some(world) = world::open() else { return };
    world.host("literal.world.test", "203.0.113.14");
    let mut site = world.site(User::Caller);
    site.py(
        world,
        "p",
        r"
def connect(): socket.create_connection(('203.0.113.14', 7777), 3).close()
say(code(connect), '')
say(code(lambda: socket.getaddrinfo('literal.world.test', 7777, socket.AF_INET)), code(connect), '')
# The name's grant is for one port.
say(code(lambda: socket.create_connection(('203.0.113.14', 7778), 3)), '')
# The neighbour of the address was never in an answer.
say(code(lambda: socket.create_connection(('203.0.113.15', 7777), 3)))",
    );
    site.grant(&[("p", &["\"literal.world.test:7777\""])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "EACCES ok ok EACCES EACCES", "{}", run.stderr);
    let accepted = world.seen_of("tcp", "\"accept\"");
    assert_eq!(accepted.iter().filter(|r| r["local"] == "203.0.113.14:7777").count(), 1);
    assert_eq!(
        run.denied("p"),
        ["connect 203.0.113.14:7777", "connect literal.world.test", "connect 203.0.113.15:7777"]
    );
}

#[test]
fn names_match_without_regard_to_case_and_wildcards_at_whole_labels() {
    let Some(world) = world::open() else { return };
    for name in [
        "case.world.test",
        "a.wild.world.test",
        "b.c.wild.world.test",
        "wild.world.test",
        "evilwild.world.test",
    ] {
        world.host(name, "203.0.113.16");
    }
    let mut site = world.site(User::Caller);
    site.py(
        world,
        "p",
        r"
for name in ['CASE.World.test', 'case.world.test.', 'a.wild.world.test', 'b.c.wild.world.test', 'wild.world.test', 'evilwild.world.test', 'case.world.test.evil.test']:
    say(code(lambda: socket.create_connection((name, 7777), 5).close()), '')",
    );
    site.grant(&[("p", &["\"Case.world.test:7777\"", "\"*.wild.world.test:7777\""])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "ok ok ok ok NONAME NONAME NONAME ", "{}", run.stderr);
}

#[test]
fn a_name_is_allowed_on_the_granted_port_only() {
    let Some(world) = world::open() else { return };
    world.host("ports.world.test", "203.0.113.17");
    let mut site = world.site(User::Caller);
    site.js(
        world,
        "p",
        r"
        const get = (u) => fetch(u).then((r) => r.status, (e) => e.cause.code);
        (async () => { for (const u of ['https://ports.world.test/a', 'http://ports.world.test/b', 'https://ports.world.test:8443/c']) say(await get(u) + ' '); })();",
    );
    site.grant(&[("p", &["\"ports.world.test:443\""])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "200 EACCES EACCES ", "{}", run.stderr);
    assert_eq!(http_requests(world, "ports.world.test"), 1);
    let denied: Vec<_> = run.events("connect", "p", "denied").iter().map(|e| e["target"].clone()).collect();
    assert_eq!(denied.len(), 2);
    for target in &denied {
        assert_eq!(target["host"], "ports.world.test", "the log says which name the address was: {target}");
    }
}

/// Two sites of one content network: one address, one certificate.
fn fronted(site: &mut Site, world: &World, front: &str, hidden: &str) {
    site.js(
        world,
        "p",
        &format!(
            r"
        const https = require('https'), http = require('http');
        const get = (what) => new Promise((done) => (what.servername ? https : http).request(
          {{ host: '{front}', ...what, headers: {{ host: what.as }} }},
          (r) => r.on('data', (d) => done(String(d).trim()))).on('error', (e) => done('failed')).end());
        (async () => {{
          say(await get({{ port: 443, path: '/own', servername: '{front}', as: '{front}' }}) + '|');
          say(await get({{ port: 443, path: '/hidden', servername: '{hidden}', as: '{hidden}' }}) + '|');
          say(await get({{ port: 80, path: '/own', as: '{front}' }}) + '|');
          say(await get({{ port: 80, path: '/hidden', as: '{hidden}' }}));
        }})();"
        ),
    );
}

#[test]
fn another_site_behind_a_granted_address_is_reached_unless_the_server_name_is_verified() {
    let Some(world) = world::open() else { return };
    for user in users() {
        let id = format!("{user:?}").to_lowercase();
        for (grant, verified) in [
            ("\"HOST\"", false),
            ("{ host: \"HOST:443\", verify: sni }\n        - { host: \"HOST:80\", verify: sni }", true),
        ] {
            let (front, hidden) =
                (format!("front-{id}-{verified}.world.test"), format!("hidden-{id}-{verified}.world.test"));
            for name in [&front, &hidden] {
                world.host(name, "203.0.113.18");
            }
            let mut site = world.site(user);
            fronted(&mut site, world, &front, &hidden);
            site.grant(&[("p", &[&grant.replace("HOST", &front)])]);
            let run = site.attempt();
            if !verified {
                assert_eq!(
                    site.out("p"),
                    format!("hello from {front}|hello from {hidden}|hello from {front}|hello from {hidden}"),
                    "{}",
                    run.stderr
                );
                run.assert_quiet("p");
                continue;
            }
            assert_eq!(
                site.out("p"),
                format!("hello from {front}|failed|hello from {front}|failed"),
                "{}",
                run.stderr
            );
            assert_eq!(http_requests(world, &hidden), 0, "the request does not reach the server");
            assert_eq!(world.seen_of("tls", &hidden).len(), 0, "nor does the greeting");
            assert!(run.events("connect", "p", "denied").len() >= 2, "{:?}", run.denied("p"));
            assert!(
                run.log.iter().any(|e| e["verdict"] == "denied" && e.to_string().contains(&hidden)),
                "the log names the site"
            );
        }
    }
}

#[test]
fn a_verified_grant_counts_what_went_through() {
    let Some(world) = world::open() else { return };
    world.host("counted.world.test", "203.0.113.19");
    let mut site = world.site(User::Caller);
    site.js(
        world,
        "p",
        r"
        fetch('https://counted.world.test/big/3000000', { method: 'POST', body: 'x'.repeat(1000000) })
          .then((r) => r.arrayBuffer()).then((b) => { say(b.byteLength); }, (e) => say(e.cause));",
    );
    site.grant(&[("p", &["{ host: \"counted.world.test:443\", verify: sni }"])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "3000000", "{}", run.stderr);
    let posted = world.seen_of("http", "counted.world.test");
    assert_eq!(posted[0]["bytes"], 1_000_000);
    run.assert_quiet("p");
    let connects = events(&run, "connect", "p", "counted.world.test");
    let sum = |key: &str| connects.iter().filter_map(|e| e["detail"][key].as_u64()).sum::<u64>();
    assert!((1_000_000..1_100_000).contains(&sum("bytes_out")), "{connects:?}");
    assert!((3_000_000..3_100_000).contains(&sum("bytes_in")), "{connects:?}");
}

#[test]
fn a_verified_grant_carries_nothing_that_names_no_server() {
    let Some(world) = world::open() else { return };
    world.host("mute.world.test", "203.0.113.20");
    let mut site = world.site(User::Caller);
    site.py(
        world,
        "p",
        r"
def talk(data, port):
    s = socket.create_connection(('mute.world.test', port), 5)
    try:
        s.sendall(data)
        return s.recv(100).decode('latin1')[:5]
    except OSError as e: return errno.errorcode.get(e.errno, 'timeout')
# Not TLS; TLS cut short; HTTP without a Host; HTTP with two.
for data, port in [(b'SECRET-RAW\r\n', 443), (b'\x16\x03\x01\x00\x05SECRE', 443), (b'GET /nohost HTTP/1.0\r\n\r\n', 80),
    (b'GET /twohosts HTTP/1.1\r\nHost: mute.world.test\r\nHost: other.world.test\r\n\r\n', 80),
    (b'GET http://other.world.test/absolute HTTP/1.1\r\nHost: mute.world.test\r\n\r\n', 80)]:
    say(repr(talk(data, port)), '')",
    );
    site.grant(&[(
        "p",
        &["{ host: \"mute.world.test:443\", verify: sni }", "{ host: \"mute.world.test:80\", verify: sni }"],
    )]);
    let run = site.attempt();
    assert!(site.out("p").split_whitespace().count() == 5, "{} {}", site.out("p"), run.stderr);
    assert!(!site.out("p").contains("HTTP/"), "{}", site.out("p"));
    for path in ["/nohost", "/twohosts", "/absolute"] {
        assert_eq!(world.seen_of("http", path).len(), 0, "{path}");
    }
    assert!(!run.events("connect", "p", "denied").is_empty());
}

#[test]
fn metadata_addresses_are_refused_unless_spelled_out() {
    let Some(world) = world::open() else { return };
    world.host("metadata.world.test", "169.254.169.254");
    for user in users() {
        let mut site = world.site(user);
        let py = r"
for host, port in [('169.254.169.254', 80), ('::ffff:169.254.169.254', 80), ('100.100.100.200', 80), ('fd00:ec2::254', 80), ('metadata.world.test', 80), ('203.0.113.21', 80)]:
    say(code(lambda: socket.create_connection((host, port), 5)), '')";
        site.py(world, "all", py).py(world, "network", py).py(world, "exact", py).py(world, "name", py);
        site.grant(&[
            ("all", &["\"*:80\""]),
            ("network", &["\"169.254.0.0/16\"", "\"203.0.113.0/24:80\""]),
            ("exact", &["\"169.254.169.254:80\""]),
            ("name", &["metadata.world.test"]),
        ]);
        let run = site.attempt();
        let refused = "EACCES EACCES EACCES EACCES NONAME";
        assert_eq!(site.out("all"), format!("{refused} ok "), "{user:?} {}", run.stderr);
        assert_eq!(site.out("network"), format!("{refused} ok "), "{user:?} {}", run.stderr);
        assert_eq!(site.out("exact"), "ok ok EACCES EACCES NONAME EACCES ", "{user:?}");
        assert_eq!(site.out("name"), format!("{refused} EACCES "), "{user:?}");
        run.assert_denied("all", "connect 169.254.169.254:80");
        run.assert_denied("network", "connect 169.254.169.254:80");
    }
    assert_eq!(world.seen_of("http", "\"local\":\"100.100.100.200").len(), 0);
}

#[test]
fn granted_networks_are_reached_by_address() {
    let Some(world) = world::open() else { return };
    let mut site = world.site(User::Caller);
    site.py(
        world,
        "p",
        r"
for host, port in [('10.1.2.3', 7777), ('::ffff:10.1.2.3', 7777), ('10.1.2.3', 7778), ('2001:db8:1::7', 7777), ('2001:db8:1:1::7', 7777)]:
    say(code(lambda: socket.create_connection((host, port), 2).close()), '')",
    );
    site.grant(&[("p", &["\"10.0.0.0/8:7777\"", "\"[2001:db8:1::/64]:7777\""])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "ok ok EACCES ok EACCES ", "{}", run.stderr);
    assert_eq!(
        run.events("connect", "p", "allowed")
            .iter()
            .map(|e| target(e))
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        2
    );
}

#[test]
fn a_granted_name_opens_no_other_kind_of_socket() {
    let Some(world) = world::open() else { return };
    world.host("kinds.world.test", "203.0.113.22");
    let mut site = world.site(User::Caller);
    site.py(
        world,
        "p",
        r"
say(code(lambda: socket.create_connection(('kinds.world.test', 443), 5).close()), '')
def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'KINDS', ('203.0.113.22', 9999))
say(code(udp), '')
def quic():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendto(b'KINDS', ('::ffff:203.0.113.22', 443))
say(code(quic), '')
say(code(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)), '')
say(code(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)))",
    );
    site.grant(&[("p", &["kinds.world.test", "\"*\""])]);
    let run = site.attempt();
    assert_eq!(site.out("p"), "ok EACCES EACCES EACCES EACCES", "{}", run.stderr);
    assert_eq!(world.seen_of("udp", "KINDS").len(), 0);
    assert_eq!(run.events("socket", "p", "denied").len(), 2, "raw and MPTCP do not exist");
    // Datagram sockets do, but carry nothing.
    run.assert_denied("p", "203.0.113.22:9999");
    run.assert_denied("p", "203.0.113.22:443");
}

#[test]
fn a_command_reaches_the_registry_and_asks_a_proxy_for_granted_hosts_only() {
    let Some(world) = world::open() else { return };
    for host in ["registry-run", "proxy-run", "good-run", "hidden-run"] {
        world.host(&format!("{host}.world.test"), "203.0.113.150");
    }
    for user in users() {
        let site = world.site(user);
        site.write(
            "home/.npmrc",
            "registry=http://registry-run.world.test:8080/\nproxy=http://proxy-run.world.test:3128/\n",
        );
        let grants = "[\"{registry}\", \"proxy-run.world.test\", \"good-run.world.test\"]";
        site.write(
            "app/npmguard.yaml",
            &format!(
                "version: 1\nroot:\n  exec: {{ allow: [\"/usr/bin/curl\"] }}\n  connect: {{ allow: {grants} }}\n"
            ),
        );
        let curl = |words: &[&str]| {
            let quiet = ["run", "--", "/usr/bin/curl", "-s", "-o", "/dev/null", "-m", "10"];
            site.guard(&[&quiet[..], words].concat())
        };
        curl(&["http://registry-run.world.test:8080/"]).assert_code(0);
        let proxy = "http://proxy-run.world.test:3128";
        curl(&["-x", proxy, "http://good-run.world.test/"]).assert_code(0);
        for target in ["http://hidden-run.world.test/", "https://hidden-run.world.test/"] {
            let run = curl(&["-x", proxy, target]);
            assert_ne!(run.code, 0, "{user:?} {target}");
            let refused = events(&run, "connect", "app", "hidden-run.world.test");
            assert!(refused.iter().any(|e| e["verdict"] == "denied"), "{user:?} {target}: {:?}", run.log);
        }
        // The port counts, and so does the address behind any way to write it.
        let policy = site.read("app/npmguard.yaml").expect("written");
        site.write(
            "app/npmguard.yaml",
            &policy.replace("\"good-run.world.test\"", "\"good-run.world.test:443\", \"*:80\""),
        );
        for target in [
            "http://169.254.169.254/hidden-run",
            "http://0xa9fea9fe/hidden-run",
            "http://2852039166/hidden-run",
        ] {
            let run = curl(&["-x", proxy, target]);
            assert_ne!(run.code, 0, "{user:?} {target}: {:?}", run.log);
        }
        let run = curl(&["-x", proxy, "http://good-run.world.test:8080/hidden-run"]);
        assert_ne!(run.code, 0, "{user:?} {:?}", run.log);
    }
    assert_eq!(world.seen_of("proxy", "hidden-run").len(), 0, "the proxy was asked");
}

#[test]
fn a_static_go_program_resolves_and_connects() {
    let Some(world) = world::open() else { return };
    if !std::process::Command::new("go").arg("version").output().is_ok_and(|o| o.status.success()) {
        println!("skipped: no go on this machine");
        return;
    }
    world.host("go.world.test", "203.0.113.23");
    let mut site = world.site(User::Caller);
    let source = r#"package main
import ("fmt"; "net"; "os"; "time")
func main() {
    for _, host := range os.Args[1:] {
        c, err := net.DialTimeout("tcp", host, 5*time.Second)
        if err != nil { fmt.Print("refused "); continue }
        b := make([]byte, 5); c.Read(b); fmt.Print(string(b), " "); c.Close()
    }
}"#;
    site.write("stage/go/main.go", source);
    let build = std::process::Command::new("go")
        .args(["build", "-o", "../main", "main.go"])
        .current_dir(site.path("stage/go"))
        .env("CGO_ENABLED", "0")
        .env("GO111MODULE", "off")
        .status()
        .expect("go");
    assert!(build.success());
    site.sh(world, "p", "./main go.world.test:7777 bad-go.world.test:7777 203.0.113.24:7777");
    site.grant(&[("p", &["go.world.test"])]);
    site.native_install().assert_code(0);
    std::fs::copy(site.path("stage/main"), site.path("app/node_modules/p/main")).expect("a copy");
    let run = site.guard(&["rebuild"]);
    assert_eq!(site.out("p"), "hello refused refused ", "{}", run.stderr);
    run.assert_denied("p", "resolve bad-go.world.test");
}

#[test]
fn audit_mode_lets_names_through_and_says_what_enforcing_would_refuse() {
    let Some(world) = world::open() else { return };
    world.host("audited.world.test", "203.0.113.51");
    for user in users() {
        let mut site = world.site(user);
        site.py(
            world,
            "p",
            "s = socket.create_connection(('audited.world.test', 7777), 3); say(s.recv(5).decode())",
        );
        let run = site.guard(&["install", "--mode", "audit", "--", "--no-audit", "--no-fund"]);
        run.assert_code(0);
        assert_eq!(site.out("p"), "hello", "{user:?} {}", run.stderr);
        let looked_up = run.events("resolve", "p", "would_deny");
        assert!(looked_up.iter().any(|e| e["target"]["host"] == "audited.world.test"), "{looked_up:?}");
        let connected = run.events("connect", "p", "would_deny");
        assert!(
            connected.iter().any(|e| e["target"]["host"] == "audited.world.test"
                && e["target"]["address"] == "203.0.113.51:7777"),
            "{connected:?}"
        );
        assert_eq!(run.denied("p"), Vec::<String>::new());
    }
}

#[test]
fn relayed_connections_are_bounded_and_the_siblings_feel_nothing() {
    let Some(world) = world::open() else { return };
    world.host("relayed.world.test", "203.0.113.51");
    let mut site = world.site(User::Caller);
    let py = r"
kept, said = [], {}
socket.getaddrinfo('relayed.world.test', 7777)
for _ in range(140):
    s = socket.socket(); r = code(lambda: s.connect(('203.0.113.51', 7777))); kept.append(s); said[r] = said.get(r, 0) + 1
say(said.get('ok', 0), said.get('EAGAIN', 0))";
    site.py(world, "greedy", py);
    site.py(
        world,
        "sibling",
        "say(socket.create_connection(('relayed.world.test', 7777), 3).recv(5).decode())",
    );
    site.grant(&[
        ("greedy", &["{ host: \"relayed.world.test:7777\", verify: sni }"]),
        ("sibling", &["\"relayed.world.test:7777\""]),
    ]);
    let run = site.attempt();
    assert_eq!(site.out("greedy"), "128 12", "{}", run.stderr);
    assert_eq!(site.out("sibling"), "hello", "{}", run.stderr);
}
