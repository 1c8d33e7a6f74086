//! Log lines pass through a bounded queue to a thread of their own, so that an unread pipe or a full disk
//! stops no other thread. Lines without room and lines that could not be written are dropped
//! and counted; logging never fails and never panics.
//!
//! Not tracing-appender: it panics where no thread can be started, and prints to stdout, which may be
//! closed, when its queue is full at the end.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for the thread; more are dropped.
const LINES_MAX: usize = 4_096;

/// Longer lines are cut: with [`LINES_MAX`] this bounds the memory of an unread log.
const LINE_BYTES_MAX: usize = 8_192;

/// How long [`flush`] waits at most.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a write that would block.
const PAUSE: Duration = Duration::from_millis(10);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// The process has one log.
static QUEUE: OnceLock<SyncSender<Message>> = OnceLock::new();

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it was written or dropped.
    Flush(SyncSender<()>),
}

/// Lines dropped since the start.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Starts the thread that writes lines to standard error. Once per process; later calls change nothing.
///
/// # Errors
/// The system gives no thread.
pub fn start() -> io::Result<()> {
    let (sender, receiver) = sync_channel(LINES_MAX);
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_lines(&receiver, io::stderr()))?;
    // A second thread finds its queue closed and ends.
    let _ = QUEUE.set(sender);
    Ok(())
}

/// Queues one line, which ends in a newline, or drops it.
pub fn write_line(line: &[u8]) {
    let Some(queue) = QUEUE.get() else {
        DROPPED.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if queue.try_send(Message::Line(cut(line))).is_err() {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Waits until the lines so far are written, a second at most: an unread log must not keep the process
/// from ending.
pub fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let give_up = Instant::now() + FLUSH_TIMEOUT;
    let (done, is_done) = sync_channel(1);
    let mut message = Message::Flush(done);
    loop {
        message = match queue.try_send(message) {
            Ok(()) => break,
            Err(TrySendError::Full(message)) => message,
            Err(TrySendError::Disconnected(_)) => return,
        };
        if Instant::now() >= give_up {
            return;
        }
        thread::sleep(PAUSE);
    }
    // An error means that the time is over.
    let _ = is_done.recv_timeout(give_up.saturating_duration_since(Instant::now()));
}

fn cut(line: &[u8]) -> Vec<u8> {
    match line.get(..LINE_BYTES_MAX) {
        None => line.to_vec(),
        Some(head) => {
            let mut line = head.to_vec();
            line.push(b'\n');
            line
        }
    }
}

fn write_lines(lines: &Receiver<Message>, mut to: impl Write) {
    let mut is_torn = false;
    while let Ok(message) = lines.recv() {
        match message {
            Message::Flush(done) => {
                // The caller may have timed out.
                let _ = done.try_send(());
            }
            Message::Line(line) => {
                if is_torn && write_all(&mut to, b"\n").0 == 1 {
                    is_torn = false;
                }
                let (written, result) = write_all(&mut to, &line);
                if result.is_err() {
                    is_torn |= written > 0;
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Writes all of it, or says how much was written before the error.
fn write_all(to: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(taken) => written += taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A pipe that its reader made non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Where tracing writes its lines.
#[derive(Clone, Copy, Debug)]
pub struct LogWriter;

impl Write for LogWriter {
    /// Takes the whole buffer, which tracing fills with one line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = LogWriter;

    fn make_writer(&self) -> LogWriter {
        LogWriter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a few bytes of a line, then fails once.
    struct Torn(Vec<u8>, bool);

    impl Write for Torn {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() == 3 && !std::mem::replace(&mut self.1, true) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let room = if self.1 { bytes.len() } else { 3 };
            let taken = bytes.len().min(room);
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_after_a_torn_one_is_whole() {
        let (sender, receiver) = sync_channel(4);
        for line in ["first\n", "second\n"] {
            sender
                .send(Message::Line(line.as_bytes().to_vec()))
                .unwrap();
        }
        drop(sender);
        let mut to = Torn(Vec::new(), false);
        write_lines(&receiver, &mut to);
        assert_eq!(to.0, b"fir\nsecond\n");
    }

    #[test]
    fn long_lines_are_cut_and_keep_their_end() {
        let long = vec![b'x'; 2 * LINE_BYTES_MAX];
        let line = cut(&long);
        assert_eq!(line.len(), LINE_BYTES_MAX + 1);
        assert_eq!(line.last(), Some(&b'\n'));
    }
}
