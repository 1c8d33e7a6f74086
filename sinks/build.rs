//! Links the Kafka client's OpenSSL and zlib statically where the system has them as archives, so that the
//! program needs nothing but the C library at run time, as on a distroless image.
//!
//! `openssl-sys` and `libz-sys` ask the linker for `-lssl`, and a linker takes `libssl.so` before `libssl.a` only
//! within one directory. So a directory that holds nothing but links to the archives, searched first, decides
//! for them. Building OpenSSL from source instead costs over three minutes of CPU (`openssl-vendored`). On a
//! system without archives nothing is searched and the program is linked to the shared libraries.

// A build script talks to cargo by printing, and has nobody to report an error to but its caller.
#![allow(clippy::print_stdout)]

use std::env;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

const ARCHIVES: [&str; 3] = ["libssl.a", "libcrypto.a", "libz.a"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let vendored = env::var_os("CARGO_FEATURE_OPENSSL_VENDORED").is_some();
    let (Some(_), Some(out), false) = (
        env::var_os("CARGO_FEATURE_KAFKA"),
        env::var_os("OUT_DIR"),
        vendored,
    ) else {
        return Ok(());
    };
    let found: Vec<PathBuf> = ARCHIVES.into_iter().filter_map(archive).collect();
    if found.len() < ARCHIVES.len() {
        return Ok(());
    }
    let directory = PathBuf::from(out).join("archives");
    std::fs::create_dir_all(&directory)?;
    for (name, at) in ARCHIVES.iter().zip(found) {
        // A new archive, say after a security update, is linked by the next build.
        println!("cargo::rerun-if-changed={}", at.display());
        let link = directory.join(name);
        let _ = std::fs::remove_file(&link);
        symlink(at, link)?;
    }
    println!("cargo::rustc-link-search=native={}", directory.display());
    Ok(())
}

/// Where the linker's driver finds a library; it repeats the name of one that it does not find.
fn archive(name: &str) -> Option<PathBuf> {
    let driver = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let answer = Command::new(driver)
        .arg(format!("-print-file-name={name}"))
        .output()
        .ok()?;
    let path = PathBuf::from(String::from_utf8(answer.stdout).ok()?.trim());
    path.is_absolute().then_some(path)
}
