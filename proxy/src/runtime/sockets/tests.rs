use super::*;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::task::ready;

/// A lost wake is a failed test, not one that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` on both drivers, with a client that is connected to what it gets.
fn with_pair<F: Future<Output = ()>>(test: impl Fn(TcpStream, Stream) -> F) {
    let serve = async || {
        let sockets = Rc::new(Sockets::new().unwrap());
        drop(monoio::spawn(Rc::clone(&sockets).run().unwrap()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::new(&sockets, listener.into()).unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (stream, peer) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        let ended = monoio::time::timeout(PATIENCE, test(client, stream)).await;
        assert!(ended.is_ok(), "it waits for what has happened");
    };
    let mut epoll = RuntimeBuilder::<LegacyDriver>::new()
        .enable_timer()
        .build()
        .unwrap();
    epoll.block_on(serve());
    // Containers may forbid it.
    if let Ok(mut ring) = RuntimeBuilder::<IoUringDriver>::new()
        .enable_timer()
        .build()
    {
        ring.block_on(serve());
    }
}

async fn read(stream: &Stream, room: usize) -> Vec<u8> {
    let mut buffer = vec![0; room];
    let bytes = poll_fn(|cx| stream.poll_read(cx, &mut buffer))
        .await
        .unwrap();
    buffer.truncate(bytes);
    buffer
}

#[test]
fn a_read_waits_for_bytes_that_come_later() {
    with_pair(async |client, stream| {
        for word in [&b"first"[..], b"second", b"third"] {
            let mut client = client.try_clone().unwrap();
            drop(monoio::spawn(async move {
                monoio::time::sleep(Duration::from_millis(5)).await;
                client.write_all(word).unwrap();
            }));
            assert_eq!(read(&stream, 64).await, word);
        }
    });
}

#[test]
fn a_partial_read_leaves_the_rest_for_the_next() {
    with_pair(async |mut client, stream| {
        client.write_all(b"abcdef").unwrap();
        assert_eq!(read(&stream, 2).await, b"ab");
        assert_eq!(read(&stream, 4).await, b"cdef");
        client.write_all(b"gh").unwrap();
        assert_eq!(read(&stream, 4).await, b"gh");
    });
}

#[test]
fn a_short_read_waits_for_the_next_byte() {
    with_pair(async |mut client, stream| {
        client.write_all(b"abc").unwrap();
        assert_eq!(read(&stream, 64).await, b"abc");
        assert!(!stream.0.slot.readable.get());
        client.write_all(b"def").unwrap();
        assert_eq!(read(&stream, 64).await, b"def");
    });
}

#[test]
fn end_of_stream_is_seen_after_the_last_bytes() {
    with_pair(async |mut client, stream| {
        client.write_all(b"last").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&stream, 64).await, b"last");
        assert_eq!(read(&stream, 64).await, b"");
        assert_eq!(read(&stream, 64).await, b"");
    });
    with_pair(async |mut client, stream| {
        client.write_all(b"last").unwrap();
        assert_eq!(read(&stream, 64).await, b"last");
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&stream, 64).await, b"");
    });
}

#[test]
fn a_writer_waits_until_the_client_has_made_room() {
    with_pair(async |mut client, stream| {
        const BYTES: usize = 16 << 20;
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).map(|_| all.len())
        });
        let answer = vec![7; BYTES];
        let mut rest = answer.as_slice();
        poll_fn(|cx| {
            while !rest.is_empty() {
                let written = ready!(stream.poll_write(cx, rest)).unwrap();
                rest = &rest[written..];
            }
            Poll::Ready(())
        })
        .await;
        stream.shutdown().unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), BYTES);
    });
}

#[test]
fn a_drained_listener_waits_and_accepts_what_comes_later() {
    with_pair(async |_client, stream| {
        let sockets = Rc::clone(&stream.0.sockets);
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::new(&sockets, socket.into()).unwrap();
        for together in [1, 1, 3, 1, 2] {
            // Before the listener is asked, or while it is waited for.
            for is_late in [false, true] {
                let clients = std::thread::spawn(move || {
                    if is_late {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    let connect = |_| TcpStream::connect(address).unwrap();
                    (0..together).map(connect).collect::<Vec<_>>()
                });
                let clients = match is_late {
                    true => Err(clients),
                    false => Ok(clients.join().unwrap()),
                };
                let mut served = Vec::new();
                for _ in 0..together {
                    served.push(poll_fn(|cx| listener.poll_accept(cx)).await.unwrap());
                }
                let clients = clients.unwrap_or_else(|late| late.join().unwrap());
                // Several that come late may come one by one.
                if !is_late || together == 1 {
                    assert_eq!(listener.socket.slot.readable.get(), together > 1);
                }
                assert_eq!(served.len(), clients.len());
                let next = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx).is_pending())).await;
                assert!(next);
            }
        }
    });
}

#[test]
fn a_closed_listener_wakes_waiters_and_frees_its_slot() {
    with_pair(async |_client, stream| {
        let sockets = Rc::clone(&stream.0.sockets);
        drop(stream);
        let before = sockets.slots.borrow().len();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = Rc::new(Listener::new(&sockets, socket.into()).unwrap());
        let same = Rc::clone(&listener);
        drop(monoio::spawn(async move {
            monoio::time::sleep(Duration::from_millis(5)).await;
            same.close();
        }));
        let accepted = poll_fn(|cx| listener.poll_accept(cx)).await;
        assert!(accepted.is_err());
        drop(listener);
        assert_eq!(sockets.slots.borrow().len(), before);
    });
}
