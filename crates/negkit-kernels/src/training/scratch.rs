//! Memory that a thread uses again: a large allocation costs more than what is done with it, for its
//! pages come zeroed from the kernel.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

thread_local! {
    static SPARE: Cell<Vec<Vec<f32>>> = const { Cell::new(Vec::new()) };
}

/// Values for a while. They are given back to the thread when this is dropped.
pub(super) struct Scratch {
    values: Vec<f32>,
    length: usize,
}

impl Scratch {
    /// `length` values, left over from anything.
    pub(super) fn take(length: usize) -> Self {
        let mut spare = SPARE.take();
        // The smallest that is large enough, or else the largest.
        let fitting = (0..spare.len()).filter(|i| spare[*i].len() >= length);
        let chosen = fitting
            .min_by_key(|i| spare[*i].len())
            .or_else(|| (0..spare.len()).max_by_key(|i| spare[*i].len()));
        let mut values = chosen.map(|i| spare.swap_remove(i)).unwrap_or_default();
        SPARE.set(spare);
        if values.len() < length {
            // Not grown in place: nothing in it is worth copying.
            values = Vec::new();
            values.resize(length, 0.);
        }
        Self { values, length }
    }

    /// `length` zeros.
    pub(super) fn zeros(length: usize) -> Self {
        let mut scratch = Self::take(length);
        scratch.fill(0.);
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        /// Allocations that a thread keeps: as many as one operation has at a time.
        const KEPT: usize = 8;
        let mut spare = SPARE.take();
        spare.push(std::mem::take(&mut self.values));
        if spare.len() > KEPT {
            let smallest = (0..spare.len()).min_by_key(|i| spare[*i].len());
            smallest.map(|i| spare.swap_remove(i));
        }
        SPARE.set(spare);
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.length]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.length]
    }
}
