//! The loader and the shared libraries that an executable needs, as the loader would find them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn, ElfFile, ProgramHeader};
use object::{Endianness, FileKind};

/// Where loaders look.
const PLACES: [&str; 6] = [
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib64",
    "usr/lib64",
    "lib",
    "usr/lib",
];

/// All that `exe`, itself below `root`, is loaded with: the path that it is looked up by, and the
/// path of the file; both below `root`.
pub(crate) fn of(root: &Path, exe: &Path) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut open = vec![exe.to_path_buf()];
    while let Some(file) = open.pop() {
        let needed = needed(&root.join(&file))
            .with_context(|| format!("cannot tell what {} needs", file.display()))?;
        for name in needed {
            let (path, file) = find(root, &name)
                .with_context(|| format!("{} needs {name}, not found", file.display()))?;
            if found.insert(path, file.clone()).is_none() {
                open.push(file);
            }
        }
    }
    Ok(found)
}

/// A library by name, or the loader by its path.
fn find(root: &Path, name: &str) -> Option<(PathBuf, PathBuf)> {
    // The loader's path may be a link, absolute, that leads elsewhere than below the root.
    let name = Path::new(name);
    let file = PLACES
        .iter()
        .map(|place| Path::new(place).join(name.file_name().unwrap_or_default()))
        .find(|path| root.join(path).exists())?;
    let path = name
        .strip_prefix("/")
        .map_or_else(|_| file.clone(), Path::to_path_buf);
    Some((path, file))
}

/// The names in a file's dynamic section, and its loader.
fn needed(file: &Path) -> Result<Vec<String>> {
    let data = fs::read(file)?;
    let data = data.as_slice();
    if FileKind::parse(data)? != FileKind::Elf64 {
        return Ok(Vec::new());
    }
    let elf = ElfFile::<FileHeader64<Endianness>>::parse(data)?;
    let endian = elf.endian();
    let mut names = Vec::new();
    for segment in elf.elf_program_headers() {
        if let Some(loader) = segment.interpreter(endian, data)? {
            names.push(String::from_utf8_lossy(loader).into_owned());
        }
    }
    let sections = elf.elf_section_table();
    if let Some((entries, link)) = sections.dynamic(endian, data)? {
        let strings = sections.strings(endian, data, link)?;
        for entry in entries
            .iter()
            .filter(|entry| entry.tag32(endian) == Some(DT_NEEDED))
        {
            names.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
        }
    }
    Ok(names)
}
