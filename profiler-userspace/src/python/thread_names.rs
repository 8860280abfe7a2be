//! The names of a target's Python threads, from the objects of its `threading` module.
//!
//! `threading._active` (`Lib/threading.py`) has the `Thread` objects of all threads that run, by
//! `ident`; a thread that `threading` does not know (started by C code, and never asked for by
//! `current_thread()`) has no name there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use profiler_common::mem::{Fault, Memory};

use super::objects::{self, ItemTable, ObjectError, ObjectLayout};

/// Characters of a name at most.
const NAME_CHARS_MAX: usize = 4096;
/// Reads of memory at most: some 60 for a thread, and one for a module. Only garbage that leads
/// from one large dict to the next needs as many.
const READS_MAX: u32 = 1 << 21;

/// Memory that can be read so often only.
struct Metered<'a, M> {
    mem: &'a M,
    left: Cell<u32>,
}

impl<M: Memory> Memory for Metered<'_, M> {
    fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
        self.left.set(self.left.get().checked_sub(1).ok_or(Fault)?);
        self.mem.read(addr, dst)
    }
}

/// Offset of `modules` in `PyInterpreterState`, 3.8 to 3.12 (3.12: `imports.modules`); `None`
/// for any other version. From 3.13 on `_Py_DebugOffsets` has it, as
/// `interpreter_state.imports_modules`.
///
/// From `Include/internal/pycore_pystate.h` (3.8) and `Include/internal/pycore_interp.h`.
#[must_use]
pub fn modules_offset(minor: u8) -> Option<u64> {
    Some(match minor {
        8 => 0x38,
        9 | 10 => 0x358,
        11 => 0x378,
        12 => 0x3b0,
        _ => return None,
    })
}

/// The names of the threads by their ident (`PyThreadState.thread_id`, `pthread_self()`), from
/// the interpreter's dict of modules. None where `threading` was not imported.
///
/// The target runs on, so that a thread may come, end or change its name meanwhile. Names are
/// read twice: a thread whose name cannot be read, or is not the same both times, is left out.
///
/// # Errors
/// Where the way to the threads, or not one of their names could be read.
pub fn thread_names<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    interp_modules_dict: u64,
) -> Result<BTreeMap<u64, String>, ObjectError> {
    let left = Cell::new(READS_MAX);
    names_within(&Metered { mem, left }, layout, interp_modules_dict)
}

fn names_within<M: Memory>(
    mem: &Metered<'_, M>,
    layout: &ObjectLayout,
    interp_modules_dict: u64,
) -> Result<BTreeMap<u64, String>, ObjectError> {
    let modules = ItemTable::of_dict(mem, layout, interp_modules_dict)?;
    let Some(module) = modules.find(mem, layout, "threading")? else {
        return Ok(BTreeMap::new());
    };
    let globals = ItemTable::of_instance(mem, layout, module)?;
    let Some(active) = globals.find(mem, layout, "_active")? else {
        return Ok(BTreeMap::new());
    };
    let mut names = names_once(mem, layout, active)?;
    // A thread that ends while its name is read leaves memory that is used again, for what may
    // look like a name. It is not among the active ones then.
    let again = names_once(mem, layout, active)?;
    names.retain(|ident, name| again.get(ident) == Some(name));
    Ok(names)
}

fn names_once<M: Memory>(
    mem: &Metered<'_, M>,
    layout: &ObjectLayout,
    active: u64,
) -> Result<BTreeMap<u64, String>, ObjectError> {
    let mut names = BTreeMap::new();
    let active = ItemTable::of_dict(mem, layout, active)?;
    let mut broken = None;
    let stopped = active.for_each(mem, |ident, thread| {
        let named = objects::read_int(mem, layout, ident)
            .and_then(|ident| Ok((ident, thread_name(mem, layout, thread)?)));
        match named {
            Ok((ident, name)) => {
                names.insert(ident, name);
            }
            Err(error) => {
                broken.get_or_insert(error);
            }
        }
        if mem.left.get() == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let broken = stopped.err().or(broken);
    match broken {
        Some(error) if names.is_empty() => Err(error),
        _ => Ok(names),
    }
}

fn thread_name<M: Memory>(
    mem: &M,
    layout: &ObjectLayout,
    thread: u64,
) -> Result<String, ObjectError> {
    let attributes = ItemTable::of_instance(mem, layout, thread)?;
    let name = attributes.find(mem, layout, "_name")?;
    let name = name.ok_or(ObjectError::Broken("a thread without a name"))?;
    objects::read_str(mem, layout, name, NAME_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::objects::image::Image;
    use super::*;

    const MINORS: [u8; 8] = [8, 9, 10, 11, 12, 13, 14, 15];
    const IDENT: u64 = 0x7f12_3456_76c0;

    struct Target {
        image: Image,
        modules: u64,
        /// Name of the first thread.
        name: u64,
    }

    impl Target {
        fn names(&self) -> Result<BTreeMap<u64, String>, ObjectError> {
            thread_names(&self.image, &self.image.layout, self.modules)
        }
    }

    fn module(image: &mut Image, dict: u64) -> u64 {
        let ob_type = image.new_type(1 << 51);
        image.put_u64(ob_type + 0x120, 16);
        let module = image.alloc(24);
        image.put_u64(module + 8, ob_type);
        image.put_u64(module + 16, dict);
        module
    }

    fn target(minor: u8, names: &[&str]) -> Target {
        let mut image = Image::new(minor);
        let attributes = ["_target", "_name", "_args"].map(|name| (image.str(name), 0));
        let keys = image.keys(false, &attributes);
        let mut first = 0;
        let mut threads = vec![(0, 0)];
        for (index, name) in (0u64..).zip(names) {
            let name = image.str(name);
            if index == 0 {
                first = name;
            }
            let thread = image.instance(keys, &[0, name, name]);
            threads.push((image.int(IDENT + index), thread));
            threads.push((0, 0));
        }
        let active = image.dict(true, &threads);
        let globals = [("_limbo", active + 1), ("_active", active)]
            .map(|(name, value)| (image.str(name), value));
        let globals = image.dict(false, &globals);
        let threading = module(&mut image, globals);
        let modules =
            [("sys", 1), ("threading", threading)].map(|(name, value)| (image.str(name), value));
        let modules = image.dict(false, &modules);
        Target {
            image,
            modules,
            name: first,
        }
    }

    #[test]
    fn names_of_threads() {
        for minor in MINORS {
            let names = ["MainThread", "arbeiter-ü", "工人", ""];
            let found = target(minor, &names).names().unwrap();
            let want = (IDENT..)
                .zip(names.map(String::from))
                .collect::<BTreeMap<_, _>>();
            assert_eq!(found, want, "3.{minor}");
        }
    }

    #[test]
    fn without_threading() {
        for minor in MINORS {
            let mut target = target(minor, &[]);
            assert_eq!(target.names(), Ok(BTreeMap::new()), "3.{minor}");
            let sys = target.image.str("sys");
            target.modules = target.image.dict(false, &[(sys, 1)]);
            assert_eq!(target.names(), Ok(BTreeMap::new()), "3.{minor}");
            target.modules = sys;
            assert_eq!(target.names(), Err(ObjectError::NotADict), "3.{minor}");
        }
    }

    #[test]
    fn a_broken_thread_is_left_out() {
        for minor in MINORS {
            let mut target = target(minor, &["MainThread", "other"]);
            target
                .image
                .put_u64(target.name + 16, NAME_CHARS_MAX as u64 + 1);
            let names = target.names().unwrap();
            assert_eq!(names, BTreeMap::from([(IDENT + 1, "other".to_owned())]));
        }
    }

    #[test]
    fn only_broken_threads() {
        for minor in MINORS {
            let mut target = target(minor, &["MainThread"]);
            target
                .image
                .put_u64(target.name + 16, NAME_CHARS_MAX as u64 + 1);
            assert!(
                matches!(target.names(), Err(ObjectError::TooLong { .. })),
                "3.{minor}"
            );
        }
    }

    #[test]
    fn offsets_of_modules() {
        for minor in 0..=u8::MAX {
            assert_eq!(modules_offset(minor).is_some(), (8..=12).contains(&minor));
        }
    }

    /// Whatever one byte of memory says, there is an answer.
    #[test]
    fn any_byte_broken() {
        // One of each way in which instances keep their attributes.
        for minor in [10, 11, 12, 13] {
            let target = target(minor, &["MainThread", "工人"]);
            let addrs: Vec<u64> = target.image.bytes.borrow().keys().copied().collect();
            for addr in addrs {
                for value in [Some(0), Some(0xff), None] {
                    let mut bytes = target.image.bytes.borrow_mut();
                    let old = bytes.get(&addr).copied().unwrap();
                    match value {
                        Some(value) => bytes.insert(addr, value),
                        None => bytes.remove(&addr),
                    };
                    drop(bytes);
                    if let Ok(names) = target.names() {
                        assert!(names.len() <= 2);
                    }
                    target.image.bytes.borrow_mut().insert(addr, old);
                }
            }
        }
    }

    /// Memory that is mapped everywhere, and at every address leads on.
    struct Maze {
        word: fn(u64) -> u64,
        reads: Cell<u32>,
    }

    impl Memory for Maze {
        fn read(&self, addr: u64, dst: &mut [u8]) -> Result<(), Fault> {
            self.reads.set(self.reads.get() + 1);
            for (index, byte) in (0u64..).zip(dst) {
                let at = addr.wrapping_add(index);
                *byte = (self.word)(at & !7).to_le_bytes()[(at & 7) as usize];
            }
            Ok(())
        }
    }

    #[test]
    fn a_maze_ends() {
        let words: [fn(u64) -> u64; 6] = [
            |_| 0,
            |_| u64::MAX,
            |addr| addr,
            |addr| addr ^ 0xffff_ffff,
            |addr| addr.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            |addr| addr.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 47,
        ];
        for minor in MINORS {
            let layout = ObjectLayout::of_minor(minor).unwrap();
            for word in words {
                let maze = Maze {
                    word,
                    reads: Cell::new(0),
                };
                for seed in 0..200u64 {
                    let _ = thread_names(&maze, &layout, seed << 20);
                    let _ = objects::read_str(&maze, &layout, seed << 20, 1000);
                    let _ = objects::read_bytes(&maze, &layout, seed << 20, 1000);
                }
            }
        }
    }

    /// Many threads, each with as many attributes: the reads run out.
    #[test]
    fn the_reads_are_bounded() {
        let mut image = Image::new(13);
        let other = image.str("_nome");
        let many = image.dict(false, &vec![(other, 1); 1000]);
        let ob_type = image.new_type(1 << 52);
        image.put_u64(ob_type + 0x120, 16);
        let thread = image.alloc(24);
        image.put_u64(thread + 8, ob_type);
        image.put_u64(thread + 16, many);
        let ident = image.int(1);
        let active = image.dict(true, &vec![(ident, thread); 100]);
        let name = image.str("_active");
        let globals = image.dict(false, &[(name, active)]);
        let threading = module(&mut image, globals);
        let name = image.str("threading");
        let modules = image.dict(false, &[(name, threading)]);
        let metered = Metered {
            mem: &image,
            left: Cell::new(3000),
        };
        assert!(names_within(&metered, &image.layout, modules).is_err());
        assert_eq!(metered.left.get(), 0);
    }
}
