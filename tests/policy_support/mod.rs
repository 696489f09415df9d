//! A project directory with a policy in it, and the subjects the tests ask about.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};

use npmguard::policy::{
    KnownHosts, PathAction, Policy, PolicyError, Profile, Sources, Subject, Variables, Verdict, load,
};

pub struct Project {
    pub dir: tempfile::TempDir,
}

impl Project {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A project whose `npmguard.yaml` is `text`.
    pub fn with(text: &str) -> Self {
        let project = Self::new();
        project.file("npmguard.yaml", text);
        project
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn sources(&self) -> Sources {
        Sources { project: self.dir.path().into(), ..Sources::default() }
    }

    pub fn load(&self) -> Result<Policy, PolicyError> {
        load(&self.sources())
    }

    /// The full message of the mistake in it.
    pub fn mistake(&self) -> String {
        self.load().expect_err("the policy is broken").render()
    }
}

pub fn policy(text: &str) -> Policy {
    Project::with(text).load().unwrap_or_else(|error| panic!("{}", error.render()))
}

pub fn default_policy() -> Policy {
    Project::new().load().unwrap()
}

/// The places of an imaginary install, none of which exists.
pub fn vars() -> Variables {
    Variables {
        home: Some("/home/u".into()),
        project: "/home/u/app".into(),
        package: "/home/u/app/node_modules/left-pad".into(),
        node_modules: vec!["/home/u/app/node_modules".into()],
        tmp: "/tmp/npmguard-1".into(),
        cache: None,
        node: vec!["/home/u/.nvm/node/v24".into()],
        toolchain: vec!["/home/u/.cache/headers".into()],
        path_dirs: vec!["/home/u/bin".into(), "/usr/local/bin".into(), "/usr/bin".into()],
        manager_state: vec!["/home/u/.npm".into()],
        hosts: KnownHosts::default(),
    }
}

pub fn dependency(name: &str) -> Subject {
    Subject::Dependency { name: name.into(), version: Some("1.3.0".parse().unwrap()), granted: true }
}

pub fn unverified(name: &str) -> Subject {
    Subject::Dependency { name: name.into(), version: None, granted: false }
}

pub fn root() -> Subject {
    Subject::Root { name: None, version: None }
}

pub fn profile(policy: &Policy, subject: &Subject) -> Profile {
    policy.profile(subject, &vars()).unwrap_or_else(|error| panic!("{}", error.render()))
}

pub fn verdict(profile: &Profile, action: PathAction, path: &str) -> Verdict {
    profile.decide_path(action, Path::new(path)).verdict
}
