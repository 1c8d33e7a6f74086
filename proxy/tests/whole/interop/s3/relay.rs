//! A relay in front of a server that keeps the first answer to a PUT to itself: the server has stored the
//! object, and its client waits.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// One PutObject.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) target: String,
    /// Of the server's answer. Its client never wants_input of the first one.
    pub(super) status: Option<u16>,
}

pub(super) struct Relay {
    address: SocketAddr,
    puts: Arc<Mutex<Vec<Put>>>,
}

impl Relay {
    /// In front of this endpoint. Serves until the process ends.
    pub(super) fn start(endpoint: &str) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = endpoint.trim_start_matches("http://").to_owned();
        let puts: Arc<Mutex<Vec<Put>>> = Arc::default();
        let for_loop = Arc::clone(&puts);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (server, puts) = (server.clone(), Arc::clone(&for_loop));
                thread::spawn(move || relay(client.unwrap(), &server, &puts));
            }
        });
        Relay { address, puts }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All so far, in the order of their beginnings.
    pub(super) fn puts(&self) -> Vec<Put> {
        self.puts.lock().unwrap().clone()
    }
}

/// One connection. A client that asks one request after the other begins each with a piece of its own.
fn relay(mut client: TcpStream, server: &str, puts: &Arc<Mutex<Vec<Put>>>) {
    let mut server = TcpStream::connect(server).unwrap();
    let (mut answers, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    // Of the PUT that waits for its answer.
    let waiting: Arc<Mutex<Option<usize>>> = Arc::default();
    let (puts_up, waiting_up) = (Arc::clone(puts), Arc::clone(&waiting));
    let up = thread::spawn(move || {
        let mut piece = vec![0; 65_536];
        while let Ok(length @ 1..) = client.read(&mut piece) {
            if let Some(target) = put_target(&piece[..length]) {
                let mut puts = puts_up.lock().unwrap();
                puts.push(Put {
                    target,
                    status: None,
                });
                *waiting_up.lock().unwrap() = Some(puts.len() - 1);
            }
            if server.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    });
    let mut piece = vec![0; 65_536];
    let mut is_silent = false;
    while let Ok(length @ 1..) = answers.read(&mut piece) {
        // One of 100 is no answer yet.
        if let Some(status @ 200..) = status(&piece[..length]) {
            let answered = waiting.lock().unwrap().take();
            if let Some(at) = answered {
                puts.lock().unwrap()[at].status = Some(status);
                is_silent |= at == 0;
            }
        }
        if is_silent {
            continue;
        }
        if to_client.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to_client.shutdown(Shutdown::Both);
    let _ = answers.shutdown(Shutdown::Both);
    up.join().unwrap();
}

/// The target without its query.
fn put_target(piece: &[u8]) -> Option<String> {
    let line = piece.strip_prefix(b"PUT ")?;
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'?'))?;
    String::from_utf8(line[..end].to_vec()).ok()
}

fn status(piece: &[u8]) -> Option<u16> {
    let rest = piece.strip_prefix(b"HTTP/1.1 ")?;
    std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()
}
