//! The kernel mechanisms, one noun a file: Landlock rulesets, seccomp filters,
//! notification listeners, reading a target's memory, starting a confined child,
//! and probing what this kernel offers.
//!
//! All `unsafe` code of the project lives below this module; everything above it
//! works with the safe types it exports.

#![allow(unsafe_code)]

pub mod capabilities;
pub mod child;
pub mod creds;
pub mod ipc;
pub mod landlock;
pub mod namespace;
pub mod notify;
pub mod probe;
pub mod process;
pub mod process_memory;
pub mod seccomp;
pub mod socket;
pub mod syscall;
pub mod xattr;
