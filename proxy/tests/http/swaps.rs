//! Certificates that change under load.

use crate::h2_client::{H2, NAME, Pair, Secured, connect, request, run};
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

const SWAPS: u64 = 1_000;

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    handshakes: AtomicU64,
    /// Answers, by the certificate of their connection.
    answers: [AtomicU64; 2],
}

/// Connects again and again, with two requests each time; anything but 200 fails.
async fn client(address: SocketAddr, certificates: [CertificateDer<'static>; 2], seen: &Seen) {
    while !seen.is_over.load(Ordering::Relaxed) {
        let stream = connect(address, &certificates, &["h2"]).await;
        let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
        let which = usize::from(*shown == certificates[1]);
        assert_eq!(*shown, certificates[which], "{NAME}");
        seen.handshakes.fetch_add(1, Ordering::Relaxed);
        let h2 = H2::over(stream).await;
        for _ in 0..2 {
            let reply = h2.ask(request("POST", "/echo"), b"event").await;
            assert_eq!((reply.status.as_u16(), &*reply.body), (200, &b"event"[..]));
            seen.answers[which].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_thousand_certificate_swaps_under_load_fail_no_request() {
    let secured = Secured::start(|settings| {
        settings.limits.connections_per_source_max = 0;
    });
    let other = Pair::new();
    let certificates = [secured.pair.certificate(), other.certificate()];
    let seen = Arc::new(Seen::default());
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let (seen, certificates) = (Arc::clone(&seen), certificates.clone());
            let address = secured.server.address;
            thread::spawn(move || run(client(address, certificates, &seen)))
        })
        .collect();
    run(async {
        let kept = secured.h2().await;
        for swap in 0..SWAPS {
            secured.swap(if swap % 2 == 0 { &other } else { &secured.pair });
            // Some connection falls between any two swaps.
            while !clients.iter().any(thread::JoinHandle::is_finished)
                && seen.handshakes.load(Ordering::Relaxed) <= swap
            {
                tokio::task::yield_now().await;
            }
        }
        // One that was open all the time.
        assert_eq!(kept.get("/peer").await.status, 200);
    });
    seen.is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    let tls = secured.server.tls.as_ref().unwrap();
    assert_eq!(tls.reloads().taken(), SWAPS);
    // Between the two files of a pair.
    assert_eq!(tls.reloads().refused(), SWAPS);
    for answers in &seen.answers {
        assert!(answers.load(Ordering::Relaxed) > 0);
    }
    assert!(seen.handshakes.load(Ordering::Relaxed) >= SWAPS);
}
