//! One file of the target, and what its addresses are called.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Options;
use super::debug_depth;
use super::debug_file::{self, DEBUG_DIRECTORY, build_id};
use super::debug_info::{self, DebugInfo, Location, Place};
use super::demangle::demangle;
use super::frame::{NativeFrame, NativeFrames};
use super::image::Image;
use super::intern::Interner;
use super::table::SymbolTable;

/// Debug information above this is worth a word before it is read.
const SLOW_DEBUG_INFO: u64 = 50 << 20;

/// A file of a target, to be taken in while the target lives.
#[derive(Debug)]
pub struct ModuleFile {
    /// Its path as the target sees it, or a name in brackets.
    pub path: PathBuf,
    /// Its content.
    pub content: Content,
    /// The target's root, `/proc/PID/root` or `/`: where its debug file is looked for.
    pub root: PathBuf,
}

/// The content of a [`ModuleFile`].
#[derive(Debug)]
pub enum Content {
    /// An open file. It stays open, or mapped, until this recording's names are dropped.
    File(File),
    /// An ELF image copied from memory, for the vDSO.
    Memory(Vec<u8>),
}

/// An address to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The address.
    pub address: u64,
    /// The address behind a call, not the one of an instruction that was running: the call belongs
    /// to whatever is at the byte before.
    pub is_return_address: bool,
}

impl Address {
    /// The address to look up.
    pub(super) fn instruction(self) -> u64 {
        self.address
            .saturating_sub(u64::from(self.is_return_address))
    }
}

/// What tells files apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// By build id, name and size: somebody may have put another's build id into a file.
    BuildId(Vec<u8>, Arc<str>, u64),
    /// Device, inode, size, and time of the last change in seconds and nanoseconds.
    Inode(u64, u64, u64, i64, i64),
    /// The bytes themselves.
    Bytes(Vec<u8>),
    /// Nothing is known but the path.
    Path(PathBuf),
}

/// A file.
#[derive(Debug)]
pub(super) struct Module {
    identity: Identity,
    name: Arc<str>,
    path: PathBuf,
    root: PathBuf,
    file: Option<File>,
    image: Image,
    debug_file: Option<File>,
    opened: Option<Opened>,
    known: HashMap<Address, NativeFrames>,
}

/// What is read when the first name is asked for.
#[derive(Debug)]
struct Opened {
    own: SymbolTable,
    /// The separate debug file's, which has local functions too, and its bytes.
    separate: Option<(SymbolTable, Image)>,
    debug_info: Option<DebugInfo>,
}

impl Module {
    /// Takes a file.
    pub(super) fn open(module: ModuleFile, strings: &mut Interner) -> Self {
        let ModuleFile {
            path,
            content,
            root,
        } = module;
        let name = path.file_name().unwrap_or(path.as_os_str());
        let name = strings.get(&name.to_string_lossy());
        let (file, image) = match content {
            Content::File(file) => {
                let image = Image::map(&file);
                (Some(file), image)
            }
            Content::Memory(bytes) => (None, Image::Copied(bytes)),
        };
        let elf = image.elf();
        let identity = match (elf.as_ref().and_then(build_id), &file) {
            (Some(id), _) => {
                Identity::BuildId(id.to_owned(), Arc::clone(&name), image.len() as u64)
            }
            (None, Some(file)) => match file.metadata() {
                Ok(data) => Identity::Inode(
                    data.dev(),
                    data.ino(),
                    data.size(),
                    data.mtime(),
                    data.mtime_nsec(),
                ),
                Err(_) => Identity::Path(path.clone()),
            },
            (None, None) => Identity::Bytes(image.to_vec()),
        };
        Self {
            identity,
            name,
            path,
            root,
            file,
            image,
            debug_file: None,
            opened: None,
            known: HashMap::new(),
        }
    }

    /// What tells it from others.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Looks for its debug file, where it may have one.
    pub(super) fn find_debug_file(&mut self) {
        let Some(elf) = self.image.elf().filter(|_| self.file.is_some()) else {
            self.file = None;
            return;
        };
        if debug_info::size(&elf).is_none() {
            self.debug_file = debug_file::find(&elf, &self.path, &self.root);
            // The mapping is enough, and a program may have more files than we may have open.
            self.file = None;
        }
    }

    /// Names an address.
    pub(super) fn resolve(
        &mut self,
        address: Address,
        options: &mut Options,
        strings: &mut Interner,
        notes: &mut Vec<String>,
    ) -> NativeFrames {
        if let Some(known) = self.known.get(&address) {
            return Arc::clone(known);
        }
        let (name, image) = (&self.name, &self.image);
        let opened = self.opened.get_or_insert_with(|| {
            let files = (self.file.as_ref(), self.debug_file.as_ref());
            Opened::read(name, image, files, &self.root, options, notes)
        });
        // What they were needed for is mapped now.
        self.file = None;
        self.debug_file = None;
        let frames = opened.frames(name, image, address, strings);
        if opened.debug_info.as_ref().is_some_and(DebugInfo::is_broken) {
            opened.debug_info = None;
            notes.push(format!("{name}: its debug information is damaged"));
        }
        self.known.insert(address, Arc::clone(&frames));
        frames
    }
}

impl Opened {
    fn read(
        name: &str,
        image: &Image,
        (file, debug_file): (Option<&File>, Option<&File>),
        root: &Path,
        options: &mut Options,
        notes: &mut Vec<String>,
    ) -> Self {
        let own = image.elf().map(|elf| SymbolTable::read(&elf));
        let separate = debug_file.map(|file| {
            let image = Image::map(file);
            let table = image.elf().map(|elf| SymbolTable::read(&elf));
            (table.unwrap_or_default(), image)
        });
        let (file, image) = match (debug_file, &separate) {
            (Some(file), Some((_, image))) => (Some(file), image),
            _ => (file, image),
        };
        let size = image.elf().as_ref().and_then(debug_info::size);
        let debug_info = size.zip(file).filter(|_| options.lines);
        let debug_info = debug_info.and_then(|(size, file)| {
            let megabytes = size >> 20;
            if size > options.largest_debug_info {
                let note = format!("{name}: {megabytes} MB of debug information are left out");
                notes.push(note);
                return None;
            }
            if size > SLOW_DEBUG_INFO
                && let Some(progress) = &mut options.progress
            {
                progress(&format!(
                    "reading {megabytes} MB of debug information of {name}"
                ));
            }
            if image.elf().as_ref().is_some_and(debug_depth::is_too_deep) {
                notes.push(format!(
                    "{name}: its debug information is nested too deeply"
                ));
                return None;
            }
            let directories = [
                root.join(DEBUG_DIRECTORY),
                Path::new("/").join(DEBUG_DIRECTORY),
            ];
            DebugInfo::open(file, &directories)
        });
        Self {
            own: own.unwrap_or_default(),
            separate,
            debug_info,
        }
    }

    fn symbol<'a>(&'a self, address: u64, image: &'a Image) -> Option<&'a str> {
        self.separate
            .as_ref()
            .and_then(|(table, image)| table.find(address, image))
            .or_else(|| self.own.find(address, image))
    }

    fn frames(
        &mut self,
        module: &Arc<str>,
        image: &Image,
        address: Address,
        strings: &mut Interner,
    ) -> NativeFrames {
        let instruction = address.instruction();
        let location = self
            .debug_info
            .as_mut()
            .and_then(|info| info.find(instruction));
        let symbol = self.symbol(instruction, image);
        let mut frame = |raw: Option<&str>, place: Option<Place>, inlined| NativeFrame {
            name: raw.map(|raw| strings.get(&demangle(raw))),
            raw_name: raw.map(|raw| strings.get(raw)),
            line: place.as_ref().and_then(|place| place.line),
            file: place.map(|place| strings.get(&place.file.to_string_lossy())),
            module: Arc::clone(module),
            offset: address.address,
            inlined,
        };
        let Some(location) = location else {
            return Arc::new([frame(symbol, None, false)]);
        };
        let Location {
            function,
            place,
            inlined,
        } = location;
        // The symbol table names parts (`.cold`), and what debug information leaves out: the
        // namespaces of local functions in C++.
        let name = symbol.or(function.as_deref());
        let mut frames = vec![frame(name, place, false)];
        frames.extend(
            inlined
                .into_iter()
                // Whose name is in a file that several debug files share and that is not at hand.
                .filter(|inlined| !inlined.name.is_empty())
                .map(|inlined| frame(Some(&inlined.name), inlined.place, true)),
        );
        frames.reverse();
        frames.into()
    }
}
