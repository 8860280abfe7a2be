//! Where in an ELF file the code and its call frame information are.

use gimli::{BaseAddresses, EhFrameHdr, EndianSlice, Pointer};
use object::elf::{ET_EXEC, PF_X, PT_GNU_EH_FRAME, PT_INTERP, PT_LOAD, SHF_COMPRESSED};
use object::read::elf::{ElfFile64, ElfSection64, FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, SectionFlags};

/// Segments that are looked at. Linkers make four or five.
const MAX_SEGMENTS: usize = 64;

/// Sections that are looked at. Linkers make some forty; compilers that give each function its own
/// do it in `.o` files. To find a name's end in a table without one takes as long as that has bytes.
const MAX_SECTIONS: usize = 256;

/// A part of the file that is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment<'data> {
    /// First address.
    pub(super) start: u64,
    /// Address behind the last.
    pub(super) end: u64,
    /// What of it is in the file.
    pub(super) data: &'data [u8],
    /// Is code.
    executable: bool,
}

/// A part of the file that has a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section<'data> {
    /// First address.
    pub(super) address: u64,
    /// What of it is in the file.
    pub(super) data: &'data [u8],
}

/// Which kind of call frame information there is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frames<'data> {
    /// What unwinders use at run time.
    EhFrame(Section<'data>),
    /// What debuggers use.
    DebugFrame(Section<'data>),
}

/// An ELF file, by its parts.
#[derive(Debug)]
pub(super) struct Image<'file, 'data> {
    file: &'file ElfFile64<'data, LittleEndian>,
    segments: Vec<Segment<'data>>,
    /// Sections that have bytes in the file, and their names.
    sections: Vec<(&'data [u8], Section<'data>)>,
}

impl<'file, 'data> Image<'file, 'data> {
    pub(super) fn new(file: &'file ElfFile64<'data, LittleEndian>) -> Self {
        let mut segments: Vec<_> = file
            .elf_program_headers()
            .iter()
            .filter(|header| header.p_type(LittleEndian) == PT_LOAD)
            .take(MAX_SEGMENTS)
            .filter_map(|header| segment(file.data(), header))
            .collect();
        segments.sort_by_key(|segment| segment.start);
        let sections = file
            .sections()
            .take(MAX_SECTIONS)
            .filter_map(|section| named(&section))
            .collect();
        Self {
            file,
            segments,
            sections,
        }
    }

    /// The segments of code, in the order of their addresses.
    pub(super) fn code(&self) -> impl Iterator<Item = Segment<'data>> {
        self.segments
            .iter()
            .copied()
            .filter(|segment| segment.executable)
    }

    /// The end of the segment of code that an address is in.
    pub(super) fn code_end(&self, address: u64) -> Option<u64> {
        self.code()
            .find(|segment| (segment.start..segment.end).contains(&address))
            .map(|segment| segment.end)
    }

    /// The bytes of a range of code, where the file has all of them.
    pub(super) fn code_at(&self, start: u64, end: u64) -> Option<&'data [u8]> {
        let segment = self
            .code()
            .find(|segment| (segment.start..segment.end).contains(&start))?;
        let from = usize::try_from(start - segment.start).ok()?;
        let behind = usize::try_from(end.checked_sub(segment.start)?).ok()?;
        segment.data.get(from..behind)
    }

    /// Where the file's execution begins.
    pub(super) fn entry(&self) -> u64 {
        self.file.elf_header().e_entry(LittleEndian)
    }

    /// Whether the file is linked to be started, and not just loaded. Of those that say neither,
    /// such as a dynamic linker, this one cannot tell.
    pub(super) fn is_program(&self) -> bool {
        self.file.elf_header().e_type(LittleEndian) == ET_EXEC
            || self
                .file
                .elf_program_headers()
                .iter()
                .any(|header| header.p_type(LittleEndian) == PT_INTERP)
    }

    /// A section's address and bytes.
    pub(super) fn section(&self, name: &str) -> Option<Section<'data>> {
        self.sections
            .iter()
            .find(|(found, _)| *found == name.as_bytes())
            .map(|(_, section)| *section)
    }

    /// The call frame information.
    pub(super) fn frames(&self) -> Option<Frames<'data>> {
        self.section(".eh_frame")
            .or_else(|| self.frames_of_header())
            .map(Frames::EhFrame)
            .or_else(|| self.section(".debug_frame").map(Frames::DebugFrame))
    }

    /// What pointers in the call frame information may count from.
    pub(super) fn bases(&self, frames: u64) -> BaseAddresses {
        let mut bases = BaseAddresses::default().set_eh_frame(frames);
        if let Some(text) = self.section(".text") {
            bases = bases.set_text(text.address);
        }
        if let Some(got) = self.section(".got") {
            bases = bases.set_got(got.address);
        }
        bases
    }

    /// `.eh_frame` of a file without section headers: its own header, `.eh_frame_hdr`, says where
    /// it begins; where it ends, a zero says in it.
    fn frames_of_header(&self) -> Option<Section<'data>> {
        let header = self
            .file
            .elf_program_headers()
            .iter()
            .find(|header| header.p_type(LittleEndian) == PT_GNU_EH_FRAME)?;
        let address = header.p_vaddr(LittleEndian);
        let parsed = EhFrameHdr::from(EndianSlice::new(
            self.bytes_from(address)?,
            gimli::LittleEndian,
        ))
        .parse(&BaseAddresses::default().set_eh_frame_hdr(address), 8)
        .ok()?;
        let Pointer::Direct(address) = parsed.eh_frame_ptr() else {
            return None;
        };
        let data = self.bytes_from(address)?;
        Some(Section { address, data })
    }

    /// The bytes from an address to the end of its segment in the file.
    fn bytes_from(&self, address: u64) -> Option<&'data [u8]> {
        self.segments.iter().find_map(|segment| {
            let from = usize::try_from(address.checked_sub(segment.start)?).ok()?;
            segment.data.get(from..).filter(|data| !data.is_empty())
        })
    }
}

fn segment<'data>(
    file: &'data [u8],
    header: &object::elf::ProgramHeader64<LittleEndian>,
) -> Option<Segment<'data>> {
    let start = header.p_vaddr(LittleEndian);
    let end = start.checked_add(header.p_memsz(LittleEndian))?;
    let from = usize::try_from(header.p_offset(LittleEndian)).ok()?;
    let len = usize::try_from(header.p_filesz(LittleEndian)).ok()?;
    // An image may end earlier than it says; the code of what there is can be unwound all the same.
    let behind = from.checked_add(len)?.min(file.len());
    Some(Segment {
        start,
        end,
        data: file.get(from..behind).unwrap_or_default(),
        executable: header.p_flags(LittleEndian) & PF_X != 0,
    })
}

fn named<'data>(
    section: &ElfSection64<'data, '_, LittleEndian>,
) -> Option<(&'data [u8], Section<'data>)> {
    let SectionFlags::Elf { sh_flags } = section.flags() else {
        return None;
    };
    if sh_flags & u64::from(SHF_COMPRESSED) != 0 {
        return None;
    }
    let data = section.data().ok().filter(|data| !data.is_empty())?;
    let address = section.address();
    Some((section.name_bytes().ok()?, Section { address, data }))
}
