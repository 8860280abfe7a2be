//! The memory of a process that ended: what its core file has of it, and for what that leaves out, the
//! files that it had mapped (`vma_dump_size` in `fs/coredump.c`: what is in a file and was not written
//! is not in the core file).

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use profiler_common::mem::{Fault, Memory};

use super::notes::{MappedFile, Notes};
use crate::process::Searchable;
use crate::process::maps::Mapping;

/// Bytes at the beginning of a file by which it is known again: its headers, and mostly its build id,
/// which the core file has.
const HEAD_BYTES: usize = 4096;
/// The smallest page.
const PAGE: u64 = 4096;

/// A segment of the core file.
#[derive(Debug)]
struct Load<'a> {
    start: u64,
    bytes: &'a [u8],
    executable: bool,
}

/// A file that was mapped, once it is asked for.
#[derive(Debug, Default)]
struct MaybeOpened(OnceCell<Result<Opened, &'static str>>);

/// A file that was mapped.
#[derive(Debug)]
struct Opened {
    /// The root directory below which it was found.
    root: PathBuf,
    content: Mmap,
}

/// The memory.
#[derive(Debug)]
pub(super) struct CoreMemory<'a> {
    /// In the order of their addresses.
    loads: Vec<Load<'a>>,
    notes: &'a Notes,
    files: BTreeMap<&'a Path, MaybeOpened>,
    /// Root directories below which files may lie, the likeliest first.
    roots: Vec<PathBuf>,
}

impl<'a> CoreMemory<'a> {
    /// Of a core file, which lies at `path`, and whose notes are `notes`.
    pub(super) fn new(data: &'a [u8], notes: &'a Notes, path: &Path) -> object::Result<Self> {
        let header = FileHeader64::<LittleEndian>::parse(data)?;
        let endian = header.endian()?;
        let mut loads = Vec::new();
        for segment in header.program_headers(endian, data)? {
            if segment.p_type(endian) != elf::PT_LOAD {
                continue;
            }
            let flags = segment.p_flags(endian);
            let from = usize::try_from(segment.p_offset(endian)).unwrap_or(usize::MAX);
            let len = usize::try_from(segment.p_filesz(endian)).unwrap_or(usize::MAX);
            // A core file that was cut off has the beginning.
            let bytes = data.get(from..).unwrap_or_default();
            loads.push(Load {
                start: segment.p_vaddr(endian),
                bytes: bytes.get(..len).unwrap_or(bytes),
                executable: flags & elf::PF_X != 0,
            });
        }
        loads.sort_by_key(|load| load.start);
        let files = notes.files.iter();
        Ok(Self {
            loads,
            notes,
            files: files
                .map(|file| (file.path.as_path(), MaybeOpened::default()))
                .collect(),
            roots: roots(path),
        })
    }

    fn load_at(&self, address: u64) -> Option<&Load<'a>> {
        let behind = self.loads.partition_point(|load| load.start <= address);
        self.loads.get(behind.checked_sub(1)?)
    }

    /// What the core file has from an address on.
    fn in_core(&self, address: u64) -> Option<&'a [u8]> {
        let load = self.load_at(address)?;
        let from = usize::try_from(address.wrapping_sub(load.start)).ok()?;
        load.bytes.get(from..).filter(|bytes| !bytes.is_empty())
    }

    /// What the file that was mapped at an address has from there on.
    fn in_file(&self, address: u64) -> Option<&[u8]> {
        let mapped = self.notes.file_at(address)?;
        let content = &self.opened(&mapped.path).ok()?.content;
        let from = address.checked_sub(mapped.start)?;
        let len = usize::try_from(mapped.end.checked_sub(address)?).ok()?;
        let bytes = content.get(usize::try_from(mapped.offset.checked_add(from)?).ok()?..)?;
        Some(bytes.get(..len).unwrap_or(bytes)).filter(|bytes| !bytes.is_empty())
    }

    fn opened(&self, path: &Path) -> Result<&Opened, &'static str> {
        let opened = self.files.get(path).ok_or("it was not mapped")?;
        let opened = opened.0.get_or_init(|| self.open(path));
        opened.as_ref().map_err(|why| *why)
    }

    /// Opens a file below the first root where it is the one that was mapped.
    fn open(&self, path: &Path) -> Result<Opened, &'static str> {
        let mut why = "that file cannot be opened here";
        for root in &self.roots {
            let below = root.join(path.strip_prefix("/").unwrap_or(path));
            let is_file = || std::fs::metadata(&below).is_ok_and(|data| data.is_file());
            let Some(file) = is_file().then(|| File::open(&below).ok()).flatten() else {
                continue;
            };
            // SAFETY: as of the core file.
            let Ok(content) = (unsafe { Mmap::map(&file) }) else {
                continue;
            };
            match self.is_same(path, &content) {
                Some(false) => why = "the file that is there now is another one",
                // What the core file does not tell is believed of the path itself only.
                None if *root != Path::new("/") => {}
                Some(true) | None => {
                    return Ok(Opened {
                        root: root.clone(),
                        content,
                    });
                }
            }
        }
        Err(why)
    }

    /// Whether a file is the one that was mapped; `None` where the core file has nothing of its
    /// beginning.
    fn is_same(&self, path: &Path, content: &[u8]) -> Option<bool> {
        let of_path = self.notes.files.iter().filter(|file| file.path == path);
        let first = of_path
            .filter(|file| file.offset == 0)
            .min_by_key(|file| file.start);
        let head = self.in_core(first?.start)?;
        let len = head.len().min(HEAD_BYTES).min(content.len());
        Some(head.get(..len) == content.get(..len))
    }

    /// Where a file is found; nowhere when it is another one now.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        match self.opened(path) {
            Ok(opened) => opened.root.join(path.strip_prefix("/").unwrap_or(path)),
            Err(_) => PathBuf::new(),
        }
    }

    /// The root directory of the process, by where one of its files was found.
    pub(super) fn root(&self, path: &Path) -> PathBuf {
        match self.opened(path) {
            Ok(opened) => opened.root.clone(),
            Err(_) => PathBuf::from("/"),
        }
    }

    /// Whether a part of a file was mapped as code: as the core file says, or the file where gdb wrote
    /// the core file, who leaves such segments out. It was, if neither is there to say.
    fn is_code(&self, mapped: &MappedFile) -> bool {
        let load = self.load_at(mapped.start);
        if let Some(load) = load.filter(|load| load.start == mapped.start) {
            return load.executable;
        }
        let Ok(opened) = self.opened(&mapped.path) else {
            return true;
        };
        let content = &*opened.content;
        let is_code = || {
            let header = FileHeader64::<LittleEndian>::parse(content).ok()?;
            let endian = header.endian().ok()?;
            let segments = header.program_headers(endian, content).ok()?;
            let holds = |offset: u64, len: u64| {
                let page = offset - offset % PAGE;
                (page..offset.saturating_add(len)).contains(&mapped.offset)
            };
            Some(segments.iter().any(|segment| {
                segment.p_type(endian) == elf::PT_LOAD
                    && segment.p_flags(endian) & elf::PF_X != 0
                    && holds(segment.p_offset(endian), segment.p_filesz(endian))
            }))
        };
        is_code().unwrap_or(false)
    }

    /// The mappings of files.
    pub(super) fn mappings(&self) -> Vec<Mapping> {
        let files = self.notes.files.iter();
        files
            .map(|file| {
                Mapping {
                    start: file.start,
                    end: file.end,
                    offset: file.offset,
                    // Nobody asks.
                    writable: false,
                    executable: self.is_code(file),
                    path: file.path.clone(),
                    // The core file does not tell; not 0, which is no file.
                    inode: 1,
                }
            })
            .collect()
    }

    /// The first file with code that is not here, those that look like Python first, and what is with
    /// it.
    pub(super) fn first_missing(&self) -> Option<(PathBuf, &'static str)> {
        let code = self.mappings().into_iter().filter(|file| file.executable);
        let missing = code.filter_map(|file| {
            let why = self.opened(&file.path).err()?;
            Some((file.path, why))
        });
        let mut missing: Vec<_> = missing.collect();
        let is_python = |path: &Path| {
            let name = path.file_name().map(|name| name.to_string_lossy());
            name.is_some_and(|name| name.contains("python"))
        };
        missing.sort_by_key(|(path, _)| !is_python(path));
        missing.into_iter().next()
    }
}

/// Where files of the process may be found: by their own paths, or where the process had a root
/// directory of its own, a container, in the one that the core file lies in.
fn roots(core: &Path) -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from("/")];
    if let Ok(core) = core.canonicalize() {
        let around = core.ancestors().skip(1).map(Path::to_owned);
        roots.extend(around.filter(|root| root != Path::new("/")));
    }
    roots
}

impl Memory for CoreMemory<'_> {
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        let mut address = addr;
        let mut left = dst;
        while !left.is_empty() {
            let found = self.in_core(address).or_else(|| self.in_file(address));
            let found = found.ok_or(Fault)?;
            let len = found.len().min(left.len());
            let (now, rest) = left.split_at_mut(len);
            now.copy_from_slice(found.get(..len).unwrap_or_default());
            left = rest;
            address = address.checked_add(len as u64).ok_or(Fault)?;
        }
        Ok(())
    }
}

impl Searchable for CoreMemory<'_> {
    fn read_some(&self, addr: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut found = Vec::new();
        while found.len() < len {
            let address = addr.wrapping_add(found.len() as u64);
            let Some(more) = self.in_core(address).or_else(|| self.in_file(address)) else {
                break;
            };
            let take = more.len().min(len - found.len());
            found.extend_from_slice(more.get(..take).unwrap_or_default());
        }
        match found.is_empty() && len != 0 {
            true => Err(io::Error::from_raw_os_error(libc::EFAULT)),
            false => Ok(found),
        }
    }
}
