//! From files to layers: which files make up the policy, in which order, and what
//! each of them says. The only module of the policy that touches the file system,
//! and it only reads.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::cache::Cache;
use super::check::{MANAGER_HOSTS, group_name};
use super::decode;
use super::error::{PolicyError, Problem, did_you_mean, list_words};
use super::model::{Action, Document, FailOn, Mode, Rule, RuleRef, Section, Verdict};

const MAX_SIZE: u64 = 8 << 20;
/// `extends` may not chain further than this.
const MAX_DEPTH: usize = 16;
const PRESETS: &[&str] = &["default", "strict", "audit"];

/// What is compiled in: the presets, and the reviewed grants that belong to `default`.
const DEFAULT: &[(&str, &str)] = &[
    ("preset:default", include_str!("../../policies/default.yaml")),
    ("preset:packages/generators", include_str!("../../policies/packages/generators.yaml")),
    ("preset:packages/git-hooks", include_str!("../../policies/packages/git-hooks.yaml")),
    ("preset:packages/platform-binaries", include_str!("../../policies/packages/platform-binaries.yaml")),
];
const STRICT: &[(&str, &str)] = &[("preset:strict", include_str!("../../policies/strict.yaml"))];
const AUDIT: &[(&str, &str)] = &[("preset:audit", include_str!("../../policies/audit.yaml"))];

/// Where the policy of a run comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The project's directory; its `npmguard.yaml` is read if it exists.
    pub project: PathBuf,
    /// Files given with `--policy`, lowest first; they replace the project's file.
    pub policies: Vec<PathBuf>,
    /// The user's own `policy.yaml`, used if it exists.
    pub user_config: Option<PathBuf>,
    /// `--mode`: overrides what the files say.
    pub mode: Option<Mode>,
}

/// One file, or one preset.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) source: String,
    path: Option<PathBuf>,
    hash: [u8; 32],
    pub(super) document: Document,
    /// Entries with a plain name, by name; a name has few entries (ranges).
    pub(super) by_name: HashMap<Box<str>, Vec<u32>>,
    /// Entries whose name is a glob.
    pub(super) globs: Vec<u32>,
}

impl Layer {
    fn new(source: String, path: Option<PathBuf>, text: &str) -> Result<Self, PolicyError> {
        let document = decode::document(&source, text).map_err(PolicyError::Invalid)?;
        let mut by_name: HashMap<Box<str>, Vec<u32>> = HashMap::with_capacity(document.packages.len());
        let mut globs = Vec::new();
        for (entry, index) in document.packages.iter().zip(0u32..) {
            if entry.key.is_glob() {
                globs.push(index);
            } else {
                by_name.entry(entry.key.name.clone()).or_default().push(index);
            }
        }
        Ok(Self { source, path, hash: Sha256::digest(text).into(), document, by_name, globs })
    }

    fn is_preset(&self) -> bool {
        self.path.is_none()
    }

    pub(super) fn rule_ref(&self, line: u32, pointer: String) -> RuleRef {
        RuleRef { source: self.source.clone(), line, pointer }
    }
}

/// A loaded policy: layers, lowest first, and what they say about the whole run.
#[derive(Debug)]
pub struct Policy {
    pub(super) layers: Vec<Layer>,
    mode: Mode,
    pub(super) mode_from: String,
    mode_override: Option<Mode>,
    fail_on: Vec<FailOn>,
    pub(super) cache: Cache,
}

/// Reads, checks and orders everything that makes up the policy.
pub fn load(sources: &Sources) -> Result<Policy, PolicyError> {
    let mut loader =
        Loader { project: &sources.project, presets: Vec::new(), layers: Vec::new(), stack: Vec::new() };
    if let Some(user) = sources.user_config.as_deref().filter(|path| exists(path)) {
        loader.file(user)?;
    }
    if sources.policies.is_empty() {
        if let Some(file) = project_file(&sources.project)? {
            loader.file(&file)?;
        }
    } else {
        for file in &sources.policies {
            // `--policy strict` means the preset unless a file has that very name.
            match file.to_str().and_then(preset_name) {
                Some(preset) if !exists(file) => loader.presets.push(preset),
                _ => loader.file(file)?,
            }
        }
    }
    let mut layers = presets(&loader.presets)?;
    layers.append(&mut loader.layers);
    Ok(Policy::new(layers, sources.mode))
}

/// The base is `strict` if any file asks for it, else `default`; `audit` goes on top of it.
fn presets(wanted: &[&'static str]) -> Result<Vec<Layer>, PolicyError> {
    let base = if wanted.contains(&"strict") { STRICT } else { DEFAULT };
    let audit = if wanted.contains(&"audit") { AUDIT } else { &[] };
    base.iter().chain(audit).map(|(source, text)| Layer::new((*source).into(), None, text)).collect()
}

fn preset_name(text: &str) -> Option<&'static str> {
    PRESETS.iter().find(|preset| **preset == text).copied()
}

/// A dangling link counts: it must fail to be read, not be passed over.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn project_file(project: &Path) -> Result<Option<PathBuf>, PolicyError> {
    let (first, second) = (project.join("npmguard.yaml"), project.join("npmguard.yml"));
    match (exists(&first), exists(&second)) {
        (true, true) => Err(PolicyError::TwoFiles { first, second }),
        (true, false) => Ok(Some(first)),
        (false, true) => Ok(Some(second)),
        (false, false) => Ok(None),
    }
}

struct Loader<'a> {
    project: &'a Path,
    presets: Vec<&'static str>,
    layers: Vec<Layer>,
    /// Files being read, outermost first.
    stack: Vec<PathBuf>,
}

impl Loader<'_> {
    /// Reads a file and, below it, what it extends. A file that is already a layer is not read again.
    fn file(&mut self, path: &Path) -> Result<(), PolicyError> {
        let real = path.canonicalize().map_err(|source| PolicyError::Read { path: path.into(), source })?;
        if self.layers.iter().any(|layer| layer.path.as_ref() == Some(&real)) {
            return Ok(());
        }
        let text = read(path)?;
        let layer = Layer::new(self.label(path), Some(real.clone()), &text)?;
        self.stack.push(real);
        for base in &layer.document.extends {
            self.base(path, &layer.source, base)?;
        }
        self.stack.pop();
        self.layers.push(layer);
        Ok(())
    }

    fn base(&mut self, from: &Path, source: &str, base: &Rule) -> Result<(), PolicyError> {
        let problem = |message: String, hint: String| {
            PolicyError::from(Problem {
                file: source.into(),
                line: base.at.line,
                column: base.at.column,
                message,
                hint: Some(hint),
            })
        };
        if let Some(preset) = preset_name(&base.text) {
            self.presets.push(preset);
            return Ok(());
        }
        let known = list_words(PRESETS.iter().copied(), "or");
        let looks_like_path =
            base.text.contains('/') || base.text.ends_with(".yaml") || base.text.ends_with(".yml");
        if !looks_like_path {
            let suggestion = did_you_mean(&base.text, PRESETS.iter().copied())
                .map(|word| format!("did you mean `{word}`? "))
                .unwrap_or_default();
            return Err(problem(
                format!("unknown preset `{}` in `extends`", base.text.escape_debug()),
                format!("{suggestion}write {known}, or a path such as `./shared/policy.yaml`"),
            ));
        }
        let path = from.parent().unwrap_or(Path::new("")).join(&*base.text);
        let real = path.canonicalize().map_err(|error| {
            problem(
                format!("cannot read `{}` named in `extends`: {error}", base.text),
                format!("paths are relative to the file they stand in; or write {known}"),
            )
        })?;
        if real.components().any(|part| part == Component::Normal("node_modules".as_ref())) {
            return Err(problem(
                format!("`{}` in `extends` lies inside `node_modules`", base.text),
                "a policy may not come from what it guards: copy the file into the project".into(),
            ));
        }
        if self.stack.contains(&real) {
            let mut names: Vec<String> =
                self.stack.iter().map(|path| format!("`{}`", self.label(path))).collect();
            names.push(format!("`{}`", self.label(&real)));
            return Err(problem(
                format!("`extends` goes round in a circle: {}", names.join(" → ")),
                "remove one of these `extends`".into(),
            ));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(problem(
                format!("`extends` is nested more than {MAX_DEPTH} files deep"),
                "put these rules into fewer files".into(),
            ));
        }
        self.file(&path)
    }

    /// The path as the user knows it: relative within the project.
    fn label(&self, path: &Path) -> String {
        let canonical_project = self.project.canonicalize().ok();
        let short = path
            .strip_prefix(self.project)
            .ok()
            .or_else(|| canonical_project.as_deref().and_then(|project| path.strip_prefix(project).ok()))
            .filter(|short| !short.as_os_str().is_empty())
            .unwrap_or(path);
        let parts: PathBuf = short.components().filter(|part| *part != Component::CurDir).collect();
        parts.to_string_lossy().escape_debug().to_string()
    }
}

fn read(path: &Path) -> Result<String, PolicyError> {
    let failed = |source| PolicyError::Read { path: path.into(), source };
    let kind = path.metadata().map_err(failed)?;
    if !kind.is_file() {
        return Err(failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MAX_SIZE {
        return Err(PolicyError::TooLarge { path: path.into(), limit: MAX_SIZE });
    }
    Ok(text)
}

impl Policy {
    fn new(layers: Vec<Layer>, mode_override: Option<Mode>) -> Self {
        let stated = layers.iter().rev().find_map(|layer| Some((layer.document.mode?, layer)));
        let (mode, mode_from) = match (mode_override, stated) {
            (Some(mode), _) => (mode, "--mode".to_owned()),
            (None, Some(((mode, at), layer))) => (mode, format!("{}:{}", layer.source, at.line)),
            (None, None) => (Mode::Enforce, "built in".to_owned()),
        };
        let fail_on = layers.iter().rev().find_map(|layer| layer.document.fail_on.clone());
        Self {
            mode,
            mode_from,
            mode_override,
            fail_on: fail_on.unwrap_or(vec![FailOn::Denied]),
            layers,
            cache: Cache::default(),
        }
    }

    /// Whether verdicts are enforced.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Which verdicts make the exit code non-zero.
    pub fn fail_on(&self) -> &[FailOn] {
        &self.fail_on
    }

    /// Whether the hosts that the package manager is set up to use have a bearing on scripts:
    /// a `connect` list names one of their groups, or grants anything at all, which may lead
    /// to a proxy.
    pub fn needs_hosts(&self) -> bool {
        let is_group = |rule: &Rule| group_name(&rule.text).is_some_and(|name| MANAGER_HOSTS.contains(&name));
        let needs = |section: &Section| {
            section.rules(Action::Connect).is_some_and(|rules| {
                !rules.allow.is_empty()
                    || !rules.log.is_empty()
                    || rules.deny.iter().any(is_group)
                    || rules.default.is_some_and(|(verdict, _)| verdict != Verdict::Deny)
            })
        };
        self.layers.iter().any(|layer| {
            let document = &layer.document;
            let packages = document.packages.iter().map(|entry| &entry.section);
            [&document.scripts, &document.root].into_iter().chain(packages).any(needs)
        })
    }

    /// The file that is asked first, as messages call it; no preset.
    pub(super) fn top(&self) -> Option<&str> {
        self.layers.last().filter(|layer| !layer.is_preset()).map(|layer| layer.source.as_str())
    }

    /// `sha256:…` of what every layer says, in order; independent of where files lie.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for layer in &self.layers {
            hasher.update(layer.hash);
        }
        if let Some(mode) = self.mode_override {
            hasher.update(mode.as_str());
        }
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha256:{hex}")
    }

    /// The sources of the layers, lowest first.
    pub fn layers(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.source.clone()).collect()
    }

    /// The layers in a few words, for people: `default policy + npmguard.yaml`. What belongs
    /// to a preset is not listed by itself.
    pub fn summary(&self) -> String {
        let preset = |name: &str| self.layers.iter().any(|layer| layer.is_preset() && layer.source == name);
        let base = match (preset("preset:strict"), preset("preset:audit")) {
            (true, false) => "strict policy",
            (true, true) => "strict policy + audit",
            (false, true) => "audit policy",
            (false, false) => "default policy",
        };
        let files = self.layers.iter().filter(|layer| !layer.is_preset()).map(|layer| layer.source.as_str());
        std::iter::once(base).chain(files).collect::<Vec<_>>().join(" + ")
    }

    /// The real files that were read, lowest first.
    pub fn files(&self) -> Vec<PathBuf> {
        self.layers.iter().filter_map(|layer| layer.path.clone()).collect()
    }
}
