//! The recording file: everything that a recording found, in the order in which it was found.
//!
//! [`item`] says what is in it, [`write`] appends it in blocks, [`read`] reads it back as far as it is
//! whole, and [`view`] puts it in the order of time with everything that it names.
//!
//! Layout: [`MAGIC`], then blocks until the end. A block is [`BLOCK`], three numbers of 4 bytes
//! (little-endian: bytes of its content, bytes of that compressed, CRC-32 of the compressed bytes)
//! and the content, compressed by zstd: items one after the other, in the encoding of postcard 1.
//! An item names only what stands before it or in the same block.

pub mod item;
pub mod read;
pub mod view;
pub mod write;

/// What a file begins with. The number is that of the layout.
pub const MAGIC: &[u8; 19] = b"pyscry recording 1\n";
/// What a block begins with.
pub const BLOCK: &[u8; 4] = b"\xb1psb";
/// A block's content is not larger than this, bytes.
pub const MOST_BYTES: usize = 16 << 20;
