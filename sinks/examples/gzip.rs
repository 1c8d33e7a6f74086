//! CPU and bytes of gzip by libdeflate and by zlib-rs, level by level and in turn, for files of lines: which library
//! and level `sinks/src/gzip.rs` takes.
//!
//! ```sh
//! cargo run --release -p sluice-sinks --no-default-features --features s3 --example gzip -- lines.ndjson…
//! ```

#![forbid(unsafe_code)]
// An example prints, and ends where something is wrong.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use flate2::Compression;
use flate2::write::GzEncoder;
use libdeflater::{CompressionLvl, Compressor};
use std::io::Write as _;

/// Bytes of a file that are packed: an object of usual size.
const BYTES_MAX: usize = 30_000_000;
const LEVELS: [u8; 6] = [1, 2, 3, 4, 5, 6];
const TURNS: usize = 7;

fn by_zlib_rs(lines: &[u8], level: u8) -> usize {
    let room = Vec::with_capacity(lines.len() / 8);
    let mut encoder = GzEncoder::new(room, Compression::new(level.into()));
    // As a file is read.
    for part in lines.chunks(8 << 10) {
        encoder.write_all(part).unwrap();
    }
    encoder.finish().unwrap().len()
}

fn by_libdeflate(lines: &[u8], level: u8) -> usize {
    let mut compressor = Compressor::new(CompressionLvl::new(level.into()).unwrap());
    let mut packed = vec![0; compressor.gzip_compress_bound(lines.len())];
    compressor.gzip_compress(lines, &mut packed).unwrap()
}

/// Nanoseconds that this thread has run.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

type Library = (&'static str, fn(&[u8], u8) -> usize);

fn main() {
    let libraries: [Library; 2] = [("zlib-rs", by_zlib_rs), ("libdeflate", by_libdeflate)];
    println!("| lines | library, level | CPU us per KiB, least and median of {TURNS} | ratio |");
    println!("| --- | --- | ---: | ---: |");
    for path in std::env::args().skip(1) {
        let mut lines = std::fs::read(&path).unwrap();
        lines.truncate(BYTES_MAX);
        let mut rows: Vec<_> = LEVELS
            .iter()
            .flat_map(|level| libraries.map(|library| (*level, library, Vec::new(), 0)))
            .collect();
        for _ in 0..TURNS {
            for (level, (_, pack), times, packed) in &mut rows {
                let begun = cpu_ns();
                *packed = pack(&lines, *level);
                times.push(cpu_ns() - begun);
            }
        }
        let name = path.rsplit('/').next().unwrap();
        for (level, (library, _), mut times, packed) in rows {
            times.sort_unstable();
            let per_kib = |ns: u64| ns as f64 / 1e3 / (lines.len() as f64 / 1024.0);
            println!(
                "| {name} | {library} {level} | {:.2} {:.2} | {:.2} |",
                per_kib(times[0]),
                per_kib(times[TURNS / 2]),
                lines.len() as f64 / packed as f64
            );
        }
    }
}
