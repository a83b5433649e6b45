//! Log lines on their way to whoever reads them, who may be slow, stuck or gone. Who logs only puts a line into memory; a
//! thread of its own writes. What does not fit into memory is dropped and counted, and a line says how many.
//!
//! It knows nothing of what a line says.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{Metadata, warn};
use tracing_subscriber::fmt::MakeWriter;

/// Where this module's own lines come from. They find room, full or not.
const TARGET: &str = module_path!();

/// So much is written at once, in bytes; and so much at least must be written before there is room again.
const PIECE: usize = 16 * 1024;

/// So long lines gather after others were written: waking the thread costs more than most lines do, and whoever
/// reads the log notices nothing.
const MOMENT: Duration = Duration::from_millis(2);

/// The queue.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// There is something to write.
    filled: Condvar,
    /// Everything is written.
    emptied: Condvar,
    /// How many bytes may wait.
    room: usize,
}

#[derive(Default)]
struct Waiting {
    /// Whole lines, the oldest first.
    pieces: VecDeque<Vec<u8>>,
    /// How many bytes are not written yet, those under way included.
    bytes: usize,
    /// How many lines are missing since the last one that said so.
    dropped: u64,
    /// Nothing is there, and the writer wants to be told when something is.
    is_awaited: bool,
}

impl Queue {
    /// An empty queue that may hold `room` bytes. It takes no memory until lines wait.
    pub(super) fn new(room: usize) -> Self {
        Self { waiting: Mutex::default(), filled: Condvar::new(), emptied: Condvar::new(), room }
    }

    /// Puts a whole line at the end, or drops and counts it. `is_urgent`: whether it is taken even when there is no room.
    pub(super) fn push(&self, line: &[u8], is_urgent: bool) {
        let mut waiting = self.waiting();
        if waiting.bytes + line.len() > self.room && !is_urgent {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += line.len();
        let is_awaited = std::mem::take(&mut waiting.is_awaited);
        match waiting.pieces.back_mut() {
            Some(last) if last.len() + line.len() <= PIECE => last.extend_from_slice(line),
            _ => {
                let mut piece = Vec::with_capacity(PIECE.max(line.len()));
                piece.extend_from_slice(line);
                waiting.pieces.push_back(piece);
            }
        }
        drop(waiting);
        if is_awaited {
            self.filled.notify_one();
        }
    }

    /// Writes what is put in, until the process ends. The work of a thread of its own.
    pub(super) fn write_to(&self, mut out: impl Write) {
        loop {
            let piece = self.next();
            let missing = write(&mut out, &piece);
            let dropped = {
                let mut waiting = self.waiting();
                waiting.dropped += missing;
                // Where nothing can be written, nothing is said: the next piece that arrives is followed by the sum.
                if missing == 0 { std::mem::take(&mut waiting.dropped) } else { 0 }
            };
            // Before there is room again, so that it stands where the lines are missing, and before all counts as
            // written, so that the end of the process waits for it.
            if dropped > 0 {
                warn!(
                    lines = dropped,
                    "log lines were dropped: whoever reads the log is too slow, or takes none"
                );
            }
            let mut waiting = self.waiting();
            waiting.bytes -= piece.len();
            if waiting.bytes == 0 {
                self.emptied.notify_all();
            }
            let are_few = waiting.bytes < PIECE;
            drop(waiting);
            if are_few {
                std::thread::sleep(MOMENT);
            }
        }
    }

    /// Waits until everything is written, but not longer than this.
    pub(super) fn flush(&self, longest: Duration) {
        let waiting = self.waiting();
        drop(self.emptied.wait_timeout_while(waiting, longest, |waiting| waiting.bytes > 0));
    }

    fn next(&self) -> Vec<u8> {
        let mut waiting = self.waiting();
        loop {
            match waiting.pieces.pop_front() {
                Some(piece) => return piece,
                None => {
                    waiting.is_awaited = true;
                    waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a piece; how many of its lines could not be written whole.
fn write(out: &mut impl Write, mut rest: &[u8]) -> u64 {
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(count) if count > 0 => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => break,
        }
    }
    rest.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The way into a queue for tracing-subscriber, which writes each line at once.
pub(super) struct Line {
    queue: &'static Queue,
    is_urgent: bool,
}

impl<'a> MakeWriter<'a> for &'static Queue {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { queue: self, is_urgent: false }
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Line {
        Line { queue: self, is_urgent: line.target() == TARGET }
    }
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.queue.push(line, self.is_urgent);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// A disk that is full for so many writes.
    struct Disk {
        full: u32,
        took: Sender<String>,
    }

    impl Write for Disk {
        fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
            if self.full > 0 {
                self.full -= 1;
                return Err(ErrorKind::StorageFull.into());
            }
            self.took.send(String::from_utf8_lossy(piece).into_owned()).unwrap();
            Ok(piece.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_could_not_be_written_are_counted_once_others_are() {
        let queue: &'static Queue = Box::leak(Box::new(Queue::new(64)));
        let (took, taken) = channel();
        std::thread::spawn(move || {
            let log = tracing_subscriber::registry()
                .with(fmt::layer().without_time().with_ansi(false).with_writer(queue));
            tracing::subscriber::with_default(log, || queue.write_to(Disk { full: 2, took }));
        });
        for lines in ["one\ntwo\n", "three\n", "four\n"] {
            queue.push(lines.as_bytes(), false);
            queue.flush(Duration::MAX);
        }
        let said: Vec<_> = taken.try_iter().collect();
        assert_eq!(said[0], "four\n");
        assert!(said[1].contains("log lines were dropped") && said[1].contains("lines=3"), "{said:?}");
        assert_eq!(said.len(), 2);
    }

    #[test]
    fn a_line_that_finds_no_room_is_counted() {
        let queue = Queue::new(PIECE * 2);
        let line = [b'x'; 1000];
        for _ in 0..100 {
            queue.push(&line, false);
        }
        queue.push(b"urgent", true);
        let waiting = queue.waiting();
        let kept = PIECE * 2 / line.len();
        assert_eq!((waiting.bytes, waiting.dropped), (kept * line.len() + 6, 100 - kept as u64));
        assert!(waiting.pieces.iter().all(|piece| piece.len() <= PIECE));
    }
}
