//! Containers of the Kinesis Producer Library, against what its other implementations write and read.
#![forbid(unsafe_code)]

use proptest::prelude::*;
use sluice_loadtest::kinesis::{UserRecord, user_records};
use sluice_sinks::kinesis::aggregate::{Container, Packer};

fn packer<'a>(records: &'a [(&'a str, Vec<u8>)], hash: u128, bytes_max: usize) -> Packer<'a> {
    let mut packer = Packer::default();
    for (key, data) in records {
        packer.push(Some(key), data, Some(0), hash, || bytes_max);
    }
    packer
}

fn only<'a, 'b>(packer: &'b Packer<'a>) -> &'b Container<'a> {
    assert_eq!(packer.containers().len(), 1, "{packer:?}");
    &packer.containers()[0]
}

/// Both as `aws_kinesis_agg` 1.2.3 from PyPI packs these records, each with this explicit hash key.
#[test]
fn containers_are_those_of_the_published_aggregator() {
    let first = "f3899ac20a03752d310a02c3a9122731373031343131383334363034363932333137333136383733303337\
                 31353838343130353732381a0d080010001a077b2261223a317d1a06080010001a001a9301080110001a8c01";
    let records = [
        ("u-1", br#"{"a":1}"#.to_vec()),
        ("u-1", Vec::new()),
        ("é", b"\xff\x00".repeat(70)),
    ];
    let sealed = only(&packer(&records, 1 << 127, 1_000)).seal();
    let expected = format!(
        "{first}{}813f639560115aec2cfd706aab3aee95",
        "ff00".repeat(70)
    );
    assert_eq!(hex(&sealed), expected);

    // Indices of more than seven bits.
    let keys: Vec<String> = (0..300).map(|at| format!("user-{at}")).collect();
    let data = |at| "e".repeat(at).into_bytes();
    let records: Vec<_> = keys
        .iter()
        .zip(0..)
        .map(|(key, at)| (&**key, data(at)))
        .collect();
    let sealed = only(&packer(&records, 0, 1 << 20)).seal();
    assert_eq!(sealed.len(), 50_685);
    assert_eq!(
        hex(&sealed[sealed.len() - 16..]),
        "cce3ad267eb1f6d1c86dac2e3e935ff4"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn records_without_a_key_share_one_made_by_chance() {
    let mut packer = Packer::default();
    for data in [b"1", b"2", b"3"] {
        packer.push(None, data, Some(0), 0xfe << 120, || 200);
    }
    let sealed = only(&packer).seal();
    let read = user_records(&sealed).unwrap();
    let keys: Vec<_> = read.iter().map(|record| record.key).collect();
    assert_eq!(keys, ["fe00000000000000"; 3]);
}

#[test]
fn a_record_over_the_size_goes_alone_between_others() {
    let of = |bytes: usize| ("k", vec![b'x'; bytes]);
    let records = [of(10), of(500), of(10), of(100), of(10)];
    let packer = packer(&records, 7, 250);
    assert_eq!(packer.container_of(), [0, 1, 0, 0, 0]);
    let counts: Vec<_> = packer.containers().iter().map(Container::records).collect();
    assert_eq!(counts, [4, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn containers_keep_order_keys_and_their_shards_hash(
        records in prop::collection::vec(
            (prop::option::of("[a-zé]{1,3}"), prop::collection::vec(any::<u8>(), 0..300), 0..5_usize, any::<u128>()),
            0..200,
        ),
        bytes_max in 1..2_000_usize,
    ) {
        let mut packer = Packer::default();
        for (key, data, shard, hash) in &records {
            // The last goes alone.
            let shard = Some(*shard).filter(|shard| *shard < 4);
            packer.push(key.as_deref(), data, shard, *hash, || bytes_max);
        }
        prop_assert_eq!(packer.container_of().len(), records.len());
        let total: usize = packer.containers().iter().map(Container::records).sum();
        prop_assert_eq!(total, records.len());
        for (at, container) in packer.containers().iter().enumerate() {
            let sealed = container.seal();
            prop_assert!(sealed.len() < bytes_max || container.records() == 1);
            prop_assert_eq!(sealed.capacity(), sealed.len() + 1);
            let mine = records.iter().zip(packer.container_of()).filter(|(_, of)| **of == at);
            let mine: Vec<_> = mine.map(|(record, _)| record).collect();
            let read = user_records(&sealed).unwrap();
            prop_assert_eq!(read.len(), mine.len());
            prop_assert_eq!(container.hash(), mine[0].3);
            for (read, (key, data, shard, _)) in read.into_iter().zip(&mine) {
                prop_assert_eq!(*shard, mine[0].2);
                let key = key.as_deref().unwrap_or(read.key);
                let expected = UserRecord { key, hash: container.hash(), data };
                prop_assert_eq!(read, expected);
            }
        }
    }
}
