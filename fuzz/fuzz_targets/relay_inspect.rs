//! Any beginning of a connection: no panic, and no second opinion when more has come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use npmguard::relay::inspect;

fuzz_target!(|bytes: &[u8]| {
    let whole = inspect(bytes);
    let half = inspect(&bytes[..bytes.len() / 2]);
    assert!(half.is_none() || half == whole);
});
