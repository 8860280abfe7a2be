//! The interpreters of a process: their numbers, locks, and the names of their threads.

use std::collections::{BTreeMap, HashMap};

use profiler_common::gil::{self, Gil};
use profiler_common::layout::ProcessEntry;
use profiler_common::mem::Memory;

use super::reader::Reader;
use crate::python::layout::PythonLayout;
use crate::python::thread_names::thread_names;
use crate::python::threads::ThreadState;

/// One interpreter.
#[derive(Debug, Default)]
pub(super) struct Interpreter {
    /// Its number.
    pub(super) id: Option<u64>,
    /// Its lock, which several may share.
    pub(super) gil: Gil,
    /// Names of threads by their thread pointers.
    pub(super) names: BTreeMap<u64, String>,
}

/// All interpreters that have threads, by address.
pub(super) fn read<M: Memory>(
    mem: &M,
    layout: &PythonLayout,
    entry: &ProcessEntry,
    reader: &Reader<'_, M>,
    states: &[ThreadState],
) -> HashMap<u64, Interpreter> {
    let mut found: HashMap<u64, Interpreter> = HashMap::new();
    for state in states {
        found.entry(state.interp).or_insert_with(|| Interpreter {
            id: reader.interpreter_id(state.interp),
            gil: Gil::default(),
            names: names(mem, layout, state.interp),
        });
    }
    // Behind the names, which take long: the state of the threads is read next.
    for (interp, interpreter) in &mut found {
        if gil::read(mem, entry, *interp, &mut interpreter.gil).is_err() {
            interpreter.gil = Gil::default();
        }
    }
    found
}

/// Names are extra: without `threading`, or where they cannot be read, there are none.
fn names<M: Memory>(mem: &M, layout: &PythonLayout, interp: u64) -> BTreeMap<u64, String> {
    let modules = mem.read_u64(interp.wrapping_add(layout.interp_modules));
    let named = modules
        .ok()
        .filter(|modules| *modules != 0)
        .and_then(|modules| thread_names(mem, &layout.objects, modules).ok());
    named.unwrap_or_default()
}
