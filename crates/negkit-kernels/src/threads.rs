//! How many threads the kernels share their work among: those of rayon's global pool, as candle does.

use std::num::NonZeroUsize;

use thiserror::Error;

/// Threads that the kernels share their work among. As many as the process may use (its control
/// group's share of processors too), or what [`use_threads`] or `RAYON_NUM_THREADS` said.
pub fn threads() -> usize {
    rayon::current_num_threads()
}

/// The number of threads can no longer be chosen.
#[derive(Debug, Error)]
#[error("cannot use {count} threads: {cause}. Choose them before anything is computed")]
pub struct ThreadsError {
    /// The number asked for.
    pub count: NonZeroUsize,
    /// rayon's reason.
    pub cause: rayon::ThreadPoolBuildError,
}

/// Threads that a process uses where nothing else is said: `RAYON_NUM_THREADS`, or as many as it may.
pub fn usual_threads() -> NonZeroUsize {
    let said = std::env::var("RAYON_NUM_THREADS").ok();
    let said = said.and_then(|count| count.parse().ok());
    said.or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}

/// Makes this process compute with `count` threads, the calling one among them. To be called before
/// anything is computed, by the thread that computes.
///
/// A thread that is none of the pool hands every product over and sleeps until it is done, which for
/// the products of a small model takes longer than they do. A single thread stays one of its own, so
/// that somebody computes while the calling one waits.
///
/// # Errors
/// When threads compute already, or cannot be started.
pub fn use_threads(count: NonZeroUsize) -> Result<(), ThreadsError> {
    let mut pool = rayon::ThreadPoolBuilder::new().num_threads(count.get());
    if count.get() > 1 {
        pool = pool.use_current_thread();
    }
    pool.build_global()
        .map_err(|cause| ThreadsError { count, cause })
}
