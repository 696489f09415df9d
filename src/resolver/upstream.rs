//! Asks the machine's name servers, with blocking sockets and a fresh port and number per
//! question. Nothing of the client's message is sent on but the question.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query};

use super::config::Config;
use super::query::OUR_PAYLOAD;
use super::reply::{Answer, Digest, digest};

/// However many servers and attempts there are: libc's stream clients wait without end.
pub(super) const LONGEST_LOOKUP: Duration = Duration::from_secs(30);
const LARGEST_DATAGRAM: usize = 4096;

/// What became of one question to one server.
enum Said {
    Answer(Answer),
    /// It spoke, but it cannot help: asking it again is no use.
    Failed,
    /// It was not there or said nothing in time.
    Nothing,
}

/// The first definite answer of a server, starting with number `first` of the list.
/// `None` when none of them gives one in time.
pub(super) fn ask(config: &Config, first: usize, question: &Query) -> Option<Answer> {
    let mut servers = config.servers();
    let first = first % servers.len();
    servers.rotate_left(first);
    let end = Instant::now() + LONGEST_LOOKUP;
    for _ in 0..config.attempts {
        let mut silent = Vec::with_capacity(servers.len());
        for server in servers {
            let deadline = (Instant::now() + config.timeout).min(end);
            if deadline <= Instant::now() {
                return None;
            }
            match ask_server(server, config.use_vc, question, deadline) {
                Said::Answer(answer) => return Some(answer),
                Said::Nothing => silent.push(server),
                Said::Failed => {}
            }
        }
        servers = silent;
    }
    None
}

fn ask_server(server: SocketAddr, use_vc: bool, question: &Query, deadline: Instant) -> Said {
    let mut edns = true;
    let mut stream = use_vc;
    loop {
        // `query` draws a new number each time.
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(question.clone());
        if edns {
            let mut ours = Edns::new();
            ours.set_max_payload(OUR_PAYLOAD);
            message.set_edns(ours);
        }
        let Ok(bytes) = message.to_vec() else { return Said::Failed };
        let id = message.metadata.id;
        let reply = match stream {
            true => over_tcp(server, &bytes, id, question, deadline),
            false => over_udp(server, &bytes, id, question, deadline),
        };
        match reply {
            Ok(Digest::Answer(answer)) => return Said::Answer(answer),
            Ok(Digest::Truncated) if !stream => stream = true,
            Ok(Digest::NoEdns) if edns => edns = false,
            Ok(_) => return Said::Failed,
            Err(_) => return Said::Nothing,
        }
    }
}

fn over_udp(
    server: SocketAddr,
    message: &[u8],
    id: u16,
    question: &Query,
    deadline: Instant,
) -> io::Result<Digest> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Connected, so that the kernel drops what comes from elsewhere and says when nobody listens.
    socket.connect(server)?;
    socket.send(message)?;
    let mut buffer = [0; LARGEST_DATAGRAM];
    loop {
        socket.set_read_timeout(Some(left(deadline)?))?;
        match socket.recv(&mut buffer) {
            Ok(length) => match digest(&buffer[..length], id, question) {
                Digest::NotOurs => {}
                other => return Ok(other),
            },
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn over_tcp(
    server: SocketAddr,
    message: &[u8],
    id: u16,
    question: &Query,
    deadline: Instant,
) -> io::Result<Digest> {
    let stream = TcpStream::connect_timeout(&server, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    (&stream).write_all(&framed(message)?)?;
    match digest(&read_framed(&stream, usize::from(u16::MAX), deadline)?, id, question) {
        Digest::NotOurs => Err(ErrorKind::InvalidData.into()),
        other => Ok(other),
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// A message with its length before it (RFC 1035, 4.2.2), to be sent in one piece.
pub(super) fn framed(message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(|_| ErrorKind::InvalidData)?;
    let mut bytes = Vec::with_capacity(message.len() + 2);
    bytes.extend(length.to_be_bytes());
    bytes.extend(message);
    Ok(bytes)
}

/// The next message of a stream, of at most `most` bytes.
pub(super) fn read_framed(stream: &TcpStream, most: usize, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    read_by(stream, &mut length, deadline)?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > most {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    read_by(stream, &mut message, deadline)?;
    Ok(message)
}

/// The socket's own timeout starts anew with every byte; this one does not.
fn read_by(mut stream: &TcpStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => buffer = &mut buffer[read..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
