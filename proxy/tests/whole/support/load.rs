//! Clients that send one request after the other.

use super::audit::Sent;
use super::client::{Client, post};
use super::event::{body, new_ids};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// One request on this connection, or on a new one where it is gone. `None` when the listener is closed.
fn ask(
    client: &mut Option<Client>,
    address: SocketAddr,
    path: &str,
    events: usize,
) -> Option<Sent> {
    if client.is_none() {
        *client = Client::try_connect(address).ok();
    }
    let connection = client.as_mut()?;
    let ids = new_ids(events);
    let started = Instant::now();
    connection.try_send(post(path, body(&ids)));
    let answer = connection.try_read();
    if answer.as_ref().is_none_or(|answer| answer.closes()) {
        *client = None;
    }
    Some(Sent {
        ids,
        answer,
        took: started.elapsed(),
    })
}

/// `each` requests on each of `connections` connections; events per request cycle from 1 to 3.
pub(crate) fn burst(address: SocketAddr, path: &str, connections: usize, each: usize) -> Vec<Sent> {
    let one = |_| {
        let path = path.to_owned();
        thread::spawn(move || {
            let mut client = None;
            (0..each)
                .map(|at| ask(&mut client, address, &path, at % 3 + 1).expect("someone listens"))
                .collect::<Vec<_>>()
        })
    };
    let threads: Vec<_> = (0..connections).map(one).collect();
    threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect()
}

/// A load that continues until the listener is closed.
pub(crate) struct Load {
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<Sent>>>,
}

impl Load {
    /// Each connection asks one request after the other, and opens a new connection when its own was closed.
    pub(crate) fn start(address: SocketAddr, path: &'static str, connections: usize) -> Load {
        let answered = Arc::new(AtomicUsize::new(0));
        let one = |_| {
            let answered = Arc::clone(&answered);
            thread::spawn(move || {
                let mut client = None;
                let mut sent = Vec::new();
                while let Some(one) = ask(&mut client, address, path, sent.len() % 3 + 1) {
                    answered.fetch_add(usize::from(one.answer.is_some()), Ordering::Relaxed);
                    sent.push(one);
                }
                sent
            })
        };
        let threads = (0..connections).map(one).collect();
        Load { answered, threads }
    }

    /// Answers so far.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// All requests, once the listener is closed.
    pub(crate) fn join(self) -> Vec<Sent> {
        self.threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    }
}
