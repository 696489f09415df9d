//! UDP sockets for programs whose resolver knows nothing else: made in a network that
//! only the resolver in the supervisor is in, see [`crate::launch::datagrams`].

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, Shutdown, shutdown};

use super::names::Asker;
use super::{Guard, Request, process};
use crate::launch::datagrams::Datagrams;
use crate::resolver::{Client, Resolver, Transport};

/// How long an idle thread takes to notice that its domain is gone.
const IDLE: Duration = Duration::from_millis(200);
/// Questions under way at a time; more are dropped, as a busy name server does.
const MOST_QUESTIONS: usize = 32;
/// Largest question that is read; longer ones are cut and so are no question.
const LARGEST_QUESTION: usize = 1_500;

/// Whether a domain can have UDP.
#[derive(Default)]
pub(super) enum PrivateUdp {
    /// Nobody has asked for it.
    #[default]
    Untried,
    /// This machine or container makes no network namespace.
    Unavailable,
    /// It has.
    Running(Server),
}

/// The private network of one domain, and who answers in it.
pub(super) struct Server {
    network: Datagrams,
    sockets: Vec<Arc<UdpSocket>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            // "Not connected", it says, and wakes whoever reads.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Guard {
    /// A UDP socket that reaches the resolver and nothing else; `None` where there is no
    /// network to make it in.
    pub(super) fn private_udp(
        &mut self,
        request: &Request<'_>,
        family: AddressFamily,
        nonblocking: bool,
    ) -> Option<OwnedFd> {
        if matches!(self.datagrams, PrivateUdp::Untried) {
            self.datagrams =
                self.serve_datagrams(request).map_or(PrivateUdp::Unavailable, PrivateUdp::Running);
        }
        match &self.datagrams {
            PrivateUdp::Running(server) => server.network.socket(family, nonblocking).ok(),
            _ => None,
        }
    }

    fn serve_datagrams(&self, request: &Request<'_>) -> Option<Server> {
        let servers = self.domain.resolver.unscoped_servers();
        let (network, sockets) = Datagrams::start(&self.domain.binary, &servers)
            .inspect_err(|error| tracing::debug!("no private network for datagrams: {error}"))
            .ok()?;
        let process = process::describe(request.notification.pid, self.root);
        let asker: Arc<dyn Client> = Arc::new(Asker::new(&self.domain, &self.names, process)?);
        let stop = Arc::new(AtomicBool::new(false));
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        let threads = sockets
            .iter()
            .map(|socket| {
                let (socket, resolver) = (Arc::clone(socket), Arc::clone(&self.domain.resolver));
                let (asker, stop) = (Arc::clone(&asker), Arc::clone(&stop));
                std::thread::spawn(move || answer(&socket, &resolver, &asker, &stop))
            })
            .collect();
        Some(Server { network, sockets, stop, threads })
    }
}

fn answer(socket: &Arc<UdpSocket>, resolver: &Arc<Resolver>, asker: &Arc<dyn Client>, stop: &AtomicBool) {
    let under_way = Arc::new(AtomicUsize::new(0));
    let mut buffer = [0; LARGEST_QUESTION];
    if socket.set_read_timeout(Some(IDLE)).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
        if under_way.fetch_add(1, Ordering::Relaxed) >= MOST_QUESTIONS {
            under_way.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let question = buffer[..len].to_vec();
        let (socket, resolver, asker, under_way) =
            (Arc::clone(socket), Arc::clone(resolver), Arc::clone(asker), Arc::clone(&under_way));
        std::thread::spawn(move || {
            reply(&socket, &resolver, asker.as_ref(), &question, from);
            under_way.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn reply(socket: &UdpSocket, resolver: &Resolver, asker: &dyn Client, question: &[u8], from: SocketAddr) {
    if let Some(answer) = resolver.answer(question, Transport::Udp, asker) {
        let _ = socket.send_to(&answer, from);
    }
}
