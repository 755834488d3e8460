//! Memory that begins at a line of the cache, and that a thread uses again.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use bytemuck::Zeroable;

#[derive(Clone, Copy, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Memory that the system gives zeroed is not written here: whoever writes it first, on whatever thread,
/// has it made.
fn zeros(lines: usize) -> Vec<Line> {
    bytemuck::zeroed_vec(lines)
}

mod plain {
    /// Numbers for which any bits are a value.
    pub trait Plain: Copy + Send + Sync + 'static {}
    impl Plain for f32 {}
    impl Plain for u16 {}
}
pub(crate) use plain::Plain;

/// Values of type `T`, the first of which begins a line of the cache: a vector register is so never
/// filled from two lines.
pub(crate) struct Aligned<T> {
    lines: Vec<Line>,
    length: usize,
    kind: std::marker::PhantomData<T>,
}

impl<T: Plain> Aligned<T> {
    /// Zeros.
    pub(crate) fn zeros(length: usize) -> Self {
        let lines = (length * size_of::<T>()).div_ceil(size_of::<Line>());
        Self {
            lines: zeros(lines),
            length,
            kind: std::marker::PhantomData,
        }
    }
}

#[allow(unsafe_code, reason = "bytes as the numbers that they are")]
impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `lines` holds at least `length` values' bytes, all of them initialised, at an
        // alignment of 64; any bits are a `T` (`Plain` is implemented for f32 and u16 alone).
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

#[allow(unsafe_code, reason = "bytes as the numbers that they are")]
impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is as exclusive as that of `self`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Values of any content for a while. The memory stays with the thread: pages that come fresh from the
/// system cost more than what is done with them.
///
/// It is no function that takes a closure: a closure is compiled without the instructions of the kernel
/// that it is in.
pub(crate) struct Scratch<T: Plain>(Aligned<T>);

impl<T: Plain> Scratch<T> {
    /// `length` values.
    pub(crate) fn take(length: usize) -> Self {
        let lines = (length * size_of::<T>()).div_ceil(size_of::<Line>());
        let mut spare = SPARE.with_borrow_mut(|spare| {
            let best = (0..spare.len())
                .filter(|i| spare[*i].len() >= lines)
                .min_by_key(|i| spare[*i].len())
                .or_else(|| (0..spare.len()).max_by_key(|i| spare[*i].len()));
            best.map(|i| spare.swap_remove(i)).unwrap_or_default()
        });
        if spare.len() < lines {
            spare = zeros(lines);
        }
        Self(Aligned {
            lines: spare,
            length,
            kind: std::marker::PhantomData,
        })
    }
}

impl<T: Plain> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Plain> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Plain> Drop for Scratch<T> {
    fn drop(&mut self) {
        /// As many as one kernel has in hand at a time, twice.
        const KEPT: usize = 12;
        let lines = std::mem::take(&mut self.0.lines);
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                spare.push(lines);
            }
        });
    }
}

/// A vector of `length` values that `fill` writes, without zeroing them first.
///
/// `fill` gets memory that may hold anything; it must write all of it.
#[allow(
    unsafe_code,
    reason = "zeroing an output that is written anyway goes through memory once more"
)]
pub(crate) fn filled<T: crate::Element>(
    length: usize,
    fill: impl FnOnce(SharedSlice<'_, T>),
) -> Vec<T> {
    let mut values: Vec<T> = Vec::with_capacity(length);
    fill(SharedSlice {
        start: values.as_mut_ptr(),
        length,
        lifetime: std::marker::PhantomData,
    });
    // SAFETY: the capacity is `length`, and the kernels of this crate, which alone can call this,
    // write every value: each divides its whole output among its tasks.
    unsafe { values.set_len(length) };
    values
}

/// An output that several tasks write, each its own parts.
#[derive(Clone, Copy)]
pub(crate) struct SharedSlice<'a, T> {
    start: *mut T,
    length: usize,
    lifetime: std::marker::PhantomData<&'a mut [T]>,
}

#[allow(unsafe_code, reason = "tasks write disjoint parts of one output")]
// SAFETY: values of `T` may be written from any thread (`Element` is `Send` and `Sync`), and
// `SharedSlice::part`, the only way to its memory, asks its caller for disjoint parts.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}
#[allow(unsafe_code, reason = "tasks write disjoint parts of one output")]
// SAFETY: as for `Send`.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T: crate::Element> SharedSlice<'a, T> {
    /// The values from `from` on.
    ///
    /// # Panics
    /// When they do not lie in the output.
    ///
    /// # Safety
    /// No two parts that overlap may be alive at a time, and nothing is read that was not written.
    #[allow(unsafe_code, reason = "tasks write disjoint parts of one output")]
    pub(crate) unsafe fn part(&self, from: usize, length: usize) -> &'a mut [T] {
        let end = from.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.length));
        // SAFETY: in bounds, checked above, of an allocation that outlives `'a`; the caller sees to
        // it that nobody else has this part.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(from), length) }
    }
}
