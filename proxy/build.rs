//! Makes the program smaller where the linker can: relative relocations in their packed form (1.4 MB of a program
//! at a changing address), and one copy of functions that are the same, of which generated clients have many.
//!
//! rustc links with LLD on 64-bit x86 only; the linkers of other targets may not know these options. Packed
//! relocations need glibc 2.36 (2022) at run time, on a system that has it when the program is built.

// A build script talks to cargo by printing.
#![allow(clippy::print_stdout)]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    if target == "x86_64-unknown-linux-gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=safe");
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
