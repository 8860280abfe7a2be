//! The notes of a core file (`fs/binfmt_elf.c`, `include/linux/elfcore.h`): the process, its threads,
//! and the files that it had mapped.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::CoreError;

/// `NT_FILE`.
const FILES: u32 = 0x4649_4c45;
/// `AT_PHDR`: an address in the executable.
const AUXV_EXECUTABLE: u64 = 3;

/// In `struct elf_prstatus` of x86_64: the signal, the thread, and its `fs_base`.
const STATUS_SIGNAL: usize = 12;
const STATUS_THREAD: usize = 32;
const STATUS_FS_BASE: usize = 112 + 21 * 8;
/// In `struct elf_prpsinfo` of x86_64: the process, its name, and its arguments.
const INFO_PROCESS: usize = 24;
const INFO_NAME: usize = 40;
const INFO_ARGUMENTS: usize = 56;
const INFO_NAME_BYTES: usize = 16;
const INFO_ARGUMENTS_BYTES: usize = 80;

/// A part of a file that was mapped.
#[derive(Clone, Debug)]
pub(super) struct MappedFile {
    /// First address.
    pub(super) start: u64,
    /// Address behind the last.
    pub(super) end: u64,
    /// Offset of the first byte in the file.
    pub(super) offset: u64,
    /// The file, as the process or who wrote the core file saw it.
    pub(super) path: PathBuf,
}

/// What the notes say.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    /// The process.
    pub(super) pid: u32,
    /// Its arguments, as many as the kernel keeps; its name where those are not there.
    pub(super) command: String,
    /// The signal that ended it.
    pub(super) signal: i32,
    /// Files, in the order of their addresses.
    pub(super) files: Vec<MappedFile>,
    /// Threads by their thread pointers.
    threads: HashMap<u64, u32>,
    /// An address in the executable.
    in_executable: u64,
}

fn u64_in(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u64::from_le_bytes(*word))
}

fn u32_in(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|word| u32::from_le_bytes(*word))
}

fn text_in(bytes: &[u8], at: usize, len: usize) -> String {
    let text = bytes.get(at..).unwrap_or_default();
    let text = text.get(..len).unwrap_or(text);
    let end = memchr::memchr(0, text).unwrap_or(text.len());
    let text = text.get(..end).unwrap_or_default();
    String::from_utf8_lossy(text).trim_end().to_owned()
}

impl Notes {
    /// Reads all notes of a core file.
    pub(super) fn read(
        header: &FileHeader64<LittleEndian>,
        endian: LittleEndian,
        data: &[u8],
    ) -> Result<Self, CoreError> {
        let mut found = Self::default();
        let mut first_thread = true;
        for segment in header.program_headers(endian, data)? {
            let Some(mut notes) = segment.notes(endian, data)? else {
                continue;
            };
            while let Some(note) = notes.next()? {
                let desc = note.desc();
                // Others than the kernel's and gdb's mean something else by their numbers.
                if !matches!(note.name_bytes(), [b'C', b'O', b'R', b'E', ..]) {
                    continue;
                }
                match note.n_type(endian) {
                    elf::NT_PRSTATUS => {
                        found.status(desc, first_thread);
                        first_thread = false;
                    }
                    elf::NT_PRPSINFO => found.info(desc),
                    elf::NT_AUXV => {
                        let words = desc.chunks_exact(16);
                        let mut pairs = words.map(|pair| (u64_in(pair, 0), u64_in(pair, 8)));
                        let address = pairs.find(|(key, _)| *key == Some(AUXV_EXECUTABLE));
                        found.in_executable = address.and_then(|(_, value)| value).unwrap_or(0);
                    }
                    FILES => found.files = files(desc).unwrap_or_default(),
                    _ => {}
                }
            }
        }
        if first_thread {
            return Err(CoreError::NoCore);
        }
        found.files.sort_by_key(|file| file.start);
        Ok(found)
    }

    /// The first of them is the thread that the signal was for.
    fn status(&mut self, desc: &[u8], first: bool) {
        let tid = u32_in(desc, STATUS_THREAD).unwrap_or(0);
        if first {
            let signal = u32_in(desc, STATUS_SIGNAL).unwrap_or(0);
            self.signal = i32::from(signal as i16);
            self.pid = tid;
        }
        if let Some(pointer) = u64_in(desc, STATUS_FS_BASE) {
            self.threads.insert(pointer, tid);
        }
    }

    fn info(&mut self, desc: &[u8]) {
        if let Some(pid) = u32_in(desc, INFO_PROCESS) {
            self.pid = pid;
        }
        let arguments = text_in(desc, INFO_ARGUMENTS, INFO_ARGUMENTS_BYTES);
        self.command = match arguments.is_empty() {
            true => text_in(desc, INFO_NAME, INFO_NAME_BYTES),
            false => arguments,
        };
    }

    /// The thread of a thread pointer.
    pub(super) fn thread(&self, pointer: u64) -> Option<u32> {
        self.threads.get(&pointer).copied()
    }

    /// The file that was mapped at an address.
    pub(super) fn file_at(&self, address: u64) -> Option<&MappedFile> {
        let behind = self.files.partition_point(|file| file.start <= address);
        let file = self.files.get(behind.checked_sub(1)?)?;
        (address < file.end).then_some(file)
    }

    /// The executable.
    pub(super) fn executable(&self) -> Option<PathBuf> {
        Some(self.file_at(self.in_executable)?.path.clone())
    }
}

/// `NT_FILE`: how many, the size of a page, start, end and offset in pages of each, and then the paths.
fn files(desc: &[u8]) -> Option<Vec<MappedFile>> {
    let count = usize::try_from(u64_in(desc, 0)?).ok()?;
    let page = u64_in(desc, 8)?;
    let numbers = desc.get(16..)?;
    let mut paths = numbers
        .get(count.checked_mul(24)?..)?
        .split(|byte| *byte == 0);
    let mut found = Vec::new();
    for entry in numbers.chunks_exact(24).take(count) {
        let path = paths.next()?;
        // What the kernel adds to the path of a removed file.
        let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
        found.push(MappedFile {
            start: u64_in(entry, 0)?,
            end: u64_in(entry, 8)?,
            offset: u64_in(entry, 16)?.checked_mul(page)?,
            path: PathBuf::from(OsStr::from_bytes(path)),
        });
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_note() {
        let mut desc = Vec::new();
        for word in [2u64, 4096, 0x1000, 0x3000, 0, 0x3000, 0x4000, 5] {
            desc.extend(word.to_le_bytes());
        }
        desc.extend(b"/bin/a b\0/lib/c (deleted)\0");
        let found = files(&desc).expect("files");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].path, PathBuf::from("/bin/a b"));
        assert_eq!((found[1].start, found[1].offset), (0x3000, 5 * 4096));
        assert_eq!(found[1].path, PathBuf::from("/lib/c"));
        for cut in 0..desc.len() {
            // Whatever is missing, there is an answer.
            let _ = files(&desc[..cut]);
        }
        let notes = Notes {
            files: found,
            in_executable: 0x1040,
            ..Notes::default()
        };
        assert_eq!(notes.executable(), Some(PathBuf::from("/bin/a b")));
        assert!(notes.file_at(0xfff).is_none());
        assert!(notes.file_at(0x4000).is_none());
    }
}
