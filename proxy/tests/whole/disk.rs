//! Files as the destination: killed at any moment, and without room.

use crate::support::audit::{Sent, count_answered};
use crate::support::client::post;
use crate::support::event::{event, new_id};
use crate::support::files::{all_files, data_files, stored, torn_files};
use crate::support::load::{Load, burst};
use crate::support::proxy::{Proxy, to_files};
use crate::support::{SmallDisk, wait_until};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

/// What a crash within a write leaves behind: the begin of a line.
const HALF: &[u8] = b"{\"id\":\"half a li";

/// Files that were growing when their process ended.
fn growing(data: &Path) -> Vec<PathBuf> {
    let open = data.join(".open");
    if !open.exists() {
        return Vec::new();
    }
    let markers: Vec<_> = all_files(&open)
        .into_iter()
        .map(|marker| marker.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let mut files = data_files(data);
    files.retain(|file| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        markers.contains(&name)
    });
    files
}

#[test]
fn sigkill_leaves_every_acknowledged_id_in_files() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = to_files(&data) + "rotate_bytes = 60000\n";
    let mut sent: Vec<Sent> = Vec::new();
    let (mut torn, mut halves) = (0, 0);
    for round in 0..8_usize {
        let proxy = Proxy::start(dir.path(), &settings);
        // What the round before left behind is in order before the first request.
        assert_eq!(torn_files(&data).len(), torn, "round {round}");
        assert!(growing(&data).is_empty());
        let load = Load::start(proxy.address, EVENTS, 8);
        let enough = fastrand::usize(0..300);
        wait_until("some were answered", || load.answered() >= enough);
        proxy.kill();
        sent.extend(load.join());
        for growing in growing(&data) {
            // SIGKILL hits a write in its middle now and then; a power cut does more often.
            if round % 3 == 1 {
                let mut file = File::options().append(true).open(&growing).unwrap();
                file.write_all(HALF).unwrap();
                halves += 1;
            }
            let bytes = fs::read(&growing).unwrap();
            torn += usize::from(bytes.last().is_some_and(|last| *last != b'\n'));
        }
    }
    let proxy = Proxy::start(dir.path(), &settings);
    sent.extend(burst(proxy.address, EVENTS, 4, 5));
    proxy.end_cleanly();

    assert!(count_answered(&sent, 200) > 100);
    let stored = stored(&data);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
    let torn: Vec<_> = torn_files(&data)
        .into_iter()
        .map(|file| fs::read(file).unwrap())
        .collect();
    assert!(torn.iter().all(|tail| !tail.contains(&b'\n')));
    assert!(halves > 0);
    assert_eq!(
        torn.iter().filter(|tail| tail.ends_with(HALF)).count(),
        halves
    );
    assert!(growing(&data).is_empty());
}

#[test]
fn a_full_disk_is_503_until_there_is_space() {
    let dir = tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("disk"), 2_048) else {
        return;
    };
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 1_600 << 10]).unwrap();
    let data = disk.0.join("data");
    let proxy = Proxy::start(dir.path(), &to_files(&data));

    let mut client = proxy.connect();
    let mut sent = Vec::new();
    let mut ask = |sent: &mut Vec<Sent>| {
        let id = new_id();
        let answer = client.ask(post(EVENTS, event(&id, 20_000)));
        sent.push(Sent {
            ids: vec![id],
            answer: Some(answer.clone()),
            took: Duration::ZERO,
        });
        answer
    };
    wait_until("the disk is full", || ask(&mut sent).status != 200);
    for _ in 0..10 {
        ask(&mut sent).assert_retry_later(&["not_delivered"]);
    }
    assert!(proxy.settled_metrics("main").refused("main", "no_space") > 10);
    // What was answered 200 is there although the disk is full, and nothing else.
    let before = stored(&data);
    before.assert_truthful(&sent);
    assert_eq!(before.0.len(), count_answered(&sent, 200));

    fs::remove_file(&filler).unwrap();
    wait_until("there is room", || {
        thread::sleep(Duration::from_millis(20));
        ask(&mut sent).status == 200
    });
    for _ in 0..10 {
        assert_eq!(ask(&mut sent).status, 200);
    }
    proxy.end_cleanly();
    let after = stored(&data);
    after.assert_truthful(&sent);
    assert_eq!(after.0.len(), count_answered(&sent, 200));
    assert_eq!(after.duplicates(), 0);
}
