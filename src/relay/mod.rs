//! The relay behind `verify: sni`: a connection that policy allows only under a name that
//! the client itself says.
//!
//! An address does not tell which of the names behind it is meant. So the client's first
//! bytes are read before anything goes out: the name in a TLS `ClientHello`, the `Host` of
//! an HTTP request, the target of a `CONNECT`. Nothing reaches the far end before a judge
//! has seen that, and no byte is changed.
//!
//! What this cannot see: a host behind the same TLS end point that is named only inside
//! the encrypted connection (domain fronting, encrypted `ClientHello`). In plain HTTP each
//! following request is judged like the first, so framing is read strictly and what could
//! be read in two ways is refused: a body without one clear length, chunk extensions and
//! trailers, bare line feeds, folded headers. Protocol upgrades of plain HTTP do not work
//! (what follows would not be a request), and a `CONNECT` must be the first request and be
//! accepted by the proxy: after its refusal the client has to connect anew.

mod http;
mod inspect;
mod stream;

pub use inspect::{Spoken, inspect};
pub use stream::{FIRST_BYTES, LARGEST_HEAD, Outcome, Totals, Verdict, run};
