//! A registry on a loopback port: enough of the protocol for npm to resolve ranges,
//! aliases and transitive dependencies, so that tests see what only a registry makes.
//!
//! It serves files of one directory: `NAME/VERSION.json` and `NAME/VERSION.tgz`, and
//! `NAME.git/` as git's plain ("dumb") HTTP.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// Serves `root` until the test's process ends; the registry's address.
pub fn serve(root: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let base = address.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (root, base) = (root.clone(), base.clone());
            std::thread::spawn(move || answer(&stream, &root, &base));
        }
    });
    address
}

fn answer(stream: &TcpStream, root: &Path, base: &str) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next()?.ok()?;
    while !lines.next()?.ok()?.is_empty() {}
    let path = request.split(' ').nth(1)?.trim_start_matches('/').replace("%2f", "/");
    let path = path.split('?').next()?;
    if path.contains(".git/") {
        return reply(stream, fs::read(root.join(path)).ok());
    }
    let body = match path.split_once("/-/") {
        Some((name, file)) => fs::read(root.join(name).join(file)).ok(),
        None => packument(&root.join(path), path, base),
    };
    reply(stream, body)
}

fn reply(mut stream: &TcpStream, body: Option<Vec<u8>>) -> Option<()> {
    let (status, body) = body.map_or(("404 Not Found", b"{}".to_vec()), |b| ("200 OK", b));
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())
        .ok()?;
    stream.write_all(&body).ok()
}

fn packument(dir: &Path, name: &str, base: &str) -> Option<Vec<u8>> {
    let mut versions = Map::new();
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.extension()? != "json" {
            continue;
        }
        let version = path.file_stem()?.to_str()?.to_owned();
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        manifest["dist"]["tarball"] = json!(format!("{base}/{name}/-/{version}.tgz"));
        versions.insert(version, manifest);
    }
    let latest = versions.keys().max()?.clone();
    let document = json!({ "name": name, "dist-tags": { "latest": latest }, "versions": versions });
    Some(document.to_string().into_bytes())
}
