//! The loop of a guard: one thread that waits for the listener, the reaper, the one who
//! asked for the script, and the clock.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::datagrams::PrivateUdp;
use super::{Domain, Ended, Guard, Role, connect, names, socket_table};
use crate::launch::spawn::{Confined, Report};
use crate::sandbox::creds;

/// Serves a confined tree until nothing of it is left. Bytes from `client` are
/// signal numbers for the first process; its end terminates the tree.
pub fn serve(
    domain: Domain,
    mut confined: Confined,
    client: Option<OwnedFd>,
    wall: Option<Duration>,
) -> Ended {
    if let Some(identity) = &domain.identity
        && let Err(errno) = creds::assume_in_thread(identity)
    {
        return Ended::Broken(format!("the guard could not become user {}: {errno}", identity.uid));
    }
    let is_manager = domain.role == Role::Manager;
    let mut domain = Some(domain);
    let mut guard: Option<Guard> = None;
    let mut client = client;
    let mut ended: Option<Ended> = None;
    let started = Instant::now();
    let mut timed_out = false;
    let mut stopped_for_breach = false;
    let mut asked: Option<Asked> = None;
    let mut forced = false;
    loop {
        let patience = asked.as_ref().map(Asked::patience);
        if patience == Some(Duration::ZERO) && !forced {
            forced = true;
            confined.terminate();
        }
        let left =
            wall.filter(|_| !timed_out && ended.is_none()).map(|w| w.saturating_sub(started.elapsed()));
        let waiting = guard.as_mut().is_some_and(Guard::has_waiters);
        let tick = waiting.then_some(connect::TICK);
        let deadline = [left, patience.filter(|p| !p.is_zero()), tick].into_iter().flatten().min();
        let timeout = deadline.map_or(PollTimeout::NONE, |d| {
            PollTimeout::try_from(d + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let ready = wait(&confined, guard.as_ref(), client.as_ref(), timeout);
        if !timed_out && ended.is_none() && wall.is_some_and(|w| started.elapsed() >= w) {
            timed_out = true;
            if let Some(guard) = &guard {
                guard.timed_out(wall.unwrap_or_default());
            }
            confined.terminate();
        }
        if ready.listener
            && let Some(g) = &mut guard
            && let Err(error) = g.answer_one()
        {
            confined.terminate();
            g.domain.breach.raise(format!("the guard of {} failed: {error}", g.domain.package.label()));
        }
        if let Some(g) = &guard
            && g.domain.role == Role::Manager
            && !stopped_for_breach
            && g.domain.breach.reason().is_some()
        {
            stopped_for_breach = true;
            confined.terminate();
        }
        if ready.deserted
            && let Some(g) = &mut guard
        {
            g.deserted = true;
        }
        if ready.sockets
            && let Some(g) = &mut guard
        {
            g.settle_attempts();
        }
        if let Some(g) = guard.as_mut().filter(|_| waiting) {
            g.look_after_waiters();
        }
        if ready.client {
            match client.as_ref().map(|fd| read_signals(fd.as_fd())) {
                Some(Some(signals)) => {
                    for signal in signals.into_iter().map(i32::from) {
                        confined.signal(signal);
                        if is_manager && matches!(signal, libc::SIGINT | libc::SIGTERM | libc::SIGHUP) {
                            asked.get_or_insert(Asked { signal, at: Instant::now() });
                        }
                    }
                }
                _ => {
                    client = None;
                    confined.terminate();
                }
            }
        }
        if !ready.control {
            continue;
        }
        match confined.receive() {
            Ok(Some(Report::Listener(listener))) => {
                if let Some(domain) = domain.take() {
                    guard = Some(Guard {
                        domain: Arc::new(domain),
                        listener: Arc::new(listener),
                        root: confined.reaper_pid(),
                        sockets: socket_table::Table::default(),
                        names: Arc::new(names::Names::default()),
                        resolves_alone: false,
                        relays: Vec::new(),
                        datagrams: PrivateUdp::default(),
                        made: Vec::new(),
                        deserted: false,
                    });
                }
            }
            Ok(Some(Report::Failed(step, errno))) => ended = Some(Ended::NotStarted(step, errno)),
            Ok(Some(Report::Ended(status))) => {
                ended.get_or_insert(Ended::Status(status));
            }
            Ok(Some(Report::Leftovers(leftovers))) => {
                if let Some(guard) = &guard {
                    guard.leftovers(&leftovers);
                }
            }
            Ok(Some(Report::Done)) => {
                confined.wait();
                if let Some(guard) = &mut guard {
                    guard.close_network();
                }
                let ended =
                    ended.unwrap_or_else(|| Ended::Broken("the reaper ended without a status".into()));
                return match (asked, &ended) {
                    // Ended by force after it was asked to: what counts is what it was asked.
                    (Some(asked), Ended::Status(libc::SIGKILL)) => Ended::Status(asked.signal),
                    _ => ended,
                };
            }
            Ok(None) => return Ended::Broken("the reaper is gone".into()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Ended::Broken(format!("the reaper's report is unreadable: {error}")),
        }
    }
}

/// The manager was asked to end. npm does not when a dependency's script runs (measured
/// with 11.19), so after a while its tree is ended with it.
struct Asked {
    signal: i32,
    at: Instant,
}

impl Asked {
    const PATIENCE: Duration = Duration::from_secs(3);

    fn patience(&self) -> Duration {
        Self::PATIENCE.saturating_sub(self.at.elapsed())
    }
}

#[derive(Default)]
struct Ready {
    control: bool,
    listener: bool,
    /// Nobody is left in the domain.
    deserted: bool,
    client: bool,
    sockets: bool,
}

fn wait(confined: &Confined, guard: Option<&Guard>, client: Option<&OwnedFd>, timeout: PollTimeout) -> Ready {
    let mut fds = vec![PollFd::new(confined.as_fd(), PollFlags::POLLIN)];
    let client_at = client.map(|fd| {
        fds.push(PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        fds.len() - 1
    });
    let listener_at = guard.filter(|g| !g.deserted).map(|g| {
        fds.push(PollFd::new(g.listener.as_fd(), PollFlags::POLLIN));
        fds.len() - 1
    });
    let sockets_at = fds.len();
    if let Some(guard) = guard {
        fds.extend(guard.sockets.pending().map(|fd| PollFd::new(fd, PollFlags::POLLOUT)));
    }
    if poll(&mut fds, timeout).is_err() {
        return Ready::default();
    }
    let listener_events = listener_at.and_then(|at| fds[at].revents()).unwrap_or(PollFlags::empty());
    let readable = |at: usize| fds[at].revents().is_some_and(|r| !r.is_empty());
    Ready {
        control: readable(0),
        client: client_at.is_some_and(readable),
        listener: listener_events.contains(PollFlags::POLLIN),
        deserted: !listener_events.is_empty() && !listener_events.contains(PollFlags::POLLIN),
        sockets: (sockets_at..fds.len()).any(readable),
    }
}

fn read_signals(fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let mut buffer = [0u8; 64];
    match nix::unistd::read(fd, &mut buffer) {
        Ok(0) => None,
        Ok(n) => Some(buffer[..n].to_vec()),
        Err(Errno::EINTR | Errno::EAGAIN) => Some(Vec::new()),
        Err(_) => None,
    }
}
