//! Any message of a client, with no name server behind the resolver.

#![no_main]

use libfuzzer_sys::fuzz_target;
use npmguard::resolver::{Config, Hosts, Resolver, Transport};

mod client;

fuzz_target!(|message: &[u8]| {
    let config = Config { search: vec!["corp.example".into()], ..Config::default() };
    let resolver = Resolver::new(config, Hosts::parse(b"10.0.0.7 db\n"));
    for transport in [Transport::Tcp, Transport::Udp] {
        if let Some(answer) = resolver.answer_with(message, transport, &client::Anything, &[]) {
            assert_eq!(answer.get(..2), message.get(..2), "the number comes back");
            assert!(answer[2] & 0x80 != 0, "an answer is marked as one");
            assert!(transport == Transport::Tcp || answer.len() <= 4096);
        }
    }
});
