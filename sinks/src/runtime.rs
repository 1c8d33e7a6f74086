//! The tokio runtime of a thread that writes or uploads.

use std::io;
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// A runtime for one thread that already has a thread for blocking calls and keeps it.
///
/// tokio panics when the system refuses a thread for a blocking call and none is there; while one is, the call
/// waits for it. By default a thread without work ends after ten seconds.
///
/// # Errors
/// The system gives no thread, or no descriptors.
pub fn current_thread() -> io::Result<Runtime> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(Duration::MAX)
        .build()?;
    // Asks in a way that can be refused without a panic.
    thread::Builder::new().spawn(|| {})?;
    runtime.spawn_blocking(|| {});
    Ok(runtime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Longer than tokio keeps idle threads by default.
    const IDLE: Duration = Duration::from_secs(11);

    #[test]
    fn a_refused_thread_does_not_panic_a_blocking_call() {
        let ran = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "runtime::tests::blocking_call_without_memory_for_a_thread",
            ])
            // Stacks of ended threads are no use to new ones.
            .env("GLIBC_TUNABLES", "glibc.pthread.stack_cache_size=0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(said.contains("1 passed"), "{ran:?}");
    }

    #[test]
    #[ignore = "limits the memory of its process, so it runs in one of its own"]
    fn blocking_call_without_memory_for_a_thread() {
        let runtime = current_thread().unwrap();
        thread::sleep(IDLE);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
        let kib = size.unwrap().trim().trim_end_matches(" kB");
        let bytes = (kib.parse::<u64>().unwrap() + 512) << 10;
        let limited = Command::new("prlimit")
            .args(["--pid", &std::process::id().to_string()])
            .arg(format!("--as={bytes}"))
            .status();
        assert!(limited.unwrap().success());
        // Threads that do not end, until one is refused: an allocator may have kept room for some.
        let is_refused = |_| thread::Builder::new().spawn(thread::park).is_err();
        assert!((0..1_000).any(is_refused));
        let call = runtime.block_on(async { tokio::task::spawn_blocking(|| 7).await });
        assert_eq!(call.unwrap(), 7);
    }
}
