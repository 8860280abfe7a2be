//! Where on the C stack the Python frames belong.
//!
//! From 3.10 on each activation of the interpreter's loop has something of its own on its C frame
//! that the walk passes: `CFrame` (3.10), `_PyCFrame` (3.11), the entry frame (3.12 on). The Python
//! frames that the activation runs stand where the unwind passes that address. No symbol and no
//! range of the loop's code is needed, so it holds however the loop was split, stripped or moved.

/// Segments that are kept at most, a power of two: switches between C and Python.
pub const MAX_SEGMENTS: usize = 512;

const END_SHIFT: u32 = 48;
const ADDRESS: u64 = (1 << END_SHIFT) - 1;

/// The segments of a walk, from the leaf on: an address on the C stack, and how many frames the
/// walk had stored when it passed it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Segments {
    /// How many there are.
    pub count: u32,
    /// The next one that the unwind looks for.
    pub next: u32,
    /// Frames whose place is found.
    pub placed: u32,
    /// What is added to the count of frames of each, see [`Segments::shift`].
    shift: i32,
    /// Address below, frames above.
    words: [u64; MAX_SEGMENTS],
}

impl Segments {
    /// None.
    pub const EMPTY: Self = Self {
        count: 0,
        next: 0,
        placed: 0,
        shift: 0,
        words: [0; MAX_SEGMENTS],
    };

    /// Forgets all of them: a new walk begins.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.count = 0;
        self.next = 0;
        self.placed = 0;
        self.shift = 0;
    }

    /// Adds one: the frames up to `end`, which the activation with `address` on its frame runs.
    #[inline(always)]
    pub fn push(&mut self, address: u64, end: u32) {
        let index = self.count;
        // For the verifier.
        if index > MAX_SEGMENTS as u32 - 1 {
            return;
        }
        let word = (address & ADDRESS) | ((end as u64 & 0xffff) << END_SHIFT);
        // SAFETY: just checked.
        unsafe { *self.words.as_mut_ptr().add(index as usize) = word };
        self.count = index + 1;
    }

    /// Takes back the one that was added last.
    #[inline(always)]
    pub fn pop(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    /// The segment at `index`: address, and end.
    #[inline(always)]
    #[must_use]
    pub fn get(&self, index: u32) -> Option<(u64, u32)> {
        if index >= self.count {
            return None;
        }
        // A bound that the verifier keeps: there are never more.
        let index = index as usize & (MAX_SEGMENTS - 1);
        // SAFETY: inside, by the mask.
        let word = unsafe { *self.words.as_ptr().add(index) };
        let end = (word >> END_SHIFT) as i32 + self.shift;
        Some((word & ADDRESS, if end < 0 { 0 } else { end as u32 }))
    }

    /// The address of the next segment; 0 when there is none.
    #[inline(always)]
    #[must_use]
    pub fn next_address(&self) -> u64 {
        match self.get(self.next) {
            Some((address, _)) => address,
            None => 0,
        }
    }

    /// The next segment, if its address lies in the frame from `sp` up to `cfa`. Returns how many
    /// frames are placed with it.
    #[inline(always)]
    pub fn place(&mut self, sp: u64, cfa: u64) -> Option<u32> {
        let (address, end) = self.get(self.next)?;
        if address < sp || address >= cfa {
            return None;
        }
        self.next += 1;
        self.placed = end;
        Some(end)
    }

    /// Moves the frames on by so many: the newest activation runs none yet, or the newest frame's
    /// has gone.
    #[inline(always)]
    pub fn shift(&mut self, by: i32) {
        self.shift = by;
    }
}
