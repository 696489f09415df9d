//! One connection of a client (RFC 7766): questions are answered at the same time and in
//! any order, for libc sends A and AAAA together and waits for both.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Client, Judged, Resolver, Transport, upstream};

/// How long a client may take for its next question.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client may take to read an answer.
const SLOW_READER: Duration = Duration::from_secs(10);
/// A question is a name of 255 bytes and an OPT record; more is not a question.
const LARGEST_QUERY: usize = 1232;
/// Questions of one connection that wait for a name server.
const MOST_AT_ONCE: usize = 16;
/// Questions on one connection. Clients that have more connect again.
const MOST_QUERIES: usize = 1000;
const STACK: usize = 256 * 1024;

pub(super) fn serve(resolver: &Resolver, stream: &TcpStream, client: &Arc<dyn Client>) {
    let set_up = stream.set_nonblocking(false).and_then(|()| stream.set_write_timeout(Some(SLOW_READER)));
    if set_up.is_err() {
        return;
    }
    let out = Out { stream, one_at_a_time: Mutex::new(()) };
    let slots = Slots::default();
    // Leaving the scope waits for the questions under way: a client that has shut down its
    // side for writing still gets its answers.
    thread::scope(|scope| {
        for _ in 0..MOST_QUERIES {
            let Ok(message) = upstream::read_framed(stream, LARGEST_QUERY, Instant::now() + IDLE) else {
                return;
            };
            match resolver.judge(&message, Transport::Tcp, &**client) {
                Judged::Silence => return,
                Judged::Reply(reply) => out.send(&reply),
                Judged::Pending(pending) => {
                    let slot = slots.take();
                    let out = &out;
                    let answer = move || {
                        let _slot = slot;
                        out.send(&resolver.forward(*pending, &**client));
                    };
                    let thread = thread::Builder::new().name("resolver".into()).stack_size(STACK);
                    if thread.spawn_scoped(scope, answer).is_err() {
                        return;
                    }
                }
            }
        }
    });
}

struct Out<'a> {
    stream: &'a TcpStream,
    one_at_a_time: Mutex<()>,
}

impl Out<'_> {
    /// Sends an answer, or ends the connection: half an answer cannot be taken back.
    fn send(&self, reply: &[u8]) {
        let _guard = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stream = self.stream;
        if upstream::framed(reply).and_then(|bytes| stream.write_all(&bytes)).is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[derive(Default)]
struct Slots {
    taken: Mutex<usize>,
    freed: Condvar,
}

impl Slots {
    fn take(&self) -> Slot<'_> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken >= MOST_AT_ONCE {
            taken = self.freed.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += 1;
        Slot(self)
    }
}

struct Slot<'a>(&'a Slots);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.freed.notify_one();
    }
}
