//! What npmguard knows about package managers: where npm is, how it is pinned to
//! the stub, which package a script belongs to, and what its environment may hold.

pub mod asked;
pub mod environment;
pub mod hosts;
pub mod identity;
pub mod lockfile;
pub mod npm;
pub mod npmrc;
pub mod project;
mod spec;
