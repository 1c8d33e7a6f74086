//! Bytes after the handshake: bounds, ends, and sockets that take little.

use super::support::{Connection, Files, TLS12, TLS13, connect, cx};
use sluice_proxy::net::tls::UNSENT_BYTES_MAX;
use std::io::{ErrorKind, Read, Write};
use std::task::Poll;

fn connected() -> Connection {
    let files = Files::one();
    connect(&files.load(), &files.client().build(), "a.example").unwrap()
}

#[test]
fn a_peer_that_does_not_read_holds_a_bounded_number_of_bytes() {
    let mut connection = connected();
    connection.wire.room.set(Some(0));
    let block = [7; 16 * 1024];
    let mut taken = 0;
    while let Poll::Ready(written) = connection
        .session
        .poll_write(&cx(), &connection.wire, &block)
    {
        let written = written.unwrap();
        assert!(written > 0);
        taken += written;
        assert!(taken <= UNSENT_BYTES_MAX, "{taken}");
    }
    assert!(taken > 0);
    assert!(
        connection
            .session
            .poll_flush(&cx(), &connection.wire)
            .is_pending()
    );
    // With room, all of it arrives, and more is taken.
    connection.wire.room.set(None);
    let Poll::Ready(Ok(more)) = connection
        .session
        .poll_write(&cx(), &connection.wire, &block)
    else {
        panic!("nothing more is taken");
    };
    assert!(matches!(
        connection.session.poll_flush(&cx(), &connection.wire),
        Poll::Ready(Ok(()))
    ));
    let mut heard = 0;
    let mut buffer = vec![0; 4096];
    let mut waiting = connection.wire.to_client.borrow_mut();
    loop {
        match connection.client.reader().read(&mut buffer) {
            Ok(read) => heard += read,
            Err(_) if waiting.is_empty() => break,
            Err(_) => {
                connection.client.read_tls(&mut *waiting).unwrap();
                connection.client.process_new_packets().unwrap();
            }
        }
    }
    assert_eq!(heard, taken + more);
}

#[test]
fn unsent_records_go_out_with_the_next_read() {
    let mut connection = connected();
    connection.wire.room.set(Some(3));
    let Poll::Ready(Ok(6)) = connection
        .session
        .poll_write(&cx(), &connection.wire, b"answer")
    else {
        panic!("six bytes fit");
    };
    connection.wire.room.set(None);
    let read = connection
        .session
        .poll_read(&cx(), &connection.wire, &mut [0; 8]);
    assert!(read.is_pending());
    connection.client_receives().unwrap();
    let mut heard = [0; 6];
    connection.client.reader().read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"answer");
}

#[test]
fn a_large_message_arrives_whole_through_a_small_buffer() {
    let mut connection = connected();
    let sent: Vec<u8> = (0..100_000_u32).map(|at| at as u8).collect();
    let mut heard = Vec::<u8>::new();
    let mut rest = &sent[..];
    while heard.len() < sent.len() {
        let taken = connection.client.writer().write(rest).unwrap();
        rest = &rest[taken..];
        connection.client_sends();
        let mut buffer = [0; 1000];
        while let Poll::Ready(read) =
            connection
                .session
                .poll_read(&cx(), &connection.wire, &mut buffer)
        {
            heard.extend(&buffer[..read.unwrap()]);
        }
    }
    assert!(heard == sent);
}

#[test]
fn a_clean_end_reads_as_zero_bytes_and_a_cut_one_as_an_error() {
    for version in [TLS12, TLS13] {
        let files = Files::one();
        let client = files.client().version(version).build();
        let connect = || connect(&files.load(), &client, "a.example").unwrap();
        let mut clean = connect();
        clean.client.writer().write_all(b"last").unwrap();
        clean.client.send_close_notify();
        clean.client_sends();
        let mut buffer = [0; 16];
        let mut read = || clean.session.poll_read(&cx(), &clean.wire, &mut buffer);
        assert!(matches!(read(), Poll::Ready(Ok(4))));
        assert!(matches!(read(), Poll::Ready(Ok(0))));
        let mut cut = connect();
        cut.wire.has_ended.set(true);
        match cut.session.poll_read(&cx(), &cut.wire, &mut buffer) {
            Poll::Ready(Err(error)) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn forged_records_are_an_error() {
    let mut connection = connected();
    connection.client.writer().write_all(b"event").unwrap();
    connection.client_sends();
    *connection.wire.to_server.borrow_mut().back_mut().unwrap() ^= 1;
    match connection
        .session
        .poll_read(&cx(), &connection.wire, &mut [0; 16])
    {
        Poll::Ready(Err(error)) => assert_eq!(error.kind(), ErrorKind::InvalidData),
        other => panic!("{other:?}"),
    }
}

#[test]
fn closing_says_so_before_the_socket_is_shut_down() {
    let mut connection = connected();
    connection.wire.room.set(Some(0));
    let close =
        |connection: &mut Connection| connection.session.poll_close(&cx(), &connection.wire);
    assert!(close(&mut connection).is_pending());
    assert!(!connection.wire.was_shut_down.get());
    connection.wire.room.set(None);
    assert!(matches!(close(&mut connection), Poll::Ready(Ok(()))));
    assert!(connection.wire.was_shut_down.get());
    connection.client_receives().unwrap();
    // A clean end: 0 bytes and no error.
    assert_eq!(connection.client.reader().read(&mut [0; 8]).unwrap(), 0);
}
