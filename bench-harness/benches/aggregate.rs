//! What the Kinesis output's containers cost per event: the hash of its key, its place, its copy and the MD5 over all.
//! What was packed is read back before anything is timed. Times are CPU time of the thread, so that a busy machine does not count.

#![allow(missing_docs, reason = "criterion's macros make items without docs")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot do its work has to stop"
)]

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use md5::{Digest as _, Md5};
use rustix::time::{ClockId, clock_gettime};
use sluice_sinks::kinesis::aggregate::Packer;
use std::hint::black_box;
use std::time::Duration;

const EVENTS: usize = 5_000;
const USERS: usize = 2_000;
/// The default: two PUT payload units.
const CONTAINER_BYTES: usize = 51_200;

/// CPU time of this thread.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(time).unwrap()
    }
    fn end(&self, start: Duration) -> Duration {
        self.start() - start
    }
    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }
    fn zero(&self) -> Duration {
        Duration::ZERO
    }
    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }
    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Data and keys of events of this size.
fn events(bytes: usize) -> Vec<(String, Vec<u8>)> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..EVENTS)
        .map(|_| {
            let user = random.usize(0..USERS);
            (format!("user-{user:08}"), vec![random.u8(..); bytes])
        })
        .collect()
}

/// As the output does it with a stream of this many equal shards; gives the containers' data.
fn pack(events: &[(String, Vec<u8>)], shards: usize, is_keyed: bool) -> Vec<Vec<u8>> {
    let mut packer = Packer::default();
    for (key, data) in events {
        let (key, shard, hash) = match is_keyed {
            true => {
                let hash = u128::from_be_bytes(Md5::digest(key).into());
                let shard = ((hash >> 64) * shards as u128) >> 64;
                (Some(&**key), shard as usize, hash)
            }
            false => (None, shards, fastrand::u128(..)),
        };
        packer.push(key, data, Some(shard), hash, || CONTAINER_BYTES);
    }
    let containers = packer.containers().iter();
    containers.map(|container| container.seal()).collect()
}

/// The data of the records of a container; panics where it is none.
fn read(container: &[u8]) -> Vec<&[u8]> {
    let (message, digest) = container[4..].split_at(container.len() - 20);
    assert_eq!(Md5::digest(message)[..], *digest);
    let mut found = Vec::new();
    let mut rest = message;
    while let Some((tag, field)) = field(&mut rest) {
        if tag == 0x1a {
            // Behind two indices.
            let mut rest = field;
            while rest[0] != 0x1a {
                rest = &rest[1..];
                number(&mut rest);
            }
            found.push(self::field(&mut rest).unwrap().1);
        }
    }
    found
}

/// A length-delimited field with its tag.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (tag, behind) = rest.split_first()?;
    *rest = behind;
    let length = number(rest);
    let (field, behind) = rest.split_at(length);
    *rest = behind;
    Some((*tag, field))
}

fn number(rest: &mut &[u8]) -> usize {
    let bytes = rest.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let (digits, behind) = rest.split_at(bytes);
    *rest = behind;
    let digits = digits.iter().rev();
    digits.fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f))
}

fn aggregate(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("aggregate");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, bytes, shards, is_keyed) in [
        ("1_kib_by_user_4_shards", 1_024, 4, true),
        ("1_kib_by_user_64_shards", 1_024, 64, true),
        ("1_kib_without_key", 1_024, 4, false),
        ("300_bytes_by_user_4_shards", 300, 4, true),
    ] {
        let events = events(bytes);
        let packed = pack(&events, shards, is_keyed);
        let mut read: Vec<&[u8]> = packed.iter().flat_map(|it| read(it)).collect();
        let mut sent: Vec<&[u8]> = events.iter().map(|(_, data)| &data[..]).collect();
        read.sort_unstable();
        sent.sort_unstable();
        assert!(read == sent, "{name}: what was packed is not what is read");
        group.bench_function(name, |b| {
            b.iter(|| black_box(pack(black_box(&events), shards, is_keyed)));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = aggregate
}
criterion_main!(benches);
