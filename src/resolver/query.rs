//! What a client asks, and what it is told. Everything here was written by the guarded
//! process: it is read once, strictly, and only the question goes further.

use hickory_proto::op::{Edns, Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::Transport;

/// Length of a DNS header.
const HEADER: usize = 12;
/// What a UDP client takes without EDNS (RFC 1035, 4.2.1).
const PLAIN_UDP: u16 = 512;
/// The largest datagram that goes out whatever the client says it takes.
const LARGEST_UDP: u16 = 4096;
/// What we take ourselves: no fragments on any common link (DNS flag day 2020).
pub(super) const OUR_PAYLOAD: u16 = 1232;

/// A question and what its answer must repeat.
pub(super) struct ClientQuery {
    id: u16,
    recursion_desired: bool,
    checking_disabled: bool,
    /// What the client takes in one datagram, if it speaks EDNS.
    payload: Option<u16>,
    transport: Transport,
    /// The name as it was asked for, upper and lower case included.
    pub(super) question: Query,
}

/// A message as it was understood.
pub(super) enum Parsed {
    /// No question, but something else: an answer, or not even a header. Say nothing.
    Silence,
    /// No question that we take: say so.
    Refusal(Vec<u8>),
    /// One question.
    Query(ClientQuery),
}

/// Reads a message of a client.
pub(super) fn parse(message: &[u8], transport: Transport) -> Parsed {
    let mut decoder = BinDecoder::new(message);
    let Some(Header { metadata, counts }) =
        (message.len() >= HEADER).then(|| Header::read(&mut decoder).ok()).flatten()
    else {
        return Parsed::Silence;
    };
    // To answer an answer is how two servers keep each other busy for ever.
    if metadata.message_type != MessageType::Query {
        return Parsed::Silence;
    }
    let refusal = |code| {
        let mut reply = Message::error_msg(metadata.id, metadata.op_code, code);
        reply.metadata.recursion_desired = metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        Parsed::Refusal(reply.to_vec().unwrap_or_default())
    };
    if metadata.op_code != OpCode::Query {
        return refusal(ResponseCode::NotImp);
    }
    if metadata.truncation
        || (counts.queries, counts.answers, counts.authorities) != (1, 0, 0)
        || counts.additionals > 1
    {
        return refusal(ResponseCode::FormErr);
    }
    let Ok(question) = Query::read(&mut decoder) else { return refusal(ResponseCode::FormErr) };
    let mut edns: Option<Edns> = None;
    if counts.additionals == 1 {
        match Record::read(&mut decoder) {
            Ok(record) if record.record_type() == RecordType::OPT => edns = Some((&record).into()),
            _ => return refusal(ResponseCode::FormErr),
        }
    }
    if !decoder.is_empty() {
        return refusal(ResponseCode::FormErr);
    }
    let query = ClientQuery {
        id: metadata.id,
        recursion_desired: metadata.recursion_desired,
        checking_disabled: metadata.checking_disabled,
        payload: edns.as_ref().map(Edns::max_payload),
        transport,
        question,
    };
    // RFC 6891, 6.1.3.
    if edns.is_some_and(|edns| edns.version() != 0) {
        return Parsed::Refusal(query.reply(ResponseCode::BADVERS, Vec::new()));
    }
    Parsed::Query(query)
}

impl ClientQuery {
    pub(super) fn is_internet(&self) -> bool {
        self.question.query_class() == DNSClass::IN
    }

    /// The answer as it goes to the client, cut to what it takes.
    pub(super) fn reply(&self, code: ResponseCode, answers: Vec<Record>) -> Vec<u8> {
        let mut reply = Message::response(self.id, OpCode::Query);
        reply.metadata.response_code = code;
        reply.metadata.recursion_desired = self.recursion_desired;
        reply.metadata.recursion_available = true;
        reply.metadata.checking_disabled = self.checking_disabled;
        reply.add_query(self.question.clone());
        reply.add_answers(answers);
        if self.payload.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(OUR_PAYLOAD);
            reply.set_edns(edns);
        }
        let most = match self.transport {
            Transport::Tcp => u16::MAX,
            Transport::Udp => self.payload.unwrap_or(PLAIN_UDP).clamp(PLAIN_UDP, LARGEST_UDP),
        };
        match reply.to_vec() {
            Ok(bytes) if bytes.len() <= usize::from(most) => bytes,
            Ok(_) if self.transport == Transport::Udp => reply.truncate().to_vec().unwrap_or_default(),
            _ if code == ResponseCode::ServFail => Vec::new(),
            _ => self.reply(ResponseCode::ServFail, Vec::new()),
        }
    }
}

/// The type in the way of RFC 3597, section 5.
pub(super) fn type_text(record_type: RecordType) -> std::borrow::Cow<'static, str> {
    match record_type {
        RecordType::Unknown(number) => format!("TYPE{number}").into(),
        RecordType::ZERO => "TYPE0".into(),
        known => <&'static str>::from(known).into(),
    }
}
