//! The policy: what an approved lifecycle script may do. Files become layers
//! ([`load()`]), layers and a subject become a [`Profile`], and a profile decides
//! about one path, address or variable at a time. Everything here is data in,
//! data out; nothing knows how a verdict is enforced.

mod address;
mod cache;
mod check;
mod connect;
mod decide;
mod decode;
mod error;
mod file;
mod grants;
mod groups;
mod hint;
mod load;
mod matcher;
mod model;
mod name;
mod package;
mod pattern;
mod profile;
mod programs;
mod quantity;
mod show;
mod special;
mod yaml;

pub use connect::ConnectDecision;
pub use decide::{Decision, Limits, Profile};
pub use error::{PolicyError, Problem};
pub use grants::{Grant, KernelGrants};
pub use groups::{Endpoint, KnownHosts, Variables, is_credential, show_groups};
pub use load::{Policy, Sources, load};
pub use model::{FailOn, Mode, PathAction, RuleRef, UnknownWord, Verdict, Verify};
pub use profile::Subject;
pub use show::show;
pub use special::{AddressClass, canonical, class};
