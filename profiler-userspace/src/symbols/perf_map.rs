//! Names of code that a JIT compiler made, from the map that it writes
//! (`tools/perf/Documentation/jit-interface.txt` in Linux).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::address_map::{AddressMap, Entry};
use super::demangle::demangle;
use super::frame::{NativeFrame, NativeFrames};
use super::intern::Interner;
use super::module::Address;
use super::rooted::Root;

/// The module that code outside every file is said to be in.
pub const MODULE: &str = "[jit]";

/// Bytes of a map that are read.
const MAX_BYTES: u64 = 64 << 20;

/// A map of a [`super::Symbols`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PerfMapId(pub(super) u32);

/// The map of one process.
#[derive(Debug)]
pub(super) struct PerfMap {
    root: Option<Root>,
    path: PathBuf,
    file: Option<File>,
    /// Bytes that were read.
    len: u64,
    text: String,
    /// Ranges of names in `text`.
    functions: AddressMap<(u32, u32)>,
}

impl PerfMap {
    /// The map of a process, which may not have written it yet.
    pub(super) fn of_process(root: &Path, namespace_pid: u32) -> Self {
        Self {
            root: Root::open(root).ok(),
            path: PathBuf::from(format!("tmp/perf-{namespace_pid}.map")),
            file: None,
            len: 0,
            text: String::new(),
            functions: AddressMap::default(),
        }
    }

    /// Reads what is new.
    pub(super) fn refresh(&mut self) {
        if self.file.is_none() {
            let root = self.root.as_ref();
            self.file = root.and_then(|root| root.file(&self.path).ok());
        }
        let Some(file) = &self.file else { return };
        let len = file.metadata().map_or(0, |data| data.len()).min(MAX_BYTES);
        if len == self.len {
            return;
        }
        let mut bytes = vec![0; len as usize];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, read as u64) {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
        bytes.truncate(read);
        self.len = len;
        self.text = String::from_utf8_lossy(&bytes).into_owned();
        self.functions = parse(&self.text);
    }

    /// Names an address.
    pub(super) fn resolve(&self, address: Address, strings: &mut Interner) -> NativeFrames {
        let name = self
            .functions
            .find(address.instruction())
            .and_then(|entry| {
                self.text
                    .get(entry.value.0 as usize..entry.value.1 as usize)
            });
        Arc::new([NativeFrame {
            name: name.map(|name| strings.get(&demangle(name))),
            raw_name: name.map(|name| strings.get(name)),
            file: None,
            line: None,
            module: strings.get(MODULE),
            offset: 0,
            inlined: false,
        }])
    }
}

/// Parses lines of `START SIZE name with spaces`, numbers in hex. A JIT compiler uses memory
/// again: a later line takes away from earlier ones what it covers.
fn parse(text: &str) -> AddressMap<(u32, u32)> {
    let mut live = std::collections::BTreeMap::<u64, (u64, (u32, u32))>::new();
    // The last line may not be whole yet.
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        let Some((start, end, name)) = parse_line(line.trim_end()) else {
            continue;
        };
        let from = name.as_ptr() as usize - text.as_ptr() as usize;
        let name = (from as u32, (from + name.len()) as u32);
        // Ranges in the tree do not overlap: those in question are the ones that begin in the new
        // range, and the last that begins before it.
        while let Some((&old, &(old_end, _))) = live
            .range(..end)
            .next_back()
            .filter(|(_, (old_end, _))| *old_end > start)
        {
            let rest = live.remove(&old);
            let Some((_, old_name)) = rest else { break };
            if old_end > end {
                live.insert(end, (old_end, old_name));
            }
            if old < start {
                live.insert(old, (start, old_name));
            }
        }
        live.insert(start, (end, name));
    }
    let entries = live.into_iter();
    AddressMap::new(
        entries
            .map(|(start, (end, value))| Entry { start, end, value })
            .collect(),
    )
}

fn parse_line(line: &str) -> Option<(u64, u64, &str)> {
    let (start, rest) = line.trim_start().split_once(char::is_whitespace)?;
    let (size, name) = rest.trim_start().split_once(char::is_whitespace)?;
    let (start, size, name) = (number(start)?, number(size)?, name.trim());
    let end = start.checked_add(size)?;
    (size > 0 && !name.is_empty()).then_some((start, end, name))
}

fn number(hex: &str) -> Option<u64> {
    let digits = hex.strip_prefix("0x").unwrap_or(hex);
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name<'a>(text: &'a str, map: &AddressMap<(u32, u32)>, address: u64) -> Option<&'a str> {
        let (from, to) = map.find(address)?.value;
        text.get(from as usize..to as usize)
    }

    #[test]
    fn lines_of_all_shapes() {
        let text = "1000 20 py::f:/a b.py\n0x2000 0x10 with 0x\nbad\n\n3000 zz x\n4000 0 empty\n\
            ffffffffffffffff 10 overflow\n5000 10 unfinished";
        let map = parse(text);
        assert_eq!(name(text, &map, 0x1000), Some("py::f:/a b.py"));
        assert_eq!(name(text, &map, 0x101f), Some("py::f:/a b.py"));
        assert_eq!(name(text, &map, 0x1020), None);
        assert_eq!(name(text, &map, 0x2008), Some("with 0x"));
        assert_eq!(name(text, &map, 0x4000), None);
        assert_eq!(name(text, &map, 0x5000), None);
    }

    #[test]
    fn later_lines_take_the_place_of_earlier_ones() {
        let text = "1000 100 old\n1010 10 new\n1080 10 gone\n1070 40 newest\n1010 10 again\n";
        let map = parse(text);
        assert_eq!(name(text, &map, 0x100f), Some("old"));
        assert_eq!(name(text, &map, 0x1018), Some("again"));
        assert_eq!(name(text, &map, 0x1020), Some("old"));
        assert_eq!(name(text, &map, 0x1085), Some("newest"));
        assert_eq!(name(text, &map, 0x10b0), Some("old"));
    }
}
