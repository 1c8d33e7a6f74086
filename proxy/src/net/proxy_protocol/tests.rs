use super::*;
use proptest::prelude::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, payload].concat()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(u8::is_ascii_hexdigit)
        .map(|digit| char::from(digit).to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
}

/// The header of a network load balancer for a client behind a VPC endpoint, as captured: a checksum, the
/// endpoint's name and padding stand behind the addresses.
const FROM_NLB: &str = "0d0a0d0a000d0a515549540a 21 11 0054 \
    ac1f0771 ac1f0a1f c8f2 0050 03 0004 e8d6892d \
    ea 0017 01 767063652d3038643262663135666163353030316339 \
    04 0024 000000000000000000000000000000000000000000000000000000000000000000000000";
/// What HAProxy 2.6 sends with `send-proxy-v2 proxy-v2-options crc32c,unique-id`, and for a health check.
const FROM_HAPROXY: &str =
    "0d0a0d0a000d0a515549540a 21 11 0016 7f000001 7f000001 c350 25e5 03 0004 e9320485 05 0000";
const CHECK_OF_HAPROXY: &str = "0d0a0d0a000d0a515549540a 20 00 0007 03 0004 a9b87e8f";

const IPV6: &[u8] = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\
                      \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x10\x01\0\x50";

/// The header that these bytes are, no more and no less.
fn complete(bytes: &[u8]) -> ProxyHeader {
    match decode(bytes) {
        Ok(Progress::Complete(header)) => {
            assert_eq!(header.length, bytes.len());
            header
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_client_is_the_source_that_the_header_names() {
    for (header, client) in [
        (from_hex(FROM_NLB), Some("172.31.7.113:51442")),
        (from_hex(FROM_HAPROXY), Some("127.0.0.1:50000")),
        (header(0x21, 0x21, IPV6), Some("[2001:db8::7]:4097")),
    ] {
        let client = client.map(|text| text.parse().unwrap());
        assert_eq!(complete(&header).client, client);
    }
}

#[test]
fn a_proxy_header_without_a_client_means_the_peer() {
    for header in [
        LOCAL_HEADER.to_vec(),
        from_hex(CHECK_OF_HAPROXY),
        // Even with addresses, which must be ignored.
        header(0x20, 0x11, &[7; 12]),
        header(0x21, 0x00, b""),
        header(0x21, 0x01, b"whatever"),
        header(0x21, 0x31, &[7; 216]),
    ] {
        assert_eq!(complete(&header).client, None, "{header:?}");
    }
}

#[test]
fn a_split_proxy_header_is_read_to_its_last_byte() {
    for header in [from_hex(FROM_NLB), header(0x21, 0x21, IPV6)] {
        assert_eq!(decode(b""), Ok(Progress::Needs(SHORTEST_LINE.len())));
        for (at, needed) in (1..FIXED_BYTES)
            .map(|at| (at, FIXED_BYTES))
            .chain((FIXED_BYTES..header.len()).map(|at| (at, header.len())))
        {
            assert_eq!(decode(&header[..at]), Ok(Progress::Needs(needed)), "{at}");
        }
    }
}

#[test]
fn invalid_proxy_headers_are_refused_early() {
    let length = |bytes: usize| {
        let mut header = header(0x21, 0x11, &[7; 12]);
        header[14..16].copy_from_slice(&u16::try_from(bytes).unwrap().to_be_bytes());
        header
    };
    let longest = HEADER_BYTES_MAX - FIXED_BYTES;
    assert_eq!(
        decode(&length(longest)),
        Ok(Progress::Needs(HEADER_BYTES_MAX))
    );
    for (bytes, why) in [
        (
            length(longest + 1),
            NoClient::TooLong {
                limit: 1_024,
                actual: 1_025,
            },
        ),
        (
            length(65_535),
            NoClient::TooLong {
                limit: 1_024,
                actual: 65_551,
            },
        ),
        (b"G".to_vec(), ParseError::Prefix.into()),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), ParseError::Prefix.into()),
        (
            header(0x11, 0x11, &[7; 12]),
            ParseError::Version(0x10).into(),
        ),
        (header(0x22, 0x11, &[7; 12]), ParseError::Command(2).into()),
        (
            header(0x21, 0x41, &[7; 12]),
            ParseError::AddressFamily(0x40).into(),
        ),
        (header(0x21, 0x13, &[7; 12]), ParseError::Protocol(3).into()),
        (
            header(0x21, 0x11, &[7; 11]),
            ParseError::InvalidAddresses(11, 12).into(),
        ),
        (
            header(0x21, 0x21, &[7; 35]),
            ParseError::InvalidAddresses(35, 36).into(),
        ),
        (
            header(0x21, 0x31, &[7; 215]),
            ParseError::InvalidAddresses(215, 216).into(),
        ),
        // Datagrams, and no transport at all.
        (header(0x21, 0x12, &[7; 12]), NoClient::NotTcp),
        (header(0x21, 0x20, &[7; 36]), NoClient::NotTcp),
    ] {
        assert_eq!(decode(&bytes), Err(why), "{bytes:?}");
    }
}

/// A value of a header of version 2.
fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// A header about a client over IPv4 with these values.
fn with(values: &[Vec<u8>]) -> Vec<u8> {
    header(0x21, 0x11, &[&[7; 12], &values.concat()[..]].concat())
}

fn notes_of(values: &[Vec<u8>]) -> Notes {
    *complete(&with(values)).notes.unwrap()
}

#[test]
fn both_proxy_protocol_versions_tell_which_they_are() {
    assert_eq!(complete(&from_hex(FROM_NLB)).version, 2);
    assert_eq!(complete(SHORTEST_LINE).version, 1);
}

#[test]
fn a_local_header_is_told_from_an_unknown_client() {
    for (bytes, is_local) in [
        (LOCAL_HEADER.to_vec(), true),
        (from_hex(CHECK_OF_HAPROXY), true),
        (header(0x20, 0x11, &[7; 12]), true),
        (header(0x21, 0x00, b""), false),
        (from_hex(FROM_NLB), false),
        (SHORTEST_LINE.to_vec(), false),
    ] {
        assert_eq!(complete(&bytes).is_local, is_local, "{bytes:?}");
    }
}

#[test]
fn values_of_a_local_header_are_ignored() {
    let values = [&[7; 12][..], &tlv(3, &[0; 4]), &tlv(2, b"a.example"), &[9]].concat();
    assert_eq!(complete(&header(0x20, 0x11, &values)).notes, None);
}

#[test]
fn the_vpc_endpoint_is_kept_as_aws_writes_it() {
    let header = complete(&from_hex(FROM_NLB));
    let expected = Notes {
        vpc_endpoint: Some("vpce-08d2bf15fac5001c9".to_owned()),
        ..Notes::default()
    };
    assert_eq!(header.notes.as_deref(), Some(&expected));
    // Another value of AWS's, and none.
    for other in [&b"\x02vpce-1"[..], b""] {
        assert_eq!(complete(&with(&[tlv(0xEA, other)])).notes, None);
    }
}

#[test]
fn authority_and_unique_id_are_kept() {
    let notes = notes_of(&[
        tlv(2, b"a.example"),
        tlv(5, b"\0id"),
        tlv(4, b"pad"),
        tlv(0xE0, b"own"),
    ]);
    assert_eq!(notes.authority.as_deref(), Some("a.example"));
    assert_eq!(notes.unique_id.as_deref(), Some(&b"\0id"[..]));
    // HAProxy sends one of no bytes where it has none.
    assert_eq!(complete(&from_hex(FROM_HAPROXY)).notes, None);
}

#[test]
fn a_unique_id_over_its_limit_is_refused() {
    assert_eq!(notes_of(&[tlv(5, &[7; 128])]).unique_id.unwrap().len(), 128);
    let refused = decode(&with(&[tlv(5, &[7; 129])])).unwrap_err();
    let (limit, actual) = (128, 129);
    assert_eq!(refused, NoClient::LongUniqueId { limit, actual });
}

#[test]
fn tls_of_the_balancer_is_kept_and_an_unverified_name_is_not() {
    let values = [
        tlv(0x21, b"TLSv1.3"),
        tlv(0x23, b"TLS_AES_128_GCM_SHA256"),
        tlv(0x22, b"sdk-7"),
    ]
    .concat();
    let tls = |verify: u8| {
        let value = [&[0x07, 0, 0, 0, verify], &values[..]].concat();
        notes_of(&[tlv(0x20, &value)]).tls.unwrap()
    };
    let verified = TlsNotes {
        version: Some("TLSv1.3".to_owned()),
        cipher: Some("TLS_AES_128_GCM_SHA256".to_owned()),
        common_name: Some("sdk-7".to_owned()),
    };
    assert_eq!(tls(0), verified);
    let common_name = None;
    assert_eq!(
        tls(1),
        TlsNotes {
            common_name,
            ..verified
        }
    );
}

#[test]
fn a_wrong_proxy_header_checksum_is_refused() {
    let intact = from_hex(FROM_NLB);
    // Addresses, the checksum itself and the endpoint.
    for at in (FIXED_BYTES..28).chain(31..35).chain(39..60) {
        let mut forged = intact.clone();
        forged[at] ^= 0x04;
        let refused = decode(&forged).unwrap_err();
        assert!(
            matches!(refused, NoClient::Checksum { .. }),
            "{at}: {refused:?}"
        );
    }
    let refused = decode(&with(&[tlv(3, &[1, 2, 3, 4])])).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("the header's checksum is 01020304, its bytes have")
    );
    assert_eq!(
        decode(&with(&[tlv(3, &[1, 2, 3])])),
        Err(NoClient::Note("checksum"))
    );
}

#[test]
fn texts_that_could_forge_a_log_line_are_left_out() {
    let tls = |values: &[u8]| tlv(0x20, &[&[1, 0, 0, 0, 0], values].concat());
    for text in [&b"a\r\nx: y"[..], b"\xff", b"\0", b""] {
        for kind in [2, 0xEA] {
            let value = [&b"\x01"[usize::from(kind == 2)..], text].concat();
            assert_eq!(complete(&with(&[tlv(kind, &value)])).notes, None);
        }
        for kind in [0x21, 0x22, 0x23] {
            let notes = notes_of(&[tls(&tlv(kind, text))]);
            assert_eq!(notes.tls, Some(TlsNotes::default()));
        }
    }
}

#[test]
fn values_that_are_not_what_they_say_are_refused() {
    let tls = |values: &[u8]| tlv(0x20, &[&[1, 0, 0, 0, 0], values].concat());
    for (value, why) in [
        (tlv(0x20, b"\x01\0\0\0"), NoClient::Note("TLS note")),
        (tls(&[0x21]), ParseError::Leftovers(1).into()),
        (vec![2, 0, 9], ParseError::InvalidTLV(2, 9).into()),
        (vec![2, 0], ParseError::Leftovers(2).into()),
    ] {
        assert_eq!(decode(&with(&[value])), Err(why));
    }
}

const LINE4: &[u8] = b"PROXY TCP4 192.0.2.51 10.1.2.3 54321 8088\r\n";
const LONGEST_LINE: &[u8] = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
    ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";

#[test]
fn a_line_of_version_1_names_the_client() {
    for (line, client) in [
        (LINE4, Some("192.0.2.51:54321")),
        (b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", Some("1.1.1.1:1")),
        (
            b"PROXY TCP6 2001:db8::7 :: 4097 80\r\n",
            Some("[2001:db8::7]:4097"),
        ),
        (SHORTEST_LINE, None),
        (LONGEST_LINE, None),
    ] {
        let header = complete(line);
        assert_eq!(header.client, client.map(|text| text.parse().unwrap()));
        assert_eq!((header.notes, header.is_local), (None, false));
    }
    assert_eq!(LONGEST_LINE.len(), LINE_BYTES_MAX);
}

/// A caller that reads no more than it is told reads none of the request.
#[test]
fn a_line_of_version_1_asks_for_no_byte_behind_it() {
    let request = b"GET / HTTP/1.1\r\n\r\n";
    for line in [
        LINE4,
        b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
        b"PROXY TCP6 :: :: 1 1\r\n",
        b"PROXY TCP6 2001:db8::7 2001:db8::1 4097 65535\r\n",
        b"PROXY UNKNOWN\r\n",
        LONGEST_LINE,
    ] {
        for at in 0..line.len() {
            match decode(&line[..at]) {
                Ok(Progress::Needs(needed)) => {
                    assert!(at < needed && needed <= line.len(), "{at}: {needed}");
                }
                other => panic!("{at}: {other:?}"),
            }
        }
        assert_eq!(decode(&[line, request].concat()), decode(line));
    }
}

#[test]
fn a_usual_line_of_version_1_takes_few_reads() {
    let (mut at, mut reads) = (0, 0);
    while let Ok(Progress::Needs(needed)) = decode(&LINE4[..at]) {
        (at, reads) = (needed, reads + 1);
    }
    assert_eq!(at, LINE4.len());
    assert!(reads <= 10, "{reads}");
}

#[test]
fn invalid_lines_of_version_1_are_refused() {
    let refused = |text: &str| match decode(text.as_bytes()) {
        Err(NoClient::MalformedLine(v1::BinaryParseError::Parse(error))) => error,
        other => panic!("{text:?}: {other:?}"),
    };
    for text in ["POST / HTTP/1.1\r\n", "POST /", "PROXYTCP4", "PUT"] {
        assert_eq!(refused(text), v1::ParseError::InvalidPrefix);
    }
    for text in [
        "PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \n",
        "PROXY UNKNOWN \n",
        "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rX\n",
    ] {
        refused(text);
    }
    let endless = [&LONGEST_LINE[..105], b" x\r\n"].concat();
    for bytes in [&endless[..107], &endless] {
        let (limit, actual) = (107, bytes.len());
        assert_eq!(decode(bytes), Err(NoClient::EndlessLine { limit, actual }));
    }
}

proptest! {
    /// Whatever comes: nothing panics, more is asked for only while something is missing, and never
    /// beyond the limit.
    #[test]
    fn hostile_bytes_are_refused_or_bounded(
        command in prop_oneof![Just(0x20), Just(0x21), any::<u8>()],
        family in prop_oneof![Just(0_u8), Just(0x11), Just(0x21), Just(0x31), any::<u8>()],
        length in any::<u16>(),
        payload in proptest::collection::vec(any::<u8>(), 0..1_100),
        flipped in proptest::option::of((0..16_usize, any::<u8>())),
    ) {
        let mut bytes = [SIGNATURE, &[command, family], &length.to_be_bytes(), &payload].concat();
        if let Some((at, byte)) = flipped {
            bytes[at] = byte;
        }
        match decode(&bytes) {
            Ok(Progress::Needs(needed)) => {
                prop_assert!(bytes.len() < needed && needed <= HEADER_BYTES_MAX);
            }
            Ok(Progress::Complete(header)) => {
                prop_assert!(header.length <= bytes.len() && header.length <= HEADER_BYTES_MAX);
                // Bytes behind the header change nothing.
                prop_assert_eq!(decode(&bytes[..header.length]), Ok(Progress::Complete(header)));
            }
            Err(_) => {}
        }
    }

    /// Headers that are nearly right; what holds for all bytes stands in `fuzz`.
    #[test]
    fn damaged_headers_are_refused_or_bounded(
        intact in prop_oneof![
            Just(LINE4.to_vec()),
            Just(LONGEST_LINE.to_vec()),
            Just(b"PROXY TCP6 ::1 ::2 1 2\r\nGET".to_vec()),
            Just(from_hex(FROM_HAPROXY)),
            Just(from_hex(FROM_NLB)),
        ],
        damage in proptest::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(&b"\r\n \0:1.fTCP46UN\xff\x01"[..])),
            0..4,
        ),
    ) {
        let mut bytes = intact;
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        fuzz(&bytes);
    }

    #[test]
    fn hostile_lines_are_refused_or_bounded(
        text in "PROXY (TCP[46]|UNKNOWN|.)?[ 0-9a-f:.]{0,120}\\PC{0,2}\r?\n?.{0,9}",
    ) {
        let bytes = text.as_bytes();
        match decode(bytes) {
            Ok(Progress::Needs(needed)) => {
                prop_assert!(bytes.len() < needed && needed <= LINE_BYTES_MAX);
            }
            Ok(Progress::Complete(header)) => {
                prop_assert!(bytes[..header.length].ends_with(b"\r\n"));
                prop_assert!(header.length <= LINE_BYTES_MAX);
            }
            Err(_) => {}
        }
    }
}
