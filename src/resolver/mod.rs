//! The name server of the guarded processes: it answers in the supervisor, so that names
//! are policy's to decide and every question leaves a line in the log.
//!
//! A refused name is never forwarded in any form, not even to learn whether it exists: a
//! name is a message to whoever runs its zone. What is forwarded is a question of our own
//! making, and of a reply only what answers it comes back ([`Resolver::answer`]). An answer
//! with one address that its name may not have is refused as a whole, or a name of an
//! attacker could point at the machine or its network (DNS rebinding).

mod config;
mod hosts;
mod name;
mod query;
mod reply;
mod stream;
mod upstream;

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};

pub use config::Config;
pub use hosts::Hosts;
use query::{ClientQuery, Parsed, type_text};
use reply::{Answer, Digest};

const LARGEST_CONFIG: u64 = 64 * 1024;
/// Lists that block advertisements have some 200,000 lines.
const LARGEST_HOSTS: u64 = 8 * 1024 * 1024;
/// Look-ups under way for all clients together. Each one has a thread and a socket.
const MOST_AT_ONCE: usize = 512;
/// What the machine knows by itself may change with its configuration: short, in seconds.
const LOCAL_TTL: u32 = 10;

/// How a message came, and therefore how long its answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A stream; the length goes before each message.
    Tcp,
    /// Datagrams: what does not fit is cut and marked so.
    Udp,
}

/// What policy says of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It may be looked up.
    Allowed,
    /// It does not exist for this client.
    Refused,
}

/// How a look-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// With what was asked for.
    Answered,
    /// The name does not exist.
    NoSuchName,
    /// The name has nothing of this type, or the type is not looked up.
    NoData,
    /// Policy refused the name, or it is no host name. Nothing was sent anywhere.
    Denied,
    /// Policy refused an address of the answer. The client was told that there is no such name.
    DeniedAddress,
    /// No name server gave an answer.
    Failed,
    /// The client has spent what it may ask, or too much is under way.
    Limited,
}

/// One finished look-up.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// The name: lower case, without a trailing dot. What is no host name is escaped as
    /// [`escape`](crate::event::escape::escape) does, and must not be escaped again.
    pub name: &'a str,
    /// The name that policy granted, which differs where the client appended a search domain.
    /// `None` when nothing was granted, and for what the machine answers by itself.
    pub granted_as: Option<&'a str>,
    /// `A`, `AAAA`, `TXT`, `TYPE4711`.
    pub record_type: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// The addresses that the client was given, canonical.
    pub addresses: &'a [IpAddr],
    /// The addresses that policy refused.
    pub refused_addresses: &'a [IpAddr],
    /// From the question to the answer.
    pub elapsed: Duration,
}

/// The domain that asks. Called from resolver threads, several at a time.
pub trait Client: Send + Sync {
    /// May this name be looked up? It is lower case, has no trailing dot, and its labels
    /// are letters, digits, `-` and `_`; anything else is refused without asking. Called for
    /// the name and, where that is refused, for what is left of it without each search domain:
    /// a pure question, the verdict comes with [`Client::resolved`].
    fn may_resolve(&self, name: &str) -> Ruling;
    /// May an answer point at this canonical address? `name` is the one that policy granted.
    /// Not asked for what stands in the hosts file.
    fn may_point_at(&self, name: &str, address: IpAddr) -> bool;
    /// Called once for every question, before its answer is sent. Questions that cannot be
    /// understood are none.
    fn resolved(&self, lookup: Lookup<'_>);
    /// Whether one more question may be spent; called once for each, also for those that
    /// are answered or refused here.
    fn may_ask(&self) -> bool;
}

/// Name servers and options of the machine, from resolv.conf(5), and hosts(5).
#[derive(Debug)]
pub struct Resolver {
    config: Config,
    hosts: Hosts,
    host_name: Option<String>,
    turn: AtomicUsize,
    under_way: AtomicUsize,
}

/// A question that goes to a name server.
struct Pending {
    query: ClientQuery,
    name: String,
    granted_as: String,
    started: Instant,
}

/// A message, decided as far as that goes without a name server.
enum Judged {
    Silence,
    Reply(Vec<u8>),
    Pending(Box<Pending>),
}

/// Who answers for a name.
enum Source {
    /// The machine itself, with these addresses.
    Local(Vec<IpAddr>),
    /// Nobody: a local name with a search domain behind it, which the client tries first.
    Nowhere,
    /// The name servers, because policy grants this name.
    Granted(String),
    /// Nobody, because policy says so.
    Refused,
}

impl Resolver {
    /// Reads `/etc/resolv.conf` and `/etc/hosts`. A file that is missing or cannot be read is
    /// empty, as for libc.
    pub fn system() -> Resolver {
        let host_name = host_name().unwrap_or_default();
        let config = Config::parse(&read("/etc/resolv.conf".as_ref(), LARGEST_CONFIG), &host_name);
        Resolver::new(config, Hosts::parse(&read("/etc/hosts".as_ref(), LARGEST_HOSTS)))
    }

    /// With what the files say.
    pub fn new(config: Config, hosts: Hosts) -> Resolver {
        let host_name = host_name().and_then(|name| name::from_text(&name));
        Resolver { config, hosts, host_name, turn: AtomicUsize::new(0), under_way: AtomicUsize::new(0) }
    }

    /// Whether a client that connects to this address wants a name server: port 53 of one
    /// of the servers, or of a loopback address when the file names none. IPv4 in IPv6
    /// clothes is IPv4, and the unspecified address is loopback, as for the kernel.
    pub fn is_name_server(&self, to: SocketAddr) -> bool {
        self.config.is_name_server(to)
    }

    /// The resolv.conf(5) that a guarded process is shown: the same, and `options use-vc`.
    pub fn resolv_conf(&self) -> String {
        self.config.text()
    }

    /// The name servers that resolv.conf(5) names.
    pub fn name_servers(&self) -> &[SocketAddr] {
        &self.config.nameservers
    }

    /// The hosts file.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// The domains that clients append.
    pub fn search(&self) -> &[String] {
        &self.config.search
    }

    /// The servers that clients ask, but for those that are reached over one interface only.
    pub fn unscoped_servers(&self) -> Vec<SocketAddr> {
        let scoped = |server: &SocketAddr| matches!(server, SocketAddr::V6(v6) if v6.scope_id() != 0);
        self.config.servers().into_iter().filter(|server| !scoped(server)).collect()
    }

    /// What `name` may have been before a client appended a search domain, shortest first;
    /// never `name` itself. For a log that folds the tries of one look-up: the resolver keeps
    /// no memory of clients, so this is for the caller to compare with what it has reported.
    pub fn without_search<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let strip = |suffix: &String| name.strip_suffix(suffix.as_str())?.strip_suffix('.');
        let mut prefixes: Vec<&str> = self.config.search.iter().filter_map(strip).collect();
        prefixes.retain(|prefix| !prefix.is_empty());
        prefixes.sort_by_key(|prefix| prefix.len());
        prefixes.dedup();
        prefixes.into_iter()
    }

    /// Answers one message (without the length that goes before it on a stream). Blocks while
    /// a name server is asked, at most 30 seconds. `None` means to say nothing.
    pub fn answer(&self, message: &[u8], transport: Transport, client: &dyn Client) -> Option<Vec<u8>> {
        match self.judge(message, transport, client) {
            Judged::Silence => None,
            Judged::Reply(reply) => Some(reply),
            Judged::Pending(pending) => Some(self.forward(*pending, client)),
        }
    }

    /// [`Resolver::answer`] with `reply` in the place of what a name server says: for fuzzing,
    /// where nothing may touch the network. The number in `reply` is taken to be right.
    #[doc(hidden)]
    pub fn answer_with(
        &self,
        message: &[u8],
        transport: Transport,
        client: &dyn Client,
        reply: &[u8],
    ) -> Option<Vec<u8>> {
        match self.judge(message, transport, client) {
            Judged::Silence => None,
            Judged::Reply(reply) => Some(reply),
            Judged::Pending(pending) => {
                let id = reply.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
                let answer = match reply::digest(reply, id, &pending.upstream_question()) {
                    Digest::Answer(answer) => Some(answer),
                    _ => None,
                };
                Some(conclude(&pending, answer, client))
            }
        }
    }

    /// Serves a stream of messages until it ends, fails, is idle for 30 seconds or has had its
    /// share. Questions are answered side by side, up to 16. Blocks; how many streams there may
    /// be is the caller's to say.
    pub fn serve(&self, stream: TcpStream, client: &Arc<dyn Client>) {
        stream::serve(self, &stream, client);
    }

    /// The addresses of a name for the supervisor's own use, as getaddrinfo(3) looks them up:
    /// hosts file, then A and AAAA, with the search domains. Blocks, a minute at most.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        if let Ok(address) = name.parse::<IpAddr>() {
            return vec![address.to_canonical()];
        }
        let Some(host) = name::from_text(name) else { return Vec::new() };
        if let Some(addresses) = self.local(&host) {
            return addresses;
        }
        let as_is = host.matches('.').count() >= usize::try_from(self.config.ndots).unwrap_or(usize::MAX);
        let searched = self.config.search.iter().map(|domain| format!("{host}.{domain}"));
        let mut tries: Vec<String> = if name.ends_with('.') { Vec::new() } else { searched.collect() };
        tries.insert(if as_is { 0 } else { tries.len() }, host);
        let end = Instant::now() + upstream::LONGEST_LOOKUP;
        for name in tries {
            let addresses = self.both(&name);
            if !addresses.is_empty() || Instant::now() >= end {
                return addresses;
            }
        }
        Vec::new()
    }

    /// A and AAAA at the same time.
    fn both(&self, host: &str) -> Vec<IpAddr> {
        let Some(name) = name::wire(host) else { return Vec::new() };
        let look = |record_type| {
            let question = Query::query(name.clone(), record_type);
            upstream::ask(&self.config, self.first(), &question).map_or_else(Vec::new, |a| a.addresses)
        };
        thread::scope(|scope| {
            let six = thread::Builder::new().spawn_scoped(scope, || look(RecordType::AAAA));
            let mut addresses = look(RecordType::A);
            if let Ok(six) = six {
                addresses.extend(six.join().unwrap_or_default());
            }
            addresses
        })
    }

    /// Which server is asked first.
    fn first(&self) -> usize {
        if self.config.rotate { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 }
    }

    /// What the machine itself knows of a name. The names under `localhost` are never anybody
    /// else's (RFC 6761, 6.3).
    fn local(&self, name: &str) -> Option<Vec<IpAddr>> {
        let known = self.hosts.addresses(name);
        let loopback = name == "localhost" || name.ends_with(".localhost");
        if loopback {
            let mut addresses: Vec<IpAddr> = known.iter().copied().filter(IpAddr::is_loopback).collect();
            for address in [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)] {
                if !addresses.iter().any(|known| known.is_ipv4() == address.is_ipv4()) {
                    addresses.push(address);
                }
            }
            return Some(addresses);
        }
        if !known.is_empty() {
            return Some(known.to_vec());
        }
        (self.host_name.as_deref() == Some(name)).then(|| vec![Ipv4Addr::LOCALHOST.into()])
    }

    fn source(&self, name: &str, client: &dyn Client) -> Source {
        if let Some(addresses) = self.local(name) {
            return Source::Local(addresses);
        }
        if client.may_resolve(name) == Ruling::Allowed {
            return Source::Granted(name.to_owned());
        }
        let mut nowhere = false;
        for prefix in self.without_search(name) {
            if self.local(prefix).is_some() {
                nowhere = true;
            } else if client.may_resolve(prefix) == Ruling::Allowed {
                return Source::Granted(prefix.to_owned());
            }
        }
        if nowhere { Source::Nowhere } else { Source::Refused }
    }

    /// Everything that can be said of a message without a name server. Never touches the network.
    fn judge(&self, message: &[u8], transport: Transport, client: &dyn Client) -> Judged {
        let started = Instant::now();
        let query = match query::parse(message, transport) {
            Parsed::Silence => return Judged::Silence,
            Parsed::Refusal(reply) => return Judged::Reply(reply),
            Parsed::Query(query) => query,
        };
        let record_type = query.question.query_type();
        let host = name::host(query.question.name());
        let shown = host.clone().unwrap_or_else(|| name::escaped(query.question.name()));
        let finish = |outcome, code, addresses: &[IpAddr], granted_as: Option<&str>, records| {
            client.resolved(Lookup {
                name: &shown,
                granted_as,
                record_type: &type_text(record_type),
                outcome,
                addresses,
                refused_addresses: &[],
                elapsed: started.elapsed(),
            });
            Judged::Reply(query.reply(code, records))
        };
        if !client.may_ask() {
            return finish(Outcome::Limited, ResponseCode::Refused, &[], None, Vec::new());
        }
        if !query.is_internet() {
            return finish(Outcome::Denied, ResponseCode::Refused, &[], None, Vec::new());
        }
        let Some(name) = host else {
            return finish(Outcome::Denied, ResponseCode::NXDomain, &[], None, Vec::new());
        };
        let granted_as = match self.source(&name, client) {
            Source::Refused => {
                return finish(Outcome::Denied, ResponseCode::NXDomain, &[], None, Vec::new());
            }
            Source::Nowhere => {
                return finish(Outcome::NoSuchName, ResponseCode::NXDomain, &[], None, Vec::new());
            }
            Source::Local(addresses) => {
                let (addresses, records) = local_records(&query.question, addresses);
                let outcome = if records.is_empty() { Outcome::NoData } else { Outcome::Answered };
                return finish(outcome, ResponseCode::NoError, &addresses, None, records);
            }
            Source::Granted(granted_as) => granted_as,
        };
        match interest(record_type) {
            Interest::None => {
                finish(Outcome::NoData, ResponseCode::NoError, &[], Some(&granted_as), Vec::new())
            }
            Interest::Never => {
                finish(Outcome::NoData, ResponseCode::NotImp, &[], Some(&granted_as), Vec::new())
            }
            Interest::Forward => Judged::Pending(Box::new(Pending { query, name, granted_as, started })),
        }
    }

    /// Asks the name servers. Blocks.
    fn forward(&self, pending: Pending, client: &dyn Client) -> Vec<u8> {
        let Some(_place) = Place::take(&self.under_way) else {
            pending.report(client, Outcome::Limited, &[], &[]);
            return pending.query.reply(ResponseCode::ServFail, Vec::new());
        };
        let answer = upstream::ask(&self.config, self.first(), &pending.upstream_question());
        conclude(&pending, answer, client)
    }
}

impl Pending {
    /// The question in lower case: how a client mixes upper and lower case is a message too.
    fn upstream_question(&self) -> Query {
        Query::query(self.query.question.name().to_lowercase(), self.query.question.query_type())
    }

    fn report(&self, client: &dyn Client, outcome: Outcome, addresses: &[IpAddr], refused: &[IpAddr]) {
        client.resolved(Lookup {
            name: &self.name,
            granted_as: Some(&self.granted_as),
            record_type: &type_text(self.query.question.query_type()),
            outcome,
            addresses,
            refused_addresses: refused,
            elapsed: self.started.elapsed(),
        });
    }
}

/// Decides on what the name servers say, and says it to the client.
fn conclude(pending: &Pending, answer: Option<Answer>, client: &dyn Client) -> Vec<u8> {
    let Some(mut answer) = answer else {
        pending.report(client, Outcome::Failed, &[], &[]);
        return pending.query.reply(ResponseCode::ServFail, Vec::new());
    };
    let refused: Vec<IpAddr> = answer
        .addresses
        .iter()
        .copied()
        .filter(|address| !client.may_point_at(&pending.granted_as, *address))
        .collect();
    if !refused.is_empty() {
        pending.report(client, Outcome::DeniedAddress, &[], &refused);
        return pending.query.reply(ResponseCode::NXDomain, Vec::new());
    }
    let (outcome, code) = match (answer.found, answer.no_such_name) {
        (_, true) => (Outcome::NoSuchName, ResponseCode::NXDomain),
        (true, false) => (Outcome::Answered, ResponseCode::NoError),
        (false, false) => (Outcome::NoData, ResponseCode::NoError),
    };
    // Some clients compare the owner of the first record with the question byte for byte.
    let asked = pending.query.question.name();
    for record in answer.records.iter_mut().filter(|record| record.name == *asked) {
        record.name = asked.clone();
    }
    pending.report(client, outcome, &answer.addresses, &[]);
    pending.query.reply(code, answer.records)
}

/// The records of the type that was asked for, and their addresses.
fn local_records(question: &Query, addresses: Vec<IpAddr>) -> (Vec<IpAddr>, Vec<Record>) {
    let wanted = question.query_type();
    addresses
        .into_iter()
        .filter_map(|address| {
            let data = match address {
                IpAddr::V4(v4) if wanted == RecordType::A => RData::A(A(v4)),
                IpAddr::V6(v6) if wanted == RecordType::AAAA => RData::AAAA(AAAA(v6)),
                _ => return None,
            };
            Some((address, Record::from_rdata(question.name().clone(), LOCAL_TTL, data)))
        })
        .unzip()
}

/// What becomes of a question of a type.
enum Interest {
    Forward,
    /// Nobody is asked; there is nothing of it.
    None,
    /// No type of a record (RFC 6895, 3.1).
    Never,
}

/// HTTPS and SVCB carry addresses as hints (RFC 9460, 7.3), which would escape the check of
/// addresses; clients do without. DNSSEC's types are of no use behind a resolver that makes
/// its answers itself, and of types that are not known here nobody can say what they carry.
fn interest(record_type: RecordType) -> Interest {
    match record_type {
        RecordType::A
        | RecordType::AAAA
        | RecordType::CAA
        | RecordType::CNAME
        | RecordType::HINFO
        | RecordType::MX
        | RecordType::NAPTR
        | RecordType::NS
        | RecordType::PTR
        | RecordType::SOA
        | RecordType::SRV
        | RecordType::SSHFP
        | RecordType::TLSA
        | RecordType::TXT => Interest::Forward,
        other => match u16::from(other) {
            0 | 41 | 128..=255 => Interest::Never,
            _ => Interest::None,
        },
    }
}

/// One of the look-ups under way.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(count: &'a AtomicUsize) -> Option<Place<'a>> {
        let place = Place(count);
        (count.fetch_add(1, Ordering::Relaxed) < MOST_AT_ONCE).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a name server's reply to `question` is understood to be, for fuzzing.
#[doc(hidden)]
pub fn digest_reply(reply: &[u8], question: &[u8]) -> bool {
    let Parsed::Query(query) = query::parse(question, Transport::Tcp) else { return false };
    let id = reply.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    matches!(reply::digest(reply, id, &query.question), Digest::Answer(_))
}

fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

/// At most `most` bytes of a file; what cannot be read is empty.
fn read(path: &Path, most: u64) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        let _ = file.take(most).read_to_end(&mut text);
    }
    text
}
