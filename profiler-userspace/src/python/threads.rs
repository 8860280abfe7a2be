//! The thread states of a process, from its interpreters' lists.

use profiler_common::mem::{Fault, Memory};

use super::layout::PythonLayout;

/// Interpreters and threads that are followed at most: lists in garbage have no end.
const MAX_INTERPRETERS: usize = 4096;
const MAX_THREADS: usize = 262_144;

/// One `PyThreadState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// Its address.
    pub address: u64,
    /// Its interpreter.
    pub interp: u64,
    /// `pthread_self()` of its thread: the thread pointer; 0 before the thread started.
    pub thread_id: u64,
}

/// Addresses of all interpreters, the newest first, the main one last.
///
/// # Errors
/// [`Fault`] when the list cannot be read.
pub fn interpreters<M: Memory>(
    mem: &M,
    layout: &PythonLayout,
    runtime: u64,
) -> Result<Vec<u64>, Fault> {
    let mut found = Vec::new();
    let mut interp = mem.read_u64(runtime.wrapping_add(layout.runtime_interpreters))?;
    while interp != 0 && found.len() < MAX_INTERPRETERS && !found.contains(&interp) {
        found.push(interp);
        interp = mem.read_u64(interp.wrapping_add(layout.interp_next))?;
    }
    Ok(found)
}

/// All thread states of all interpreters. A list that changes while it is read may come out
/// short: its readable part is returned.
///
/// # Errors
/// [`Fault`] when the list of interpreters cannot be read.
pub fn thread_states<M: Memory>(
    mem: &M,
    layout: &PythonLayout,
    runtime: u64,
) -> Result<Vec<ThreadState>, Fault> {
    let mut found = Vec::new();
    for interp in interpreters(mem, layout, runtime)? {
        let mut seen = std::collections::HashSet::new();
        let mut address = mem
            .read_u64(interp.wrapping_add(layout.interp_threads))
            .unwrap_or(0);
        while address != 0 && found.len() < MAX_THREADS && seen.insert(address) {
            let id_at = address.wrapping_add(u64::from(layout.walk.tstate_thread_id));
            let Ok(thread_id) = mem.read_u64(id_at) else {
                break;
            };
            found.push(ThreadState {
                address,
                interp,
                thread_id,
            });
            address = mem
                .read_u64(address.wrapping_add(layout.tstate_next))
                .unwrap_or(0);
        }
    }
    Ok(found)
}
