//! An internet of the tests' own: two network namespaces, servers with public-looking
//! addresses (the documentation ranges, which nobody owns), names, certificates, and a
//! mount namespace with its own `/etc/resolv.conf`. See `tests/world/`.
//!
//! One world serves all tests of a process; it ends with the process. Tests run side by
//! side in it, so each uses host names of its own and looks only at what these names saw.
//!
//! | address | what answers |
//! |---|---|
//! | 198.51.100.53, 2001:db8:1::53 | the system's DNS server, UDP and TCP |
//! | 203.0.113.53 | an attacker's DNS server |
//! | 198.51.100.0/24, 203.0.113.0/24, 2001:db8:1::/64, 10.0.0.0/8, 169.254.169.254 | every address: HTTP on 80, 4873, 8080; HTTPS on 443, 8443; a proxy on 3128; TCP on 7777, 7778; UDP on 443, 9999 |
//! | 127.0.0.1, ::1 of the client | somebody else's servers on 80 and 7777 |
//! | 192.0.2.66, 2001:db8::66 | nobody, ever: packets vanish |

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Run, Site, User, is_root, read_log};

/// The address that swallows packets.
pub const BLACKHOLE: &str = "192.0.2.66";

pub struct World {
    dir: PathBuf,
    servers: Child,
    control: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

/// The world, or `None` with a printed reason where none can be made.
pub fn open() -> Option<&'static World> {
    static WORLD: OnceLock<Result<World, String>> = OnceLock::new();
    match WORLD.get_or_init(World::make) {
        Ok(world) => Some(world),
        Err(reason) => {
            println!("skipped: {reason}");
            // Where the namespaces are known to work, a world that does not come up is a failure.
            assert!(std::env::var_os("NPMGUARD_TEST_WORLD").is_none(), "no world: {reason}");
            None
        }
    }
}

impl World {
    fn make() -> Result<World, String> {
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["--net", "--mount", "--propagation", "private"]);
            if !is_root() {
                command.args(["--user", "--map-root-user"]);
            }
            command
        };
        let probe =
            unshare().args(["ip", "link", "add", "wan", "type", "veth", "peer", "name", "lan"]).output();
        match probe {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                return Err(format!("no network namespaces: {}", why.trim()));
            }
            Err(error) => return Err(format!("no `unshare`: {error}")),
        }
        // The servers remove the directory when they end: statics are never dropped.
        let dir =
            tempfile::Builder::new().prefix("ng-world-").tempdir().expect("a temporary directory").keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("permissions");
        for sub in ["etc", "www"] {
            fs::create_dir(dir.join(sub)).expect("a directory");
        }
        let write = |file: &str, text: &str| fs::write(dir.join(file), text).expect("a file");
        write("etc/resolv.conf", "nameserver 198.51.100.53\n");
        // The machine's own name is here, as distributions and containers write it.
        let own = nix::unistd::gethostname().expect("a name").into_string().expect("UTF-8");
        write(
            "etc/hosts",
            &format!(
                "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {own}\n203.0.113.77 from-hosts.world.test\n"
            ),
        );
        write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
        write("record.jsonl", "");
        certificates(&dir);

        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/world");
        let mut servers = unshare()
            .arg("sh")
            .args([here.join("world.sh"), dir.clone(), here.join("servers.mjs")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let input = servers.stdin.take().expect("a pipe");
        let mut output = BufReader::new(servers.stdout.take().expect("a pipe"));
        let mut ready = String::new();
        output.read_line(&mut ready).expect("a line");
        assert!(ready.contains("\"ok\":true"), "the world's servers did not start: `{ready}`");
        Ok(World { dir, servers, control: Mutex::new((input, output)) })
    }

    fn order(&self, command: &Value) {
        let mut control = self.control.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(control.0, "{command}").expect("the servers live");
        let mut answer = String::new();
        control.1.read_line(&mut answer).expect("the servers answer");
        assert!(answer.contains("\"ok\":true"), "{command}: `{answer}`");
    }

    /// Lets the DNS server know `name` (`*.domain` for all below): `a`, `aaaa`, `cname`,
    /// `txt`, `ttl`, `rcode`; `turns` (one list of IPv4 addresses after the other), `delay`
    /// (milliseconds), `never` (`true`, or `"udp"` for UDP only).
    pub fn name(&self, name: &str, entry: Value) {
        self.order(&json!({ "command": "name", "name": name, "entry": entry }));
    }

    /// A name with one public address.
    pub fn host(&self, name: &str, address: &str) {
        self.name(name, json!({ "a": [address] }));
    }

    /// Starts verdaccio, which then answers for every host named `registry.…` or `npm.…`.
    pub fn registry(&self, program: &Path, config: &Path, home: &Path) {
        self.order(&json!({ "command": "registry", "program": program, "config": config, "home": home, "port": 48_730 }));
    }

    /// Puts a file where every HTTP server serves it.
    pub fn serve(&self, path: &str, content: &[u8]) {
        let path = self.www().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("a file");
    }

    /// The directory that every HTTP server serves.
    pub fn www(&self) -> PathBuf {
        self.dir.join("www")
    }

    /// The certificate authority that signed for `*.world.test` and `*.cdn.world.test`.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Its certificate.
    pub fn authority_pem(&self) -> String {
        fs::read_to_string(self.authority()).expect("a certificate")
    }

    /// Everything that this kind of server saw.
    pub fn seen(&self, server: &str) -> Vec<Value> {
        let all = read_log(&self.dir.join("record.jsonl"));
        all.into_iter().filter(|line| line["server"] == server).collect()
    }

    /// What this kind of server saw of a thing whose record mentions `what`.
    pub fn seen_of(&self, server: &str, what: &str) -> Vec<Value> {
        self.seen(server).into_iter().filter(|line| line.to_string().contains(what)).collect()
    }

    /// The questions that any DNS server got for names that end so: `TYPE NAME`.
    pub fn asked(&self, suffix: &str) -> Vec<String> {
        ["dns", "rogue-dns"]
            .iter()
            .flat_map(|server| self.seen(server))
            .filter(|q| q["name"].as_str().is_some_and(|name| name.ends_with(suffix)))
            .map(|q| format!("{} {}", q["type"].as_str().unwrap_or("?"), q["name"].as_str().unwrap_or("?")))
            .collect()
    }

    /// Waits until a record of `server` satisfies `is`, for two seconds at most.
    pub fn wait_for(&self, server: &str, is: impl Fn(&Value) -> bool) -> Option<Value> {
        let end = Instant::now() + Duration::from_secs(2);
        loop {
            let found = self.seen(server).into_iter().find(|line| is(line));
            if found.is_some() || Instant::now() > end {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A site whose commands run in the world.
    pub fn site(&self, user: User) -> Site {
        self.site_with(user, &[])
    }

    /// The same with other files over `/etc/resolv.conf`, `/etc/hosts`, … for this site alone.
    pub fn site_with(&self, user: User, etc: &[(&str, &str)]) -> Site {
        let mut site = Site::of(user);
        let pid = self.servers.id();
        // Nothing here is worth waiting for longer: a test that hangs says where.
        let mut enter =
            format!("timeout --kill-after=5 120 nsenter --net=/proc/{pid}/fd/3 --mount=/proc/{pid}/ns/mnt");
        if !is_root() {
            enter.push_str(&format!(" --user=/proc/{pid}/ns/user --preserve-credentials"));
        }
        let mut mounts = String::new();
        for (name, text) in etc {
            site.write(&format!("etc/{name}"), text);
            mounts.push_str(&format!(
                "mount --bind '{}' /etc/{name} && ",
                site.path(&format!("etc/{name}")).display()
            ));
        }
        if !mounts.is_empty() {
            enter.push_str(" unshare --mount --propagation private");
        }
        // Entering a mount namespace changes to its root: go back to where the caller is.
        let script = format!(
            "exec {enter} sh -c '{}cd \"$0\" && exec \"$@\"' \"$PWD\" \"$@\"",
            mounts.replace('\'', "\"")
        );
        site.through(&["sh", "-c", &script, "sh"]);
        site
    }
}

fn certificates(dir: &Path) {
    let script = r#"
        openssl ecparam -name prime256v1 -genkey -noout -out ca.key
        openssl req -x509 -new -key ca.key -subj '/CN=test world' -days 30 -out ca.pem \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
        openssl ecparam -name prime256v1 -genkey -noout -out server.key
        openssl req -new -key server.key -subj '/CN=world.test' -out server.csr
        printf 'subjectAltName=DNS:world.test,DNS:*.world.test,DNS:*.cdn.world.test\nextendedKeyUsage=serverAuth\n' >server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext -out server.pem
    "#;
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir).output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Site {
    /// Runs a program as it is, without npmguard, where and as whom the site's runs are made.
    pub fn native(&self, program: &str, words: &[&str]) -> Run {
        let output = self.command_of(program, words).output().expect("a program");
        self.outcome(&output, Path::new("/nonexistent"))
    }

    /// Installs with npm alone.
    pub fn native_install(&self) -> Run {
        self.native("npm", &["install", "--no-audit", "--no-fund", "--loglevel=error"])
    }

    /// [`Site::install`]; or npm alone, where `NPMGUARD_TEST_NATIVE` says so. Then what a test
    /// expects to work must work up to its look at the log, and what it expects to be
    /// refused must not be: a test that still passes proves nothing.
    pub fn attempt(&self) -> Run {
        if std::env::var_os("NPMGUARD_TEST_NATIVE").is_some() {
            return self.native_install();
        }
        self.install()
    }

    /// What the package wrote to its file `out`.
    #[track_caller]
    pub fn out(&self, package: &str) -> String {
        self.read(&format!("app/node_modules/{package}/out")).unwrap_or_else(|| "(no output)".into())
    }

    /// Grants these connections to a package (YAML list items), and curl and git to all.
    pub fn grant(&self, grants: &[(&str, &[&str])]) {
        let mut text = String::from(
            "version: 1\nscripts:\n  exec: { allow: [\"{git}\", \"/usr/bin/curl\"] }\npackages:\n",
        );
        for (package, hosts) in grants {
            text.push_str(&format!("  \"{package}\":\n    reason: test\n    connect:\n      allow:\n"));
            for host in *hosts {
                text.push_str(&format!("        - {host}\n"));
            }
        }
        self.write("app/npmguard.yaml", &text);
    }

    /// A package that runs this JavaScript, with `say(x)` to write its file `out`, and the
    /// world's authority beside it.
    pub fn js(&mut self, world: &World, name: &str, js: &str) -> &mut Site {
        let js = format!(
            "const fs = require('fs');\nconst say = (x) => fs.appendFileSync('out', String(x));\n{js}"
        );
        let script = json!({ "scripts": { "postinstall": "NODE_EXTRA_CA_CERTS=$PWD/ca.pem node p.js" } });
        self.package_with(name, script, &[("p.js", &js), ("ca.pem", &world.authority_pem())])
    }

    /// A package that runs this Python, with `say(x)`, `code(f)` (the error name of a call) and
    /// the world's authority.
    pub fn py(&mut self, world: &World, name: &str, py: &str) -> &mut Site {
        let py = format!("{PY}\n{py}");
        // Not what a version manager put before it on the path.
        let script =
            json!({ "scripts": { "postinstall": "SSL_CERT_FILE=$PWD/ca.pem /usr/bin/python3 -B p.py" } });
        self.package_with(name, script, &[("p.py", &py), ("ca.pem", &world.authority_pem())])
    }

    /// A package that runs this shell script and writes its output to `out`.
    pub fn sh(&mut self, world: &World, name: &str, sh: &str) -> &mut Site {
        let script = json!({ "scripts": { "postinstall": "sh p.sh >out 2>&1 || echo status $? >>out" } });
        self.package_with(name, script, &[("p.sh", sh), ("ca.pem", &world.authority_pem())])
    }
}

const PY: &str = r"
import errno, os, signal, socket, sys, threading, time
def say(*a):
    with open('out', 'a') as f: f.write(' '.join(map(str, a)))
def code(f):
    try: f(); return 'ok'
    except socket.timeout as e: return errno.errorcode.get(e.errno, 'timeout')
    except socket.gaierror as e: return {socket.EAI_NONAME: 'NONAME', socket.EAI_AGAIN: 'AGAIN'}.get(e.errno, 'GAI%d' % e.errno)
    except OSError as e: return errno.errorcode.get(e.errno, str(e))
";
