//! How much was computed, to say how fast it was.

use std::sync::atomic::{AtomicU64, Ordering};

static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// Multiplications and additions in all products of this process's layers and attentions so far.
pub fn operations() -> u64 {
    OPERATIONS.load(Ordering::Relaxed)
}

/// Counts a product of these sizes.
pub(crate) fn product(rows: usize, columns: usize, steps: usize) {
    let operations = 2 * rows as u64 * columns as u64 * steps as u64;
    OPERATIONS.fetch_add(operations, Ordering::Relaxed);
}
