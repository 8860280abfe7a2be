//! The files whose code runs, each opened when it was first met: later it may be gone, or another.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

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

    /// How many bytes it has.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(_, file) => file.metadata().map_or(0, |data| data.len()),
            Self::Memory(bytes) | Self::Trampolines(bytes) => bytes.len() as u64,
            Self::Nothing => 0,
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
    /// What it is found by.
    identities: Vec<Identity>,
    /// States of mappings with it that the kernel has, or will.
    users: u32,
    /// The same with those that stacks name.
    holders: u32,
    /// When that changed last.
    since: Instant,
}

impl Module {
    fn new(path: &Path, root: &Path, source: Source, build_id: Option<Vec<u8>>) -> Self {
        Self {
            path: path.to_owned(),
            root: root.to_owned(),
            source,
            build_id,
            table: TableState::Absent,
            identities: Vec::new(),
            users: 0,
            holders: 0,
            since: Instant::now(),
        }
    }
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
        let index = self.insert(identity, || {
            let source = image.map_or(Source::Nothing, |image| {
                Source::File(Arc::new(image), Arc::new(file))
            });
            Module::new(path, root, source, id)
        });
        self.identify(index, same_file);
        Ok(index)
    }

    /// The module of an image in the target's memory.
    pub fn of_memory(&mut self, name: &str, image: Vec<u8>) -> ModuleIndex {
        let id = Elf::of_image(&image).ok().and_then(|elf| build_id(&elf));
        let identity = match &id {
            Some(id) => Identity::BuildId(id.clone()),
            None => Identity::Memory(image.clone()),
        };
        self.insert(identity, || {
            let source = Source::Memory(image.into());
            Module::new(Path::new(name), Path::new("/"), source, id)
        })
    }

    /// The module of trampolines in the target's memory.
    pub fn of_trampolines(&mut self, arena: Vec<u8>) -> ModuleIndex {
        self.insert(Identity::Memory(arena.clone()), || {
            let source = Source::Trampolines(arena.into());
            Module::new(Path::new("[trampolines]"), Path::new("/"), source, None)
        })
    }

    fn insert(&mut self, identity: Identity, module: impl FnOnce() -> Module) -> ModuleIndex {
        if let Some(index) = self.by_identity.get(&identity) {
            return *index;
        }
        let index = ModuleIndex(self.all.len());
        self.all.push(module());
        self.identify(index, identity);
        index
    }

    fn identify(&mut self, index: ModuleIndex, identity: Identity) {
        if let Some(module) = self.all.get_mut(index.0)
            && !module.identities.contains(&identity)
        {
            module.identities.push(identity.clone());
        }
        self.by_identity.insert(identity, index);
    }

    /// The kernel has mappings of these, or will.
    pub(super) fn take(&mut self, modules: &[ModuleIndex]) {
        for index in modules {
            if let Some(module) = self.all.get_mut(index.0) {
                module.users += 1;
                module.holders += 1;
            }
        }
    }

    /// The kernel has those mappings no more; stacks may name them.
    pub(super) fn release(&mut self, modules: &[ModuleIndex]) {
        for index in modules {
            if let Some(module) = self.all.get_mut(index.0) {
                module.users = module.users.saturating_sub(1);
                module.since = Instant::now();
            }
        }
    }

    /// No stack names what [`Modules::release`] was told of.
    pub(super) fn forget(&mut self, modules: &[ModuleIndex]) {
        for index in modules {
            if let Some(module) = self.all.get_mut(index.0) {
                module.holders = module.holders.saturating_sub(1);
                module.since = Instant::now();
            }
        }
    }

    /// Of the modules that have a table and that nobody maps, the one that was mapped longest ago.
    pub(super) fn unused_table(&self) -> Option<ModuleIndex> {
        let unused = self.iter().filter(|(_, module)| {
            module.users == 0 && matches!(module.table, TableState::Loaded(_))
        });
        let oldest = unused.min_by_key(|(_, module)| module.since);
        oldest.map(|(index, _)| index)
    }

    /// Modules that nobody maps and no stack names, but for the `most` that were mapped last.
    pub(super) fn unused(&self, most: usize) -> Vec<ModuleIndex> {
        let is_unused = |module: &Module| {
            let known = !module.identities.is_empty();
            known && module.holders == 0 && module.table != TableState::Pending
        };
        let unused = self.iter().filter(|(_, module)| is_unused(module));
        let mut unused: Vec<_> = unused
            .map(|(index, module)| (module.since, index))
            .collect();
        let too_many = unused.len().saturating_sub(most);
        unused.sort_unstable();
        let unused = unused.into_iter().take(too_many);
        unused.map(|(_, index)| index).collect()
    }

    /// Closes a module that nobody maps and no stack names. Its number is not used again. Returns
    /// the state of its table.
    pub(super) fn close(&mut self, index: ModuleIndex) -> TableState {
        let Some(module) = self.all.get_mut(index.0) else {
            return TableState::None;
        };
        let closed = Module::new(Path::new(""), Path::new("/"), Source::Nothing, None);
        let module = std::mem::replace(module, closed);
        for identity in &module.identities {
            self.by_identity.remove(identity);
        }
        module.table
    }
}
