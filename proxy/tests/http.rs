//! The front door against clients that speak raw bytes: every limit, every framing rule, and that one
//! request's bytes never become another's.

mod door;

use door::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

#[test]
fn a_post_is_answered_with_its_own_body_on_every_driver() {
    for driver in drivers() {
        let server = Server::start(|settings| settings.driver = driver);
        let mut client = server.connect();
        for body in ["", "x", "hello"] {
            let answer = client.ask(&post("/echo", body));
            assert_eq!((answer.status, answer.text()), (200, body), "{driver:?}");
            let id = answer.header("x-request-id").unwrap();
            assert_eq!(id.len(), 32);
            assert!(
                id.bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            );
            assert!(answer.header("date").is_some());
        }
        assert_eq!(server.answered(200), 3);
    }
}
