//! The `npmguard` command: parse, dispatch, print errors.
fn main() {}
