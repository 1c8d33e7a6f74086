//! The sockets of one core: which are ready, what they wait for, and for how long.
//!
//! Readiness comes from an epoll set of our own, which the runtime waits for. The runtime has its own set, but it
//! learns that a socket is empty only from a read that finds nothing: a third system call for a request that needs
//! two. A read that gets less than it has room for has emptied the socket; with edge-triggered epoll the next byte is
//! a new edge (epoll(7)), so no wake-up is lost. A socket joins the set when it has to wait for the first time: a
//! connection of one request that brings it along never does.
//!
//! There is no timer per connection: each has a deadline in a cell, and one sweep per core, every [`SWEEP_EVERY`],
//! wakes those that are overdue. A deadline is kept up to that much late, and setting one costs a store.

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{self, PollFd, PollFlags, Timespec};
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use slab::Slab;
use sluice_core::time::Mono;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How often a core looks for sockets that are overdue.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_millis(250);

/// Events fetched per call; further ones are fetched by the next.
const EVENTS_PER_LOOK: usize = 1024;

/// The pause after the runtime could not wait for the set, which happens only when it is out of memory.
const BLIND_LOOK_EVERY: Duration = Duration::from_millis(1);

const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A closed peer or a broken connection; a read tells which.
const ENDED: EventFlags = EventFlags::RDHUP
    .union(EventFlags::HUP)
    .union(EventFlags::ERR);

/// The sockets of one core.
pub(crate) struct Sockets {
    epoll: OwnedFd,
    slots: RefCell<Slab<Rc<Slot>>>,
}

/// What a connection is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    Nothing,
    /// To end when it is idle.
    Leave,
    /// To end, whatever is in progress.
    EndNow,
}

/// One socket's state, and the task that waits for it.
struct Slot {
    in_set: Cell<bool>,
    readable: Cell<bool>,
    writable: Cell<bool>,
    ended: Cell<bool>,
    wants_read: Cell<bool>,
    wants_write: Cell<bool>,
    deadline: Cell<Mono>,
    overdue: Cell<bool>,
    /// Since when no request is in progress; [`Mono::NEVER`] while there is one.
    idle_since: Cell<Mono>,
    ask: Cell<Ask>,
    /// The task looks at deadline and ask by itself; its reads and writes do not end for them.
    judges_itself: Cell<bool>,
    /// Kept after a wake: a socket belongs to one task all its life.
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    fn new() -> Slot {
        Slot {
            in_set: Cell::new(false),
            // Unknown: the first call tells.
            readable: Cell::new(true),
            writable: Cell::new(true),
            ended: Cell::new(false),
            wants_read: Cell::new(false),
            wants_write: Cell::new(false),
            deadline: Cell::new(Mono::NEVER),
            overdue: Cell::new(false),
            idle_since: Cell::new(Mono::NEVER),
            ask: Cell::new(Ask::Nothing),
            judges_itself: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    fn register(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match slot.as_ref() {
            Some(known) if known.will_wake(waker) => {}
            _ => *slot = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
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
        if wake {
            self.wake();
        }
    }

    fn is_idle(&self) -> bool {
        self.idle_since.get() != Mono::NEVER
    }

    fn ask(&self, what: Ask) {
        if self.ask.get() < what {
            self.ask.set(what);
            if what == Ask::EndNow || self.is_idle() || self.judges_itself.get() {
                self.wake();
            }
        }
    }

    /// Why the task is not to wait any longer.
    fn end(&self) -> Option<ErrorKind> {
        match self.ask.get() {
            Ask::EndNow => Some(ErrorKind::ConnectionAborted),
            _ if self.judges_itself.get() => None,
            Ask::Leave if self.is_idle() => Some(ErrorKind::ConnectionAborted),
            _ if self.overdue.get() => Some(ErrorKind::TimedOut),
            _ => None,
        }
    }
}

/// An idle connection that may be asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Idle {
    since: Mono,
    key: usize,
}

impl Sockets {
    pub(crate) fn new() -> io::Result<Sockets> {
        Ok(Sockets {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            slots: RefCell::default(),
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
        events.clear();
        let room = rustix::buffer::spare_capacity(events);
        if epoll::wait(&self.epoll, room, Some(&AT_ONCE)).is_err() {
            // Interrupted: ready sockets stay ready.
            return;
        }
        let slots = self.slots.borrow();
        for event in events {
            // The structure is packed; its fields can only be copied.
            let (key, flags) = (event.data.u64(), event.flags);
            let key = usize::try_from(key).unwrap_or(usize::MAX);
            if let Some(slot) = slots.get(key) {
                slot.learn(flags);
            }
        }
    }

    fn add(self: &Rc<Self>, socket: OwnedFd) -> Socket {
        let slot = Rc::new(Slot::new());
        let key = self.slots.borrow_mut().insert(Rc::clone(&slot));
        Socket {
            socket,
            slot,
            key,
            sockets: Rc::clone(self),
        }
    }

    /// Wakes the tasks of sockets that are overdue.
    pub(crate) fn sweep(&self, now: Mono) {
        for (_, slot) in self.slots.borrow().iter() {
            if now >= slot.deadline.get() && !slot.overdue.replace(true) {
                slot.wake();
            }
        }
    }

    /// Ends every connection as soon as it is idle.
    pub(crate) fn end_all_soon(&self) {
        for (_, slot) in self.slots.borrow().iter() {
            slot.ask(Ask::Leave);
        }
    }

    /// Ends every connection, whatever is in progress.
    pub(crate) fn end_all_now(&self) {
        for (_, slot) in self.slots.borrow().iter() {
            slot.ask(Ask::EndNow);
        }
    }

    /// The connections that have been idle the longest, and for `at_least`; at most `most` of them, the longest
    /// idle one last.
    pub(crate) fn longest_idle(&self, now: Mono, at_least: Duration, most: usize) -> Vec<Idle> {
        let slots = self.slots.borrow();
        let mut idle: Vec<Idle> = slots
            .iter()
            .filter(|(_, slot)| slot.ask.get() == Ask::Nothing)
            .map(|(key, slot)| Idle {
                since: slot.idle_since.get(),
                key,
            })
            .filter(|idle| now.since(idle.since) >= at_least)
            .collect();
        if idle.len() > most {
            idle.select_nth_unstable(most);
            idle.truncate(most);
        }
        idle.sort_unstable_by(|one, other| other.cmp(one));
        idle
    }

    /// Asks a connection to leave that is idle since then; `false` if it is not any more.
    pub(crate) fn ask_to_leave(&self, idle: Idle) -> bool {
        let slots = self.slots.borrow();
        let slot = slots.get(idle.key);
        let slot = slot.filter(|slot| slot.idle_since.get() == idle.since);
        if let Some(slot) = slot {
            slot.ask(Ask::Leave);
        }
        slot.is_some()
    }
}

/// A socket of the set. Closing it removes it from the kernel's set.
struct Socket {
    socket: OwnedFd,
    slot: Rc<Slot>,
    key: usize,
    sockets: Rc<Sockets>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.sockets.slots.borrow_mut().remove(self.key);
    }
}

impl Socket {
    /// Tries once the socket is ready, and again until the call does not block.
    fn poll<T>(
        &self,
        ready: &Cell<bool>,
        wants: &Cell<bool>,
        cx: &Context<'_>,
        mut act: impl FnMut(&OwnedFd) -> rustix::io::Result<T>,
    ) -> Poll<io::Result<T>> {
        while ready.get() {
            match act(&self.socket) {
                Err(rustix::io::Errno::AGAIN) => ready.set(false),
                Err(rustix::io::Errno::INTR) => {}
                done => return Poll::Ready(done.map_err(io::Error::from)),
            }
        }
        if let Some(kind) = self.slot.end() {
            return Poll::Ready(Err(kind.into()));
        }
        wants.set(true);
        self.slot.register(cx.waker());
        if !self.slot.in_set.replace(true) {
            // What is ready already is an edge, too.
            epoll::add(
                &self.sockets.epoll,
                &self.socket,
                EventData::new_u64(self.key as u64),
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            )?;
        }
        Poll::Pending
    }
}

/// A connection.
pub(crate) struct Stream(Socket);

impl Stream {
    /// Reads into the buffer; 0 bytes at the end of the stream.
    ///
    /// # Errors
    /// The socket's own, and when there is nothing to read: [`ErrorKind::TimedOut`] past the deadline,
    /// [`ErrorKind::ConnectionAborted`] when the connection is to end.
    pub(crate) fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let slot = &*self.0.slot;
        let read = self.0.poll(&slot.readable, &slot.wants_read, cx, |socket| {
            // Not `read`, which goes a longer way through the kernel, by the file.
            let received = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty());
            received.map(|(read, _)| read)
        });
        // A FIN that arrived before the read makes no new edge; a socket that is not in the set yet learns of it there.
        if let Poll::Ready(Ok(bytes)) = read
            && bytes < buffer.len()
            && !slot.ended.get()
        {
            slot.readable.set(false);
        }
        read
    }

    /// Ready when there may be something to read, and when a read would end for the deadline or for what the
    /// connection is asked.
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        let slot = &*self.0.slot;
        let again = || rustix::io::Errno::AGAIN;
        if slot.readable.get() {
            return Poll::Ready(());
        }
        // An error shows in the read that follows.
        self.0
            .poll::<()>(&slot.readable, &slot.wants_read, cx, |_| Err(again()))
            .map(|_| ())
    }

    /// Writes what the kernel takes.
    ///
    /// # Errors
    /// As [`Stream::poll_read`].
    pub(crate) fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let slot = &*self.0.slot;
        self.0
            .poll(&slot.writable, &slot.wants_write, cx, |socket| {
                rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)
            })
    }

    /// Shuts down the sending side.
    pub(crate) fn shutdown(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(
            &self.0.socket,
            rustix::net::Shutdown::Write,
        )?)
    }

    /// Whether there may be bytes that were not read.
    pub(crate) fn may_have_more(&self) -> bool {
        self.0.slot.readable.get()
    }

    /// Waits of this connection end at `deadline`, unless that is moved.
    pub(crate) fn set_deadline(&self, deadline: Mono) {
        self.0.slot.deadline.set(deadline);
        self.0.slot.overdue.set(false);
    }

    /// No request is in progress from now on.
    pub(crate) fn rest(&self, now: Mono) {
        self.0.slot.idle_since.set(now);
    }

    /// The connection as one that may be asked to leave, as long as it rests.
    pub(crate) fn as_idle(&self) -> Idle {
        Idle {
            since: self.0.slot.idle_since.get(),
            key: self.0.key,
        }
    }

    /// See [`Sockets::ask_to_leave`].
    pub(crate) fn ask_other_to_leave(&self, other: Idle) -> bool {
        self.0.sockets.ask_to_leave(other)
    }

    /// Whether the client has sent a byte, which is left to be read; `false` at the end of the stream.
    ///
    /// # Errors
    /// As [`Stream::poll_read`].
    pub(crate) fn poll_begun(&self, cx: &Context<'_>) -> Poll<io::Result<bool>> {
        let slot = &*self.0.slot;
        self.0.poll(&slot.readable, &slot.wants_read, cx, |socket| {
            let mut first = [0; 1];
            let received = rustix::net::recv(socket, &mut first[..], RecvFlags::PEEK);
            received.map(|(read, _)| read > 0)
        })
    }

    /// A request is in progress.
    pub(crate) fn work(&self) {
        self.0.slot.idle_since.set(Mono::NEVER);
    }

    /// From now on, reads and writes do not end past the deadline, or for [`Sockets::end_all_soon`]: the task is woken
    /// and looks.
    pub(crate) fn judge_by_itself(&self) {
        self.0.slot.judges_itself.set(true);
    }

    /// Whether the deadline has passed.
    pub(crate) fn is_overdue(&self) -> bool {
        self.0.slot.overdue.get()
    }

    /// Whether the connection is to end after what is in progress.
    pub(crate) fn is_to_leave(&self) -> bool {
        self.0.slot.ask.get() != Ask::Nothing
    }

    /// Whether the connection is to end whatever is in progress; the task is woken when it is.
    pub(crate) fn is_to_end_now(&self, cx: &Context<'_>) -> bool {
        self.0.slot.register(cx.waker());
        self.0.slot.ask.get() == Ask::EndNow
    }
}

/// A socket that listens.
pub(crate) struct Listener {
    socket: Socket,
    /// The next connection is the first since it had to be waited for.
    is_first: Cell<bool>,
}

impl Listener {
    pub(crate) fn new(sockets: &Rc<Sockets>, socket: OwnedFd) -> io::Result<Listener> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Listener {
            socket: sockets.add(socket),
            is_first: Cell::new(true),
        })
    }

    /// The next connection and its peer.
    pub(crate) fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        let slot = &*self.socket.slot;
        let accepted = self
            .socket
            .poll(&slot.readable, &slot.wants_read, cx, |_| self.accept());
        match accepted {
            Poll::Pending => self.is_first.set(true),
            // Connections come one by one where each has one request, and an accept that finds nothing costs eight
            // times as much as this question, for it makes a socket first. One that comes later is a new edge.
            Poll::Ready(_) if self.is_first.replace(false) && self.is_drained() => {
                slot.readable.set(false);
            }
            Poll::Ready(_) => {}
        }
        accepted
    }

    /// Whether no connection waits to be accepted.
    fn is_drained(&self) -> bool {
        let mut asked = [PollFd::new(&self.socket.socket, PollFlags::IN)];
        let answered = event::poll(&mut asked, Some(&AT_ONCE));
        // One that cannot be asked is asked by an accept.
        answered.is_ok_and(|ready| ready == 0)
    }

    /// The next connection in the kernel's queue.
    ///
    /// # Errors
    /// `AGAIN` when there is none.
    pub(crate) fn accept(&self) -> rustix::io::Result<(Stream, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (socket, peer) = rustix::net::acceptfrom_with(&self.socket.socket, flags)?;
        // Fails for unix sockets, which have none, and if the peer has gone.
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let peer = peer
            .and_then(|peer| SocketAddr::try_from(peer).ok())
            .unwrap_or(unknown);
        Ok((Stream(self.socket.sockets.add(socket)), peer))
    }

    /// Stops accepting; a pending accept fails.
    pub(crate) fn close(&self) {
        // Fails only if the socket no longer listens.
        let _ = socket2::SockRef::from(&self.socket.socket).shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests;
