//! Names of native and kernel code, of a whole recording.
//!
//! Files are opened while the target lives, and read when names are asked for: by then it may be
//! gone, or its files replaced. What a file holds is never trusted: one that cannot be read gives
//! `module+0x1a2b`, not an error.

mod address_map;
mod alias;
mod debug_depth;
mod debug_file;
mod debug_info;
mod demangle;
mod frame;
mod image;
mod intern;
pub mod internals;
pub mod kernel;
mod module;
pub mod perf_map;
mod rooted;
mod table;
pub mod text;

use std::collections::HashMap;
use std::path::Path;

pub use frame::{KernelFrame, NativeFrame, NativeFrames};
pub use module::{Address, Content, ModuleFile};
pub use perf_map::PerfMapId;

use intern::Interner;
use kernel::KernelSymbols;
use module::{Identity, Module};
use perf_map::PerfMap;

/// Debug information above this is left out: what it takes grows with it, memory too where it is
/// compressed.
const LARGEST_DEBUG_INFO: u64 = 2 << 30;

/// Hears what takes long, a line of text each time.
pub type Progress = Box<dyn FnMut(&str)>;

/// What is read, and who hears of it.
pub struct Options {
    /// Read debug information: files, lines and inlined functions.
    pub lines: bool,
    /// Bytes of debug information (uncompressed) above which a file's is left out.
    pub largest_debug_info: u64,
    /// Called before something that takes long.
    pub progress: Option<Progress>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lines: true,
            largest_debug_info: LARGEST_DEBUG_INFO,
            progress: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("lines", &self.lines)
            .field("largest_debug_info", &self.largest_debug_info)
            .finish_non_exhaustive()
    }
}

/// A file of a [`Symbols`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModuleId(u32);

/// All names of a recording.
#[derive(Debug, Default)]
pub struct Symbols {
    options: Options,
    modules: Vec<Module>,
    by_identity: HashMap<Identity, ModuleId>,
    perf_maps: Vec<PerfMap>,
    kernel: Option<KernelSymbols>,
    strings: Interner,
    notes: Vec<String>,
}

impl Symbols {
    /// No files yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Takes a file, and looks for its separate debug file while the target's root is there. A
    /// file that is known already (same build id, else same inode) gets the same id.
    pub fn add_module(&mut self, file: ModuleFile) -> ModuleId {
        let mut module = Module::open(file, &mut self.strings);
        if let Some(id) = self.by_identity.get(module.identity()) {
            return *id;
        }
        module.find_debug_file();
        let id = ModuleId(self.modules.len() as u32);
        self.by_identity.insert(module.identity().clone(), id);
        self.modules.push(module);
        id
    }

    /// Names addresses of a file, as the file states them: before the load bias. One result for
    /// each address.
    pub fn resolve(&mut self, module: ModuleId, addresses: &[Address]) -> Vec<NativeFrames> {
        let Some(module) = self.modules.get_mut(module.0 as usize) else {
            return vec![NativeFrames::default(); addresses.len()];
        };
        addresses
            .iter()
            .map(|address| {
                module.resolve(
                    *address,
                    &mut self.options,
                    &mut self.strings,
                    &mut self.notes,
                )
            })
            .collect()
    }

    /// Names addresses of the kernel, from `/proc/kallsyms`, which is read once.
    pub fn kernel(&mut self, addresses: &[u64]) -> Vec<KernelFrame> {
        let kernel = self.kernel.get_or_insert_with(KernelSymbols::of_system);
        addresses
            .iter()
            .map(|address| kernel.find(*address, &mut self.strings))
            .collect()
    }

    /// Whether the kernel hides its addresses from us: [`kernel::HIDDEN`] says what to do.
    pub fn kernel_is_hidden(&mut self) -> bool {
        self.kernel
            .get_or_insert_with(KernelSymbols::of_system)
            .is_hidden()
    }

    /// Takes the map that a JIT compiler of a process may write, `/tmp/perf-PID.map`: below `root`
    /// (`/proc/PID/root`), with the pid that the process has in its own namespace. The file is
    /// read when names are asked for, and again when it has grown.
    pub fn add_perf_map(&mut self, root: &Path, namespace_pid: u32) -> PerfMapId {
        let id = PerfMapId(self.perf_maps.len() as u32);
        self.perf_maps
            .push(PerfMap::of_process(root, namespace_pid));
        id
    }

    /// Names addresses outside every file, as the process sees them. One result for each.
    pub fn resolve_jit(&mut self, map: PerfMapId, addresses: &[Address]) -> Vec<NativeFrames> {
        let Some(map) = self.perf_maps.get_mut(map.0 as usize) else {
            return vec![NativeFrames::default(); addresses.len()];
        };
        map.refresh();
        addresses
            .iter()
            .map(|address| map.resolve(*address, &mut self.strings))
            .collect()
    }

    /// What was left out so far, and why; each is told once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }
}
