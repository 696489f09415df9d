//! The shared harness of the black-box tests: a throw-away home and project, packages
//! made of a few lines, the real npm, and the real npmguard.
//!
//! When the tests run as root, every run under test is made as root and, by
//! [`Site::ordinary`], as an ordinary user as well.
#![allow(dead_code, unreachable_pub)]

pub mod registry;
pub mod world;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// An unprivileged user that exists on no machine.
pub const NOBODY: u32 = 61_235;

/// Who runs npmguard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Caller,
    /// An ordinary user; only when the tests run as root.
    Ordinary,
}

/// A home and a project.
pub struct Site {
    dir: tempfile::TempDir,
    user: User,
    binary: PathBuf,
    env: BTreeMap<String, String>,
    dependencies: BTreeMap<String, String>,
    /// The words before every command: a program that runs the rest of its arguments.
    through: Vec<OsString>,
}

/// What came out of a run.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub log: Vec<Value>,
}

pub fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Whether the tests themselves run under a seccomp filter, as in a container.
pub fn is_filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.starts_with("Seccomp:") && !line.ends_with('0'))
}

/// The users that this test run can test.
pub fn users() -> Vec<User> {
    if is_root() { vec![User::Caller, User::Ordinary] } else { vec![User::Caller] }
}

impl Site {
    pub fn new() -> Site {
        Site::of(User::Caller)
    }

    pub fn of(user: User) -> Site {
        let dir = tempfile::Builder::new().prefix("ng-test-").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        let built = PathBuf::from(env!("CARGO_BIN_EXE_npmguard"));
        // An ordinary user must be able to reach the program under test.
        let binary = dir.path().join("bin/npmguard");
        fs::create_dir_all(binary.parent().expect("a parent")).expect("bin");
        if fs::hard_link(&built, &binary).is_err() {
            fs::copy(&built, &binary).expect("a copy of the program");
        }
        let site = Site {
            dir,
            user,
            binary,
            env: BTreeMap::new(),
            dependencies: BTreeMap::new(),
            through: Vec::new(),
        };
        for sub in ["home/.ssh", "home/.config", "app/node_modules", "app/.git/hooks", "tmp"] {
            fs::create_dir_all(site.path(sub)).expect("site");
        }
        site.write(
            "home/.npmrc",
            "//registry.example/:_authToken=npm_SECRET\nupdate-notifier=false\naudit=false\nfund=false\n",
        );
        site.write("home/.ssh/id_ed25519", "KEY-SECRET\n");
        site.write("home/.bashrc", "# rc\n");
        site.write("app/.env", "ENV-SECRET=1\n");
        site.write("app/.git/config", "[core]\n");
        site
    }

    pub fn ordinary() -> Site {
        Site::of(User::Ordinary)
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    pub fn write(&self, relative: &str, text: &str) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        fs::write(path, text).expect("file");
    }

    pub fn read(&self, relative: &str) -> Option<String> {
        fs::read_to_string(self.path(relative)).ok()
    }

    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// A dependency whose `postinstall` is the shell command `script`, as a tarball.
    pub fn package(&mut self, name: &str, script: &str) -> &mut Self {
        self.package_with(name, json!({ "scripts": { "postinstall": script } }), &[])
    }

    /// A dependency with these manifest keys and files, as a tarball.
    pub fn package_with(&mut self, name: &str, extra: Value, files: &[(&str, &str)]) -> &mut Self {
        let file = format!("{}.tgz", name.replace(['@', '/'], "_"));
        self.tarball(name, extra, files, &file);
        self.dependencies.insert(name.into(), format!("file:vendor/{file}"));
        self
    }

    /// A tarball in `vendor/` that nothing depends on yet.
    pub fn tarball(&self, name: &str, extra: Value, files: &[(&str, &str)], file: &str) {
        let stage = self.path("stage/package");
        let _ = fs::remove_dir_all(&stage);
        fs::create_dir_all(&stage).expect("stage");
        let mut manifest = json!({ "name": name, "version": "1.0.0" });
        for (key, value) in extra.as_object().expect("an object") {
            manifest[key] = value.clone();
        }
        fs::write(stage.join("package.json"), manifest.to_string()).expect("manifest");
        for (path, text) in files {
            let path = stage.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
            fs::write(&path, text).expect("file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        }
        fs::create_dir_all(self.path("app/vendor")).expect("vendor");
        let status = Command::new("tar")
            .args(["czf"])
            .arg(self.path("app/vendor").join(file))
            .arg("-C")
            .arg(self.path("stage"))
            .arg("package")
            .status()
            .expect("tar");
        assert!(status.success());
    }

    /// Publishes a version of a package in this site's own registry, where npm then looks.
    pub fn publish(&mut self, name: &str, version: &str, extra: Value, files: &[(&str, &str)]) -> &mut Self {
        let root = self.path("registry");
        if !self.env.contains_key("npm_config_registry") {
            let address = registry::serve(root.clone());
            self.env("npm_config_registry", &address);
        }
        let mut extra = extra;
        extra["version"] = json!(version);
        self.tarball(name, extra, files, "published.tgz");
        let dir = root.join(name);
        fs::create_dir_all(&dir).expect("registry");
        let tarball = dir.join(format!("{version}.tgz"));
        fs::rename(self.path("app/vendor/published.tgz"), &tarball).expect("a tarball");
        let mut manifest: Value =
            serde_json::from_str(&self.read("stage/package/package.json").expect("staged")).expect("JSON");
        manifest["dist"] = json!({ "integrity": integrity(&tarball) });
        fs::write(dir.join(format!("{version}.json")), manifest.to_string()).expect("metadata");
        self
    }

    pub fn depend(&mut self, name: &str, spec: &str) -> &mut Self {
        self.dependencies.insert(name.into(), spec.into());
        self
    }

    /// Writes the project's manifest with these further keys.
    pub fn manifest(&self, extra: Value) {
        let mut manifest =
            json!({ "name": "app", "version": "1.0.0", "private": true, "dependencies": self.dependencies });
        for (key, value) in extra.as_object().expect("an object") {
            manifest[key] = value.clone();
        }
        self.write("app/package.json", &manifest.to_string());
    }

    /// Words that come before every command, with the caller's rights.
    pub fn through(&mut self, words: &[&str]) -> &mut Self {
        self.through = words.iter().map(OsString::from).collect();
        self
    }

    /// The program under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// A command that runs npmguard in the project, as the site's user, logging to `log.jsonl`.
    pub fn command(&self, words: &[&str]) -> Command {
        self.command_of(&self.binary, words)
    }

    /// The same for any program.
    pub fn command_of(&self, program: impl AsRef<Path>, words: &[&str]) -> Command {
        if !self.path("app/package.json").exists() {
            self.manifest(json!({}));
        }
        let mut all = self.through.clone();
        if self.user == User::Ordinary && !all.is_empty() {
            // What comes before the program needs the caller's rights.
            let id = NOBODY.to_string();
            all.extend(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"].map(OsString::from));
        }
        all.push(program.as_ref().into());
        all.extend(words.iter().map(OsString::from));
        let mut command = Command::new(&all[0]);
        command
            .args(&all[1..])
            .current_dir(self.path("app"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("LANG", "C.UTF-8")
            .envs(&self.env)
            .stdin(Stdio::null());
        if let Ok(nodedir) = std::env::var("npm_config_nodedir") {
            command.env("npm_config_nodedir", nodedir);
        }
        if self.user == User::Ordinary {
            own(self.dir.path(), NOBODY);
            if self.through.is_empty() {
                command.uid(NOBODY).gid(NOBODY);
            }
            // The caller's own PATH may lead through directories that only root can enter.
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin");
        }
        command
    }

    /// Runs `npmguard WORDS --log …` and collects what came of it. The first word is the
    /// command; the others follow the log flag.
    pub fn guard(&self, words: &[&str]) -> Run {
        let log = self.path("home/log.jsonl");
        let _ = fs::remove_file(&log);
        let mut all = vec![words[0], "--log", log.to_str().expect("UTF-8")];
        all.extend(&words[1..]);
        let output = self.command(&all).output().expect("npmguard starts");
        self.outcome(&output, &log)
    }

    /// [`Site::guard`] from another directory of the site.
    pub fn guard_in(&self, directory: &str, words: &[&str]) -> Run {
        let log = self.path("home/log.jsonl");
        let _ = fs::remove_file(&log);
        let mut all = vec![words[0], "--log", log.to_str().expect("UTF-8")];
        all.extend(&words[1..]);
        let mut command = self.command(&all);
        let output = command.current_dir(self.path(directory)).output().expect("npmguard starts");
        self.outcome(&output, &log)
    }

    pub fn outcome(&self, output: &Output, log: &Path) -> Run {
        Run {
            code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            log: read_log(log),
        }
    }

    /// `npmguard install` with npm kept quiet.
    pub fn install(&self) -> Run {
        self.guard(&["install", "--", "--no-audit", "--no-fund", "--loglevel=error"])
    }
}

/// Subresource integrity of a file.
fn integrity(file: &Path) -> String {
    let script = format!("openssl dgst -sha512 -binary '{}' | base64 -w0", file.display());
    let output = Command::new("sh").args(["-c", &script]).output().expect("openssl");
    assert!(output.status.success());
    format!("sha512-{}", String::from_utf8_lossy(&output.stdout))
}

pub fn read_log(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("not JSON: {e}: {line}")))
        .collect()
}

fn own(dir: &Path, id: u32) {
    let _ = chown(dir, Some(id), Some(id));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            own(&path, id);
        } else if !path.ends_with("bin/npmguard") {
            let _ = std::os::unix::fs::lchown(&path, Some(id), Some(id));
        }
    }
}

impl Run {
    /// Events of this kind, package and verdict; `*` is any.
    pub fn events(&self, kind: &str, package: &str, verdict: &str) -> Vec<&Value> {
        let is = |value: &Value, want: &str| want == "*" || value.as_str() == Some(want);
        self.log
            .iter()
            .filter(|e| {
                is(&e["kind"], kind) && is(&e["package"]["name"], package) && is(&e["verdict"], verdict)
            })
            .collect()
    }

    pub fn denied(&self, package: &str) -> Vec<String> {
        self.events("*", package, "denied").iter().map(|e| target(e)).collect()
    }

    /// Asserts that exactly this package was denied something that mentions `what`.
    #[track_caller]
    pub fn assert_denied(&self, package: &str, what: &str) {
        let denied = self.denied(package);
        assert!(
            denied.iter().any(|t| t.contains(what)),
            "no denied `{what}` of {package} in {denied:?}\n{}",
            self.stderr
        );
    }

    #[track_caller]
    pub fn assert_quiet(&self, package: &str) {
        assert_eq!(self.denied(package), Vec::<String>::new(), "{}", self.stderr);
    }

    #[track_caller]
    pub fn assert_code(&self, code: i32) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
    }
}

/// `KIND TARGET` of an event.
pub fn target(event: &Value) -> String {
    let target = &event["target"];
    let name = ["path", "host", "address"].iter().find_map(|key| target[key].as_str()).unwrap_or("-");
    format!("{} {name}", event["kind"].as_str().unwrap_or("?"))
}
