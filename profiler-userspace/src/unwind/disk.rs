//! Rows on disk, by the build id of the file that they were compiled from.
//!
//! A file has a header of 56 bytes: [`MAGIC`], [`VERSION`] and five numbers of 32 bits, those of
//! rules, rows, functions, analyzed functions, and 0; then 64 bits each for unsupported rows, for the first row's address,
//! and for a checksum of all the others. Behind it come the distinct rules, 16 bytes each; for
//! each row its distance to the one before it, 32 bits; and for each row the number of its rule,
//! 16 bits. All is little-endian.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use profiler_common::unwind::{CfaKind, REG_RIP, RaKind, RbpKind, Rule};

use super::rows::{CompileStats, MAX_ROWS, Row, Rows};
use crate::privilege;

/// How a file begins.
const MAGIC: [u8; 8] = *b"pyscry\0u";
/// Of the format and of what the compiler makes of a file: a change of either makes this one more.
const VERSION: u32 = 2;
/// Bytes of the header.
const HEADER: usize = 56;
/// Bytes of a rule.
const RULE: usize = 16;
/// Bytes of a build id that may name a file. `--build-id=sha1` gives 20.
const BUILD_ID: std::ops::RangeInclusive<usize> = 4..=64;

/// Why rows were not kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// The file could not be written.
    #[error("cannot write {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// More rules than have numbers, or rows too far from each other.
    #[error("the rows do not fit into the format")]
    Unfit,
}

/// A directory of files.
#[derive(Clone, Debug)]
pub struct Disk {
    directory: PathBuf,
}

impl Disk {
    /// Uses a directory, which has to be there when something is stored.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The rows of the file with this build id, if they are there and whole.
    #[must_use]
    pub fn load(&self, build_id: &[u8]) -> Option<Rows> {
        Self::decode(&read(&self.path(build_id)?).ok()?)
    }

    /// Keeps the rows of the file with this build id, or nothing where that is no id to go by.
    /// Whoever loads meanwhile sees what was there before, or all of this.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn store(&self, build_id: &[u8], rows: &Rows) -> Result<(), DiskError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Some(path) = self.path(build_id) else {
            return Ok(());
        };
        let content = encode(rows).ok_or(DiskError::Unfit)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_extension(format!("{}-{count}", std::process::id()));
        let written = write(&temporary, &content).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| {
            let _not_there = fs::remove_file(&temporary);
            DiskError::Io { path, source }
        })
    }

    /// The rows in a file's content, if it is whole.
    #[must_use]
    pub fn decode(content: &[u8]) -> Option<Rows> {
        decode(content)
    }

    fn path(&self, build_id: &[u8]) -> Option<PathBuf> {
        if !BUILD_ID.contains(&build_id.len()) {
            return None;
        }
        let mut name = String::new();
        for byte in build_id {
            write!(name, "{byte:02x}").ok()?;
        }
        write!(name, ".{VERSION}").ok()?;
        Some(self.directory.join(name))
    }
}

/// Reads a file of ours. Whoever may write into the directory may have put anything there.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let longest = HEADER + RULE * (usize::from(u16::MAX) + 1) + 6 * MAX_ROWS;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > longest as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = Vec::with_capacity(metadata.len() as usize);
    file.take(longest as u64).read_to_end(&mut content)?;
    Ok(content)
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(path)?;
    if let Some((user, group)) = privilege::behind_sudo() {
        // The directory is theirs. Where the file cannot be, it is root's, and as good.
        let _root_keeps_it = fchown(&file, Some(user), Some(group));
    }
    file.write_all(content)
}

fn encode(rows: &Rows) -> Option<Vec<u8>> {
    let mut numbers = HashMap::new();
    let mut rules = Vec::new();
    let mut distances = Vec::with_capacity(4 * rows.rows.len());
    let mut of_rows = Vec::with_capacity(2 * rows.rows.len());
    let first = rows.rows.first().map_or(0, |row| row.address);
    let mut before = first;
    for row in &rows.rows {
        let next = u16::try_from(numbers.len()).ok();
        let number = match numbers.entry(row.rule) {
            std::collections::hash_map::Entry::Occupied(known) => *known.get(),
            std::collections::hash_map::Entry::Vacant(new) => {
                rules.extend(rule_to_bytes(&row.rule));
                *new.insert(next?)
            }
        };
        let distance = u32::try_from(row.address.checked_sub(before)?).ok()?;
        before = row.address;
        distances.extend(distance.to_le_bytes());
        of_rows.extend(number.to_le_bytes());
    }

    let mut content = Vec::with_capacity(HEADER + rules.len() + distances.len() + of_rows.len());
    content.extend(MAGIC);
    content.extend(VERSION.to_le_bytes());
    content.extend(u32::try_from(numbers.len()).ok()?.to_le_bytes());
    content.extend(u32::try_from(rows.rows.len()).ok()?.to_le_bytes());
    content.extend(u32::try_from(rows.stats.functions).ok()?.to_le_bytes());
    content.extend(u32::try_from(rows.stats.analyzed).ok()?.to_le_bytes());
    content.extend([0; 4]);
    content.extend((rows.stats.unsupported as u64).to_le_bytes());
    content.extend(first.to_le_bytes());
    content.extend([0; 8]);
    content.extend(rules);
    content.extend(distances);
    content.extend(of_rows);
    let checksum = checksum(&content);
    content
        .get_mut(HEADER - 8..HEADER)?
        .copy_from_slice(&checksum.to_le_bytes());
    Some(content)
}

fn decode(content: &[u8]) -> Option<Rows> {
    let (header, body) = content.split_first_chunk::<HEADER>()?;
    let mut header = &header[..];
    let mut next = |len| header.split_off(..len);
    if next(8)? != MAGIC || number_32(next(4)?)? != VERSION {
        return None;
    }
    let rules = number_32(next(4)?)? as usize;
    let count = number_32(next(4)?)? as usize;
    let functions = number_32(next(4)?)? as usize;
    let analyzed = number_32(next(4)?)? as usize;
    let _zero = next(4)?;
    let unsupported = usize::try_from(number_64(next(8)?)?).ok()?;
    let first = number_64(next(8)?)?;
    let expected = number_64(next(8)?)?;
    if count > MAX_ROWS || checksum(content) != expected {
        return None;
    }

    let (rules, body) = body.split_at_checked(RULE.checked_mul(rules)?)?;
    let (distances, of_rows) = body.split_at_checked(4 * count)?;
    if of_rows.len() != 2 * count {
        return None;
    }
    let rules: Vec<Rule> = rules
        .as_chunks::<RULE>()
        .0
        .iter()
        .map(rule_from_bytes)
        .collect::<Option<_>>()?;
    let mut rows = Vec::with_capacity(count);
    let mut address = first;
    for (distance, number) in distances
        .as_chunks::<4>()
        .0
        .iter()
        .zip(of_rows.as_chunks::<2>().0)
    {
        let distance = u32::from_le_bytes(*distance);
        // Only the first row has none.
        if (distance == 0) != rows.is_empty() {
            return None;
        }
        address = address.checked_add(distance.into())?;
        let rule = *rules.get(usize::from(u16::from_le_bytes(*number)))?;
        rows.push(Row { address, rule });
    }
    let stats = CompileStats {
        rows: count,
        functions,
        analyzed,
        unsupported,
    };
    Some(Rows { rows, stats })
}

fn number_32(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_le_bytes)
}

fn number_64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes)
}

/// FNV-1a over words of eight bytes, and over the bytes of the rest, but without the place of the
/// checksum itself. It finds files that were not written to their end, not forged ones.
fn checksum(content: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let begin = content.get(..HEADER - 8).unwrap_or_default();
    let behind = content.get(HEADER..).unwrap_or_default();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [begin, behind] {
        let (words, rest) = part.as_chunks::<8>();
        for word in words {
            // High bits have to come down, or a byte's upper ones would be lost by the product.
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME);
            hash ^= hash >> 32;
        }
        for byte in rest {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
    hash
}

fn rule_to_bytes(rule: &Rule) -> [u8; RULE] {
    let [a, b] = rule.ra_offset.to_le_bytes();
    let [c, d, e, f] = rule.cfa_offset.to_le_bytes();
    let [g, h] = rule.cfa_second.to_le_bytes();
    let [i, j] = rule.rbp_offset.to_le_bytes();
    let Rule {
        cfa,
        reg,
        index,
        rbp,
        ra,
        pad,
        ..
    } = *rule;
    [cfa, reg, index, rbp, ra, pad, a, b, c, d, e, f, g, h, i, j]
}

/// A rule, if it is one that the kernel's side knows.
fn rule_from_bytes(bytes: &[u8; RULE]) -> Option<Rule> {
    let [cfa, reg, index, rbp, ra, pad, a, b, c, d, e, f, g, h, i, j] = *bytes;
    let known = cfa <= CfaKind::Signal as u8
        && rbp <= RbpKind::Unknown as u8
        && ra <= RaKind::End as u8
        && reg < REG_RIP
        && index < REG_RIP
        && pad == 0;
    known.then_some(Rule {
        cfa,
        reg,
        index,
        rbp,
        ra,
        pad,
        ra_offset: i16::from_le_bytes([a, b]),
        cfa_offset: i32::from_le_bytes([c, d, e, f]),
        cfa_second: i16::from_le_bytes([g, h]),
        rbp_offset: i16::from_le_bytes([i, j]),
    })
}

#[cfg(test)]
mod tests;
