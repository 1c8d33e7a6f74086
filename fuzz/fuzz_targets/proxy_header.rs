//! Whatever a balancer's header looks like: nothing panics, and no byte behind it is asked for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_proxy::net::fuzz_proxy_header;

fuzz_target!(|bytes: &[u8]| fuzz_proxy_header(bytes));
