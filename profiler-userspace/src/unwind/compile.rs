//! From an ELF file to its rows.

use std::ops::Range;

use object::LittleEndian;
use object::elf::{EM_X86_64, ET_DYN, ET_EXEC};
use object::read::elf::FileHeader;
use profiler_common::unwind::Rule;

use super::functions::{Functions, TooMany};
use super::image::Image;
use super::rows::{CompileStats, MAX_ROWS, Rows};
use super::{analyze, frames, plt, trampoline};
use crate::elf::Elf;

/// Procedure linkage tables.
const PLTS: [&str; 4] = [".plt", ".plt.got", ".plt.sec", ".iplt"];

/// Bytes of the entry point's code, where no call frame information says how many it has. musl's
/// has 22, and calls another function with its last instruction.
const ENTRY_BYTES: u64 = 64;

/// Why a file has no rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// No 64-bit little-endian ELF file.
    #[error("no ELF file that pyscry can read: {0}")]
    Malformed(#[from] object::Error),
    /// Nothing that x86-64 executes.
    #[error("no program and no library for x86-64")]
    Foreign,
    /// More than [`MAX_ROWS`], or what would take seconds to find out.
    #[error("more than {MAX_ROWS} rows of call frame information")]
    TooManyRows,
}

impl From<TooMany> for CompileError {
    fn from(_: TooMany) -> Self {
        Self::TooManyRows
    }
}

/// Compiles a file's rows. What no call frame information covers has them where its code can be
/// followed: procedure linkage tables, the entry point, and functions that have symbols.
///
/// # Errors
/// [`CompileError`], but that of a malformed file.
pub fn compile(elf: &Elf<'_>) -> Result<Rows, CompileError> {
    let header = elf.file().elf_header();
    if header.e_machine(LittleEndian) != EM_X86_64
        || ![ET_EXEC, ET_DYN].contains(&header.e_type(LittleEndian))
    {
        return Err(CompileError::Foreign);
    }
    let image = Image::new(elf.file());
    let (known, unsupported) = match image.frames() {
        Some(section) => frames::read(&image, &section)?,
        None => (Functions::default(), 0),
    };
    let mut others = Functions::default();
    for name in PLTS {
        if let Some(section) = image.section(name)
            && let Some(end) = image.code_end(section.address)
        {
            plt::add(section.address, section.data, end, &mut others)?;
        }
    }
    trampoline::add(&image, &known, &mut others)?;
    add_entry(&image, &known, &mut others)?;
    others.sort();
    let analyzed = analyze::add(elf, &image, &known, &mut others)?;

    let rows = known.flatten(&others);
    if rows.len() > MAX_ROWS {
        return Err(CompileError::TooManyRows);
    }
    let stats = CompileStats {
        rows: rows.len(),
        functions: known.len(),
        analyzed,
        unsupported,
    };
    Ok(Rows { rows, stats })
}

/// The functions that call frame information covers, by address, as the file states addresses: what
/// tells one from the next where no symbol does.
#[must_use]
pub fn function_ranges(elf: &Elf<'_>) -> Vec<Range<u64>> {
    let image = Image::new(elf.file());
    let read = image
        .frames()
        .and_then(|section| frames::read(&image, &section).ok());
    read.map_or_else(Vec::new, |(functions, _)| functions.ranges().collect())
}

/// Compiles the rows of a whole image in our memory, such as a target's vDSO.
///
/// # Errors
/// [`CompileError`].
pub fn compile_image(image: &[u8]) -> Result<Rows, CompileError> {
    compile(&Elf::of_image(image)?)
}

/// The entry point is called by nobody.
fn add_entry(
    image: &Image<'_, '_>,
    known: &Functions,
    found: &mut Functions,
) -> Result<(), TooMany> {
    let entry = image.entry();
    let Some(code_end) = image.code_end(entry) else {
        return Ok(());
    };
    // What is never started has 0 there, or whatever its code begins with.
    if entry == 0
        || (!image.is_program()
            && image
                .section(".text")
                .is_none_or(|text| text.address == entry))
    {
        return Ok(());
    }
    let end = entry.saturating_add(ENTRY_BYTES).min(code_end);
    match known.gaps(entry, end).next() {
        Some((start, end)) if start == entry => found.add(start, end, Rule::END),
        _ => Ok(()),
    }
}
