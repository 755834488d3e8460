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

/// Makes this process compute with `count` threads. To be called before anything is computed.
///
/// # Errors
/// When threads compute already, or cannot be started.
pub fn use_threads(count: NonZeroUsize) -> Result<(), ThreadsError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(count.get())
        .build_global()
        .map_err(|cause| ThreadsError { count, cause })
}
