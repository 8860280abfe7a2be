//! What gdb says is on the stacks of a process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use gimli::{BaseAddresses, CieOrFde, EhFrame, EndianSlice, LittleEndian, UnwindSection};
use object::{Object, ObjectSection, ObjectSegment, ObjectSymbol};
use serde_json::Value;

use crate::frames::Frame;
use crate::native::source;
use crate::symbol::plain;

/// A frame, as gdb sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    /// All names that its function has: gdb's, and those of all symbols at its address.
    pub names: BTreeSet<String>,
    /// Whether the names are of a symbol that tells where the function ends. Others are of hand
    /// written code, where gdb guesses by the last label before the address.
    sized: bool,
    /// Whether it is inlined into the next one.
    pub inlined: bool,
    /// The name of its module's file.
    pub module: String,
    /// Where it is in that file: the function's first address, or where call frame information
    /// has no function, the address that is looked up, or the one that is returned to.
    offsets: BTreeSet<u64>,
}

impl Truth {
    /// Whether a frame's text says the same.
    #[must_use]
    pub fn is(&self, text: &str) -> bool {
        match Frame::of(text) {
            Frame::Native(name, _) => self.names.contains(&plain(name)),
            Frame::Unnamed(module, offset) => {
                !self.sized && self.module == module && self.offsets.contains(&offset)
            }
            _ => false,
        }
    }
}

/// The stacks of all threads by their id, each from the root to the leaf. The process is stopped
/// meanwhile. Debug info is that of the modules, and what is installed for them.
///
/// # Panics
/// When gdb is missing or cannot tell.
#[must_use]
pub fn stacks(pid: u32) -> BTreeMap<u32, Vec<Truth>> {
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("frames.json");
    let mut command = Command::new("gdb");
    command
        .args(["-nx", "-batch", "-iex", "set debuginfod enabled off"])
        .args(["-iex", "set auto-load off"])
        .args(["-ex", "set backtrace past-main on"])
        .args(["-ex", "set backtrace limit unlimited"])
        .args(["-p", &pid.to_string(), "-x"])
        .arg(source("native/frames.py"))
        .env("PYSCRY_FRAMES", &output)
        .stdin(Stdio::null());
    let done = command.output().unwrap_or_else(|error| {
        panic!("cannot run gdb ({error}): scripts/install-build-tools.sh installs it")
    });
    let text = fs::read_to_string(&output)
        .unwrap_or_else(|error| panic!("gdb told nothing ({error}): {done:?}"));
    parse(&text, &mut Symbols::default())
}

fn parse(text: &str, symbols: &mut Symbols) -> BTreeMap<u32, Vec<Truth>> {
    let said: BTreeMap<u32, Vec<Value>> = serde_json::from_str(text).expect("gdb's frames");
    let stacks = said.into_iter();
    stacks
        .map(|(thread, frames)| (thread, stack(&frames, symbols)))
        .collect()
}

fn stack(frames: &[Value], symbols: &mut Symbols) -> Vec<Truth> {
    let mut stack = Vec::new();
    // Whether a frame's address is where it was interrupted, and not where it is returned to.
    let mut interrupted = true;
    for frame in frames {
        let is = |key: &str| frame[key].as_bool().expect("yes or no");
        // Nothing has called what a handler returns to.
        stack.push(truth(frame, interrupted || is("signal"), symbols));
        interrupted = is("signal") || interrupted && is("inlined");
    }
    stack.reverse();
    stack
}

fn truth(frame: &Value, interrupted: bool, symbols: &mut Symbols) -> Truth {
    let offset = frame["offset"].as_u64().expect("an offset");
    let looked_up = if interrupted { offset } else { offset - 1 };
    let path = frame["path"].as_str().unwrap_or_default();
    let inlined = frame["inlined"].as_bool().expect("yes or no");
    let own = symbols.of(path);
    let mut names: BTreeSet<String> = frame["function"].as_str().map(plain).into_iter().collect();
    let own_names: Vec<String> = own.at(looked_up).collect();
    let sized = inlined || !own_names.is_empty();
    if !inlined {
        names.extend(own_names);
    }
    Truth {
        names,
        sized,
        inlined,
        module: Path::new(path)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        offsets: own
            .start(looked_up)
            .map_or([offset + own.base, looked_up + own.base].into(), |start| {
                [start].into()
            }),
    }
}

/// The functions of a file.
#[derive(Debug, Default)]
struct Functions {
    /// The address of its first page.
    base: u64,
    /// Begin, end, and name.
    all: Vec<(u64, u64, String)>,
    /// Begin and end of those that call frame information has.
    framed: Vec<(u64, u64)>,
}

impl Functions {
    fn read(path: &str) -> Option<Self> {
        let bytes = fs::read(path).ok()?;
        let file = object::File::parse(&*bytes).ok()?;
        let debug = debug_file(&file);
        let debug = debug
            .as_deref()
            .map(|bytes| object::File::parse(bytes).expect("a file of debug info"));
        let base = file.segments().map(|segment| segment.address()).min()? & !0xfff;
        let of_debug = debug.iter().flat_map(|debug| debug.symbols());
        let all = file
            .symbols()
            .chain(file.dynamic_symbols())
            .chain(of_debug)
            .filter(|symbol| symbol.is_definition() && symbol.size() > 0)
            .filter_map(|symbol| {
                let begin = symbol.address();
                Some((begin, begin + symbol.size(), plain(symbol.name().ok()?)))
            })
            .collect();
        Some(Self {
            base,
            all,
            framed: framed(&file),
        })
    }

    /// The first address, as the file states it, of the function that has an address inside.
    fn start(&self, offset: u64) -> Option<u64> {
        let address = offset + self.base;
        let mut framed = self.framed.iter();
        let (start, _) = framed.find(|(begin, end)| (*begin..*end).contains(&address))?;
        Some(*start)
    }

    fn at(&self, offset: u64) -> impl Iterator<Item = String> {
        let address = offset + self.base;
        self.all
            .iter()
            .filter(move |(begin, end, _)| (*begin..*end).contains(&address))
            .map(|(_, _, name)| name.clone())
    }
}

/// The functions of a file's call frame information.
fn framed(file: &object::File<'_>) -> Vec<(u64, u64)> {
    let Some(section) = file.section_by_name(".eh_frame") else {
        return Vec::new();
    };
    let text = file.section_by_name(".text");
    let bases = BaseAddresses::default()
        .set_eh_frame(section.address())
        .set_text(text.map_or(0, |text| text.address()));
    let data = section.uncompressed_data().expect("call frame information");
    let frames = EhFrame::new(&data, LittleEndian);
    let mut entries = frames.entries(&bases);
    let mut found = Vec::new();
    while let Some(entry) = entries.next().expect("an entry") {
        if let CieOrFde::Fde(partial) = entry {
            let get = EhFrame::<EndianSlice<'_, LittleEndian>>::cie_from_offset;
            let function = partial.parse(get).expect("a function's entry");
            found.push((function.initial_address(), function.end_address()));
        }
    }
    found
}

/// The debug info that is installed for a file, if it is.
fn debug_file(file: &object::File<'_>) -> Option<Vec<u8>> {
    let id = file.build_id().ok()??;
    let (first, rest) = id.split_first()?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::read(format!("/usr/lib/debug/.build-id/{first:02x}/{rest}.debug")).ok()
}

/// The functions of the files that were read.
#[derive(Debug, Default)]
struct Symbols(BTreeMap<String, Functions>);

impl Symbols {
    fn of(&mut self, path: &str) -> &Functions {
        self.0
            .entry(path.to_owned())
            .or_insert_with(|| Functions::read(path).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::{Symbols, parse};

    const FRAMES: &str = r#"{"7": [
        {"function": "inner", "inlined": true, "signal": false,
         "path": "/no/program", "address": 4198400, "offset": 4096},
        {"function": "f<int>(int)", "inlined": false, "signal": false,
         "path": "/no/program", "address": 4198400, "offset": 4096},
        {"function": null, "inlined": false, "signal": true,
         "path": "/no/libc.so.6", "address": 140000000000, "offset": 512},
        {"function": "interrupted", "inlined": false, "signal": false,
         "path": "/no/program", "address": 4198500, "offset": 4196},
        {"function": null, "inlined": false, "signal": false,
         "path": "/no/libc.so.6", "address": 140000000100, "offset": 612}]}"#;

    #[test]
    fn frames_are_compared_by_name_or_by_place() {
        let stacks = parse(FRAMES, &mut Symbols::default());
        let stack = &stacks[&7];
        assert_eq!(stack.len(), 5);
        assert!(stack[4].inlined && stack[4].is("inner (a.c:7)"));
        assert!(stack[3].is("f<int>(int) (program)"));
        assert!(!stack[3].is("f<long>(int) (program)"));
        // Not by its place in place of a name: but the file tells no end of it.
        assert!(!stack[4].is("program+0x1000"));
        assert!(stack[3].is("program+0x1000"));
        assert!(!stack[3].is("program+0x1002"));
        // Interrupted frames are looked up where they are, callers before where they go on.
        assert!(stack[1].is("interrupted (program)"));
        assert_eq!(stack[1].offsets, [4196].into());
        assert_eq!(stack[2].offsets, [512].into());
        assert_eq!(stack[0].offsets, [611, 612].into());
        assert!(stack[0].is("libc.so.6+0x264"));
        assert!(!stack[0].is("libc.so.6+0x265"));
        assert!(!stack[0].is("libm.so.6+0x264"));
    }
}
