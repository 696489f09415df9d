//! The resolver against name servers on loopback that say true, false and broken things.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, MX, SVCB, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use npmguard::resolver::{Client, Config, Hosts, Lookup, Outcome, Resolver, Ruling, Transport};
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::from_ascii(format!("{text}.")).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 60, data)
}

fn address(owner: &str, address: &str) -> Record {
    record(
        owner,
        match ip(address) {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        },
    )
}

fn alias(owner: &str, target: &str) -> Record {
    record(owner, RData::CNAME(CNAME(name(target))))
}

/// What a server does with a question: the datagrams that it sends.
type Script = Box<dyn Fn(&Message, Transport) -> Vec<Vec<u8>> + Send + Sync>;

/// A name server on loopback, UDP and TCP on one port.
struct Server {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<(String, RecordType, Transport)>>>,
}

impl Server {
    fn start(script: Script) -> Server {
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (tcp, udp);
            }
        };
        let server = Server { at: tcp.local_addr().unwrap(), asked: Arc::default() };
        let script = Arc::new(script);
        let note = {
            let asked = Arc::clone(&server.asked);
            move |message: &Message, transport| {
                let query = &message.queries[0];
                asked.lock().unwrap().push((query.name().to_ascii(), query.query_type(), transport));
            }
        };
        let (by_udp, note_udp) = (Arc::clone(&script), note.clone());
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                let message = Message::from_vec(&buffer[..length]).unwrap();
                note_udp(&message, Transport::Udp);
                let (script, udp) = (Arc::clone(&by_udp), udp.try_clone().unwrap());
                thread::spawn(move || {
                    for reply in script(&message, Transport::Udp) {
                        udp.send_to(&reply, from).unwrap();
                    }
                });
            }
        });
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut stream = stream.unwrap();
                let Some(message) = receive(&mut stream) else { continue };
                note(&message, Transport::Tcp);
                for reply in script(&message, Transport::Tcp) {
                    send(&mut stream, &reply);
                }
            }
        });
        server
    }

    /// Records by name and type; what is not in `names` does not exist.
    fn zone(names: &'static [&'static str], records: Vec<Record>) -> Server {
        Server::start(Box::new(move |query, transport| {
            vec![fitted(&zone_reply(names, &records, query), query, transport)]
        }))
    }

    fn asked(&self) -> Vec<(String, RecordType, Transport)> {
        self.asked.lock().unwrap().clone()
    }
}

fn zone_reply(names: &[&str], records: &[Record], query: &Message) -> Message {
    let question = &query.queries[0];
    let mut reply = reply_to(query);
    let mut at = question.name().clone();
    for _ in 0..8 {
        let here = |record: &&Record| record.name == at;
        let of_type: Vec<Record> = records
            .iter()
            .filter(here)
            .filter(|r| [question.query_type(), RecordType::CNAME].contains(&r.record_type()))
            .cloned()
            .collect();
        let target = of_type.iter().find_map(|record| match &record.data {
            RData::CNAME(target) => Some(target.0.clone()),
            _ => None,
        });
        reply.add_answers(of_type);
        let Some(target) = target else { break };
        at = target;
    }
    if !names.iter().any(|known| name(known) == at) {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    reply
}

fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.metadata.recursion_available = true;
    reply.add_query(query.queries[0].clone());
    reply
}

fn fitted(reply: &Message, query: &Message, transport: Transport) -> Vec<u8> {
    let bytes = reply.to_vec().unwrap();
    let most = query.edns.as_ref().map_or(512, Edns::max_payload);
    if transport == Transport::Udp && bytes.len() > usize::from(most) {
        return reply.truncate().to_vec().unwrap();
    }
    bytes
}

fn send(stream: &mut TcpStream, message: &[u8]) {
    let mut bytes = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(message);
    stream.write_all(&bytes).unwrap();
}

fn receive(stream: &mut TcpStream) -> Option<Message> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(Message::from_vec(&message).unwrap())
}

/// A [`Lookup`] that lasts.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    name: String,
    granted_as: Option<String>,
    record_type: String,
    outcome: Outcome,
    addresses: Vec<IpAddr>,
    refused: Vec<IpAddr>,
}

#[derive(Default)]
struct Domain {
    granted: Vec<&'static str>,
    everything: bool,
    poor: bool,
    seen: Mutex<Vec<Seen>>,
}

impl Domain {
    fn granting(granted: &[&'static str]) -> Domain {
        Domain { granted: granted.to_vec(), ..Domain::default() }
    }

    fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    fn outcomes(&self) -> Vec<Outcome> {
        self.seen.lock().unwrap().iter().map(|seen| seen.outcome).collect()
    }
}

impl Client for Domain {
    fn may_resolve(&self, name: &str) -> Ruling {
        assert!(!name.is_empty() && !name.ends_with('.') && name == name.to_ascii_lowercase());
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)), "{name}");
        match self.everything || self.granted.contains(&name) {
            true => Ruling::Allowed,
            false => Ruling::Refused,
        }
    }

    fn may_point_at(&self, _: &str, address: IpAddr) -> bool {
        assert_eq!(address, address.to_canonical());
        match address {
            IpAddr::V4(v4) => !(v4.is_loopback() || v4.is_private() || v4.is_link_local()),
            IpAddr::V6(v6) => !(v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()),
        }
    }

    fn resolved(&self, lookup: Lookup<'_>) {
        self.seen.lock().unwrap().push(Seen {
            name: lookup.name.into(),
            granted_as: lookup.granted_as.map(Into::into),
            record_type: lookup.record_type.into(),
            outcome: lookup.outcome,
            addresses: lookup.addresses.into(),
            refused: lookup.refused_addresses.into(),
        });
    }

    fn may_ask(&self) -> bool {
        !self.poor
    }
}

fn config(servers: &[SocketAddr]) -> Config {
    Config {
        nameservers: servers.to_vec(),
        search: vec!["corp.example".into()],
        timeout: Duration::from_secs(1),
        attempts: 1,
        ..Config::default()
    }
}

fn resolver(server: &Server) -> Resolver {
    Resolver::new(config(&[server.at]), Hosts::default())
}

fn question(text: &str, record_type: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), record_type));
    message
}

fn look(resolver: &Resolver, domain: &Domain, text: &str, record_type: RecordType) -> Message {
    let asked = question(text, record_type);
    let reply = resolver.answer(&asked.to_vec().unwrap(), Transport::Tcp, domain).unwrap();
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.id, asked.metadata.id);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert!(reply.metadata.recursion_available && reply.metadata.recursion_desired);
    assert!(reply.queries[0].name().eq_case(asked.queries[0].name()));
    assert_eq!(reply.queries, asked.queries);
    assert!(reply.authorities.is_empty() && reply.additionals.is_empty());
    reply
}

fn code(reply: &Message) -> ResponseCode {
    reply.metadata.response_code
}

fn addresses(reply: &Message) -> Vec<IpAddr> {
    reply.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

#[test]
fn a_granted_name_is_answered_and_case_is_kept() {
    let server = Server::zone(
        &["ok.test"],
        vec![address("ok.test", "203.0.113.5"), address("ok.test", "2001:db8::5")],
    );
    let (resolver, domain) = (resolver(&server), Domain::granting(&["ok.test"]));
    let reply = look(&resolver, &domain, "oK.TeSt", RecordType::A);
    assert_eq!((code(&reply), addresses(&reply)), (ResponseCode::NoError, vec![ip("203.0.113.5")]));
    assert!(reply.answers[0].name.eq_case(&name("oK.TeSt")) && reply.answers[0].ttl == 60);
    let seen = domain.last();
    assert_eq!((seen.name.as_str(), seen.granted_as.as_deref()), ("ok.test", Some("ok.test")));
    assert_eq!((seen.outcome, seen.addresses), (Outcome::Answered, vec![ip("203.0.113.5")]));
    assert_eq!(addresses(&look(&resolver, &domain, "ok.test", RecordType::AAAA)), [ip("2001:db8::5")]);
    assert!(server.asked().iter().all(|(name, ..)| name == "ok.test."), "upper and lower case stay here");
}

#[test]
fn a_refused_name_never_leaves() {
    let server = Server::zone(&[], vec![]);
    let (resolver, domain) = (resolver(&server), Domain::granting(&["ok.test"]));
    for (text, kind) in [
        ("evil.test", RecordType::A),
        ("evil.test.corp.example", RecordType::AAAA),
        ("sub.ok.test", RecordType::TXT),
        ("ok.test.evil", RecordType::HTTPS),
    ] {
        assert_eq!(code(&look(&resolver, &domain, text, kind)), ResponseCode::NXDomain, "{text}");
        assert_eq!((domain.last().outcome, domain.last().granted_as), (Outcome::Denied, None));
    }
    let prefixes: Vec<&str> = resolver.without_search("evil.test.corp.example").collect();
    assert_eq!(prefixes, ["evil.test"]);
    assert_eq!(server.asked(), []);
}

#[test]
fn what_is_no_host_name_is_refused_and_escaped() {
    let server = Server::zone(&[], vec![]);
    let (resolver, domain) = (resolver(&server), Domain { everything: true, ..Domain::default() });
    for (labels, shown) in [
        (vec![&b"ok.test"[..]], r"ok\x2etest"),
        (vec![b"a\x1b[31m", b"test"], r"a\x1b[31m.test"),
        (vec![b"a\0b", b"test"], r"a\x00b.test"),
        (vec![], "."),
    ] {
        let mut asked = Message::query();
        let mut name = Name::from_labels(labels).unwrap();
        name.set_fqdn(true);
        asked.add_query(Query::query(name, RecordType::A));
        let reply = resolver.answer(&asked.to_vec().unwrap(), Transport::Tcp, &domain).unwrap();
        assert_eq!(code(&Message::from_vec(&reply).unwrap()), ResponseCode::NXDomain);
        assert_eq!((domain.last().name.as_str(), domain.last().outcome), (shown, Outcome::Denied));
    }
    assert_eq!(server.asked(), []);
}

#[test]
fn only_the_chain_of_aliases_and_its_end_come_back() {
    let server = Server::start(Box::new(|query, _| {
        let mut reply = reply_to(query);
        // Out of order, with strangers, and a hint beside it.
        reply.add_answers([
            address("c.test", "203.0.113.9"),
            address("stranger.test", "127.0.0.1"),
            alias("b.test", "c.test"),
            alias("a.test", "B.test"),
            record("c.test", RData::TXT(TXT::new(vec!["x".into()]))),
        ]);
        reply.add_additional(address("ns.test", "10.0.0.1"));
        reply.add_authority(alias("c.test", "d.test"));
        vec![reply.to_vec().unwrap()]
    }));
    let (resolver, domain) = (resolver(&server), Domain::granting(&["a.test"]));
    let reply = look(&resolver, &domain, "a.test", RecordType::A);
    let kinds: Vec<RecordType> = reply.answers.iter().map(Record::record_type).collect();
    assert_eq!(kinds, [RecordType::CNAME, RecordType::CNAME, RecordType::A]);
    assert_eq!(addresses(&reply), [ip("203.0.113.9")]);
    assert_eq!(domain.outcomes(), [Outcome::Answered]);
}

#[test]
fn a_loop_of_aliases_ends() {
    let server = Server::start(Box::new(|query, _| {
        let mut reply = reply_to(query);
        reply.add_answers([alias("a.test", "b.test"), alias("b.test", "a.test")]);
        vec![reply.to_vec().unwrap()]
    }));
    let domain = Domain::granting(&["a.test"]);
    look(&resolver(&server), &domain, "a.test", RecordType::A);
    assert_eq!(domain.last().outcome, Outcome::NoData);
}

#[test]
fn a_long_answer_comes_over_tcp_and_is_cut_for_datagrams() {
    let many: Vec<Record> = (0..120).map(|n| address("big.test", &format!("203.0.113.{n}"))).collect();
    let server = Server::zone(&["big.test"], many);
    let (resolver, domain) = (resolver(&server), Domain::granting(&["big.test"]));
    assert_eq!(addresses(&look(&resolver, &domain, "big.test", RecordType::A)).len(), 120);
    let ways: Vec<Transport> = server.asked().into_iter().map(|(.., way)| way).collect();
    assert_eq!(ways, [Transport::Udp, Transport::Tcp]);
    for payload in [None, Some(1232), Some(4096), Some(65535)] {
        let mut asked = question("big.test", RecordType::A);
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            asked.set_edns(edns);
        }
        let bytes = resolver.answer(&asked.to_vec().unwrap(), Transport::Udp, &domain).unwrap();
        let reply = Message::from_vec(&bytes).unwrap();
        let whole = payload.is_some_and(|payload| payload > 2000);
        assert_eq!((reply.metadata.truncation, reply.answers.is_empty()), (!whole, !whole));
        assert!(bytes.len() <= usize::from(payload.unwrap_or(512)));
        assert_eq!(reply.edns.is_some(), payload.is_some());
    }
}

#[test]
fn use_vc_asks_over_tcp_only() {
    let server = Server::zone(&["ok.test"], vec![address("ok.test", "203.0.113.5")]);
    let config = Config { use_vc: true, ..config(&[server.at]) };
    let domain = Domain::granting(&["ok.test"]);
    look(&Resolver::new(config, Hosts::default()), &domain, "ok.test", RecordType::A);
    assert_eq!(server.asked(), [("ok.test.".into(), RecordType::A, Transport::Tcp)]);
}

/// A port where nobody listens; the kernel says so at once.
fn nobody() -> SocketAddr {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

#[test]
fn the_next_server_answers_for_one_that_is_dead_silent_or_broken() {
    let good = Server::zone(&["ok.test"], vec![address("ok.test", "203.0.113.5")]);
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let says = |code: ResponseCode| {
        Server::start(Box::new(move |query, _| {
            let mut reply = reply_to(query);
            reply.metadata.response_code = code;
            vec![reply.to_vec().unwrap()]
        }))
    };
    let (failing, refusing) = (says(ResponseCode::ServFail), says(ResponseCode::Refused));
    let broken = Server::start(Box::new(|query, _| {
        let mut bytes = reply_to(query).to_vec().unwrap();
        bytes[7] = 9; // answers that are not there
        vec![bytes]
    }));
    for first in [nobody(), silent.local_addr().unwrap(), failing.at, refusing.at, broken.at] {
        let domain = Domain::granting(&["ok.test"]);
        let resolver = Resolver::new(config(&[first, good.at]), Hosts::default());
        let reply = look(&resolver, &domain, "ok.test", RecordType::A);
        assert_eq!(addresses(&reply), [ip("203.0.113.5")]);
    }
    let domain = Domain::granting(&["ok.test"]);
    let resolver = Resolver::new(config(&[nobody(), failing.at]), Hosts::default());
    assert_eq!(code(&look(&resolver, &domain, "ok.test", RecordType::A)), ResponseCode::ServFail);
    assert_eq!(domain.last().outcome, Outcome::Failed);
}

#[test]
fn a_server_without_edns_is_asked_without() {
    for blank in [false, true] {
        let server = Server::start(Box::new(move |query, _| {
            let mut reply = reply_to(query);
            if query.edns.is_some() {
                reply.metadata.response_code = ResponseCode::FormErr;
                if blank {
                    reply.queries.clear();
                }
            } else {
                reply.add_answer(address("ok.test", "203.0.113.5"));
            }
            vec![reply.to_vec().unwrap()]
        }));
        let domain = Domain::granting(&["ok.test"]);
        let reply = look(&resolver(&server), &domain, "ok.test", RecordType::A);
        assert_eq!(addresses(&reply), [ip("203.0.113.5")]);
    }
}

#[test]
fn replies_to_other_questions_are_ignored() {
    let server = Server::start(Box::new(|query, _| {
        let forged = |change: &dyn Fn(&mut Message)| {
            let mut reply = reply_to(query);
            reply.add_answer(address("ok.test", "198.51.100.66"));
            change(&mut reply);
            reply.to_vec().unwrap()
        };
        let mut honest = reply_to(query);
        honest.add_answer(address("ok.test", "203.0.113.5"));
        vec![
            forged(&|reply| reply.metadata.id ^= 1),
            forged(&|reply| reply.queries[0].name = name("other.test")),
            forged(&|reply| reply.queries[0].query_type = RecordType::AAAA),
            forged(&|reply| reply.queries[0].query_class = DNSClass::CH),
            forged(&|reply| reply.queries.clear()),
            forged(&|reply| reply.metadata.message_type = MessageType::Query),
            b"junk".to_vec(),
            honest.to_vec().unwrap(),
        ]
    }));
    let domain = Domain::granting(&["ok.test"]);
    let reply = look(&resolver(&server), &domain, "ok.test", RecordType::A);
    assert_eq!(addresses(&reply), [ip("203.0.113.5")]);
}

#[test]
fn an_answer_with_one_refused_address_is_refused_as_a_whole() {
    for (hidden, kind, seen) in [
        ("127.0.0.1", RecordType::A, "127.0.0.1"),
        ("169.254.169.254", RecordType::A, "169.254.169.254"),
        ("::ffff:10.0.0.1", RecordType::AAAA, "10.0.0.1"),
        ("::1", RecordType::AAAA, "::1"),
        ("fe80::1", RecordType::AAAA, "fe80::1"),
    ] {
        let public = if kind == RecordType::A { "203.0.113.5" } else { "2001:db8::5" };
        let records =
            vec![alias("rebind.test", "x.test"), address("x.test", public), address("x.test", hidden)];
        let server = Server::zone(&["rebind.test", "x.test"], records);
        let domain = Domain::granting(&["rebind.test"]);
        let reply = look(&resolver(&server), &domain, "rebind.test", kind);
        assert_eq!((code(&reply), reply.answers.len()), (ResponseCode::NXDomain, 0));
        let last = domain.last();
        assert_eq!((last.outcome, last.refused), (Outcome::DeniedAddress, vec![ip(seen)]));
        assert!(last.addresses.is_empty());
    }
}

#[test]
fn no_such_name_and_no_data_are_told_apart() {
    let server =
        Server::zone(&["ok.test"], vec![address("ok.test", "203.0.113.5"), alias("gone.test", "x.test")]);
    let (resolver, domain) = (resolver(&server), Domain { everything: true, ..Domain::default() });
    assert_eq!(code(&look(&resolver, &domain, "no.test", RecordType::A)), ResponseCode::NXDomain);
    assert_eq!(code(&look(&resolver, &domain, "ok.test", RecordType::AAAA)), ResponseCode::NoError);
    assert_eq!(code(&look(&resolver, &domain, "gone.test", RecordType::A)), ResponseCode::NXDomain);
    assert_eq!(domain.outcomes(), [Outcome::NoSuchName, Outcome::NoData, Outcome::NoSuchName]);
}

#[test]
fn a_search_domain_behind_a_granted_name_is_granted() {
    let server =
        Server::zone(&["registry.corp.example"], vec![address("registry.corp.example", "203.0.113.7")]);
    let (resolver, domain) = (resolver(&server), Domain::granting(&["registry", "ok.test"]));
    let reply = look(&resolver, &domain, "registry.corp.example", RecordType::A);
    assert_eq!(addresses(&reply), [ip("203.0.113.7")]);
    assert_eq!(domain.last().granted_as.as_deref(), Some("registry"));
    assert_eq!(domain.last().name, "registry.corp.example");
    look(&resolver, &domain, "ok.test.corp.example", RecordType::A);
    assert_eq!(
        (domain.last().outcome, domain.last().granted_as),
        (Outcome::NoSuchName, Some("ok.test".into()))
    );
    for refused in
        ["corp.example", "xcorp.example", "registry.corp.example.corp.example", "evilregistry.corp.example"]
    {
        look(&resolver, &domain, refused, RecordType::A);
        assert_eq!(domain.last().outcome, Outcome::Denied, "{refused}");
    }
}

#[test]
fn the_hosts_file_and_localhost_are_answered_here() {
    let server = Server::zone(&[], vec![]);
    let hosts = Hosts::parse(b"10.0.0.7 Build.corp db # x\n203.0.113.1 localhost\n::ffff:10.0.0.9 mapped\n");
    let resolver = Resolver::new(config(&[server.at]), hosts);
    let domain = Domain::default();
    for (text, kind, expected) in [
        ("build.CORP", RecordType::A, Some("10.0.0.7")),
        ("db", RecordType::AAAA, None),
        ("mapped", RecordType::A, Some("10.0.0.9")),
        ("localhost", RecordType::A, Some("127.0.0.1")),
        ("localhost", RecordType::AAAA, Some("::1")),
        ("x.localhost", RecordType::A, Some("127.0.0.1")),
        ("localhost", RecordType::TXT, None),
    ] {
        let reply = look(&resolver, &domain, text, kind);
        assert_eq!(code(&reply), ResponseCode::NoError);
        assert_eq!(addresses(&reply), expected.map(ip).into_iter().collect::<Vec<_>>(), "{text}");
        let outcome = if expected.is_some() { Outcome::Answered } else { Outcome::NoData };
        assert_eq!((domain.last().outcome, domain.last().granted_as), (outcome, None));
    }
    look(&resolver, &domain, "db.corp.example", RecordType::A);
    assert_eq!(domain.last().outcome, Outcome::NoSuchName);
    let own = nix::unistd::gethostname().unwrap().into_string().unwrap();
    assert_eq!(addresses(&look(&resolver, &domain, &own, RecordType::A)), [ip("127.0.0.1")]);
    assert_eq!(resolver.addresses("db"), [ip("10.0.0.7")]);
    assert_eq!(resolver.addresses("::ffff:1.2.3.4"), [ip("1.2.3.4")]);
    assert_eq!(server.asked(), []);
}

#[test]
fn other_types_are_forwarded_only_where_they_hide_no_address() {
    let server = Server::start(Box::new(|query, _| {
        let mut reply = reply_to(query);
        reply.add_answers([
            record("ok.test", RData::TXT(TXT::new(vec!["v=1".into()]))),
            record("ok.test", RData::MX(MX::new(10, name("mail.test")))),
            record("ok.test", RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), vec![])))),
        ]);
        reply.add_additional(address("mail.test", "10.0.0.1"));
        vec![reply.to_vec().unwrap()]
    }));
    let (resolver, domain) = (resolver(&server), Domain::granting(&["ok.test"]));
    for kind in [RecordType::TXT, RecordType::MX] {
        let reply = look(&resolver, &domain, "ok.test", kind);
        assert_eq!(reply.answers.iter().map(Record::record_type).collect::<Vec<_>>(), [kind]);
    }
    assert_eq!(server.asked().len(), 2);
    for kind in
        [RecordType::HTTPS, RecordType::SVCB, RecordType::Unknown(4711), RecordType::ANY, RecordType::AXFR]
    {
        let reply = look(&resolver, &domain, "ok.test", kind);
        let meta = matches!(kind, RecordType::ANY | RecordType::AXFR);
        assert_eq!(code(&reply), if meta { ResponseCode::NotImp } else { ResponseCode::NoError });
        assert!(reply.answers.is_empty());
        assert_eq!(domain.last().outcome, Outcome::NoData);
    }
    assert!(domain.seen.lock().unwrap().iter().any(|seen| seen.record_type == "TYPE4711"));
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn what_is_no_question_is_not_forwarded() {
    let server = Server::zone(&[], vec![]);
    let (resolver, domain) = (resolver(&server), Domain { everything: true, ..Domain::default() });
    let asked = |change: &dyn Fn(&mut Message)| {
        let mut message = question("ok.test", RecordType::A);
        change(&mut message);
        let reply = resolver.answer(&message.to_vec().unwrap(), Transport::Tcp, &domain)?;
        Some(code(&Message::from_vec(&reply).unwrap()))
    };
    assert_eq!(asked(&|m| m.metadata.message_type = MessageType::Response), None);
    assert_eq!(asked(&|m| m.metadata.op_code = OpCode::Status), Some(ResponseCode::NotImp));
    assert_eq!(asked(&|m| m.metadata.op_code = OpCode::Update), Some(ResponseCode::NotImp));
    assert_eq!(asked(&|m| m.queries.clear()), Some(ResponseCode::FormErr));
    assert_eq!(asked(&|m| m.queries.push(m.queries[0].clone())), Some(ResponseCode::FormErr));
    assert_eq!(asked(&|m| m.answers.push(address("x.test", "1.2.3.4"))), Some(ResponseCode::FormErr));
    assert_eq!(asked(&|m| m.additionals.push(address("x.test", "1.2.3.4"))), Some(ResponseCode::FormErr));
    assert_eq!(domain.outcomes(), []);
    assert_eq!(asked(&|m| m.queries[0].query_class = DNSClass::CH), Some(ResponseCode::Refused));
    assert_eq!(domain.outcomes(), [Outcome::Denied]);
    let mut trailing = question("ok.test", RecordType::A).to_vec().unwrap();
    trailing.push(0);
    let reply = resolver.answer(&trailing, Transport::Tcp, &domain).unwrap();
    assert_eq!(code(&Message::from_vec(&reply).unwrap()), ResponseCode::FormErr);
    assert_eq!(resolver.answer(b"short", Transport::Tcp, &domain), None);
    let poor = Domain { poor: true, everything: true, ..Domain::default() };
    assert_eq!(code(&look(&resolver, &poor, "ok.test", RecordType::A)), ResponseCode::Refused);
    assert_eq!(poor.outcomes(), [Outcome::Limited]);
    assert_eq!(server.asked(), []);
}

#[test]
fn the_supervisors_own_look_ups_use_the_search_domains() {
    let server = Server::zone(
        &["registry.corp.example", "ok.test"],
        vec![
            address("registry.corp.example", "203.0.113.7"),
            address("ok.test", "203.0.113.5"),
            address("ok.test", "2001:db8::5"),
        ],
    );
    let resolver = resolver(&server);
    assert_eq!(resolver.addresses("Registry"), [ip("203.0.113.7")]);
    assert_eq!(resolver.addresses("registry."), [] as [IpAddr; 0]);
    assert_eq!(resolver.addresses("ok.test"), [ip("203.0.113.5"), ip("2001:db8::5")]);
    assert_eq!(resolver.addresses("bad name"), [] as [IpAddr; 0]);
}

/// A stream that the resolver serves, and the thread that does.
fn served(resolver: Resolver, domain: Arc<Domain>) -> (TcpStream, thread::JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    let client: Arc<dyn Client> = domain;
    let serving = thread::spawn(move || resolver.serve(theirs, &client));
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (ours, serving)
}

#[test]
fn questions_on_one_stream_are_answered_side_by_side() {
    let server = Server::start(Box::new(|query, _| {
        if query.queries[0].name() == &name("slow.test") {
            thread::sleep(Duration::from_millis(700));
        }
        let mut reply = reply_to(query);
        let owner = query.queries[0].name().to_ascii();
        reply.add_answer(match query.queries[0].query_type() {
            RecordType::AAAA => address(owner.trim_end_matches('.'), "2001:db8::5"),
            _ => address(owner.trim_end_matches('.'), "203.0.113.5"),
        });
        vec![reply.to_vec().unwrap()]
    }));
    let domain = Arc::new(Domain::granting(&["slow.test", "ok.test"]));
    let (mut stream, serving) = served(resolver(&server), Arc::clone(&domain));
    let asked = [
        question("slow.test", RecordType::A),
        question("ok.test", RecordType::A),
        question("ok.test", RecordType::AAAA),
        question("evil.test", RecordType::A),
    ];
    // In one piece, as libc sends A and AAAA.
    let mut bytes = Vec::new();
    for message in &asked {
        let message = message.to_vec().unwrap();
        bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
    }
    let started = Instant::now();
    stream.write_all(&bytes).unwrap();
    let mut replies: HashMap<u16, (Message, Duration)> = HashMap::new();
    let mut order = Vec::new();
    // The answers to what is under way come although the client has said its last word.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    while let Some(reply) = receive(&mut stream) {
        order.push(reply.metadata.id);
        replies.insert(reply.metadata.id, (reply, started.elapsed()));
    }
    serving.join().unwrap();
    assert_eq!(order.len(), 4);
    assert_eq!(order.last(), Some(&asked[0].metadata.id), "the slow one comes last");
    assert_eq!(addresses(&replies[&asked[2].metadata.id].0), [ip("2001:db8::5")]);
    assert_eq!(code(&replies[&asked[3].metadata.id].0), ResponseCode::NXDomain);
    assert!(replies[&asked[2].metadata.id].1 < Duration::from_millis(600));
    assert_eq!(domain.outcomes().len(), 4);
}

#[test]
fn a_message_that_is_too_long_or_no_question_ends_the_stream() {
    let server = Server::zone(&[], vec![]);
    for bytes in [&[0xff, 0xff][..], &[0, 3, 1, 2, 3], &[0, 0]] {
        let (mut stream, serving) = served(resolver(&server), Arc::default());
        stream.write_all(bytes).unwrap();
        assert!(receive(&mut stream).is_none());
        serving.join().unwrap();
    }
}

fn offline() -> Resolver {
    Resolver::new(config(&[nobody()]), Hosts::default())
}

proptest! {
    #[test]
    fn any_message_is_survived(
        message in proptest::collection::vec(any::<u8>(), 0..300),
        reply in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let domain = Domain { everything: true, ..Domain::default() };
        offline().answer_with(&message, Transport::Udp, &domain, &reply);
    }

    #[test]
    fn anything_behind_a_good_header_is_survived(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        additional in 0u8..3,
    ) {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, additional];
        message.extend(body);
        let domain = Domain { everything: true, ..Domain::default() };
        let answer = offline().answer_with(&message, Transport::Tcp, &domain, &[]).unwrap();
        prop_assert_eq!(&answer[..2], &message[..2]);
        prop_assert!(Message::from_vec(&answer).is_ok());
    }

    #[test]
    fn any_reply_to_a_good_question_is_survived(
        body in proptest::collection::vec(any::<u8>(), 0..400),
        answers in 0u8..4,
    ) {
        let message = question("ok.test", RecordType::A).to_vec().unwrap();
        // Header and question of ours, then anything, also pointers into them.
        let mut reply = message.clone();
        (reply[2], reply[7]) = (0x81, answers);
        reply.extend(body);
        let domain = Domain { everything: true, ..Domain::default() };
        let answer = offline().answer_with(&message, Transport::Udp, &domain, &reply).unwrap();
        let answer = Message::from_vec(&answer).unwrap();
        // Nothing reaches the client that the domain was not asked about.
        for address in addresses(&answer) {
            prop_assert!(domain.may_point_at("ok.test", address.to_canonical()));
        }
    }
}
