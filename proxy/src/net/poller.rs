//! Readiness of this core's sockets: an epoll set of our own, which the runtime waits for.
//!
//! The runtime has its own set, but it learns that a socket is empty only from a read that finds nothing:
//! a third system call for a request that needs two.
//! A read that gets less than it has room for has emptied the socket; with edge-triggered epoll the
//! next byte is a new edge (epoll(7)), so no wake-up is lost.

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::net::SocketFlags;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Events fetched per call; further ones are fetched by the next.
const EVENTS_PER_LOOK: usize = 1024;

/// The pause after the runtime could not wait for the set, which happens only when it is out of memory.
const BLIND_LOOK_EVERY: Duration = Duration::from_millis(1);

/// A closed peer or a broken connection; a read tells which.
const ENDED: EventFlags = EventFlags::RDHUP
    .union(EventFlags::HUP)
    .union(EventFlags::ERR);

/// The sockets of one core.
pub(crate) struct Poller {
    epoll: OwnedFd,
    sockets: RefCell<Slab<Rc<Readiness>>>,
}

/// One socket's readiness, and the tasks that wait for it.
#[derive(Default)]
struct Readiness {
    readable: Cell<bool>,
    writable: Cell<bool>,
    ended: Cell<bool>,
    wants_read: Cell<bool>,
    wants_write: Cell<bool>,
    /// Kept after a wake: a socket belongs to one task all its life.
    waker: RefCell<Option<Waker>>,
}

impl Readiness {
    fn wait(&self, wants: &Cell<bool>, cx: &Context<'_>) {
        wants.set(true);
        let mut slot = self.waker.borrow_mut();
        match slot.as_ref() {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *slot = Some(cx.waker().clone()),
        }
    }

    fn learn(&self, flags: EventFlags) {
        let ended = flags.intersects(ENDED);
        if ended {
            self.ended.set(true);
        }
        let mut wake = false;
        if ended || flags.contains(EventFlags::IN) {
            self.readable.set(true);
            wake |= self.wants_read.replace(false);
        }
        if ended || flags.contains(EventFlags::OUT) {
            self.writable.set(true);
            wake |= self.wants_write.replace(false);
        }
        if wake && let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Tries once the socket is ready, and again until the call does not block.
    fn poll<T>(
        &self,
        ready: &Cell<bool>,
        wants: &Cell<bool>,
        cx: &Context<'_>,
        mut act: impl FnMut() -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while ready.get() {
            match act() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => ready.set(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
        self.wait(wants, cx);
        Poll::Pending
    }
}

impl Poller {
    pub(crate) fn new() -> io::Result<Poller> {
        Ok(Poller {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sockets: RefCell::default(),
        })
    }

    /// Wakes the tasks whose sockets are ready, forever. Spawn it once, on the core's thread.
    pub(crate) fn run(self: Rc<Self>) -> io::Result<impl Future<Output = ()>> {
        // The runtime can wait for a descriptor only if it is one of its sockets; it neither reads nor
        // writes it.
        let shape = std::net::TcpStream::from(self.epoll.try_clone()?);
        let waiter = monoio::net::TcpStream::from_std(shape)?;
        Ok(async move {
            let mut events = Vec::with_capacity(EVENTS_PER_LOOK);
            loop {
                if waiter.readable(false).await.is_err() {
                    monoio::time::sleep(BLIND_LOOK_EVERY).await;
                }
                self.look(&mut events);
            }
        })
    }

    fn look(&self, events: &mut Vec<Event>) {
        const AT_ONCE: Timespec = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        events.clear();
        let room = rustix::buffer::spare_capacity(events);
        if epoll::wait(&self.epoll, room, Some(&AT_ONCE)).is_err() {
            // Interrupted: ready sockets stay ready.
            return;
        }
        let sockets = self.sockets.borrow();
        for event in events {
            // The structure is packed; its fields can only be copied.
            let (key, flags) = (event.data.u64(), event.flags);
            let key = usize::try_from(key).unwrap_or(usize::MAX);
            if let Some(socket) = sockets.get(key) {
                socket.learn(flags);
            }
        }
    }

    fn register(self: &Rc<Self>, socket: impl AsFd) -> io::Result<Registration> {
        let readiness = Rc::new(Readiness::default());
        let key = self.sockets.borrow_mut().insert(Rc::clone(&readiness));
        let registration = Registration {
            readiness,
            key,
            poller: Rc::clone(self),
        };
        epoll::add(
            &self.epoll,
            socket,
            EventData::new_u64(key as u64),
            EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        )?;
        Ok(registration)
    }
}

/// A socket's entry in the set. Closing the socket removes it from the kernel's set.
struct Registration {
    readiness: Rc<Readiness>,
    key: usize,
    poller: Rc<Poller>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.poller.sockets.borrow_mut().remove(self.key);
    }
}

/// A connection.
pub(crate) struct Stream {
    socket: std::net::TcpStream,
    registration: Registration,
}

impl Stream {
    /// Reads into the buffer's free space; 0 bytes at the end of the stream.
    pub(crate) fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let now = &*self.registration.readiness;
        let read = now.poll(&now.readable, &now.wants_read, cx, || {
            (&self.socket).read(buffer)
        });
        // A FIN that arrived before the read makes no new edge.
        if let Poll::Ready(Ok(bytes)) = read
            && bytes < buffer.len()
            && !now.ended.get()
        {
            now.readable.set(false);
        }
        read
    }

    /// Writes what the kernel takes.
    pub(crate) fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = &*self.registration.readiness;
        now.poll(&now.writable, &now.wants_write, cx, || {
            (&self.socket).write(bytes)
        })
    }

    /// Shuts down the sending side.
    pub(crate) fn shutdown(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

/// A socket that listens.
pub(crate) struct Listener {
    socket: std::net::TcpListener,
    registration: Registration,
}

impl Listener {
    pub(crate) fn new(poller: &Rc<Poller>, socket: std::net::TcpListener) -> io::Result<Listener> {
        socket.set_nonblocking(true)?;
        let registration = poller.register(&socket)?;
        Ok(Listener {
            socket,
            registration,
        })
    }

    /// The next connection and its peer.
    pub(crate) fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let now = &*self.registration.readiness;
        now.poll(&now.readable, &now.wants_read, cx, || self.accept())
    }

    /// The next connection in the kernel's queue.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when there is none.
    pub(crate) fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, peer) = rustix::net::acceptfrom_with(&self.socket, flags)?;
        let socket = std::net::TcpStream::from(socket);
        // Fails only if the peer has gone.
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let peer = peer
            .and_then(|peer| SocketAddr::try_from(peer).ok())
            .unwrap_or(unknown);
        // Without it the last segment of a response could wait 40 ms for the client's ACK.
        socket.set_nodelay(true)?;
        let registration = self.registration.poller.register(&socket)?;
        Ok((
            Stream {
                socket,
                registration,
            },
            peer,
        ))
    }

    /// Stops accepting; a pending accept fails.
    pub(crate) fn close(&self) {
        // Fails only if the socket no longer listens.
        let _ = socket2::SockRef::from(&self.socket).shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests;
