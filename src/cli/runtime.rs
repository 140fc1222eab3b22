//! The threads that a command runs on.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Threads for calls that block: pairing by code hashes in one, DNS look-ups and files take the
/// others. Few, so that the number of threads does not follow the number of sessions.
const BLOCKING_THREADS: usize = 16;

/// One for all of a command's asynchronous work.
pub(super) fn build() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .thread_name("wagate")
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
}
