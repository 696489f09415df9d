//! npmguard: per-package policy for package-manager installs on Linux, enforced
//! by Landlock and seccomp, attributed to the package, without privilege.
//!
//! The modules follow the path of one event from top to bottom:
//! command line ([`cli`]) → [`policy`] → [`launch`] → [`sandbox`] → [`guard`] →
//! [`event`] → [`report`]. A module only calls downstream, or a type that both share.

pub mod cli;
pub mod event;
pub mod guard;
pub mod launch;
pub mod manager;
pub mod policy;
pub mod relay;
pub mod report;
pub mod sandbox;
