//! How deep debug information is nested: what reads it calls itself for each level, and a file made
//! for that would exhaust the stack.

use gimli::{DebugAbbrev, DebugInfo, EndianSlice, LittleEndian as Little};
use object::read::elf::ElfFile64;
use object::{LittleEndian, Object, ObjectSection};

/// Compilers were seen to nest 40 levels; a level takes less than 1 KB of stack.
const MAX_DEPTH: isize = 1000;

/// Whether some entry of `.debug_info` lies deeper than is safe to read.
pub(super) fn is_too_deep(elf: &ElfFile64<'_, LittleEndian>) -> bool {
    let section = |name| {
        let section = elf.section_by_name(name)?;
        section.uncompressed_data().ok()
    };
    let (Some(info), Some(abbreviations)) = (section(".debug_info"), section(".debug_abbrev"))
    else {
        return false;
    };
    let info = DebugInfo::from(EndianSlice::new(&info, Little));
    let abbreviations = DebugAbbrev::from(EndianSlice::new(&abbreviations, Little));
    let mut units = info.units();
    while let Ok(Some(unit)) = units.next() {
        let Ok(abbreviations) = unit.abbreviations(&abbreviations) else {
            continue;
        };
        let Ok(mut entries) = unit.entries_raw(&abbreviations, None) else {
            continue;
        };
        while !entries.is_empty() {
            if entries.next_depth() > MAX_DEPTH {
                return true;
            }
            match entries.read_abbreviation() {
                // What cannot be read here cannot be read there either: it ends the descent.
                Ok(Some(entry)) if entries.skip_attributes(entry.attributes()).is_err() => break,
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
    false
}
