//! Code objects as the kernel sends them: pieces of the target's memory, see
//! [`EventKind::Code`](profiler_common::event::EventKind::Code).
//!
//! They were read while a frame held the code object alive, so they need no second look at its
//! witness. They are memory of a target all the same: anything may stand in them.

use std::collections::{HashMap, VecDeque};

use profiler_common::event::EventHeader;
use profiler_common::mem::{Fault, Memory};

use super::code::MAX_LINE_TABLE;
use super::layout::PythonLayout;
use super::objects::{self, ObjectError};

/// Code objects of which not all has come yet, at most: one for each CPU goes on at a time, but for
/// those whose rest the full ring buffer did not take.
const MOST_PENDING: usize = 1024;
/// Bytes of records kept of one at most; the kernel sends less.
const MOST_BYTES: usize = 256 << 10;

/// A code object's address and witness.
pub(super) type Key = (u64, u32);

/// The memory that was sent of one code object.
pub(super) struct SentMemory<'a> {
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> SentMemory<'a> {
    /// Of the records of one code object.
    pub(super) fn of(records: impl Iterator<Item = &'a [u8]>) -> Self {
        Self {
            pieces: records.flat_map(EventHeader::pieces).collect(),
        }
    }

    /// The bytes of the `bytes` at `addr`, as far as they were sent, and whether that is all. A line
    /// table can be longer than what is sent of one.
    pub(super) fn beginning_of_bytes(
        &self,
        layout: &PythonLayout,
        addr: u64,
    ) -> Result<(Vec<u8>, bool), ObjectError> {
        let objects = &layout.objects;
        match objects::read_bytes(self, objects, addr, MAX_LINE_TABLE) {
            Ok(bytes) => return Ok((bytes, true)),
            Err(ObjectError::Fault) => (),
            Err(error) => return Err(error),
        }
        let mut bytes = Vec::new();
        let mut at = addr.wrapping_add(objects.bytes_data);
        while let Some(more) = self.at(at).filter(|_| bytes.len() < MAX_LINE_TABLE) {
            bytes.extend(more);
            at = at.wrapping_add(more.len() as u64);
        }
        Ok((bytes, false))
    }

    /// What was sent from `addr` on, as far as one piece goes.
    fn at(&self, addr: u64) -> Option<&'a [u8]> {
        self.pieces.iter().find_map(|(start, bytes)| {
            let offset = usize::try_from(addr.wrapping_sub(*start)).ok()?;
            bytes.get(offset..).filter(|rest| !rest.is_empty())
        })
    }
}

impl Memory for SentMemory<'_> {
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        let mut done = 0;
        // An object that lies on two pages comes in two pieces.
        while let Some(rest) = dst.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let found = self.at(addr.wrapping_add(done as u64)).ok_or(Fault)?;
            for (to, from) in rest.iter_mut().zip(found) {
                *to = *from;
            }
            done += rest.len().min(found.len());
        }
        Ok(())
    }
}

/// Records of code objects of which more will come.
#[derive(Debug, Default)]
pub(super) struct Pending {
    records: HashMap<Key, Vec<Vec<u8>>>,
    order: VecDeque<Key>,
}

impl Pending {
    /// Keeps a record of which more will come.
    pub(super) fn keep(&mut self, key: Key, record: &[u8]) {
        if !self.records.contains_key(&key) {
            self.order.push_back(key);
            if self.order.len() > MOST_PENDING
                && let Some(oldest) = self.order.pop_front()
            {
                self.records.remove(&oldest);
            }
        }
        let records = self.records.entry(key).or_default();
        // Two CPUs can send one at the same time, or one again whose rest was lost.
        if records.iter().map(Vec::len).sum::<usize>() + record.len() <= MOST_BYTES {
            records.push(record.to_vec());
        }
    }

    /// Takes out what was kept.
    pub(super) fn take(&mut self, key: Key) -> Vec<Vec<u8>> {
        let Some(records) = self.records.remove(&key) else {
            return Vec::new();
        };
        self.order.retain(|kept| *kept != key);
        records
    }
}

#[cfg(test)]
mod tests;
