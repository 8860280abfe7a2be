//! The files whose code runs, each opened when it was first met: later it may be gone, or another.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use profiler_common::unwind::TABLE_PENDING;

use super::trampoline;
use crate::bpf::tables::TableNumber;
use crate::elf::{Elf, ElfError, ElfImage};
use crate::unwind::{Rows, compile};

/// A module of a [`Modules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleIndex(usize);

/// Where its bytes are.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, mapped and open.
    File(Arc<ElfImage>, Arc<File>),
    /// An image in the target's memory: the vDSO.
    Memory(Arc<[u8]>),
    /// Trampolines of `-X perf`.
    Trampolines(Arc<[u8]>),
    /// A file that is no ELF file, or cannot be read.
    Nothing,
}

impl Source {
    /// Calls `with` with the parsed file, if it is one.
    pub fn with_elf<T>(&self, with: impl FnOnce(&Elf<'_>) -> T) -> Option<T> {
        match self {
            Self::File(image, _) => image.parse().ok().map(|elf| with(&elf)),
            Self::Memory(bytes) => Elf::of_image(bytes).ok().map(|elf| with(&elf)),
            Self::Trampolines(_) | Self::Nothing => None,
        }
    }

    /// Compiles its rows; `None` where there are none, or more than there can be.
    #[must_use]
    pub fn rows(&self) -> Option<Rows> {
        match self {
            Self::Trampolines(arena) => Some(trampoline::rows(arena)),
            _ => self.with_elf(|elf| compile(elf).ok()).flatten(),
        }
    }
}

/// The state of a module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableState {
    /// Nobody asked for it, or it was taken out.
    Absent,
    /// It is being compiled.
    Pending,
    /// In the kernel.
    Loaded(TableNumber),
    /// There is none, or no room: frame pointers.
    None,
}

/// A file whose code is mapped.
#[derive(Debug)]
pub struct Module {
    /// Its path as the target sees it, or a name in brackets.
    pub path: PathBuf,
    /// The target's root.
    pub root: PathBuf,
    /// Its bytes.
    pub source: Source,
    /// Its build id.
    pub build_id: Option<Vec<u8>>,
    /// Its table.
    pub table: TableState,
}

/// What tells two files apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    BuildId(Vec<u8>),
    File {
        device: u64,
        inode: u64,
        size: u64,
        changed: (i64, i64),
    },
    Memory(Vec<u8>),
}

/// All modules of a recording.
#[derive(Debug, Default)]
pub struct Modules {
    all: Vec<Module>,
    by_identity: HashMap<Identity, ModuleIndex>,
}

fn build_id(elf: &Elf<'_>) -> Option<Vec<u8>> {
    elf.build_id()
        .filter(|id| !id.is_empty())
        .map(<[u8]>::to_vec)
}

impl Modules {
    /// A module.
    #[must_use]
    pub fn get(&self, index: ModuleIndex) -> Option<&Module> {
        self.all.get(index.0)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (ModuleIndex, &Module)> {
        let all = self.all.iter().enumerate();
        all.map(|(index, module)| (ModuleIndex(index), module))
    }

    /// The number of a module's table as mappings name it.
    #[must_use]
    pub fn table(&self, index: ModuleIndex) -> TableNumber {
        match self.get(index).map(|module| module.table) {
            Some(TableState::Loaded(number)) => number,
            Some(TableState::Pending | TableState::Absent) => TABLE_PENDING,
            Some(TableState::None) | None => 0,
        }
    }

    /// Changes the state of a module's table. Returns what it was.
    pub fn set_table(&mut self, index: ModuleIndex, table: TableState) -> TableState {
        match self.all.get_mut(index.0) {
            Some(module) => std::mem::replace(&mut module.table, table),
            None => TableState::None,
        }
    }

    /// The module of a file that a target has mapped: `host` is where we find it, `path` where the
    /// target does.
    ///
    /// # Errors
    /// As opening the file gives them.
    pub fn of_file(&mut self, host: &Path, path: &Path, root: &Path) -> io::Result<ModuleIndex> {
        let file = File::open(host)?;
        let stat = file.metadata()?;
        let same_file = Identity::File {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.size(),
            changed: (stat.mtime(), stat.mtime_nsec()),
        };
        if let Some(index) = self.by_identity.get(&same_file) {
            return Ok(*index);
        }
        // Through the descriptor, so that it is the same file whatever happens to the path.
        let own = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let image: Result<_, ElfError> = ElfImage::open(&own);
        let id = image
            .as_ref()
            .ok()
            .and_then(|image| build_id(&image.parse().ok()?));
        let identity = id
            .clone()
            .map_or_else(|| same_file.clone(), Identity::BuildId);
        let index = self.insert(identity, || Module {
            path: path.to_owned(),
            root: root.to_owned(),
            source: image.map_or(Source::Nothing, |image| {
                Source::File(Arc::new(image), Arc::new(file))
            }),
            build_id: id,
            table: TableState::Absent,
        });
        self.by_identity.insert(same_file, index);
        Ok(index)
    }

    /// The module of an image in the target's memory.
    pub fn of_memory(&mut self, name: &str, image: Vec<u8>) -> ModuleIndex {
        let id = Elf::of_image(&image).ok().and_then(|elf| build_id(&elf));
        let identity = match &id {
            Some(id) => Identity::BuildId(id.clone()),
            None => Identity::Memory(image.clone()),
        };
        self.insert(identity, || Module {
            path: PathBuf::from(name),
            root: PathBuf::from("/"),
            source: Source::Memory(image.into()),
            build_id: id,
            table: TableState::Absent,
        })
    }

    /// The module of trampolines in the target's memory.
    pub fn of_trampolines(&mut self, arena: Vec<u8>) -> ModuleIndex {
        self.insert(Identity::Memory(arena.clone()), || Module {
            path: PathBuf::from("[trampolines]"),
            root: PathBuf::from("/"),
            source: Source::Trampolines(arena.into()),
            build_id: None,
            table: TableState::Absent,
        })
    }

    fn insert(&mut self, identity: Identity, module: impl FnOnce() -> Module) -> ModuleIndex {
        if let Some(index) = self.by_identity.get(&identity) {
            return *index;
        }
        let index = ModuleIndex(self.all.len());
        self.all.push(module());
        self.by_identity.insert(identity, index);
        index
    }
}
