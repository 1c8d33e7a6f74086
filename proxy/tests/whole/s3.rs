//! A bucket as the destination: what was answered 200 is in its objects, sooner or later, whatever becomes of
//! the bucket or of us meanwhile.

use crate::support::audit::{Stored, count_answered};
use crate::support::event::ids_of_record;
use crate::support::load::burst;
use crate::support::proxy::Proxy;
use flate2::read::GzDecoder;
use sluice_loadtest::s3::{Emulator, Options};
use std::io::Read;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";
const BUCKET: &str = "clicks";

fn emulator() -> Emulator {
    Emulator::start(Options::default()).unwrap()
}

/// An output called `main`; further keys may follow.
fn to_s3(emulator: &Emulator) -> String {
    format!(
        "[outputs.main]\ntype = \"s3\"\nbucket = \"{BUCKET}\"\nprefix = \"raw/\"\n\
         endpoint_url = \"http://{}\"\nstaging_dir = \"staging\"\n",
        emulator.addr()
    )
}

/// The lines of all objects, each of which has the form that readers expect.
fn records(emulator: &Emulator) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for (bucket, key) in emulator.keys() {
        let packed = emulator.object(&bucket, &key).unwrap().unwrap();
        let mut lines = Vec::new();
        GzDecoder::new(&*packed).read_to_end(&mut lines).unwrap();
        assert!(
            !lines.ends_with(b"\n"),
            "{key}: a newline after the last line"
        );
        records.extend(lines.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
    }
    records
}

fn stored(emulator: &Emulator) -> Stored {
    Stored::of(
        records(emulator)
            .iter()
            .flat_map(|record| ids_of_record(record)),
    )
}

#[test]
fn what_was_answered_200_is_in_an_object_when_the_process_has_ended_cleanly() {
    let emulator = emulator();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_s3(&emulator));
    let sent = burst(proxy.address, EVENTS, 8, 20);
    assert_eq!(count_answered(&sent, 200), sent.len());
    assert!(emulator.keys().is_empty(), "the object is not full yet");
    proxy.end_cleanly();
    assert_eq!(emulator.keys().len(), 1);
    let stored = stored(&emulator);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
}
