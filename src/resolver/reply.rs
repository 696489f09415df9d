//! What a name server says, reduced to what was asked.
//!
//! A reply counts only if its number and its question are ours; of its answers only the
//! chain of aliases that starts at the question's name, and the records at its end.

use std::net::IpAddr;

use hickory_proto::op::{Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// Longer chains of aliases are loops or games.
const LONGEST_CHAIN: usize = 16;

/// An answer that the client may see once its addresses are permitted.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// No such name, as opposed to no such record.
    pub(super) no_such_name: bool,
    /// Aliases first, in order, then the records that were asked for.
    pub(super) records: Vec<Record>,
    /// The addresses among them, canonical.
    pub(super) addresses: Vec<IpAddr>,
    /// Whether there is a record of the type that was asked for.
    pub(super) found: bool,
}

/// A reply as it was understood.
#[derive(Debug)]
pub(super) enum Digest {
    /// To another question, or to nobody's: keep waiting.
    NotOurs,
    /// The rest comes over TCP.
    Truncated,
    /// The server does not speak EDNS (RFC 6891, 7).
    NoEdns,
    /// The server cannot say; another one may.
    Failed,
    /// The server knows.
    Answer(Answer),
}

/// Reads a reply to `question`, which was sent under the number `id`.
pub(super) fn digest(reply: &[u8], id: u16, question: &Query) -> Digest {
    let mut decoder = BinDecoder::new(reply);
    let Ok(Header { metadata, counts }) = Header::read(&mut decoder) else { return Digest::NotOurs };
    if metadata.id != id
        || metadata.message_type != MessageType::Response
        || metadata.op_code != OpCode::Query
    {
        return Digest::NotOurs;
    }
    let code = metadata.response_code;
    // A server that gives up at the OPT record may not repeat the question.
    let blank = counts.queries == 0 && matches!(code, ResponseCode::FormErr | ResponseCode::NotImp);
    if !blank {
        if counts.queries != 1 {
            return Digest::NotOurs;
        }
        match Query::read(&mut decoder) {
            Ok(asked) if is_same(&asked, question) => {}
            _ => return Digest::NotOurs,
        }
    }
    if metadata.truncation {
        return Digest::Truncated;
    }
    if code == ResponseCode::FormErr || blank {
        return Digest::NoEdns;
    }
    // Parsed a second time and whole: the code has upper bits in the OPT record.
    match Message::from_vec(reply) {
        Ok(message) => match message.metadata.response_code {
            ResponseCode::NoError => Digest::Answer(chain(message.answers, question, false)),
            ResponseCode::NXDomain => Digest::Answer(chain(message.answers, question, true)),
            ResponseCode::BADVERS => Digest::NoEdns,
            _ => Digest::Failed,
        },
        Err(_) => Digest::Failed,
    }
}

fn is_same(asked: &Query, question: &Query) -> bool {
    asked.name() == question.name()
        && asked.query_type() == question.query_type()
        && asked.query_class() == question.query_class()
}

fn owns(record: &Record, name: &Name) -> bool {
    record.dns_class == DNSClass::IN && record.name == *name
}

fn chain(answers: Vec<Record>, question: &Query, no_such_name: bool) -> Answer {
    let wanted = question.query_type();
    let mut at = question.name().clone();
    let mut records: Vec<Record> = Vec::new();
    if wanted != RecordType::CNAME {
        while records.len() < LONGEST_CHAIN {
            let alias = answers.iter().find_map(|record| match &record.data {
                RData::CNAME(target) if owns(record, &at) => Some((record, target.0.clone())),
                _ => None,
            });
            let Some((record, target)) = alias else { break };
            let mut record = record.clone();
            record.name = at;
            records.push(record);
            at = target;
        }
    }
    let aliases = records.len();
    records.extend(
        answers
            .into_iter()
            .filter(|record| owns(record, &at) && record.data.record_type() == wanted)
            // A name that does not exist has no records, whatever else the reply says.
            .filter(|_| !no_such_name)
            .filter(|record| !matches!(record.data, RData::Update0(_))),
    );
    let addresses = records[aliases..]
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .map(|address| address.to_canonical())
        .collect();
    let found = records.len() > aliases;
    Answer { no_such_name, records, addresses, found }
}
