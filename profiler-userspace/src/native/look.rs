//! What a process has mapped as code, file by file.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::address_space::{AddressSpace, Area};
use super::module::{ModuleIndex, Modules, Source};
use super::trampoline;
use crate::process::RemoteMemory;
use crate::process::maps::{self, Mapping as ProcessMapping};

/// The image of a file that is in memory only.
fn image(pid: u32, mapping: &ProcessMapping) -> Option<Vec<u8>> {
    let length = usize::try_from(mapping.end.checked_sub(mapping.start)?).ok()?;
    RemoteMemory::new(pid).read_some(mapping.start, length).ok()
}

/// A process's root: ours, where it is the same, since that stays when the process has ended.
fn root_of(pid: u32) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let place = |path: &Path| {
        let stat = std::fs::metadata(path).ok()?;
        Some((stat.dev(), stat.ino()))
    };
    match (place(&root), place(Path::new("/"))) {
        (Some(its), Some(ours)) if its == ours => PathBuf::from("/"),
        _ => root,
    }
}

/// Looks what a process has mapped.
///
/// # Errors
/// As reading its mappings gives them.
pub(crate) fn look(pid: u32, modules: &mut Modules) -> io::Result<AddressSpace> {
    let mappings = maps::of_process(pid)?;
    let mut look = Looking {
        pid,
        root: None,
        modules,
        aliases: Vec::new(),
    };
    let areas = mappings.iter().filter(|mapping| mapping.executable);
    let areas: Vec<Area> = areas.map(|mapping| look.area(mapping)).collect();
    Ok(AddressSpace::new(areas, look.aliases))
}

struct Looking<'a> {
    pid: u32,
    root: Option<PathBuf>,
    modules: &'a mut Modules,
    aliases: Vec<(PathBuf, ModuleIndex)>,
}

impl Looking<'_> {
    fn area(&mut self, mapping: &ProcessMapping) -> Area {
        let module = self.module(mapping);
        let bias = module.and_then(|index| {
            let source = &self.modules.get(index)?.source;
            if matches!(source, Source::Trampolines(_)) {
                return Some(mapping.start);
            }
            source.with_elf(|elf| elf.load_bias(mapping.start, mapping.offset))?
        });
        Area {
            start: mapping.start,
            end: mapping.end,
            bias: bias.unwrap_or(0),
            module: module.filter(|_| bias.is_some()),
        }
    }

    fn module(&mut self, mapping: &ProcessMapping) -> Option<ModuleIndex> {
        if mapping.path == Path::new("[vdso]") {
            let image = image(self.pid, mapping)?;
            return Some(self.modules.of_memory("[vdso]", image));
        }
        if mapping.inode == 0 {
            return self.trampolines(mapping);
        }
        let host = maps::host_path(self.pid, mapping);
        let root = self.root.get_or_insert_with(|| root_of(self.pid));
        let index = self.modules.of_file(&host, &mapping.path, root).ok()?;
        let known_as = self.modules.get(index).map(|module| &module.path);
        if known_as != Some(&mapping.path) {
            self.aliases.push((mapping.path.clone(), index));
        }
        Some(index)
    }

    fn trampolines(&mut self, mapping: &ProcessMapping) -> Option<ModuleIndex> {
        let mem = RemoteMemory::new(self.pid);
        let start = mem.read_some(mapping.start, trampoline::bytes_to_tell());
        if !start.is_ok_and(|start| trampoline::is_arena(&start)) {
            return None;
        }
        let arena = image(self.pid, mapping)?;
        Some(self.modules.of_trampolines(arena))
    }
}
