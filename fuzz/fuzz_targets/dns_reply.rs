//! Anything that a name server may say, raw and behind a header and question that fit, and
//! what becomes of it for the client.

#![no_main]

use libfuzzer_sys::fuzz_target;
use npmguard::resolver::{Config, Hosts, Resolver, Transport, digest_reply};

mod client;

const QUESTION: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x02ok\x04test\0\0\x01\0\x01";

fuzz_target!(|data: &[u8]| {
    digest_reply(data, QUESTION);
    let Some((head, rest)) = data.split_first_chunk::<6>() else { return };
    let [kind, code, answers, authorities, additionals, name] = *head;
    let mut question = QUESTION.to_vec();
    let at = question.len() - 3;
    // The types that are forwarded have small numbers, but for TLSA and CAA.
    question[at] = kind % 64;
    // 0x20 games with the name.
    question[13] ^= name & 0x20;
    let mut reply = question.clone();
    (reply[2], reply[3]) = (0x81, code & 0x0f);
    (reply[7], reply[9], reply[11]) = (answers % 8, authorities % 4, additionals % 4);
    reply.extend(rest);
    digest_reply(&reply, &question);
    let resolver = Resolver::new(Config::default(), Hosts::default());
    for transport in [Transport::Tcp, Transport::Udp] {
        if let Some(answer) = resolver.answer_with(&question, transport, &client::Anything, &reply) {
            assert_eq!(answer[12..question.len()], question[12..], "the question comes back as it was");
            // The number of records beside the answers: none, not even EDNS, which was not asked for.
            assert_eq!(answer[8..12], [0; 4]);
        }
    }
});
