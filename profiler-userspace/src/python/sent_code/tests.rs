//! Code objects in pieces, over a synthetic target.

use profiler_common::event::{EVENT_CODE_GOES_ON, EventKind, Piece};
use profiler_common::layout::ProcessEntry;
use profiler_common::walk::Frame;

use super::*;
use crate::python::code::{CodeCache, CodeInfo, Resolved};
use crate::python::layout::PythonLayout;
use crate::python::objects::image::Image;
use crate::python::tables;

const WITNESS: u32 = 77;
const PAGE: u64 = 4096;

/// A code object in a target's memory.
struct Code {
    image: Image,
    layout: PythonLayout,
    address: u64,
    /// Address and length of what the kernel sends of it.
    parts: Vec<(u64, u64)>,
}

impl Code {
    fn new(minor: u8, name: &str, file: &str, table: &[u8]) -> Self {
        let mut image = Image::new(minor);
        let layout = tables::of_minor(minor).expect("a table");
        let names = layout.names();
        let address = image.alloc(names.code_bytes.into());
        let mut parts = vec![(address, names.code_bytes.into())];
        let mut add = |image: &mut Image, offset: u16, object: u64, len: usize| {
            image.put_u64(address + u64::from(offset), object);
            let kind = image.read_u64(object + u64::from(names.ob_type));
            parts.push((kind.expect("a type") + u64::from(names.type_flags), 8));
            parts.push((object, len as u64));
        };
        for (offset, text) in [
            (layout.walk.code_filename, file),
            match minor {
                ..=10 => (layout.walk.code_name, name),
                11.. => (names.code_qualname, name),
            },
        ] {
            let object = image.str(text);
            // What lies behind a short string, as far as there is something.
            let len = usize::from(names.str_head) + text.chars().count() * 4;
            let there = (0..len as u64).take_while(|at| image.read(object + at, &mut [0]).is_ok());
            let len = there.count();
            add(&mut image, offset, object, len);
        }
        let object = image.bytes_object(table);
        let len = usize::from(names.bytes_head) + table.len();
        add(&mut image, layout.walk.code_line_table, object, len);
        image.put(
            address + u64::from(layout.walk.code_first_line),
            &42u32.to_le_bytes(),
        );
        Self {
            image,
            layout,
            address,
            parts,
        }
    }

    fn header(&self, flags: u8) -> EventHeader {
        EventHeader {
            flags,
            value: self.address,
            stack: WITNESS.into(),
            ..EventHeader::new(EventKind::Code, 1, 1)
        }
    }

    /// The records of it, cut at pages and with at most so many pieces in each.
    fn records(&self, most: usize) -> Vec<(EventHeader, Vec<u8>)> {
        let mut pieces = Vec::new();
        for (from, len) in &self.parts {
            let (mut at, end) = (*from, from + len);
            while at < end {
                let next = end.min((at | (PAGE - 1)) + 1);
                let mut bytes = vec![0; (next - at) as usize];
                self.image.read(at, &mut bytes).expect("what is there");
                pieces.push(piece(at, &bytes));
                at = next;
            }
        }
        let count = pieces.len().div_ceil(most);
        let records = pieces.chunks(most).enumerate().map(|(index, pieces)| {
            let flags = if index + 1 == count {
                0
            } else {
                EVENT_CODE_GOES_ON
            };
            let header = self.header(flags);
            (header, record(&header, &pieces.concat()))
        });
        records.collect()
    }

    fn frame(&self) -> Frame {
        Frame {
            code: self.address,
            lasti: 0,
            witness: WITNESS,
        }
    }
}

fn as_bytes<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: both kinds that come here are without padding, and live as long as the slice.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

fn record(header: &EventHeader, body: &[u8]) -> Vec<u8> {
    [as_bytes(header), body].concat()
}

fn piece(address: u64, bytes: &[u8]) -> Vec<u8> {
    let head = Piece {
        address,
        len: bytes.len() as u32,
        pad: 0,
    };
    let mut piece = [as_bytes(&head), bytes].concat();
    piece.resize(piece.len().next_multiple_of(8), 0xee);
    piece
}

/// Nothing can be read from outside.
struct Gone;

impl Memory for Gone {
    fn read(&self, _addr: u64, _dst: &mut [u8]) -> Result<(), Fault> {
        Err(Fault)
    }
}

fn resolved(cache: &mut CodeCache, code: &Code) -> Option<CodeInfo> {
    match cache.resolve(&Gone, &code.layout, &ProcessEntry::EMPTY, &code.frame()) {
        Resolved::Known(info) => Some(CodeInfo::clone(&info)),
        Resolved::Gone => None,
    }
}

#[test]
fn names_need_no_process() {
    let table: Vec<u8> = (0..20_000u32).map(|at| at as u8).collect();
    for minor in [8, 9, 10, 11, 12] {
        for (name, file) in [
            ("", ""),
            ("plain", "plain.py"),
            ("fünk_é", "où.py"),
            ("漢字", "ファイル.py"),
            ("𐌰𐌱𐌲", "😀 astral.py"),
            (&"長".repeat(3000), &"f".repeat(4000)),
        ] {
            let code = Code::new(minor, name, file, &table);
            for most in [1, 3, 100] {
                let mut cache = CodeCache::default();
                for (header, record) in code.records(most) {
                    cache.take(&code.layout, &header, &record);
                }
                let found = resolved(&mut cache, &code).expect("a code object");
                assert_eq!((&*found.name, &*found.file), (name, file), "3.{minor}");
                assert_eq!(found.first_line, 42);
                assert_eq!(found.line_table, table);
                assert_eq!(cache.stats().read, 0);
            }
        }
    }
}

/// The names are known, and lines as far as the table came.
#[test]
fn a_line_table_that_was_cut() {
    let table: Vec<u8> = [2, 1].repeat(4000);
    let mut code = Code::new(10, "name", "file.py", &table);
    let (_, len) = code.parts.last_mut().expect("the table");
    *len -= 4000;
    let mut cache = CodeCache::default();
    for (header, record) in code.records(1) {
        cache.take(&code.layout, &header, &record);
    }
    let found = resolved(&mut cache, &code).expect("a name");
    assert_eq!((&*found.name, found.whole), ("name", false));
    assert_eq!(found.line_at(code.layout.lines, 20), Some(42 + 11));
    assert_eq!(found.line_at(code.layout.lines, 7000), None);
    assert_eq!((cache.stats().gone, cache.stats().lines_gone), (0, 1));
}

/// The rest of what was begun may never come, and what was lost comes again from its beginning.
#[test]
fn what_is_lost_comes_again() {
    let code = Code::new(12, "again", "again.py", &[1; 9000]);
    let records = code.records(2);
    let mut cache = CodeCache::default();
    for (header, record) in &records[..2] {
        cache.take(&code.layout, header, record);
    }
    for (header, record) in &records {
        cache.take(&code.layout, header, record);
    }
    assert_eq!(&*resolved(&mut cache, &code).expect("it").name, "again");
}

#[test]
fn what_is_missing_is_looked_for_in_the_process() {
    let code = Code::new(12, "name", "file.py", &[1; 100]);
    let whole = code.records(1);
    let (last, _) = whole.last().expect("records");
    for left_out in 0..whole.len() - 1 {
        let mut cache = CodeCache::default();
        for (index, (header, record)) in whole.iter().enumerate() {
            if index != left_out {
                cache.take(&code.layout, header, record);
            }
        }
        // The types are one: what one says, the other does not have to.
        let found = resolved(&mut cache, &code);
        let whole = found.as_ref().is_some_and(|found| found.whole);
        assert_eq!(cache.stats().read, u64::from(!whole));
        assert_eq!(cache.stats().gone, u64::from(found.is_none()));
    }
    assert_eq!(last.flags, 0);
}

#[test]
fn garbage_is_no_code_object() {
    let code = Code::new(12, "name", "file.py", &[1; 100]);
    let [(header, good)] = &code.records(100)[..] else {
        panic!("one record");
    };
    // Cut off anywhere, and with any byte changed.
    for end in 0..good.len() {
        let mut cache = CodeCache::default();
        cache.take(&code.layout, header, &good[..end]);
        let _some_or_none = resolved(&mut cache, &code);
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            let mut cache = CodeCache::default();
            cache.take(&code.layout, header, &bad);
            let _some_or_none = resolved(&mut cache, &code);
        }
    }
    // Pieces at the end of all addresses, without bytes, and one that is longer than its record.
    for body in [
        piece(u64::MAX - 3, &[7; 8]),
        piece(code.address, &[]),
        piece(code.address, &[7; 8])[..20].to_vec(),
    ] {
        let mut cache = CodeCache::default();
        cache.take(&code.layout, header, &record(header, &body));
        assert_eq!(resolved(&mut cache, &code), None);
    }
}

#[test]
fn what_is_never_finished_is_dropped() {
    let mut pending = Pending::default();
    for code in 0..3 * MOST_PENDING as u64 {
        pending.keep((code, 0), &[0; 8]);
    }
    assert_eq!(pending.records.len(), MOST_PENDING);
    assert_eq!(pending.order.len(), MOST_PENDING);
    assert!(pending.take((0, 0)).is_empty());
    for _ in 0..100 {
        pending.keep((9, 9), &[0; 64 << 10]);
    }
    let kept = pending.take((9, 9));
    assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), MOST_BYTES);
    assert!(pending.take((9, 9)).is_empty());
}
