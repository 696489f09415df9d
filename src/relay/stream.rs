//! Passing bytes both ways, once they may pass.
//!
//! One thread, two sockets, `poll`. What one side does not take is not read from the
//! other, so a stalled peer stalls its partner and no memory grows. Whatever ends one
//! direction ends it on the other side too; an error on one side resets the other.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::http::{Answer, Body, Read, read_answer, read_head};
use super::inspect::{Spoken, inspect};

/// How long a client may take to say whom it wants.
pub const FIRST_BYTES: Duration = Duration::from_secs(10);
/// Bytes in which it must have said so, and of each later head.
pub const LARGEST_HEAD: usize = 64 << 10;
/// How long one open direction may be silent after the other has ended.
const HALF_CLOSED: Duration = Duration::from_secs(300);
/// Bytes read at once, and held while a peer does not take them.
const CHUNK: usize = 64 << 10;

/// Bytes that were passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// From the client to the far end.
    pub bytes_out: u64,
    /// From the far end to the client.
    pub bytes_in: u64,
}

/// What became of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Everything that the client said was judged to be allowed.
    Passed,
    /// This was not; in plain HTTP earlier requests may have passed.
    Refused(Spoken),
    /// The client ended or the time was up before there was a byte.
    NothingSaid,
}

/// How a relay ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was passed on.
    pub totals: Totals,
    /// What was decided.
    pub verdict: Verdict,
    /// What ended the connection, where it was not its peers.
    pub error: Option<io::Error>,
}

/// Reads the client's first bytes (within [`FIRST_BYTES`] and [`LARGEST_HEAD`]), asks
/// `judge`, and only if it agrees passes them and everything after on to `upstream`, and
/// back, until both directions have ended. Of plain HTTP every request is judged. What is
/// refused resets the client, and nothing of it reaches `upstream`.
///
/// The caller may end a relay from outside by `shutdown` on a clone of `client`; a clone
/// that is still open when a connection is refused delays the reset until it is dropped.
pub fn run(client: TcpStream, upstream: TcpStream, judge: &mut dyn FnMut(&Spoken) -> bool) -> Outcome {
    let mut relay = Relay {
        client: Side::new(client),
        upstream: Side::new(upstream),
        stage: Stage::First,
        inbox: Vec::new(),
        answer: Vec::new(),
        judge,
    };
    let ended = relay.pass();
    let totals = Totals { bytes_out: relay.upstream.written, bytes_in: relay.client.written };
    let (verdict, error) = match ended {
        Ok(()) => (Verdict::Passed, None),
        Err(End::Refused(spoken)) => (Verdict::Refused(spoken), None),
        Err(End::NothingSaid) => (Verdict::NothingSaid, None),
        Err(End::Failed(error)) => {
            let verdict = match relay.stage {
                Stage::First if relay.inbox.is_empty() => Verdict::NothingSaid,
                Stage::First => Verdict::Refused(Spoken::Unknown),
                _ => Verdict::Passed,
            };
            relay.upstream.reset();
            (verdict, Some(error))
        }
    };
    if error.is_some() || verdict != Verdict::Passed {
        relay.client.reset();
    }
    Outcome { totals, verdict, error }
}

/// Why a relay stops before its peers do.
enum End {
    Refused(Spoken),
    NothingSaid,
    Failed(io::Error),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Failed(error)
    }
}

/// Where the client's side of the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before the first decision.
    First,
    /// Before the head of a request.
    Head,
    /// Inside a body.
    Body(u64),
    /// Inside a chunk.
    Chunk(u64),
    /// Before the size of a chunk.
    ChunkSize,
    /// Before the line end after a chunk.
    ChunkEnd,
    /// Before the line end after the last chunk.
    LastChunk,
    /// After a `CONNECT`, before the proxy's answer.
    Asked,
    /// After a `CONNECT` that the proxy refused.
    Ended,
    /// What is said is no longer looked at.
    Opaque,
}

struct Side {
    socket: TcpStream,
    /// What this side is to be sent.
    outbox: Vec<u8>,
    sent: usize,
    written: u64,
    /// Nothing more comes from this side.
    finished: bool,
    /// This side was told that nothing more comes.
    told: bool,
    /// `poll` says so for ever, so the socket is left out while nothing is wanted of it.
    hung_up: bool,
}

struct Relay<'a> {
    client: Side,
    upstream: Side,
    stage: Stage,
    /// What the client said and what has not been decided.
    inbox: Vec<u8>,
    /// The beginning of the proxy's answer to a `CONNECT`.
    answer: Vec<u8>,
    judge: &'a mut dyn FnMut(&Spoken) -> bool,
}

impl Side {
    fn new(socket: TcpStream) -> Side {
        let outbox = Vec::new();
        Side { socket, outbox, sent: 0, written: 0, finished: false, told: false, hung_up: false }
    }

    fn has_output(&self) -> bool {
        self.sent < self.outbox.len()
    }

    /// Reads once into `into`.
    fn read(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let old = into.len();
        into.resize(old + CHUNK, 0);
        let read = self.socket.read(&mut into[old..]);
        into.truncate(old + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => self.finished = true,
            Ok(_) => {}
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        while self.has_output() {
            match self.socket.write(&self.outbox[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.sent += count;
                    self.written += count as u64;
                }
                Err(error) if would_block(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.outbox.clear();
        self.sent = 0;
        Ok(())
    }

    /// A far end that takes nothing more may still have an answer, such as why.
    fn deafen(&mut self) {
        self.outbox = Vec::new();
        self.sent = 0;
        self.told = true;
    }

    /// Says that nothing more comes, once everything is sent.
    fn tell(&mut self) {
        if !self.told && !self.has_output() {
            self.told = true;
            // A peer that is gone does not need to know.
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// Makes closing the socket a reset.
    fn reset(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let _ = setsockopt(&self.socket, sockopt::Linger, &linger);
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Relay<'_> {
    fn pass(&mut self) -> Result<(), End> {
        self.client.socket.set_nonblocking(true)?;
        self.upstream.socket.set_nonblocking(true)?;
        let deadline = Instant::now() + FIRST_BYTES;
        let mut moved = Instant::now();
        loop {
            let before = (self.client.written, self.upstream.written);
            self.decide()?;
            if self.stage != Stage::First {
                if self.upstream.write().is_err() {
                    self.upstream.deafen();
                }
                self.client.write()?;
                self.end_directions();
                if self.client.told && self.upstream.told {
                    return Ok(());
                }
            }
            if before != (self.client.written, self.upstream.written) {
                moved = Instant::now();
            }
            let until = match self.stage {
                Stage::First => Some(deadline),
                _ if self.client.told || self.upstream.told => Some(moved + HALF_CLOSED),
                _ => None,
            };
            let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
            if timeout == Some(Duration::ZERO) {
                return Err(match self.stage {
                    Stage::First if self.inbox.is_empty() => End::NothingSaid,
                    Stage::First => End::Refused(Spoken::Unknown),
                    _ => End::Failed(io::ErrorKind::TimedOut.into()),
                });
            }
            self.wait(timeout)?;
        }
    }

    /// Waits for what can be done next, and reads.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), End> {
        let wants = |flag: bool, what: PollFlags| if flag { what } else { PollFlags::empty() };
        let first = self.stage == Stage::First;
        let hears_client =
            !self.client.finished && !self.upstream.has_output() && self.inbox.len() < LARGEST_HEAD;
        let hears_upstream = !first && !self.upstream.finished && !self.client.has_output();
        let of_client = wants(hears_client, PollFlags::POLLIN)
            | wants(!first && self.client.has_output(), PollFlags::POLLOUT);
        let of_upstream =
            wants(hears_upstream, PollFlags::POLLIN) | wants(self.upstream.has_output(), PollFlags::POLLOUT);
        let mut sockets = Vec::with_capacity(2);
        let sides = [(&self.client, of_client), (&self.upstream, of_upstream)];
        let listed = sides.map(|(side, events)| {
            // The far end may say what it likes before the client has spoken.
            let skip = events.is_empty() && (side.hung_up || first);
            (!skip).then(|| {
                sockets.push(PollFd::new(side.socket.as_fd(), events));
                sockets.len() - 1
            })
        });
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            // Rounded up, or the last millisecond would be spent in a busy loop.
            PollTimeout::try_from(timeout + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut sockets, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(End::Failed(errno.into())),
        }
        let came = listed.map(|at| at.and_then(|at| sockets[at].revents()).unwrap_or(PollFlags::empty()));
        drop(sockets);
        let heard =
            [(&mut self.client, came[0], hears_client), (&mut self.upstream, came[1], hears_upstream)];
        for (side, events, hears) in heard {
            side.hung_up |= events.contains(PollFlags::POLLHUP);
            // What came before an error can still be read, and reading then gives the error.
            if events.contains(PollFlags::POLLERR) && !hears {
                let error = side.socket.take_error()?.unwrap_or(io::ErrorKind::ConnectionReset.into());
                return Err(End::Failed(error));
            }
        }
        let readable = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        if hears_client && came[0].intersects(readable) {
            self.client.read(&mut self.inbox)?;
        }
        if hears_upstream && came[1].intersects(readable) {
            let old = self.client.outbox.len();
            self.upstream.read(&mut self.client.outbox)?;
            self.heard_answer(old);
        }
        Ok(())
    }

    fn end_directions(&mut self) {
        // An unfinished head of a client that is done is nobody's.
        if self.client.finished {
            self.upstream.tell();
        }
        if self.upstream.finished {
            self.client.tell();
        }
    }

    /// Looks whether a proxy accepts a `CONNECT`.
    fn heard_answer(&mut self, old: usize) {
        if self.stage != Stage::Asked {
            return;
        }
        self.answer.extend_from_slice(&self.client.outbox[old..]);
        self.stage = match read_answer(&self.answer) {
            Answer::Tunnel => Stage::Opaque,
            Answer::Partial if self.answer.len() < LARGEST_HEAD => return,
            Answer::Partial | Answer::Refused => Stage::Ended,
        };
        self.answer = Vec::new();
    }

    /// Takes as much as may pass from what the client said.
    fn decide(&mut self) -> Result<(), End> {
        loop {
            let before = (self.stage, self.inbox.len());
            self.step()?;
            if before == (self.stage, self.inbox.len()) {
                break;
            }
        }
        if self.stage == Stage::First && self.client.finished {
            return Err(if self.inbox.is_empty() { End::NothingSaid } else { End::Refused(Spoken::Unknown) });
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), End> {
        const UNCLEAR: Result<(), End> = Err(End::Refused(Spoken::Unknown));
        match self.stage {
            _ if self.inbox.is_empty() => {}
            Stage::First => match inspect(&self.inbox) {
                None if self.inbox.len() < LARGEST_HEAD => {}
                Some(Spoken::Http { .. } | Spoken::Connect { .. }) => return self.request(),
                spoken => {
                    self.judged(spoken.unwrap_or(Spoken::Unknown))?;
                    self.stage = Stage::Opaque;
                }
            },
            Stage::Head => return self.request(),
            Stage::Opaque => self.let_pass(self.inbox.len()),
            Stage::Body(left) => {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(self.inbox.len());
                self.let_pass(now);
                self.stage = match left - now as u64 {
                    0 => Stage::Head,
                    left => Stage::Body(left),
                };
            }
            Stage::ChunkSize => {
                let line = self.inbox.iter().take(18).position(|b| *b == b'\n');
                let Some(end) = line else {
                    return if self.inbox.len() < 18 { Ok(()) } else { UNCLEAR };
                };
                let digits = self.inbox[..end].strip_suffix(b"\r").unwrap_or_default();
                let plain = digits.len() <= 15 && digits.iter().all(u8::is_ascii_hexdigit);
                let size = std::str::from_utf8(digits).ok().filter(|_| plain);
                let Some(size) = size.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
                    return UNCLEAR;
                };
                self.let_pass(end + 1);
                self.stage = if size == 0 { Stage::LastChunk } else { Stage::Chunk(size) };
            }
            Stage::Chunk(left) => {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(self.inbox.len());
                self.let_pass(now);
                self.stage = match left - now as u64 {
                    0 => Stage::ChunkEnd,
                    left => Stage::Chunk(left),
                };
            }
            Stage::ChunkEnd | Stage::LastChunk => {
                if !b"\r\n".starts_with(&self.inbox[..self.inbox.len().min(2)]) {
                    return UNCLEAR;
                }
                if self.inbox.len() >= 2 {
                    self.let_pass(2);
                    self.stage = if self.stage == Stage::LastChunk { Stage::Head } else { Stage::ChunkSize };
                }
            }
            Stage::Asked => {}
            Stage::Ended => return UNCLEAR,
        }
        Ok(())
    }

    fn request(&mut self) -> Result<(), End> {
        let head = match read_head(&self.inbox) {
            Read::Partial if self.inbox.len() < LARGEST_HEAD => return Ok(()),
            Read::Partial | Read::Broken => return Err(End::Refused(Spoken::Unknown)),
            Read::Head(head) => head,
        };
        let is_connect = matches!(head.spoken, Spoken::Connect { .. });
        if is_connect && self.stage != Stage::First {
            // The answers to earlier requests could be taken for the answer to this one.
            return Err(End::Refused(head.spoken));
        }
        self.judged(head.spoken)?;
        self.let_pass(head.length);
        self.stage = match head.body {
            _ if is_connect => Stage::Asked,
            Body::Length(0) => Stage::Head,
            Body::Length(length) => Stage::Body(length),
            Body::Chunked => Stage::ChunkSize,
        };
        Ok(())
    }

    fn judged(&mut self, spoken: Spoken) -> Result<(), End> {
        if (self.judge)(&spoken) { Ok(()) } else { Err(End::Refused(spoken)) }
    }

    fn let_pass(&mut self, count: usize) {
        let passed = self.inbox.drain(..count);
        if !self.upstream.told {
            self.upstream.outbox.extend(passed);
        }
    }
}
