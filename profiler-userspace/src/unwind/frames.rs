//! `.eh_frame`, or `.debug_frame`, as functions and their rules (DWARF 5, 6.4; the Linux Standard
//! Base, 10.6).

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, EndianSlice, Format,
    FrameDescriptionEntry, LittleEndian, PartialFrameDescriptionEntry, Register, RegisterRule,
    UnwindContext, UnwindContextStorage, UnwindSection, UnwindTableRow,
};
use profiler_common::unwind::{REG_RIP, Rule};

use super::functions::{Functions, TooMany};
use super::image::{Frames, Image};
use super::rows::MAX_ROWS;
use super::rule::rule;

/// Bytes that what is common to functions may have. What the compilers write has less than 40.
const MAX_COMMON_BYTES: usize = 256;

/// Bytes of instructions that a file may have in its functions, each with what it has in common
/// with others, for that is run anew each time. OpenBLAS has 2,000,000.
const MAX_WORK: usize = 64 << 20;

/// The section.
type Reader<'data> = EndianSlice<'data, LittleEndian>;
type Common<'data> = CommonInformationEntry<Reader<'data>>;

/// The memory of a function's rows while they are read: rules for as many registers as x86-64 has
/// ones that anybody restores, and some states to come back to. What the compilers write needs two.
/// gimli's own is several times as large, which takes time to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage;

impl UnwindContextStorage<usize> for Storage {
    type Rules = [(Register, RegisterRule<usize>); 36];
    type Stack = Box<[UnwindTableRow<usize, Self>; 6]>;
}

/// Reads all functions. The second value counts what could not be said or read.
pub(super) fn read<'data>(
    image: &Image<'_, 'data>,
    frames: &Frames<'data>,
) -> Result<(Functions, usize), TooMany> {
    match frames {
        Frames::EhFrame(section) => {
            let bases = image.bases(section.address);
            let mut frames = EhFrame::new(section.data, LittleEndian);
            frames.set_address_size(8);
            Compiler::new(image, &frames, section.data, &bases).run()
        }
        Frames::DebugFrame(section) => {
            let bases = image.bases(section.address);
            let mut frames = DebugFrame::new(section.data, LittleEndian);
            frames.set_address_size(8);
            Compiler::new(image, &frames, section.data, &bases).run()
        }
    }
}

struct Compiler<'a, 'data, S: UnwindSection<Reader<'data>>> {
    image: &'a Image<'a, 'data>,
    section: &'a S,
    /// The bytes of `section`.
    data: &'data [u8],
    bases: &'a BaseAddresses,
    context: UnwindContext<usize, Storage>,
    functions: Functions,
    unsupported: usize,
    /// Bytes of instructions so far.
    work: usize,
    /// Rows so far, with those that say the same as the ones before them.
    rows: usize,
    /// The common entry that was used last: mostly it is used again.
    common: Option<(usize, Common<'data>)>,
}

impl<'a, 'data, S: UnwindSection<Reader<'data>>> Compiler<'a, 'data, S> {
    fn new(
        image: &'a Image<'a, 'data>,
        section: &'a S,
        data: &'data [u8],
        bases: &'a BaseAddresses,
    ) -> Self {
        Self {
            image,
            section,
            data,
            bases,
            context: UnwindContext::new_in(),
            functions: Functions::default(),
            unsupported: 0,
            work: 0,
            rows: 0,
            common: None,
        }
    }

    fn run(mut self) -> Result<(Functions, usize), TooMany> {
        let mut entries = self.section.entries(self.bases);
        loop {
            match entries.next() {
                Ok(Some(CieOrFde::Fde(partial))) => match self.parse(&partial) {
                    Some(entry) => self.function(&entry)?,
                    None => self.unsupported += 1,
                },
                Ok(Some(CieOrFde::Cie(_))) => {}
                Ok(None) => break,
                // What follows cannot be found any more.
                Err(_) => {
                    self.unsupported += 1;
                    break;
                }
            }
        }
        self.functions.sort();
        Ok((self.functions, self.unsupported))
    }

    fn parse(
        &mut self,
        partial: &PartialFrameDescriptionEntry<'_, S, Reader<'data>>,
    ) -> Option<FrameDescriptionEntry<Reader<'data>>> {
        // Before it is read, for each function might have it read anew.
        let at: usize = gimli::UnwindOffset::into(partial.cie_offset());
        let len = self.data.get(at..)?.first_chunk()?;
        if u32::from_le_bytes(*len) as usize > MAX_COMMON_BYTES {
            return None;
        }
        let Self { common, .. } = self;
        let entry = partial.parse(|section, bases, offset| {
            let at: usize = gimli::UnwindOffset::into(offset);
            match common {
                Some((known, entry)) if *known == at => Ok(entry.clone()),
                _ => {
                    let entry = section.cie_from_offset(bases, offset)?;
                    *common = Some((at, entry.clone()));
                    Ok(entry)
                }
            }
        });
        let entry = entry.ok()?;
        self.is_known(entry.cie()).then_some(entry)
    }

    /// Whether functions can be read that have this in common.
    fn is_known(&self, common: &Common<'data>) -> bool {
        // The length, the entry's id and the version are before the augmentation. Without a `z`,
        // as gas writes `S` alone into `.debug_frame`, functions have no augmentation data, but
        // gimli 0.32 takes instructions for it.
        let augmentation = common.offset().saturating_add(9);
        common.return_address_register() == Register(REG_RIP.into())
            && common.address_size() == 8
            && common.encoding().format == Format::Dwarf32
            && (common.augmentation().is_none() || self.data.get(augmentation) == Some(&b'z'))
    }

    /// Adds a function, if it is one: linkers leave entries behind whose functions they removed.
    fn function(&mut self, entry: &FrameDescriptionEntry<Reader<'data>>) -> Result<(), TooMany> {
        let start = entry.initial_address();
        let Some(code_end) = self.image.code_end(start) else {
            return Ok(());
        };
        let end = start.saturating_add(entry.len()).min(code_end);
        if start >= end {
            return Ok(());
        }
        self.work += entry.entry_len().saturating_add(entry.cie().entry_len());
        if self.work > MAX_WORK {
            return Err(TooMany);
        }
        self.functions.begin(start, end)?;
        let trampoline = entry.is_signal_trampoline();
        let Ok(mut table) = entry.rows(self.section, self.bases, &mut self.context) else {
            self.unsupported += 1;
            return Ok(());
        };
        // Rows follow each other without a gap.
        let mut read_to = start;
        loop {
            match table.next_row() {
                Ok(Some(row)) => {
                    self.rows += 1;
                    if self.rows > MAX_ROWS {
                        return Err(TooMany);
                    }
                    let (from, to) = (row.start_address(), row.end_address());
                    read_to = to;
                    if from >= end {
                        break;
                    }
                    if from >= to {
                        continue;
                    }
                    let rule = rule(row, self.section, trampoline).unwrap_or_else(|| {
                        self.unsupported += 1;
                        Rule::NONE
                    });
                    self.functions.push(from, rule)?;
                }
                Ok(None) => break,
                Err(_) => {
                    self.unsupported += 1;
                    self.functions.push(read_to, Rule::NONE)?;
                    break;
                }
            }
        }
        Ok(())
    }
}
