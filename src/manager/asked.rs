//! Who asked for a host that npm was kept from.
//!
//! npm's own connections carry no package name, so the name is looked for where npm
//! found the address: in the lockfile, in the manifests of the project, of what it
//! depends on by path, of what is installed, and in the project's `.npmrc`. The package that asked is the one whose
//! manifest holds the address, not the one that would have come from it: a local tarball
//! that depends on `http://host/x.tgz` is the culprit, and `x` may never exist. All of
//! this is content of others: it is bounded, and read for hosts only.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;

use super::lockfile::Lockfile;
use super::project::{self, open_file, specs_of};
use super::spec::{self, Source};

/// Askers reported for one host.
const MOST_ASKERS: usize = 32;
/// Packages looked at in `node_modules`.
const MOST_INSTALLED: usize = 5000;
/// Dependencies by path that are followed.
const MOST_LOCAL: usize = 256;
/// Bytes of a tarball that are unpacked in search of its manifest.
const MOST_UNPACKED: u64 = 32 << 20;
/// Bytes of a project's `.npmrc`.
const LARGEST_SETTINGS: u64 = 1 << 20;
/// Bytes of a manifest in a tarball.
const LARGEST_PACKED_MANIFEST: u64 = 1 << 20;

/// A package that made npm ask for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The package whose manifest holds the address; where no manifest does, the one that
    /// the lockfile says comes from it.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// Its place in the tree (`node_modules/…`, `packages/w`); empty for the project.
    pub place: String,
    /// Names from the project down to its dependant, as [`Lockfile::dependants`].
    pub dependants: Vec<String>,
    /// What it asked for: the name of the dependency behind the address; `None` where the
    /// package itself is what comes from it.
    pub dependency: Option<String>,
    /// The address, without user, password, query and fragment.
    pub spec: String,
}

/// Packages that make npm ask for this host, the lockfile's first; at most 32.
pub fn asked_for(host: &str, project: &Path, lockfile: &Lockfile) -> Vec<Asker> {
    let Some(host) = spec::plain_host(host).or_else(|| spec::plain_host(&format!("[{host}]"))) else {
        return Vec::new();
    };
    let manifest = project::manifest(project);
    let mut search = Search {
        host,
        lockfile,
        project_name: name_of_project(project, manifest.as_ref(), lockfile),
        seen: HashSet::new(),
        found: Vec::new(),
    };
    search.lockfile();
    search.manifests(project, manifest);
    search.installed(&project.join("node_modules"), "node_modules", 2, &mut 0);
    search.resolved();
    search.settings(project);
    search.found.truncate(MOST_ASKERS);
    search.found
}

fn name_of_project(project: &Path, manifest: Option<&Value>, lockfile: &Lockfile) -> String {
    manifest
        .and_then(|m| Some(m.get("name")?.as_str()?.to_owned()))
        .or_else(|| lockfile.entry("")?.name.clone())
        .unwrap_or_else(|| project.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

struct Search<'a> {
    host: String,
    lockfile: &'a Lockfile,
    project_name: String,
    /// Place and dependency of what was found.
    seen: HashSet<(String, String)>,
    found: Vec<Asker>,
}

/// A package whose manifest is looked at.
struct Holder<'a> {
    name: &'a str,
    version: Option<&'a str>,
    place: &'a str,
    dependants: &'a [String],
}

impl Search<'_> {
    fn add(&mut self, holder: &Holder, dependency: &str, address: &str) {
        let source = spec::parse(address);
        let Some(remote) = source.remote().filter(|_| source.reaches(&self.host)) else { return };
        if self.found.len() < MOST_ASKERS && self.seen.insert((holder.place.into(), dependency.into())) {
            self.found.push(Asker {
                name: holder.name.into(),
                version: holder.version.map(str::to_owned),
                place: holder.place.into(),
                dependants: holder.dependants.to_vec(),
                dependency: Some(dependency.into()),
                spec: remote.shown.clone(),
            });
        }
    }

    fn add_manifest(&mut self, manifest: &Value, name: &str, place: &str, dependants: &[String]) {
        let version = manifest.get("version").and_then(Value::as_str);
        let holder = Holder { name, version, place, dependants };
        for (dependency, address) in specs_of(manifest) {
            self.add(&holder, &dependency, &address);
        }
    }

    /// The project's own `.npmrc`, which may point npm at a registry or a proxy.
    fn settings(&mut self, project: &Path) {
        let Some(text) = open_file(&project.join(".npmrc"))
            .and_then(|file| std::io::read_to_string(file.take(LARGEST_SETTINGS)).ok())
        else {
            return;
        };
        for (setting, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim().trim_matches(['"', '\'']);
            let Ok(address) = url::Url::parse(value) else { continue };
            let Some(host) = address.host_str().and_then(spec::plain_host) else { continue };
            if host == self.host && self.seen.insert((".npmrc".into(), setting.trim().into())) {
                self.found.push(Asker {
                    name: self.project_name.clone(),
                    version: None,
                    place: String::new(),
                    dependants: Vec::new(),
                    dependency: None,
                    spec: format!("{}://{host}", address.scheme()),
                });
            }
        }
    }

    /// Specs that the lockfile repeats from the manifests of its packages.
    fn lockfile(&mut self) {
        let lockfile = self.lockfile;
        for (place, entry) in lockfile.entries().collect::<BTreeMap<_, _>>() {
            let asks = |(_, address): &(&str, &str)| spec::parse(address).reaches(&self.host);
            let asked: Vec<_> = entry.specs().filter(asks).collect();
            if asked.is_empty() {
                continue;
            }
            let name = if place.is_empty() { self.project_name.clone() } else { lockfile.name_of(place) };
            let dependants = lockfile.dependants(place);
            let version = entry.version.as_deref();
            for (dependency, address) in asked {
                let holder = Holder { name: &name, version, place, dependants: &dependants };
                self.add(&holder, dependency, address);
            }
        }
    }

    /// Manifests of the project, of its workspaces, and of what they depend on by path.
    fn manifests(&mut self, project: &Path, manifest: Option<Value>) {
        let above = [self.project_name.clone()];
        let mut local: Vec<(PathBuf, String, Vec<String>)> = Vec::new();
        if let Some(manifest) = manifest {
            let name = self.project_name.clone();
            self.add_manifest(&manifest, &name, "", &[]);
            local.extend(by_path(&manifest, project, &above));
        }
        for directory in project::workspaces(project) {
            let Some(manifest) = project::manifest(&directory) else { continue };
            let place = place_of(&directory, project);
            let last = place.rsplit('/').next().unwrap_or_default();
            let name = manifest.get("name").and_then(Value::as_str).unwrap_or(last).to_owned();
            self.add_manifest(&manifest, &name, &place, &above);
            local.extend(by_path(&manifest, &directory, &[above[0].clone(), name]));
        }
        let mut visited = HashSet::new();
        let mut at = 0;
        while let Some((path, name, dependants)) = local.get(at).cloned() {
            at += 1;
            if at > MOST_LOCAL {
                break;
            }
            let Ok(path) = path.canonicalize() else { continue };
            if path == project || !visited.insert(path.clone()) {
                continue;
            }
            if path.is_dir() {
                let Some(manifest) = project::manifest(&path) else { continue };
                self.add_manifest(&manifest, &name, &place_of(&path, project), &dependants);
                local.extend(by_path(&manifest, &path, &[&dependants[..], &[name]].concat()));
            } else {
                let place = format!("node_modules/{name}");
                for manifest in packed_manifests(&path) {
                    self.add_manifest(&manifest, &name, &place, &dependants);
                }
            }
        }
    }

    /// Manifests of installed packages, which an install may be replacing.
    fn installed(&mut self, directory: &Path, place: &str, depth: u32, looked_at: &mut usize) {
        for (path, name) in packages_in(directory) {
            *looked_at += 1;
            if *looked_at > MOST_INSTALLED || self.found.len() >= MOST_ASKERS {
                return;
            }
            let place = format!("{place}/{name}");
            if let Some(manifest) = project::manifest(&path) {
                let asks = specs_of(&manifest).iter().any(|(_, s)| spec::parse(s).reaches(&self.host));
                if asks {
                    let dependants = self.lockfile.dependants(&place);
                    self.add_manifest(&manifest, &name, &place, &dependants);
                }
            }
            if depth > 1 {
                let below = format!("{place}/node_modules");
                self.installed(&path.join("node_modules"), &below, depth - 1, looked_at);
            }
        }
    }

    /// Packages that the lockfile fetches from the host although no manifest says so.
    fn resolved(&mut self) {
        let asked: HashSet<String> = self.found.iter().filter_map(|a| a.dependency.clone()).collect();
        let lockfile = self.lockfile;
        for (place, entry) in lockfile.entries().collect::<BTreeMap<_, _>>() {
            let Some(source) = entry.resolved.as_deref().map(spec::parse) else { continue };
            let Some(remote) = source.remote().filter(|_| source.reaches(&self.host)) else { continue };
            let name = lockfile.name_of(place);
            if asked.contains(&name) {
                continue;
            }
            if self.found.len() >= MOST_ASKERS {
                return;
            }
            self.found.push(Asker {
                version: entry.version.clone(),
                place: place.to_owned(),
                dependants: lockfile.dependants(place),
                dependency: None,
                spec: remote.shown.clone(),
                name,
            });
        }
    }
}

/// What a manifest depends on by path: the path, the name, and who asks.
fn by_path(manifest: &Value, base: &Path, dependants: &[String]) -> Vec<(PathBuf, String, Vec<String>)> {
    let local = specs_of(manifest).into_iter().filter_map(|(name, spec)| match spec::parse(&spec) {
        Source::File(path) => {
            // `file:///x` and `file:/x` are one path,.
            let path = path.strip_prefix("//").unwrap_or(&path);
            Some((base.join(path), name, dependants.to_vec()))
        }
        _ => None,
    });
    local.collect()
}

fn place_of(directory: &Path, project: &Path) -> String {
    directory.strip_prefix(project).unwrap_or(directory).to_string_lossy().into_owned()
}

/// Packages in a `node_modules`, those of scopes included. Links lead to what is looked
/// at elsewhere.
fn packages_in(directory: &Path) -> Vec<(PathBuf, String)> {
    let below = |directory: &Path| -> Vec<(PathBuf, String)> {
        let mut found: Vec<_> = std::fs::read_dir(directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
            .take(MOST_INSTALLED)
            .filter_map(|entry| Some((entry.path(), entry.file_name().into_string().ok()?)))
            .filter(|(_, name)| !name.starts_with('.'))
            .collect();
        found.sort_unstable();
        found
    };
    let expand = |(path, name): (PathBuf, String)| match name.starts_with('@') {
        true => below(&path).into_iter().map(|(p, n)| (p, format!("{name}/{n}"))).collect(),
        false => vec![(path, name)],
    };
    below(directory).into_iter().flat_map(expand).collect()
}

/// Manifests at depth 1 of a tarball, which is where npm takes one from. Of several the
/// last counts for npm; all of them are suspects here.
fn packed_manifests(path: &Path) -> Vec<Value> {
    let Some(mut file) = open_file(path) else { return Vec::new() };
    let mut magic = [0_u8; 2];
    let is_packed = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
    let Ok(()) = std::io::Seek::rewind(&mut file) else { return Vec::new() };
    if is_packed { manifests_of(GzDecoder::new(file)) } else { manifests_of(file) }
}

fn manifests_of<R: Read>(tar: R) -> Vec<Value> {
    let mut found = Vec::new();
    let mut archive = tar::Archive::new(tar.take(MOST_UNPACKED));
    let Ok(entries) = archive.entries() else { return found };
    // What is broken ends the search: the rest cannot be told apart from data.
    for entry in entries.map_while(Result::ok) {
        let is_manifest = entry.path().is_ok_and(|path| {
            let mut parts = path.components().filter(|part| *part != Component::CurDir);
            parts.next().is_some()
                && parts.next().is_some_and(|part| part.as_os_str() == "package.json")
                && parts.next().is_none()
        });
        if is_manifest && entry.size() <= LARGEST_PACKED_MANIFEST && found.len() < 8 {
            let mut data = Vec::new();
            if entry.take(LARGEST_PACKED_MANIFEST).read_to_end(&mut data).is_err() {
                break;
            }
            let data = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&data);
            found.extend(serde_json::from_slice(data).ok());
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    fn write(base: &Path, name: &str, text: &str) {
        let path = base.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn tarball(members: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn packed(members: &[(&str, &str)]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&tarball(members)).unwrap();
        gz.finish().unwrap()
    }

    fn asked(host: &str, project: &Path) -> Vec<String> {
        let show = |a: Asker| {
            let dependency = a.dependency.unwrap_or("itself".into());
            let version = a.version.unwrap_or("?".into());
            let dependants = a.dependants.join(">");
            format!("{}@{version} [{}] of {dependants} wants {dependency} = {}", a.name, a.place, a.spec)
        };
        asked_for(host, project, &Lockfile::load(project)).into_iter().map(show).collect()
    }

    #[test]
    fn an_entry_that_only_the_lockfile_sends_elsewhere_is_named_itself() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            "package-lock.json",
            r#"{"packages": {
                "": {"name": "app", "dependencies": {"b": "1", "g": "github:u/g"}},
                "node_modules/b": {"version": "1.0.0", "dependencies": {"c": "1"}},
                "node_modules/c": {"version": "2.0.0", "resolved": "http://u:p@evil.test:81/c.tgz?x=1"},
                "node_modules/g": {"version": "3.0.0", "resolved": "git+ssh://git@github.com/u/g.git#1"}}}"#,
        );
        assert_eq!(
            asked("Evil.test", dir.path()),
            ["c@2.0.0 [node_modules/c] of app>b wants itself = http://evil.test:81/c.tgz"]
        );
        // npm fetches a copy from the service's other host; the project's spec explains it.
        assert_eq!(asked("codeload.github.com", dir.path()), ["app@? [] of  wants g = github:u/g"]);
        assert!(asked("other.test", dir.path()).is_empty());
    }

    #[test]
    fn the_package_whose_lockfile_entry_holds_the_address_asked() {
        let dir = tempfile::tempdir().unwrap();
        write(
            dir.path(),
            "package-lock.json",
            r#"{"packages": {
                "": {"name": "app", "dependencies": {"b": "1"}},
                "node_modules/b": {"version": "1.0.0", "dependencies": {"x": "http://evil.test/x.tgz"}},
                "node_modules/x": {"version": "9.0.0", "resolved": "http://evil.test/x.tgz"}}}"#,
        );
        assert_eq!(
            asked("evil.test", dir.path()),
            ["b@1.0.0 [node_modules/b] of app wants x = http://evil.test/x.tgz"]
        );
    }

    #[test]
    fn the_projects_and_its_workspaces_manifests_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = r#"{"name": "app", "version": "1.0.0", "workspaces": ["packages/*"],
                           "dependencies": {"x": "https://host.test/x.tgz"}}"#;
        write(dir.path(), "package.json", manifest);
        write(
            dir.path(),
            "packages/w/package.json",
            r#"{"name": "@s/w", "version": "2.0.0", "devDependencies": {"y": "git+ssh://git@host.test:u/y"}}"#,
        );
        assert_eq!(
            asked("host.test", dir.path()),
            [
                "app@1.0.0 [] of  wants x = https://host.test/x.tgz",
                "@s/w@2.0.0 [packages/w] of app wants y = git+ssh://host.test/u/y",
            ]
        );
    }

    #[test]
    fn a_local_tarball_or_directory_that_asks_is_the_culprit() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("app");
        write(
            &project,
            "package.json",
            r#"{"name": "app", "dependencies": {"acme": "file:vendor/acme.tgz", "plain": "./vendor/plain.tar",
                "lib": "file:../lib", "gone": "file:vendor/none.tgz", "self": "file:."}}"#,
        );
        let evil =
            r#"{"name": "acme", "version": "6.6.6", "dependencies": {"remote": "http://evil.test/r.tgz"}}"#;
        std::fs::create_dir_all(project.join("vendor")).unwrap();
        std::fs::write(
            project.join("vendor/acme.tgz"),
            packed(&[
                ("package/index.js", "1"),
                ("package/deep/package.json", "{}"),
                ("odd/package.json", evil),
            ]),
        )
        .unwrap();
        std::fs::write(project.join("vendor/plain.tar"), tarball(&[("package/package.json", evil)])).unwrap();
        write(
            &dir.path().join("lib"),
            "package.json",
            r#"{"name": "lib", "version": "1.0.0", "dependencies": {"z": "http://evil.test/z.tgz", "in": "file:./inner"}}"#,
        );
        write(&dir.path().join("lib/inner"), "package.json", evil);
        let lib = dir.path().canonicalize().unwrap().join("lib");
        let lib = lib.to_str().unwrap();
        assert_eq!(
            asked("evil.test", &project),
            [
                "acme@6.6.6 [node_modules/acme] of app wants remote = http://evil.test/r.tgz".to_owned(),
                format!("lib@1.0.0 [{lib}] of app wants z = http://evil.test/z.tgz"),
                "plain@6.6.6 [node_modules/plain] of app wants remote = http://evil.test/r.tgz".to_owned(),
                format!("in@6.6.6 [{lib}/inner] of app>lib wants remote = http://evil.test/r.tgz"),
            ]
        );
    }

    #[test]
    fn installed_manifests_are_read_last() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = r#"{"version": "1.0.0", "optionalDependencies": {"x": "http://[::1]:1/x.tgz"}}"#;
        for place in ["a", "@s/b", "a/node_modules/c", ".hidden", "a/node_modules/c/node_modules/deep"] {
            write(&dir.path().join("node_modules"), &format!("{place}/package.json"), manifest);
        }
        let found = asked_for("::1", dir.path(), &Lockfile::default());
        let places: Vec<_> = found.iter().map(|a| (a.name.as_str(), a.place.as_str())).collect();
        assert_eq!(
            places,
            [("@s/b", "node_modules/@s/b"), ("a", "node_modules/a"), ("c", "node_modules/a/node_modules/c"),]
        );
    }

    #[test]
    fn hostile_files_neither_block_nor_fill_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe.tgz");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(packed_manifests(&pipe).is_empty());
        let zeros = "\0".repeat(4 << 20);
        let huge = packed(&[("package/package.json", &zeros), ("x/package.json", "{}")]);
        std::fs::write(dir.path().join("huge.tgz"), &huge).unwrap();
        assert_eq!(packed_manifests(&dir.path().join("huge.tgz")).len(), 1);
        for end in 0..huge.len().min(600) {
            std::fs::write(dir.path().join("cut.tgz"), &huge[..end]).unwrap();
            packed_manifests(&dir.path().join("cut.tgz"));
        }
        let list =
            (0..500).map(|n| format!("\"d{n}\": \"http://evil.test/{n}\"")).collect::<Vec<_>>().join(",");
        write(dir.path(), "package.json", &format!("{{\"dependencies\": {{{list}}}}}"));
        assert_eq!(asked("evil.test", dir.path()).len(), MOST_ASKERS);
    }

    #[test]
    fn the_projects_settings_ask_as_the_project() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "package.json", r#"{"name": "app"}"#);
        write(
            dir.path(),
            ".npmrc",
            "; x\n@s:registry = \"http://Elsewhere.test:4873/${NPM_TOKEN}/\"\nproxy=nonsense\n",
        );
        let asked = asked_for("elsewhere.test", dir.path(), &Lockfile::default());
        let [asker] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((asker.name.as_str(), asker.place.as_str()), ("app", ""));
        assert_eq!(asker.spec, "http://elsewhere.test");
        assert!(asked_for("test", dir.path(), &Lockfile::default()).is_empty());
    }
}
