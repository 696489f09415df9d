//! Which package a script belongs to.
//!
//! The directory that the manager started the script in counts, and its place in the
//! project; the manifest's own name is only compared. Where they disagree, or where a
//! dependency was not installed from the registry under its own name, the package
//! gets no grant that policy gives to that name (DESIGN, identity). A dependency may
//! bundle, alias or fetch by address whatever it likes; only what the project itself
//! asks for may come from elsewhere and keep its name.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::lockfile::Lockfile;

/// Manifests larger than this are not read (npm's own limit is far lower).
const LARGEST_MANIFEST: u64 = 16 << 20;

/// Who runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageId {
    /// Name by its place, or of the manifest for the project and for places outside.
    pub name: String,
    /// Version from the lockfile, else from the manifest.
    pub version: Option<String>,
    /// The package's directory.
    pub directory: PathBuf,
    /// The same, relative to the project where it lies inside.
    pub place: String,
    /// The project itself or one of its workspaces.
    pub root: bool,
    /// Whether grants to that name apply.
    pub verified: Verified,
    /// Names from the project down to the package's dependant.
    pub dependants: Vec<String>,
    /// Subresource integrity.
    pub integrity: Option<String>,
    /// SHA-256 of `package.json` as it was before the script.
    pub manifest_sha256: Option<String>,
}

/// Whether a package is what its place says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Place, manifest and source agree.
    Yes,
    /// They do not, for this reason.
    No(String),
}

#[derive(Debug, Default, Deserialize)]
struct Manifest {
    #[serde(default)]
    name: Option<serde_json::Value>,
    #[serde(default)]
    version: Option<serde_json::Value>,
    #[serde(default)]
    dependencies: HashMap<String, serde_json::Value>,
    #[serde(default, rename = "devDependencies")]
    dev_dependencies: HashMap<String, serde_json::Value>,
    #[serde(default, rename = "optionalDependencies")]
    optional_dependencies: HashMap<String, serde_json::Value>,
}

fn read_manifest(directory: &Path) -> Option<(Manifest, String)> {
    let path = directory.join("package.json");
    if !path.metadata().is_ok_and(|m| m.is_file() && m.len() <= LARGEST_MANIFEST) {
        return None;
    }
    let data = std::fs::read(path).ok()?;
    let mut digest = String::new();
    for byte in Sha256::digest(&data) {
        let _ = write!(digest, "{byte:02x}");
    }
    // npm tolerates a byte order mark.
    let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&data);
    Some((serde_json::from_slice(text).unwrap_or_default(), digest))
}

fn text(value: Option<serde_json::Value>) -> Option<String> {
    value.and_then(|v| v.as_str().map(str::to_owned))
}

/// Identifies the package whose script was started in `cwd` (a resolved path).
/// `environment` is what the manager gave the stub.
pub fn identify(
    cwd: &Path,
    project: &Path,
    lockfile: &Lockfile,
    environment: &HashMap<&[u8], &[u8]>,
    registries: &[String],
) -> PackageId {
    let directory = cwd
        .ancestors()
        .take_while(|d| d.file_name() != Some(OsStr::new("node_modules")))
        .find(|d| d.join("package.json").is_file())
        .unwrap_or(cwd)
        .to_owned();
    let (manifest, manifest_sha256) = match read_manifest(&directory) {
        Some((manifest, digest)) => (manifest, Some(digest)),
        None => (Manifest::default(), None),
    };
    let inside = directory.strip_prefix(project).ok();
    let place = inside.unwrap_or(&directory).to_string_lossy().into_owned();
    // A project that itself lies in some node_modules is still a project.
    let by_place = name_by_place(inside.unwrap_or(&directory));
    let (manifest_name, manifest_version) = (text(manifest.name), text(manifest.version));
    let claim = |name: &str| {
        environment
            .get(name.as_bytes())
            .and_then(|v| std::str::from_utf8(v).ok())
            .filter(|v| !v.is_empty() && !["null", "undefined"].contains(v))
            .map(str::to_owned)
    };
    let (claimed_integrity, claimed_source) = (claim("npm_package_integrity"), claim("npm_package_resolved"));
    let entry = inside.and_then(|_| lockfile.entry(&place)).filter(|entry| {
        // npm writes the lockfile last: during an update it still tells of the old package.
        match (&entry.integrity, &claimed_integrity) {
            (Some(locked), Some(now)) => {
                locked.split_whitespace().any(|h| now.split_whitespace().any(|n| n == h))
            }
            _ => entry.version.is_none() || manifest_version.is_none() || entry.version == manifest_version,
        }
    });
    let root = by_place.is_none() && inside.is_some();
    let integrity = entry.and_then(|e| e.integrity.clone()).or(claimed_integrity);
    let source = Source {
        resolved: entry.and_then(|e| e.resolved.clone()).or(claimed_source),
        has_integrity: integrity.is_some(),
    };
    let real_name = entry.and_then(|e| e.name.clone());
    // What was asked of the registry; the tarball's own word could keep the grant of a version.
    let installed = entry.and_then(|e| e.version.clone()).or_else(|| claim("npm_package_version"));
    let verified = if root {
        Verified::Yes
    } else if installed.is_some() && manifest_version.is_some() && installed != manifest_version {
        Verified::No(format!(
            "its manifest says version {}",
            manifest_version.as_deref().unwrap_or("nothing")
        ))
    } else {
        let asked_for = by_place
            .as_deref()
            .is_some_and(|name| place == format!("node_modules/{name}") && named_by_project(name, project));
        verify(
            by_place.as_deref(),
            manifest_name.as_deref(),
            real_name.as_deref(),
            &source,
            asked_for,
            registries,
        )
    };
    PackageId {
        name: by_place.or_else(|| manifest_name.clone()).unwrap_or_else(|| {
            directory.file_name().unwrap_or(OsStr::new("project")).to_string_lossy().into_owned()
        }),
        version: installed.or(manifest_version),
        dependants: if root { Vec::new() } else { lockfile.dependants(&place) },
        integrity,
        directory,
        place: if place.is_empty() { ".".into() } else { place },
        root,
        verified,
        manifest_sha256,
    }
}

/// `name` or `@scope/name` after the last `node_modules`; `None` outside of one.
fn name_by_place(directory: &Path) -> Option<String> {
    let parts: Vec<&OsStr> = directory.iter().collect();
    let at = parts.iter().rposition(|p| *p == "node_modules")?;
    let first = parts.get(at + 1)?;
    let name = if first.as_bytes().starts_with(b"@") {
        format!("{}/{}", first.to_string_lossy(), parts.get(at + 2)?.to_string_lossy())
    } else {
        first.to_string_lossy().into_owned()
    };
    Some(name)
}

/// Where a package came from, as far as the lockfile or the manager says.
struct Source {
    resolved: Option<String>,
    has_integrity: bool,
}

impl Source {
    /// Whether it is the registry's package of that name. A lockfile may leave the
    /// address out, but not the integrity; a bundled package has neither.
    fn is_registry(&self, name: &str, registries: &[String]) -> bool {
        let Some(resolved) = &self.resolved else { return self.has_integrity };
        let Some(address) = without_scheme(resolved) else { return false };
        let address = address.replace("%2f", "/").replace("%2F", "/");
        registries.iter().filter_map(|registry| without_scheme(registry)).any(|registry| {
            let rest = address.strip_prefix(registry.trim_end_matches('/'));
            rest.and_then(|r| r.strip_prefix('/')?.strip_prefix(name)).is_some_and(|r| r.starts_with("/-/"))
        })
    }
}

/// A registry behind a proxy often names its tarballs with the other scheme.
fn without_scheme(address: &str) -> Option<&str> {
    address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"))
}

fn verify(
    place: Option<&str>,
    manifest: Option<&str>,
    alias_of: Option<&str>,
    source: &Source,
    asked_for: bool,
    registries: &[String],
) -> Verified {
    let Some(place) = place else { return Verified::No("it lies outside of node_modules".into()) };
    if let Some(real) = alias_of.filter(|real| *real != place) {
        return Verified::No(format!("`{place}` is an alias of `{real}`"));
    }
    if manifest != Some(place) {
        let name = manifest.unwrap_or("nothing");
        return Verified::No(format!("its manifest calls it `{name}`"));
    }
    if !asked_for && !source.is_registry(place, registries) {
        return Verified::No("it comes from outside the registry and the project does not ask for it".into());
    }
    Verified::Yes
}

/// Whether the project's own manifest asks for that name, wherever it comes from.
fn named_by_project(name: &str, project: &Path) -> bool {
    read_manifest(project).is_some_and(|(m, _)| {
        m.dependencies.contains_key(name)
            || m.dev_dependencies.contains_key(name)
            || m.optional_dependencies.contains_key(name)
    })
}

/// The `node_modules` directories that the package's code resolves from, and the
/// project's.
pub fn node_modules(directory: &Path, project: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = directory
        .ancestors()
        .filter(|d| d.file_name() == Some(OsStr::new("node_modules")))
        .map(Path::to_owned)
        .collect();
    for base in [directory, project] {
        let own = base.join("node_modules");
        if !found.contains(&own) {
            found.push(own);
        }
    }
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;

    fn project() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("package.json", r#"{"name":"app","dependencies":{"mine":"file:x.tgz"}}"#);
        put("node_modules/a/package.json", r#"{"name":"a","version":"1.2.3"}"#);
        put("node_modules/@s/b/package.json", r#"{"name":"@s/b","version":"2.0.0"}"#);
        put("node_modules/liar/package.json", r#"{"name":"react","version":"99.0.0"}"#);
        put("node_modules/mine/package.json", r#"{"name":"mine"}"#);
        put("node_modules/a/sub/file.js", "");
        put("packages/ws/package.json", r#"{"name":"ws"}"#);
        dir
    }

    fn id(dir: &Path, place: &str, env: &[(&str, &str)]) -> PackageId {
        let env: HashMap<&[u8], &[u8]> = env.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())).collect();
        identify(
            &dir.join(place),
            dir,
            &Lockfile::default(),
            &env,
            &["https://npm.corp.test/all/".into(), "https://registry.test/".into()],
        )
    }

    #[test]
    fn the_place_names_the_package() {
        let dir = project();
        let a = id(dir.path(), "node_modules/a/sub", &[]);
        assert_eq!((a.name.as_str(), a.version.as_deref(), a.root), ("a", Some("1.2.3"), false));
        assert_eq!(a.place, "node_modules/a");
        assert!(matches!(a.verified, Verified::No(_)), "nobody knows where it came from");
        assert_eq!(a.manifest_sha256.as_deref().map(str::len), Some(64));
        assert_eq!(id(dir.path(), "node_modules/@s/b", &[]).name, "@s/b");
        let root = id(dir.path(), "", &[]);
        assert_eq!((root.name.as_str(), root.root, root.place.as_str()), ("app", true, "."));
        assert!(id(dir.path(), "packages/ws", &[]).root);
    }

    #[test]
    fn a_tarball_that_claims_another_version_keeps_no_grant() {
        let dir = project();
        let claims = [("npm_package_version", "2.0.0"), ("npm_package_integrity", "sha512-x")];
        let liar = id(dir.path(), "node_modules/a", &claims);
        assert_eq!(liar.version.as_deref(), Some("2.0.0"));
        assert!(matches!(liar.verified, Verified::No(_)));
    }

    #[test]
    fn only_a_registrys_own_address_for_the_name_keeps_the_name() {
        let dir = project();
        let from = |address: &str| {
            id(dir.path(), "node_modules/@s/b", &[("npm_package_resolved", address)]).verified
                == Verified::Yes
        };
        assert!(from("https://registry.test/@s/b/-/b-2.0.0.tgz"));
        assert!(from("http://npm.corp.test/all/@s%2fb/-/b-2.0.0.tgz"), "a proxy may change the scheme");
        for address in [
            "https://registry.test/@s/bb/-/b-2.0.0.tgz",
            "https://registry.test/evil/-/@s/b/-/b.tgz",
            "https://registry.test.evil.test/@s/b/-/b-2.0.0.tgz",
            "https://npm.corp.test/other/@s/b/-/b-2.0.0.tgz",
            "https://evil.test/@s/b/-/b-2.0.0.tgz",
            "git+https://registry.test/@s/b/-/b.git",
            "file:x/-/b.tgz",
        ] {
            assert!(!from(address), "{address}");
        }
        let integrity = [("npm_package_integrity", "sha512-x")];
        assert_eq!(id(dir.path(), "node_modules/@s/b", &integrity).verified, Verified::Yes);
    }

    #[test]
    fn a_project_in_a_directory_called_node_modules_is_a_project() {
        let dir = project();
        let a = dir.path().join("node_modules/a");
        let root = identify(&a, &a, &Lockfile::default(), &HashMap::new(), &[]);
        assert!(root.root);
        assert_eq!(root.name, "a");
    }

    #[test]
    fn a_borrowed_name_earns_no_grants() {
        let dir = project();
        let liar = id(dir.path(), "node_modules/liar", &[]);
        assert_eq!(liar.name, "liar");
        assert!(matches!(liar.verified, Verified::No(_)));
        let foreign = id(dir.path(), "node_modules/a", &[("npm_package_resolved", "git+ssh://h/evil.git")]);
        assert!(matches!(foreign.verified, Verified::No(_)));
        let asked_for = id(dir.path(), "node_modules/mine", &[("npm_package_resolved", "file:x.tgz")]);
        assert_eq!(asked_for.verified, Verified::Yes);
    }
}
