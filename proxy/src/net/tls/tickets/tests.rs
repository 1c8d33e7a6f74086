use super::*;
use std::path::PathBuf;

const CONTEXT: &[u8] = b"clients are not asked";

fn at(secs: u64) -> Wall {
    Wall { secs, nanos: 0 }
}

/// A line of a file: 48 bytes of this value.
fn line(byte: u8) -> String {
    base64_simd::STANDARD.encode_to_string([byte; 48])
}

fn file(lines: &[String]) -> Contents {
    Contents {
        file: PathBuf::from("tickets.keys"),
        bytes: lines.join("\n").into_bytes(),
    }
}

fn keys(bytes: &[u8]) -> TicketKeys {
    let lines: Vec<String> = bytes.iter().map(|byte| line(*byte)).collect();
    TicketKeys::of_file(&file(&lines)).unwrap()
}

#[test]
fn hosts_with_the_same_ticket_key_file_open_each_others_tickets() {
    let ticket = keys(&[1]).encrypt(CONTEXT, b"state", at(100)).unwrap();
    assert_eq!(
        keys(&[1]).decrypt(CONTEXT, &ticket, at(200)).as_deref(),
        Some(&b"state"[..])
    );
    assert_eq!(keys(&[2]).decrypt(CONTEXT, &ticket, at(200)), None);
}

#[test]
fn a_rotated_ticket_key_still_opens_old_tickets() {
    let fleet = keys(&[1]);
    let old = fleet.encrypt(CONTEXT, b"old", at(100)).unwrap();
    fleet.reload(&file(&[line(2), line(1)])).unwrap();
    let new = fleet.encrypt(CONTEXT, b"new", at(100)).unwrap();
    assert!(fleet.decrypt(CONTEXT, &old, at(100)).is_some());
    assert!(keys(&[2]).decrypt(CONTEXT, &new, at(100)).is_some());
    assert!(keys(&[1]).decrypt(CONTEXT, &new, at(100)).is_none());
    fleet.reload(&file(&[line(2)])).unwrap();
    assert!(fleet.decrypt(CONTEXT, &old, at(100)).is_none());
}

#[test]
fn random_ticket_keys_rotate_and_outlive_their_tickets() {
    let keys = TicketKeys::random(at(0)).unwrap();
    let other = TicketKeys::random(at(0)).unwrap();
    let name = |keys: &TicketKeys| keys.encrypt(CONTEXT, b"", at(0)).unwrap()[..16].to_vec();
    assert_ne!(name(&keys), name(&other));
    let first = name(&keys);
    keys.rotate(at(ROTATE_EVERY_S - 1)).unwrap();
    assert_eq!(name(&keys), first);
    let last = keys.encrypt(CONTEXT, b"", at(ROTATE_EVERY_S - 1)).unwrap();
    for turn in 1..RANDOM_KEYS as u64 {
        let now = at(ROTATE_EVERY_S * turn);
        keys.rotate(now).unwrap();
        assert_ne!(name(&keys), first);
        assert!(keys.decrypt(CONTEXT, &last, now).is_some(), "{turn}");
    }
    let now = at(ROTATE_EVERY_S * RANDOM_KEYS as u64);
    keys.rotate(now).unwrap();
    // At a time when its age alone would let it pass: the key is gone.
    assert!(keys.decrypt(CONTEXT, &last, at(ROTATE_EVERY_S)).is_none());
}

#[test]
fn a_ticket_is_refused_after_its_lifetime() {
    let keys = keys(&[1]);
    let ticket = keys.encrypt(CONTEXT, b"state", at(1_000)).unwrap();
    let end = 1_000 + u64::from(LIFETIME_S);
    assert!(keys.decrypt(CONTEXT, &ticket, at(end)).is_some());
    assert!(keys.decrypt(CONTEXT, &ticket, at(end + 1)).is_none());
}

#[test]
fn a_ticket_of_another_client_check_is_refused() {
    let keys = keys(&[1]);
    let ticket = keys.encrypt(CONTEXT, b"state", at(0)).unwrap();
    assert!(
        keys.decrypt(b"clients are checked", &ticket, at(0))
            .is_none()
    );
}

#[test]
fn a_forged_or_cut_ticket_is_refused() {
    let keys = keys(&[1]);
    let ticket = keys.encrypt(CONTEXT, b"state", at(0)).unwrap();
    for cut in 0..ticket.len() {
        assert!(keys.decrypt(CONTEXT, &ticket[..cut], at(0)).is_none());
    }
    for at_byte in 0..ticket.len() {
        let mut forged = ticket.clone();
        forged[at_byte] ^= 1;
        assert!(keys.decrypt(CONTEXT, &forged, at(0)).is_none(), "{at_byte}");
    }
    let endless = [&ticket[..], &vec![0; STATE_BYTES_MAX + 1]].concat();
    assert!(keys.decrypt(CONTEXT, &endless, at(0)).is_none());
    assert!(
        keys.encrypt(CONTEXT, &vec![0; STATE_BYTES_MAX + 1], at(0))
            .is_none()
    );
}

#[test]
fn a_broken_ticket_key_file_is_refused_by_line_and_limit() {
    let refused = |text: &str| {
        let contents = Contents {
            file: PathBuf::from("tickets.keys"),
            bytes: text.as_bytes().to_vec(),
        };
        TicketKeys::of_file(&contents).err().unwrap().to_string()
    };
    let secret = "c2VjcmV0";
    for (text, expected) in [
        (
            format!("# newest\n\n{secret}\n"),
            "tickets.keys:3: the key has 6 bytes, allowed is 32 to 64",
        ),
        (
            format!("{}\n{secret}!\n", line(1)),
            "tickets.keys:2: it is not base64",
        ),
        (
            base64_simd::STANDARD.encode_to_string([7; 65]),
            "tickets.keys:1: the key has 65 bytes, allowed is 32 to 64",
        ),
        (
            "# nothing\n".to_owned(),
            "tickets.keys: it has no ticket key: 32 to 64 random bytes a line, in base64",
        ),
        (
            (0..17).map(line).collect::<Vec<_>>().join("\n"),
            "tickets.keys: it has 17 ticket keys, at most 16 are read",
        ),
    ] {
        let shown = refused(&text);
        assert_eq!(shown, expected);
        assert!(!shown.contains(secret));
    }
}

#[test]
fn a_broken_ticket_key_file_leaves_the_old_keys() {
    let keys = keys(&[1]);
    let ticket = keys.encrypt(CONTEXT, b"state", at(0)).unwrap();
    assert!(keys.reload(&file(&["?".to_owned()])).is_err());
    assert!(keys.decrypt(CONTEXT, &ticket, at(0)).is_some());
}
