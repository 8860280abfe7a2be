//! Names for the native frames of a recording, and its stacks merged: when it is over, since files
//! are large and nobody waits for them before; or, where somebody looks on, piece by piece.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use profiler_common::unwind::{Token, TokenKind, UnwindStatus};

use super::frame::FrameText;
use super::merge::{Input, Item, Merged, NativeItem, Traits, merge};
use super::options::NativeFrames;
use super::processes::{Known, ProcessId, Processes};
use super::stacks::{FrameId, NativePart, Stacks};
use crate::native::{MappedCode, ModuleIndex, Source};
use crate::process::proc_file;
use crate::python::eval_loop;
use crate::symbols::internals::{interpreter_internal, root_internal, without_suffixes};
use crate::symbols::{
    Address, Content, ModuleFile, ModuleId, NativeFrame, NativeFrames as Resolved, Options,
    PerfMapId, Symbols, text,
};
use crate::unwind::function_ranges;

/// In place of native frames that no rule leads through.
const SKIPPED: &str = "[skipped]";
/// The kernel's functions that switch, and that wake: what they call is the tracing of it.
const TRACED: [&str; 2] = ["__schedule", "try_to_wake_up"];

/// What is told when all is named.
#[derive(Debug, Default)]
pub struct Named {
    /// Stacks whose activations were counted and whose two sides did not agree, by hash.
    pub disagreed: Vec<u64>,
    /// Stacks of the kernel's own threads without user code, by hash.
    pub of_the_kernel: Vec<u64>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// One address of the kernel.
#[derive(Clone, Copy, Debug)]
struct KernelName {
    frame: FrameId,
    traced: bool,
}

/// Whose a stack is, as far as its native frames are told by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Owner {
    process: ProcessId,
    mappings: u32,
    /// The file with the interpreter.
    interpreter: Option<ModuleIndex>,
    /// The program's own file.
    program: Option<ModuleIndex>,
    /// Activations and frames must be counted.
    by_count: bool,
    /// It is one of the kernel's threads.
    of_the_kernel: bool,
    /// It is recorded for what else it runs.
    without_python: bool,
}

/// A place in a file, and what else its name depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    module: ModuleIndex,
    address: u64,
    is_return_address: bool,
    interpreter: Option<ModuleIndex>,
    program: Option<ModuleIndex>,
    by_count: bool,
}

/// What is known of native code so far.
#[derive(Debug)]
pub struct NativeNames {
    symbols: Symbols,
    modules: HashMap<ModuleIndex, ModuleId>,
    jit: HashMap<ProcessId, PerfMapId>,
    /// By process and generation of its mappings.
    owners: HashMap<(ProcessId, u32), Owner>,
    /// Parts of the interpreter's loop, where activations are counted.
    loop_parts: HashMap<ModuleIndex, Vec<Range<u64>>>,
    /// Functions of files that have code without a symbol.
    functions: HashMap<ModuleIndex, Vec<Range<u64>>>,
    /// Names of code in files, which all processes that map them share.
    in_files: HashMap<Place, NativeItem>,
    /// Names of other code.
    elsewhere: HashMap<(ProcessId, u32, Token), NativeItem>,
    kernel: HashMap<u64, KernelName>,
}

impl NativeNames {
    /// Nothing yet. `progress` hears of what takes long.
    #[must_use]
    pub fn new(progress: impl FnMut(&str) + 'static) -> Self {
        Self {
            symbols: Symbols::new(Options {
                progress: Some(Box::new(progress)),
                ..Options::default()
            }),
            modules: HashMap::new(),
            jit: HashMap::new(),
            owners: HashMap::new(),
            loop_parts: HashMap::new(),
            functions: HashMap::new(),
            in_files: HashMap::new(),
            elsewhere: HashMap::new(),
            kernel: HashMap::new(),
        }
    }
}

struct Namer<'a> {
    code: Option<&'a dyn MappedCode>,
    processes: &'a Processes,
    /// Processes without Python are recorded for what they run.
    whole_system: bool,
    names: &'a mut NativeNames,
}

fn marker(status: UnwindStatus) -> Option<&'static str> {
    match status {
        UnwindStatus::Complete => None,
        UnwindStatus::Truncated => Some("[truncated]"),
        UnwindStatus::NotReady => Some("[incomplete: unwind table not ready]"),
        UnwindStatus::NoRegisters => Some("[incomplete: no user registers]"),
        UnwindStatus::NoMapping => Some("[incomplete: return address not mapped]"),
        UnwindStatus::NoRule => Some("[incomplete: no unwind rule]"),
        UnwindStatus::StackUnreadable => Some("[incomplete: stack unreadable]"),
        UnwindStatus::NotAdvancing => Some("[incomplete: unwind does not advance]"),
        UnwindStatus::Running | UnwindStatus::Internal => Some("[incomplete: internal]"),
    }
}

/// Names all native frames that are not named yet, and merges every stack.
pub fn name_native(
    stacks: &mut Stacks,
    code: Option<&dyn MappedCode>,
    processes: &Processes,
    whole_system: bool,
    show: NativeFrames,
    names: &mut NativeNames,
) -> Named {
    let mut namer = Namer {
        code,
        processes,
        whole_system,
        names,
    };
    let mut named = Named::default();
    for hash in stacks.with_native_part() {
        let Some(unmerged) = stacks.take_native(hash) else {
            continue;
        };
        let part = &unmerged.native;
        let owner = namer.owner(part);
        let items = namer.items(stacks, part, &owner, unmerged.off_cpu);
        let nothing_native = items.is_empty();
        let merged: Merged = merge(Input {
            items,
            python: &unmerged.python,
            walk_complete: unmerged.marker.is_none(),
            unwind: part.status,
            by_count: owner.by_count,
            show,
        });
        if merged.disagreed && owner.by_count {
            named.disagreed.push(hash);
        }
        let mut markers = Vec::new();
        // A thread without Python is as it should be where there is something else to see.
        let no_python = stacks.intern(FrameText::marker("[no Python]"));
        let says_so = |marker: &FrameId| nothing_native || *marker != no_python;
        // Nor is anything to be said of a program that need not have any.
        markers.extend(
            unmerged
                .marker
                .filter(says_so)
                .filter(|_| !owner.without_python),
        );
        let needs_no_user_code = owner.of_the_kernel && part.status == UnwindStatus::NoRegisters;
        if needs_no_user_code {
            named.of_the_kernel.push(hash);
        } else if show != NativeFrames::None {
            let native = marker(part.status);
            markers.extend(native.map(|text| stacks.intern(FrameText::marker(text))));
        }
        let frames = markers.into_iter();
        stacks.set_frames(
            hash,
            frames.chain(merged.frames.into_iter().rev()).collect(),
        );
    }
    named.notes = namer.names.symbols.take_notes();
    if !namer.names.kernel.is_empty() && namer.names.symbols.kernel_is_hidden() {
        named.notes.push(
            "the kernel hides its symbols: run as root, or sysctl kernel.kptr_restrict=0"
                .to_owned(),
        );
    }
    named
}

/// Whether the last item is code outside of every file.
fn last_is_jit(items: &[Item]) -> bool {
    match items.last() {
        Some(Item::Native(native)) => native.frames.iter().any(|(_, traits)| traits.jit),
        _ => false,
    }
}

impl Namer<'_> {
    /// Whose a stack is.
    fn owner(&mut self, part: &NativePart) -> Owner {
        let key = (part.process, part.mappings);
        if let Some(owner) = self.names.owners.get(&key) {
            return *owner;
        }
        let known = self.processes.known(part.process);
        let owner = Owner {
            process: part.process,
            mappings: part.mappings,
            of_the_kernel: self.processes.is_kernel_thread(part.process),
            without_python: self.whole_system
                && known.is_some_and(|known| known.interpreter.is_none()),
            ..Owner::default()
        };
        let owner = known.map_or(owner, |known| self.with_files(owner, known));
        self.names.owners.insert(key, owner);
        owner
    }

    fn with_files(&mut self, mut owner: Owner, known: &Known) -> Owner {
        let Some((code, space)) = self
            .code
            .and_then(|code| Some((code, code.space(owner.mappings)?)))
        else {
            return owner;
        };
        if let Some(python) = &known.interpreter {
            owner.interpreter = space.module_at(&python.module, code.modules());
            owner.by_count = python.by_count;
            if python.by_count
                && let Some(index) = owner.interpreter
                && let Some(module) = code.modules().get(index)
            {
                self.names.loop_parts.entry(index).or_insert_with(|| {
                    let parts = module.source.with_elf(eval_loop::ranges);
                    parts.unwrap_or_default()
                });
            }
        }
        let executable = known.identity.executable.as_deref();
        let is_program = |index: &&ModuleIndex| {
            let path = code.modules().get(**index).map(|module| &module.path);
            let name = path.and_then(|path| path.file_name());
            executable.is_some() && name.and_then(|name| name.to_str()) == executable
        };
        owner.program = space.modules().iter().find(is_program).copied();
        owner
    }

    fn items(
        &mut self,
        stacks: &mut Stacks,
        part: &NativePart,
        owner: &Owner,
        off_cpu: bool,
    ) -> Vec<Item> {
        let mut items = Vec::new();
        for token in &part.tokens {
            match token.kind() {
                Some(TokenKind::Kernel(address)) => {
                    let name = self.kernel(stacks, address);
                    if off_cpu && name.traced {
                        // What came before is the tracing of it.
                        items.clear();
                    }
                    items.push(Item::Kernel(name.frame));
                }
                Some(TokenKind::Python(frames)) => items.push(Item::Python(frames as usize)),
                Some(TokenKind::Exact(address)) => {
                    items.push(self.native(stacks, owner, *token, address, false));
                }
                Some(TokenKind::Return(address)) => {
                    items.push(self.native(stacks, owner, *token, address, true));
                }
                // A JIT compiler's code runs right above the interpreter's loop.
                Some(TokenKind::Skipped) if last_is_jit(&items) => {
                    items.push(Item::Skipped(None));
                }
                Some(TokenKind::Skipped) => {
                    let marker = stacks.intern(FrameText::marker(SKIPPED));
                    items.push(Item::Skipped(Some(marker)));
                }
                None => {}
            }
        }
        items
    }

    fn kernel(&mut self, stacks: &mut Stacks, address: u64) -> KernelName {
        if let Some(name) = self.names.kernel.get(&address) {
            return *name;
        }
        let found = self.names.symbols.kernel(&[address]);
        let (shown, traced) = match found.first() {
            Some(frame) => (
                text::kernel(frame),
                (frame.name.as_deref().map(without_suffixes))
                    .is_some_and(|name| TRACED.contains(&name)),
            ),
            None => (text::unknown_kernel(), false),
        };
        let name = KernelName {
            frame: stacks.intern(FrameText::Kernel {
                name: shown.name,
                place: shown.place,
            }),
            traced,
        };
        self.names.kernel.insert(address, name);
        name
    }

    fn native(
        &mut self,
        stacks: &mut Stacks,
        owner: &Owner,
        token: Token,
        address: u64,
        is_return_address: bool,
    ) -> Item {
        let space = self.code.and_then(|code| code.space(owner.mappings));
        let area = space
            .and_then(|space| space.find(address.wrapping_sub(u64::from(is_return_address))))
            .copied();
        let module = area.and_then(|area| area.module);
        if let (Some(area), Some(index)) = (area, module)
            && let Some(id) = self.module(index)
        {
            let place = Place {
                module: index,
                address: address.wrapping_sub(area.bias),
                is_return_address,
                interpreter: owner.interpreter,
                program: owner.program,
                by_count: owner.by_count,
            };
            return Item::Native(self.in_file(stacks, owner, id, place));
        }
        let key = (owner.process, owner.mappings, token);
        if let Some(item) = self.names.elsewhere.get(&key) {
            return Item::Native(item.clone());
        }
        let frames = match area {
            // Anonymous memory, or a file that is none.
            Some(_) => {
                let jit = self.jit(owner.process);
                let address = Address {
                    address,
                    is_return_address,
                };
                self.names.symbols.resolve_jit(jit, &[address])
            }
            None => Vec::new(),
        };
        let instruction = address.wrapping_sub(u64::from(is_return_address));
        let item = self.item(stacks, owner, module, &frames, instruction);
        self.names.elsewhere.insert(key, item.clone());
        Item::Native(item)
    }

    fn in_file(
        &mut self,
        stacks: &mut Stacks,
        owner: &Owner,
        id: ModuleId,
        place: Place,
    ) -> NativeItem {
        if let Some(item) = self.names.in_files.get(&place) {
            return item.clone();
        }
        let Place {
            module,
            address,
            is_return_address,
            ..
        } = place;
        let asked = Address {
            address,
            is_return_address,
        };
        let frames = self.names.symbols.resolve(id, &[asked]);
        let instruction = address.wrapping_sub(u64::from(is_return_address));
        let item = self.item(stacks, owner, Some(module), &frames, instruction);
        self.names.in_files.insert(place, item.clone());
        item
    }

    fn item(
        &mut self,
        stacks: &mut Stacks,
        owner: &Owner,
        module: Option<ModuleIndex>,
        frames: &[Resolved],
        instruction: u64,
    ) -> NativeItem {
        let frames = match frames.first() {
            Some(frames) if !frames.is_empty() => frames
                .iter()
                .map(|frame| self.frame(stacks, owner, module, frame, instruction))
                .collect(),
            _ => {
                let shown = FrameText::marker("[unmapped code]");
                vec![(stacks.intern(shown), Traits::default())]
            }
        };
        NativeItem { frames }
    }

    fn frame(
        &mut self,
        stacks: &mut Stacks,
        owner: &Owner,
        module: Option<ModuleIndex>,
        frame: &NativeFrame,
        instruction: u64,
    ) -> (FrameId, Traits) {
        let traits = self.traits(owner, module, frame, instruction);
        let mut shown = frame.clone();
        // Debug information has the directory of whoever built it, which tells nothing here.
        shown.file = frame.file.as_deref().map(|file| {
            let name = file.rsplit('/').next().unwrap_or(file);
            name.into()
        });
        if let (None, Some(module)) = (&frame.name, module) {
            // One function is one frame, whatever it is called.
            shown.offset = self
                .function_start(module, instruction)
                .unwrap_or(frame.offset);
        }
        let text::Shown { name, place, line } = text::native(&shown);
        let text = FrameText::Native { name, place, line };
        (stacks.intern(text), traits)
    }

    /// The start of the function at an address that no symbol covers.
    fn function_start(&mut self, index: ModuleIndex, address: u64) -> Option<u64> {
        let module = self.code?.modules().get(index)?;
        let functions = self.names.functions.entry(index).or_insert_with(|| {
            let ranges = module.source.with_elf(function_ranges);
            ranges.unwrap_or_default()
        });
        let behind = functions.partition_point(|function| function.start <= address);
        let function = functions.get(behind.checked_sub(1)?)?;
        function.contains(&address).then_some(function.start)
    }

    fn traits(
        &self,
        owner: &Owner,
        module: Option<ModuleIndex>,
        frame: &NativeFrame,
        instruction: u64,
    ) -> Traits {
        let interpreter = module.is_some() && module == owner.interpreter;
        let in_loop = || {
            let parts = module
                .filter(|_| owner.by_count)
                .and_then(|index| self.names.loop_parts.get(&index));
            parts.is_some_and(|parts| parts.iter().any(|part| part.contains(&instruction)))
        };
        let Some(name) = frame.raw_name.as_deref() else {
            return Traits {
                interpreter,
                eval_loop: interpreter && in_loop(),
                jit: module.is_none(),
                machinery: module.is_some_and(|module| self.is_trampoline(module)),
                entry: module.is_some_and(|module| self.starts_threads(module)),
                unnamed: true,
            };
        };
        // A `main` of a program that has Python built in is the user's own.
        let entry = root_internal(name) && (name != "main" || self.is_python(owner, module));
        Traits {
            interpreter,
            eval_loop: without_suffixes(name) == eval_loop::SYMBOL || (interpreter && in_loop()),
            jit: module.is_none(),
            machinery: (interpreter && interpreter_internal(name))
                || module.is_some_and(|module| self.is_trampoline(module)),
            entry,
            unnamed: false,
        }
    }

    /// Whether it is the trampolines of `-X perf`, which say what the Python frames say.
    fn is_trampoline(&self, module: ModuleIndex) -> bool {
        let module = self.code.and_then(|code| code.modules().get(module));
        module.is_some_and(|module| matches!(module.source, Source::Trampolines(_)))
    }

    /// Whether a module is the C library, whose code without a name at the root of a stack is what
    /// starts programs and threads.
    fn starts_threads(&self, module: ModuleIndex) -> bool {
        let path = self
            .code
            .and_then(|code| Some(&code.modules().get(module)?.path));
        let name = path.and_then(|path| path.file_name());
        name.is_some_and(|name| {
            let name = name.to_string_lossy();
            ["libc.so", "libc-", "libpthread", "ld-", "ld-musl"]
                .iter()
                .any(|start| name.starts_with(start))
        })
    }

    /// Whether a module is the interpreter, or the program that does nothing but run it.
    fn is_python(&self, owner: &Owner, module: Option<ModuleIndex>) -> bool {
        if module.is_none() || module == owner.interpreter {
            return module.is_some();
        }
        let path = module.and_then(|module| Some(&self.code?.modules().get(module)?.path));
        module == owner.program
            && path
                .and_then(|path| path.file_name())
                .is_some_and(|name| name.to_string_lossy().starts_with("python"))
    }

    fn module(&mut self, index: ModuleIndex) -> Option<ModuleId> {
        if let Some(id) = self.names.modules.get(&index) {
            return Some(*id);
        }
        let module = self.code?.modules().get(index)?;
        let content = match &module.source {
            Source::File(_, file) => Content::File(file.try_clone().ok()?),
            Source::Memory(image) => Content::Memory(image.to_vec()),
            Source::Trampolines(_) | Source::Nothing => return None,
        };
        let id = self.names.symbols.add_module(ModuleFile {
            path: module.path.clone(),
            content,
            root: module.root.clone(),
        });
        self.names.modules.insert(index, id);
        Some(id)
    }

    /// The map that a JIT compiler of a process may have written.
    fn jit(&mut self, process: ProcessId) -> PerfMapId {
        if let Some(id) = self.names.jit.get(&process) {
            return *id;
        }
        let known = self.processes.known(process);
        let pid = known.map_or(0, |known| known.identity.pid);
        let root = PathBuf::from(format!("/proc/{pid}/root"));
        let (root, own) = if known.is_some_and(|known| known.running) {
            (root, proc_file::innermost_tid(pid, pid))
        } else {
            // The map stays behind, where others than its container see it.
            let inner_pid = known.and_then(|known| known.identity.inner_pid);
            (PathBuf::from("/"), inner_pid.unwrap_or(pid))
        };
        let id = self.names.symbols.add_perf_map(&root, own);
        self.names.jit.insert(process, id);
        id
    }
}
