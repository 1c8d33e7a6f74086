//! The allocator: mimalloc, which zeroes memory that is given back where privacy has rules.
//!
//! Values that must not be stored have to be read first. Without this they would stay in freed memory until other
//! data takes their place, and a core image would have them. What lives on, the buffers of reads and the threads'
//! stacks, is zeroed by `wipe` and `wipe_stack`, which cost nothing worth counting at every tick.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of stack that are zeroed: three times what a request takes without optimisation, an eighth of the stack of
/// a thread.
const STACK_BYTES: usize = 256 << 10;

static IS_ON: AtomicBool = AtomicBool::new(false);

/// From now on, memory is zeroed when it is given back.
pub fn begin() {
    IS_ON.store(true, Ordering::Relaxed);
}

fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Zeroes a buffer that is kept, if memory is zeroed at all.
pub(crate) fn wipe(buffer: &mut [u8]) {
    if is_on() {
        buffer.fill(0);
        black_box(buffer);
    }
}

/// Zeroes the stack that calls from here used before, if memory is zeroed at all.
pub(crate) fn wipe_stack() {
    #[inline(never)]
    fn zeroes() {
        black_box(&mut [0_u8; STACK_BYTES]);
    }
    if is_on() {
        zeroes();
    }
}

/// The allocator of the program.
#[derive(Debug, Default)]
pub struct WipingAllocator;

// SAFETY: Every call goes to mimalloc, which keeps the contract; what is done besides does not change which memory
// belongs to whom.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for WipingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: The caller keeps the contract of `alloc`.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: The caller keeps the contract of `alloc_zeroed`.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_on() {
            // SAFETY: `memory` was allocated with this layout, so it is writable for its size, and nobody uses it
            // any more.
            unsafe { memory.write_bytes(0, layout.size()) };
        }
        // SAFETY: The caller keeps the contract of `dealloc`.
        unsafe { MiMalloc.dealloc(memory, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !is_on() {
            // SAFETY: The caller keeps the contract of `realloc`.
            return unsafe { MiMalloc.realloc(memory, layout, size) };
        }
        // SAFETY: The caller promises that `size`, rounded up to the alignment, does not overflow, and it is not 0.
        let (wanted, new) = unsafe {
            let wanted = Layout::from_size_align_unchecked(size, layout.align());
            (wanted, MiMalloc.alloc(wanted))
        };
        if !new.is_null() {
            // SAFETY: Both are at least this long, and one was just allocated, so they do not overlap. The old one
            // has this layout and is not used any more.
            unsafe {
                new.copy_from_nonoverlapping(memory, layout.size().min(wanted.size()));
                self.dealloc(memory, layout);
            }
        }
        new
    }
}
