//! What a whole `npm ci` costs when every package comes over the network: from a registry on
//! this machine into an empty cache.
//!
//! The registry is a verdaccio that npm installs once and that is filled once, from where
//! npm is set up to get its packages. While anything is measured it has nobody to ask.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::install::{Source, compare, install_once, title};
use crate::measure::time;
use crate::report::Table;
use crate::{Options, Result};

const VERDACCIO: &str = "6.1.2";
/// A dependency of it that asks for a tag, which not every mirror of the registry has.
const NODE_FETCH: &str = "2.7.0";
const START: Duration = Duration::from_secs(60);

/// What is installed without `--project`: some 100 packages, two of them with scripts.
fn dependencies() -> Value {
    json!({
        "bcrypt": "6.0.0", "dotenv": "16.4.7", "esbuild": "0.25.0", "express": "4.21.2",
        "pino": "9.6.0", "typescript": "5.7.3", "zod": "3.24.2",
    })
}

pub(crate) fn measure(options: &Options) -> Result<Table> {
    // Kept between runs: it takes a minute to make.
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("npmguard-bench-registry");
    std::fs::create_dir_all(&kept)?;
    let program = install_verdaccio(&kept)?;
    let upstream = configured_registry()?;
    let runs = options.runs_or(5);
    let project;
    {
        let filling = Verdaccio::start(&program, &kept, Some(&upstream))?;
        project = match &options.project {
            Some(project) => project.clone(),
            None => own_project(&kept, &filling.address)?,
        };
        install_once(options, &project, Source::Registry(&filling.address))?;
    }
    let registry = Verdaccio::start(&program, &kept, None)?;
    Ok(Table {
        subject: "registry",
        title: format!("`npm ci` of {} from a local verdaccio, cold cache, {runs} rounds", title(&project)),
        budget: "npmguard enforce: wall ratio <= 1.05",
        rows: compare(options, &project, Source::Registry(&registry.address), runs),
    })
}

/// The program's path.
fn install_verdaccio(kept: &Path) -> Result<PathBuf> {
    let program = kept.join("node_modules/verdaccio/bin/verdaccio");
    if !program.exists() {
        eprintln!("bench: installing verdaccio {VERDACCIO}");
        let manifest = json!({
            "name": "bench-verdaccio", "private": true,
            "dependencies": { "verdaccio": VERDACCIO }, "overrides": { "node-fetch": NODE_FETCH },
        });
        std::fs::write(kept.join("package.json"), manifest.to_string())?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        time(npm.current_dir(kept), &[0])?;
    }
    Ok(program)
}

/// Where npm is set up to get packages from.
fn configured_registry() -> Result<String> {
    let output = Command::new("npm").args(["config", "get", "registry"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The project of [`dependencies`], locked when it is made.
fn own_project(kept: &Path, registry: &str) -> Result<PathBuf> {
    let project = kept.join("bench-registry");
    if !project.join("package-lock.json").exists() {
        std::fs::create_dir_all(&project)?;
        let manifest =
            json!({ "name": "bench-registry", "version": "1.0.0", "dependencies": dependencies() });
        std::fs::write(project.join("package.json"), serde_json::to_string_pretty(&manifest)?)?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--package-lock-only", "--no-audit", "--no-fund", "--loglevel=error"]);
        // Addresses with this run's port would be of no use in the next one.
        npm.args(["--omit-lockfile-registry-resolved", "--registry", registry]);
        time(npm.current_dir(&project), &[0])?;
    }
    Ok(project)
}

/// A running registry.
struct Verdaccio {
    child: Child,
    address: String,
}

impl Verdaccio {
    /// Starts it with the storage in `kept`; what that lacks it asks of `upstream`.
    fn start(program: &Path, kept: &Path, upstream: Option<&str>) -> Result<Verdaccio> {
        let mut everything = json!({ "access": "$all" });
        let mut uplinks = json!({});
        if let Some(url) = upstream {
            everything["proxy"] = json!("upstream");
            uplinks["upstream"] = json!({ "url": url, "maxage": "1d", "timeout": "60s" });
        }
        let config = json!({
            "storage": kept.join("storage"),
            "uplinks": uplinks,
            "packages": { "**": everything },
            "web": { "enable": false },
            "log": { "type": "stdout", "level": "error" },
        });
        let path = kept.join("config.yaml");
        std::fs::write(&path, config.to_string())?;
        // Free now; nobody hurries to take it before verdaccio does.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let child = Command::new("node")
            .arg(program)
            .arg("--config")
            .arg(&path)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            // It does not like root, where the bench may well run.
            .env("NODE_NO_WARNINGS", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let mut registry = Verdaccio { child, address: format!("http://localhost:{port}/") };
        let started = Instant::now();
        while !answers(port) {
            if let Some(status) = registry.child.try_wait()? {
                return Err(format!("verdaccio: {status}").into());
            }
            if started.elapsed() > START {
                return Err("verdaccio does not answer".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(registry)
    }
}

impl Drop for Verdaccio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let request = "GET /-/ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut reply = String::new();
    stream.write_all(request.as_bytes()).is_ok()
        && stream.read_to_string(&mut reply).is_ok()
        && reply.starts_with("HTTP/1.1 200")
}
