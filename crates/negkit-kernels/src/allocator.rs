//! Large blocks of memory, kept for those who want one of their size next.
//!
//! One layer after another asks for outputs of the same few sizes, megabytes each. An allocator that
//! gives such blocks back to the system gets pages that the system has to clear, and every first write
//! to one is a fault: a twentieth of the time of a vision tower at batch 16.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Blocks of fewer bytes are left to the allocator below.
const LARGE: usize = 256 << 10;
/// Blocks that are kept at most.
const MOST_BLOCKS: usize = 128;
/// Bytes that are kept at most: the activations of a large network, not the weights of one that is gone.
const MOST_BYTES: usize = 1 << 30;

/// An allocator over another one, `A`, that keeps large blocks which were freed.
///
/// What is kept is used for allocations of the same size and alignment, the block freed last first. (Of
/// rounded sizes there would be more matches, but the rounding of a network's weights is memory, too.)
/// Kept blocks and those in use are together never more than was once in use: the highest memory of a
/// process is what it would be without, and where it rises, the oldest blocks make room.
/// Memory that has to be zero is always asked of `A`.
///
/// ```
/// use negkit_kernels::CachingAllocator;
/// use std::alloc::System;
///
/// #[global_allocator]
/// static ALLOCATOR: CachingAllocator<System> = CachingAllocator::new(System);
///
/// let pixels = vec![1f32; 1 << 20];
/// drop(pixels);
/// ```
#[derive(Debug)]
pub struct CachingAllocator<A> {
    inner: A,
    blocks: Mutex<Blocks>,
}

#[derive(Debug)]
struct Blocks {
    /// The first `count` are kept, in the order in which they were freed.
    kept: [Block; MOST_BLOCKS],
    count: usize,
    /// Bytes of the kept.
    kept_bytes: usize,
    /// Bytes of large blocks in use.
    used: usize,
    /// The most that was in use so far.
    most_used: usize,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    start: *mut u8,
    layout: Layout,
}

#[allow(unsafe_code, reason = "a pointer to a block that nobody has")]
// SAFETY: a kept block belongs to this allocator alone, whatever thread it runs on.
unsafe impl Send for Block {}

impl Blocks {
    const fn new() -> Self {
        let none = Block {
            start: std::ptr::null_mut(),
            layout: Layout::new::<u8>(),
        };
        Self {
            kept: [none; MOST_BLOCKS],
            count: 0,
            kept_bytes: 0,
            used: 0,
            most_used: 0,
        }
    }

    fn remove(&mut self, at: usize) -> Block {
        let block = self.kept[at];
        self.kept.copy_within(at + 1..self.count, at);
        self.count -= 1;
        self.kept_bytes -= block.layout.size();
        block
    }

    /// The block of this layout that was freed last.
    fn take(&mut self, layout: Layout) -> Option<Block> {
        let at = (0..self.count)
            .rev()
            .find(|at| self.kept[*at].layout == layout)?;
        self.used += layout.size();
        Some(self.remove(at))
    }

    /// Keeps a block, for which there must be room.
    fn keep(&mut self, block: Block) {
        self.used -= block.layout.size();
        self.kept[self.count] = block;
        self.count += 1;
        self.kept_bytes += block.layout.size();
    }

    /// That `freed` bytes of large blocks are no longer in use, and `wanted` are.
    fn exchange(&mut self, freed: usize, wanted: usize) {
        self.used = self.used - freed + wanted;
        self.most_used = self.most_used.max(self.used);
    }

    /// The oldest block, where more is kept than may be with so many bytes and blocks besides.
    fn surplus(&mut self, bytes: usize, blocks: usize) -> Option<Block> {
        let fits = self.count + blocks <= MOST_BLOCKS
            && self.kept_bytes + bytes <= MOST_BYTES
            && self.used + self.kept_bytes <= self.most_used;
        (!fits && self.count > 0).then(|| self.remove(0))
    }
}

/// Bytes of a block of this size, if it is one that may be kept.
fn large(size: usize) -> Option<usize> {
    (size >= LARGE).then_some(size)
}

impl<A> CachingAllocator<A> {
    /// An allocator that has kept nothing yet.
    pub const fn new(inner: A) -> Self {
        Self {
            inner,
            blocks: Mutex::new(Blocks::new()),
        }
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(unsafe_code, reason = "an allocator is unsafe by its nature")]
impl<A: GlobalAlloc> CachingAllocator<A> {
    /// Gives all blocks that are kept back to the allocator below.
    pub fn release(&self) {
        self.give_back(|blocks| (blocks.count > 0).then(|| blocks.remove(0)));
    }

    /// Gives back what `next` names, one block at a time: while `A` is at it, others need not wait.
    fn give_back(&self, mut next: impl FnMut(&mut Blocks) -> Option<Block>) {
        loop {
            let block = next(&mut self.blocks());
            let Some(block) = block else { break };
            // SAFETY: a kept block came from `A` with this layout, and nobody has it.
            unsafe { self.inner.dealloc(block.start, block.layout) };
        }
    }

    /// What `ask` gets from `A`, after `freed` bytes of large blocks, `wanted` of which are to be in use.
    fn ask(&self, freed: usize, wanted: usize, ask: impl Fn(&A) -> *mut u8) -> *mut u8 {
        self.blocks().exchange(freed, wanted);
        self.give_back(|blocks| blocks.surplus(0, 0));
        let mut start = ask(&self.inner);
        if start.is_null() {
            // What is kept must not be what is missing.
            self.release();
            start = ask(&self.inner);
        }
        if start.is_null() {
            self.blocks().exchange(wanted, freed);
        }
        start
    }
}

#[allow(unsafe_code, reason = "an allocator is unsafe by its nature")]
// SAFETY: every block comes from `A` and goes back to it with the caller's layout. A kept block is with
// nobody else: it left the caller in `dealloc` and the list in `take`, both under the lock.
unsafe impl<A: GlobalAlloc> GlobalAlloc for CachingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(bytes) = large(layout.size()) else {
            // SAFETY: the caller's own request.
            return unsafe { self.inner.alloc(layout) };
        };
        let kept = self.blocks().take(layout);
        match kept {
            Some(block) => block.start,
            // SAFETY: the caller's own request.
            None => self.ask(0, bytes, |inner| unsafe { inner.alloc(layout) }),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's own request.
        let ask = |inner: &A| unsafe { inner.alloc_zeroed(layout) };
        match large(layout.size()) {
            Some(bytes) => self.ask(0, bytes, ask),
            None => ask(&self.inner),
        }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        let Some(bytes) = large(layout.size()) else {
            // SAFETY: the caller's own block.
            return unsafe { self.inner.dealloc(start, layout) };
        };
        if bytes > MOST_BYTES {
            self.blocks().exchange(bytes, 0);
            // SAFETY: the caller's own block.
            return unsafe { self.inner.dealloc(start, layout) };
        }
        // Room is made under the same lock, for others may keep blocks too.
        loop {
            let mut blocks = self.blocks();
            let Some(oldest) = blocks.surplus(bytes, 1) else {
                blocks.keep(Block { start, layout });
                break;
            };
            drop(blocks);
            // SAFETY: a kept block came from `A` with this layout, and nobody has it.
            unsafe { self.inner.dealloc(oldest.start, oldest.layout) };
        }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's own block and request.
        let ask = |inner: &A| unsafe { inner.realloc(start, layout, size) };
        match (large(layout.size()), large(size)) {
            (None, None) => ask(&self.inner),
            (before, after) => self.ask(before.unwrap_or(0), after.unwrap_or(0), ask),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(
        unsafe_code,
        reason = "the calls that a program makes of its allocator"
    )]

    use std::alloc::System;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// The system's allocator, which counts.
    #[derive(Default)]
    struct Counting {
        asked: AtomicUsize,
        bytes: AtomicUsize,
        most_bytes: AtomicUsize,
    }

    impl Counting {
        fn more(&self, bytes: usize) {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let now = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
            self.most_bytes.fetch_max(now, Ordering::Relaxed);
        }

        fn less(&self, bytes: usize) {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    // SAFETY: the system's allocator in all but the counts.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            self.more(layout.size());
            // SAFETY: the caller's own request.
            unsafe { System.alloc(layout) }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            self.more(layout.size());
            // SAFETY: the caller's own request.
            unsafe { System.alloc_zeroed(layout) }
        }

        unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
            self.less(layout.size());
            // SAFETY: the caller's own block.
            unsafe { System.dealloc(start, layout) }
        }

        unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            self.less(layout.size());
            self.more(size);
            // SAFETY: the caller's own block.
            unsafe { System.realloc(start, layout, size) }
        }
    }

    type Tested = CachingAllocator<Counting>;

    fn tested() -> Tested {
        CachingAllocator::new(Counting::default())
    }

    fn asked(allocator: &Tested) -> usize {
        allocator.inner.asked.load(Ordering::Relaxed)
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 64).unwrap()
    }

    /// A block as its user sees it: bytes that stay what they were.
    struct Used {
        start: *mut u8,
        layout: Layout,
        mark: u8,
    }

    impl Used {
        fn ends(&self) -> [usize; 3] {
            let last = self.layout.size() - 1;
            [0, last / 2, last]
        }

        fn new(allocator: &Tested, size: usize, mark: u8, zeroed: bool) -> Self {
            let layout = layout(size);
            // SAFETY: no size here is 0.
            let start = unsafe {
                if zeroed {
                    allocator.alloc_zeroed(layout)
                } else {
                    allocator.alloc(layout)
                }
            };
            assert!(!start.is_null() && start.addr().is_multiple_of(64));
            let block = Self {
                start,
                layout,
                mark,
            };
            if zeroed {
                assert_eq!(block.read(), [0; 3]);
            }
            block.write();
            block
        }

        fn read(&self) -> [u8; 3] {
            // SAFETY: places within the block, all of them written before.
            self.ends().map(|at| unsafe { self.start.add(at).read() })
        }

        fn write(&self) {
            for at in self.ends() {
                // SAFETY: a place within the block.
                unsafe { self.start.add(at).write(self.mark) };
            }
        }

        fn resize(&mut self, allocator: &Tested, size: usize) {
            // SAFETY: the block with its layout; no size here is 0.
            self.start = unsafe { allocator.realloc(self.start, self.layout, size) };
            // SAFETY: the first byte of the block, which was written.
            assert_eq!(unsafe { self.start.read() }, self.mark);
            self.layout = layout(size);
            self.write();
        }

        fn free(self, allocator: &Tested) {
            assert_eq!(self.read(), [self.mark; 3]);
            // SAFETY: the block with its layout, which is not used again.
            unsafe { allocator.dealloc(self.start, self.layout) };
        }
    }

    #[test]
    fn a_freed_block_is_used_again() {
        let allocator = tested();
        let first = Used::new(&allocator, 1 << 20, 1, false);
        let second = Used::new(&allocator, 1 << 20, 2, false);
        let start = second.start;
        first.free(&allocator);
        second.free(&allocator);
        let third = Used::new(&allocator, 1 << 20, 3, false);
        assert_eq!(third.start, start, "the block freed last");
        assert_eq!(asked(&allocator), 2);
        third.free(&allocator);
        allocator.release();
        assert_eq!(allocator.inner.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn small_blocks_are_not_kept() {
        let allocator = tested();
        Used::new(&allocator, LARGE - 1, 1, false).free(&allocator);
        assert_eq!(allocator.inner.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn memory_that_has_to_be_zero_is() {
        let allocator = tested();
        Used::new(&allocator, 1 << 20, 1, false).free(&allocator);
        Used::new(&allocator, 1 << 20, 2, true).free(&allocator);
        allocator.release();
    }

    #[test]
    fn many_blocks_and_huge_ones_are_given_back() {
        let allocator = tested();
        let blocks: Vec<Used> = (0..MOST_BLOCKS + 5)
            .map(|_| Used::new(&allocator, LARGE, 1, false))
            .collect();
        for block in blocks {
            block.free(&allocator);
        }
        let kept = allocator.inner.bytes.load(Ordering::Relaxed);
        assert_eq!(kept, MOST_BLOCKS * LARGE);
        // Never written: no memory is behind it.
        let huge = layout(MOST_BYTES + 1);
        // SAFETY: a size above 0, and the same block.
        unsafe {
            let start = allocator.alloc(huge);
            assert!(!start.is_null());
            allocator.dealloc(start, huge);
        }
        assert!(allocator.inner.bytes.load(Ordering::Relaxed) <= MOST_BYTES);
        allocator.release();
        assert_eq!(allocator.inner.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn threads_share_what_is_kept() {
        let allocator = tested();
        std::thread::scope(|scope| {
            for mark in 0..4 {
                let allocator = &allocator;
                scope.spawn(move || {
                    for round in 0..20 {
                        let size = LARGE << (round % 3);
                        Used::new(allocator, size, mark, round % 7 == 0).free(allocator);
                    }
                });
            }
        });
        allocator.release();
        assert_eq!(allocator.inner.bytes.load(Ordering::Relaxed), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 64 }) })]

        /// Whatever is asked for and freed in whatever order: bytes stay what they were, and never is
        /// more memory held than was once in use.
        #[test]
        fn holds_no_more_than_was_in_use(
            steps in prop::collection::vec((0..4u8, prop_oneof![1..6 * LARGE, (1..4usize).prop_map(|i| i * LARGE)], any::<prop::sample::Index>()), 1..80),
        ) {
            let allocator = tested();
            let mut used: Vec<Used> = Vec::new();
            let mut most = 0;
            for (mark, (what, size, which)) in steps.into_iter().enumerate() {
                let mark = mark as u8 + 1;
                match what {
                    0 | 1 => used.push(Used::new(&allocator, size, mark, what == 1)),
                    2 if !used.is_empty() => {
                        let at = which.index(used.len());
                        used[at].resize(&allocator, size);
                    }
                    _ if !used.is_empty() => {
                        let at = which.index(used.len());
                        used.swap_remove(at).free(&allocator);
                    }
                    _ => {}
                }
                // Small blocks are not counted by the allocator; they come on top.
                let (mut large, mut small) = (0, 0);
                for block in &used {
                    let size = block.layout.size();
                    if size < LARGE { small += size } else { large += size }
                }
                most = most.max(large);
                let held = allocator.inner.bytes.load(Ordering::Relaxed);
                prop_assert!(held >= large + small);
                prop_assert!(held <= most + small, "{held} held, {most} once in use, {small} small");
            }
            for block in used {
                block.free(&allocator);
            }
            allocator.release();
            prop_assert_eq!(allocator.inner.bytes.load(Ordering::Relaxed), 0);
        }
    }
}
