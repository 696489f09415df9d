//! Any resolv.conf and hosts file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use npmguard::resolver::{Config, Hosts, Resolver};

fuzz_target!(|data: &[u8]| {
    let config = Config::parse(data, "host.corp.example");
    assert!(config.nameservers.len() <= 3 && !config.timeout.is_zero() && config.attempts > 0);
    let shown = Resolver::new(config.clone(), Hosts::parse(data)).resolv_conf();
    let again = Config::parse(shown.as_bytes(), "host.corp.example");
    assert_eq!(again.nameservers, config.nameservers);
    assert!(again.use_vc);
});
