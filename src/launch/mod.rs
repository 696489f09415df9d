//! Starting things: the supervisor spawns the package manager and, on request of
//! the stub that the manager takes for its shell, every lifecycle script, each under
//! a reaper of its own and in a domain of its own.

pub mod broker;
mod confine;
pub mod datagrams;
pub mod domain;
pub mod reaper;
pub mod run_dir;
pub mod signals;
pub mod spawn;
pub mod stub;
pub mod supervisor;
pub mod wire;
