//! Writes a recording file, a block at a time.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::item::Item;
use super::{BLOCK, MAGIC};

/// A block is written when it has so many bytes,
const BLOCK_BYTES: usize = 256 << 10;
/// and when its first item is so old: as much is lost when we are killed.
const BLOCK_AGE: Duration = Duration::from_secs(1);
/// Of zstd: what this takes is not felt, and more would not make it much smaller.
const LEVEL: i32 = 1;

/// A file that is written.
#[derive(Debug)]
pub struct Writer {
    file: File,
    /// Items that are in no block yet.
    items: Vec<u8>,
    /// When the first of them came.
    since: Option<Instant>,
    /// Bytes that were written.
    written: u64,
}

impl Writer {
    /// Begins a file.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(mut file: File) -> io::Result<Self> {
        file.write_all(MAGIC)?;
        Ok(Self {
            file,
            items: Vec::new(),
            since: None,
            written: MAGIC.len() as u64,
        })
    }

    /// Bytes that were written.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Adds an item.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, item: &Item) -> io::Result<()> {
        let items = std::mem::take(&mut self.items);
        self.items = postcard::to_extend(item, items).map_err(io::Error::other)?;
        self.since.get_or_insert_with(Instant::now);
        if self.items.len() >= BLOCK_BYTES {
            self.end_block()?;
        }
        Ok(())
    }

    /// Writes what has waited long enough.
    ///
    /// # Errors
    /// What the system says.
    pub fn tick(&mut self) -> io::Result<()> {
        match self.since {
            Some(since) if since.elapsed() >= BLOCK_AGE => self.end_block(),
            _ => Ok(()),
        }
    }

    /// Writes all items that are in no block yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn end_block(&mut self) -> io::Result<()> {
        self.since = None;
        if self.items.is_empty() {
            return Ok(());
        }
        let packed = zstd::bulk::compress(&self.items, LEVEL)?;
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
        let mut block = Vec::with_capacity(packed.len() + 16);
        block.extend(BLOCK);
        block.extend(size(&self.items)?.to_le_bytes());
        block.extend(size(&packed)?.to_le_bytes());
        block.extend(crc32fast::hash(&packed).to_le_bytes());
        block.extend(packed);
        self.items.clear();
        self.file.write_all(&block)?;
        self.written += block.len() as u64;
        Ok(())
    }

    /// Writes all, and gives the file back.
    ///
    /// # Errors
    /// What the system says.
    pub fn finish(mut self) -> io::Result<File> {
        self.end_block()?;
        Ok(self.file)
    }
}
