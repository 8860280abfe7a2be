//! Names for the native frames of a recording, and its stacks merged: when it is over, since files
//! are large and nobody waits for them before.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use profiler_common::unwind::{Token, TokenKind, UnwindStatus};

use super::merge::{Input, Item, Merged, NativeItem, Traits, merge};
use super::options::NativeFrames;
use super::stacks::{FrameId, FrameText, NativePart, Stacks};
use crate::native::{ModuleIndex, NativeCode, Source};
use crate::process::proc_file;
use crate::python::eval_loop;
use crate::symbols::internals::{interpreter_internal, root_internal, without_suffixes};
use crate::symbols::{
    Address, Content, ModuleFile, ModuleId, NativeFrame, Options, PerfMapId, Symbols, text,
};
use crate::unwind::function_ranges;

/// In place of native frames that no rule leads through.
const SKIPPED: &str = "[skipped]";
/// The kernel's functions that switch, and that wake: what they call is the tracing of it.
const TRACED: [&str; 2] = ["__schedule", "try_to_wake_up"];

/// What is known of the Python of the target.
#[derive(Clone, Copy, Debug)]
pub struct Interpreter<'a> {
    /// Its file, as the target sees it.
    pub module: &'a Path,
    /// Activations and frames must be counted: 3.8 and 3.9.
    pub by_count: bool,
}

/// What is told when all is named.
#[derive(Debug, Default)]
pub struct Named {
    /// Stacks whose two sides did not agree, by hash.
    pub disagreed: Vec<u64>,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// One address of the kernel.
#[derive(Clone, Copy)]
struct KernelName {
    frame: FrameId,
    traced: bool,
}

struct Namer<'a> {
    code: Option<&'a NativeCode>,
    symbols: Symbols,
    modules: HashMap<ModuleIndex, ModuleId>,
    jit: Option<PerfMapId>,
    pid: u32,
    interpreter: Option<ModuleIndex>,
    program: Option<ModuleIndex>,
    /// Parts of the interpreter's loop, where activations are counted.
    loop_parts: Vec<Range<u64>>,
    /// Functions of files that have code without a symbol.
    functions: HashMap<ModuleIndex, Vec<Range<u64>>>,
    native: HashMap<(u32, Token), NativeItem>,
    kernel: HashMap<u64, KernelName>,
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

/// Names all native frames, and merges every stack.
pub fn name_native(
    stacks: &mut Stacks,
    code: Option<&NativeCode>,
    pid: u32,
    python: Option<Interpreter<'_>>,
    show: NativeFrames,
    progress: impl FnMut(&str) + 'static,
) -> Named {
    let module_of = |path: &Path| {
        let mut modules = code?.modules.iter();
        modules
            .find(|(_, module)| module.path == path)
            .map(|(index, _)| index)
    };
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let mut namer = Namer {
        code,
        symbols: Symbols::new(Options {
            progress: Some(Box::new(progress)),
            ..Options::default()
        }),
        modules: HashMap::new(),
        jit: None,
        pid,
        interpreter: python.and_then(|python| module_of(python.module)),
        program: exe.and_then(|exe| module_of(&exe)),
        loop_parts: Vec::new(),
        functions: HashMap::new(),
        native: HashMap::new(),
        kernel: HashMap::new(),
    };
    let by_count = python.is_some_and(|python| python.by_count);
    if by_count && let Some(module) = namer.interpreter.and_then(|index| code?.modules.get(index)) {
        let parts = module.source.with_elf(eval_loop::ranges);
        namer.loop_parts = parts.unwrap_or_default();
    }
    let mut named = Named::default();
    for hash in stacks.with_native_part() {
        let Some(unmerged) = stacks.take_native(hash) else {
            continue;
        };
        let part = &unmerged.native;
        let items = namer.items(stacks, part, unmerged.off_cpu);
        let nothing_native = items.is_empty();
        let merged: Merged = merge(Input {
            items,
            python: &unmerged.python,
            walk_complete: unmerged.marker.is_none(),
            unwind: part.status,
            by_count,
            show,
        });
        if merged.disagreed {
            named.disagreed.push(hash);
        }
        let mut markers = Vec::new();
        // A thread without Python is as it should be where there is something else to see.
        let no_python = stacks.intern(FrameText::Marker("[no Python]"));
        markers.extend(
            unmerged
                .marker
                .filter(|marker| nothing_native || *marker != no_python),
        );
        if show != NativeFrames::None {
            let native = marker(part.status);
            markers.extend(native.map(|text| stacks.intern(FrameText::Marker(text))));
        }
        let frames = markers.into_iter();
        stacks.set_frames(
            hash,
            frames.chain(merged.frames.into_iter().rev()).collect(),
        );
    }
    named.notes = namer.symbols.take_notes();
    if !namer.kernel.is_empty() && namer.symbols.kernel_is_hidden() {
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
    fn items(&mut self, stacks: &mut Stacks, part: &NativePart, off_cpu: bool) -> Vec<Item> {
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
                    items.push(self.native(stacks, part.mappings, *token, address, false));
                }
                Some(TokenKind::Return(address)) => {
                    items.push(self.native(stacks, part.mappings, *token, address, true));
                }
                // A JIT compiler's code runs right above the interpreter's loop.
                Some(TokenKind::Skipped) if last_is_jit(&items) => {
                    items.push(Item::Skipped(None));
                }
                Some(TokenKind::Skipped) => {
                    let marker = stacks.intern(FrameText::Marker(SKIPPED));
                    items.push(Item::Skipped(Some(marker)));
                }
                None => {}
            }
        }
        items
    }

    fn kernel(&mut self, stacks: &mut Stacks, address: u64) -> KernelName {
        if let Some(name) = self.kernel.get(&address) {
            return *name;
        }
        let found = self.symbols.kernel(&[address]);
        let (shown, traced) = match found.first() {
            Some(frame) => (
                text::kernel(frame),
                (frame.name.as_deref().map(without_suffixes))
                    .is_some_and(|name| TRACED.contains(&name)),
            ),
            None => ("[kernel]".to_owned(), false),
        };
        let name = KernelName {
            frame: stacks.intern(FrameText::Native(shown.into())),
            traced,
        };
        self.kernel.insert(address, name);
        name
    }

    fn native(
        &mut self,
        stacks: &mut Stacks,
        mappings: u32,
        token: Token,
        address: u64,
        is_return_address: bool,
    ) -> Item {
        let key = (mappings, token);
        if let Some(item) = self.native.get(&key) {
            return Item::Native(item.clone());
        }
        let area = self
            .code
            .and_then(|code| code.space(mappings))
            .and_then(|space| space.find(address.wrapping_sub(u64::from(is_return_address))))
            .copied();
        let module = area.and_then(|area| area.module);
        let frames = match (area, module.and_then(|module| self.module(module))) {
            (Some(area), Some(module)) => self.symbols.resolve(
                module,
                &[Address {
                    address: address.wrapping_sub(area.bias),
                    is_return_address,
                }],
            ),
            // Anonymous memory, or a file that is none.
            (Some(_), None) => {
                let jit = self.jit();
                let address = Address {
                    address,
                    is_return_address,
                };
                self.symbols.resolve_jit(jit, &[address])
            }
            (None, _) => Vec::new(),
        };
        let file_address = area.map_or(0, |area| address.wrapping_sub(area.bias));
        let instruction = file_address.wrapping_sub(u64::from(is_return_address));
        let frames = match frames.first() {
            Some(frames) if !frames.is_empty() => frames
                .iter()
                .map(|frame| self.frame(stacks, module, frame, instruction))
                .collect(),
            _ => {
                let shown = FrameText::Marker("[unmapped code]");
                vec![(stacks.intern(shown), Traits::default())]
            }
        };
        let item = NativeItem { frames };
        self.native.insert(key, item.clone());
        Item::Native(item)
    }

    fn frame(
        &mut self,
        stacks: &mut Stacks,
        module: Option<ModuleIndex>,
        frame: &NativeFrame,
        instruction: u64,
    ) -> (FrameId, Traits) {
        let traits = self.traits(module, frame, instruction);
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
        let text = FrameText::Native(text::native(&shown).into());
        (stacks.intern(text), traits)
    }

    /// The start of the function at an address that no symbol covers.
    fn function_start(&mut self, index: ModuleIndex, address: u64) -> Option<u64> {
        let module = self.code?.modules.get(index)?;
        let functions = self.functions.entry(index).or_insert_with(|| {
            let ranges = module.source.with_elf(function_ranges);
            ranges.unwrap_or_default()
        });
        let behind = functions.partition_point(|function| function.start <= address);
        let function = functions.get(behind.checked_sub(1)?)?;
        function.contains(&address).then_some(function.start)
    }

    fn traits(&self, module: Option<ModuleIndex>, frame: &NativeFrame, instruction: u64) -> Traits {
        let interpreter = module.is_some() && module == self.interpreter;
        let in_loop = || {
            self.loop_parts
                .iter()
                .any(|part| part.contains(&instruction))
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
        let entry = root_internal(name) && (name != "main" || self.is_python(module));
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
        let module = self.code.and_then(|code| code.modules.get(module));
        module.is_some_and(|module| matches!(module.source, Source::Trampolines(_)))
    }

    /// Whether a module is the C library, whose code without a name at the root of a stack is what
    /// starts programs and threads.
    fn starts_threads(&self, module: ModuleIndex) -> bool {
        let path = self
            .code
            .and_then(|code| Some(&code.modules.get(module)?.path));
        let name = path.and_then(|path| path.file_name());
        name.is_some_and(|name| {
            let name = name.to_string_lossy();
            ["libc.so", "libc-", "libpthread", "ld-", "ld-musl"]
                .iter()
                .any(|start| name.starts_with(start))
        })
    }

    /// Whether a module is the interpreter, or the program that does nothing but run it.
    fn is_python(&self, module: Option<ModuleIndex>) -> bool {
        if module.is_none() || module == self.interpreter {
            return module.is_some();
        }
        let path = module.and_then(|module| Some(&self.code?.modules.get(module)?.path));
        module == self.program
            && path
                .and_then(|path| path.file_name())
                .is_some_and(|name| name.to_string_lossy().starts_with("python"))
    }

    fn module(&mut self, index: ModuleIndex) -> Option<ModuleId> {
        if let Some(id) = self.modules.get(&index) {
            return Some(*id);
        }
        let module = self.code?.modules.get(index)?;
        let content = match &module.source {
            Source::File(_, file) => Content::File(file.try_clone().ok()?),
            Source::Memory(image) => Content::Memory(image.to_vec()),
            Source::Trampolines(_) | Source::Nothing => return None,
        };
        let id = self.symbols.add_module(ModuleFile {
            path: module.path.clone(),
            content,
            root: module.root.clone(),
        });
        self.modules.insert(index, id);
        Some(id)
    }

    fn jit(&mut self) -> PerfMapId {
        if let Some(id) = self.jit {
            return id;
        }
        let root = format!("/proc/{}/root", self.pid);
        let own = proc_file::innermost_tid(self.pid, self.pid);
        let id = self.symbols.add_perf_map(Path::new(&root), own);
        self.jit = Some(id);
        id
    }
}
