//! Native code of the processes of a session: keeps what the kernel has of their mappings in step
//! with which processes there are.

use profiler_common::counter::Counter;
use profiler_common::event::{EventHeader, EventKind};
use profiler_common::layout::MappingsRef;

use super::name_native::{NativeNames, name_native};
use super::native_target::{NativeTargets, Published};
use super::processes::{Processes, Role};
use super::recording::RecordError;
use super::session::{Session, monotonic_ns};
use crate::bpf::Programs;
use crate::bpf::counters::Counters;
use crate::native::MappedCode;

/// A process that was sampled later than so long ago keeps its mappings in the kernel.
const SAMPLED_JUST_NOW_NS: u64 = 1_000_000_000;

/// Does what a record says of a process's mappings, after [`super::arrivals::follow`].
pub(super) fn follow(
    native: &mut NativeTargets,
    header: &EventHeader,
    processes: &mut Processes,
    programs: &mut Programs,
) {
    let pid = header.tgid;
    match EventKind::from_u8(header.kind) {
        Some(EventKind::Sample | EventKind::OffCpu) => {
            let Some(process) = processes.get_mut(pid) else {
                return;
            };
            process.sampled_ns = header.time_ns;
            let (id, role) = (process.id, process.role);
            // The kernel's threads have no mappings.
            if process.target.mappings.table == 0
                && role != Role::Candidate
                && !processes.is_kernel_thread(id)
            {
                native.sampled(pid);
            }
        }
        Some(EventKind::Fork) => forked(native, header, processes, programs),
        Some(EventKind::Exec) => native.executed(pid),
        Some(EventKind::ProcessEnd) => native.ended(pid),
        _ => {}
    }
}

/// A process was made as a copy of another one, whose mappings may have been published anew
/// meanwhile: the copy has what the kernel says.
fn forked(
    native: &mut NativeTargets,
    header: &EventHeader,
    processes: &mut Processes,
    programs: &mut Programs,
) {
    let pid = header.tgid;
    native.forget(pid);
    let Some(process) = processes.get_mut(pid) else {
        return;
    };
    process.target.mappings = MappingsRef::default();
    // It may have ended, or run another program.
    let Some(entry) = programs.process(pid) else {
        return;
    };
    if entry.generation != header.generation || entry.mappings.table == 0 {
        return;
    }
    if native.code.share(pid, entry.mappings) {
        process.target.mappings = entry.mappings;
    } else {
        // That table is another's by now. If the entry cannot be changed, it ended just now.
        let _ended = programs.set_process(pid, &process.target.entry());
    }
}

impl Session {
    /// Tells the kernel what is mapped now, and which tables there are.
    pub(super) fn publish_native(&mut self, published: Published) -> Result<(), RecordError> {
        // What it wrote before may say that a process executed another program.
        let _more = self.drain();
        let Some(native) = &mut self.native else {
            return Ok(());
        };
        for (pid, mappings) in published {
            if !native.code.awaits(pid, mappings.generation) {
                continue;
            }
            let process = self.processes.get_mut(pid);
            let known = self.programs.process_generation(pid);
            match process {
                Some(process) if known == Some(process.target.generation()) => {
                    process.target.mappings = mappings;
                    let entry = process.target.entry();
                    self.programs.set_process(pid, &entry)?;
                    native.code.published(pid, mappings.generation);
                }
                // It did so just now, or ended: again when the record of it is here.
                _ => native.executed(pid),
            }
        }
        Ok(())
    }

    /// Takes out what of the mappings and tables nobody needs any more.
    pub(super) fn tidy_native(&mut self) {
        let Some(native) = &mut self.native else {
            return;
        };
        let gone = native.code.followed();
        let gone: Vec<u32> = gone
            .filter(|pid| self.processes.get(*pid).is_none())
            .collect();
        for pid in gone {
            native.forget(pid);
        }
        let stacks = &self.collector.stacks;
        native.tidy(|generation| stacks.names_mappings(generation));
        let crowd = native.code.crowd();
        if crowd > 0 {
            self.evict(crowd);
        }
    }

    /// Takes out the mappings of the processes that were not sampled for longest.
    fn evict(&mut self, count: usize) {
        let Some(native) = &mut self.native else {
            return;
        };
        let just_now = monotonic_ns().saturating_sub(SAMPLED_JUST_NOW_NS);
        let followed = native.code.followed().filter_map(|pid| {
            let sampled_ns = self.processes.get(pid)?.sampled_ns;
            (sampled_ns < just_now).then_some((sampled_ns, pid))
        });
        let mut idle: Vec<_> = followed.collect();
        idle.sort_unstable();
        for (_, pid) in idle.into_iter().take(count) {
            let Some(process) = self.processes.get_mut(pid) else {
                continue;
            };
            process.target.mappings = MappingsRef::default();
            if self.programs.process_generation(pid) == Some(process.target.generation()) {
                // If it cannot be changed, it ended just now.
                let _ended = self.programs.set_process(pid, &process.target.entry());
            }
            native.forget(pid);
            let counters = &mut self.collector.counters;
            counters.add(Counter::UnwindMappingsDropped, 1);
        }
    }

    /// Names native frames and merges the stacks that came since it was last asked for.
    pub(super) fn name_native_now(&mut self) {
        let Some(native) = &self.native else { return };
        let names = self
            .native_names
            .get_or_insert_with(|| NativeNames::new(self.options.tell));
        name_native(
            &mut self.collector.stacks,
            Some(&native.code),
            &self.processes,
            self.options.is_whole_system(),
            self.options.native,
            names,
        );
    }

    /// Names native frames and merges the stacks.
    pub(super) fn name_native(&mut self, counters: &mut Counters) {
        if self.native.is_none() && !self.options.kernel {
            return;
        }
        let code = self.native.as_ref().map(|native| &native.code);
        let named = name_native(
            &mut self.collector.stacks,
            code.map(|code| code as &dyn MappedCode),
            &self.processes,
            self.options.is_whole_system(),
            self.options.native,
            &mut NativeNames::new(self.options.tell),
        );
        self.disagreed.extend(named.disagreed);
        self.of_the_kernel.extend(named.of_the_kernel);
        for (key, weight) in self.collector.profile.weights() {
            // Where activations are counted, the kernel cannot tell, so it was not counted there.
            if self.disagreed.contains(&key.stack) {
                counters.add(Counter::MergeDisagreed, 1);
            }
            // The kernel's own threads have no native stack that could be missing.
            if self.of_the_kernel.contains(&key.stack) {
                counters.take_off(Counter::UnwindNoRegisters, weight.count);
            }
        }
        for note in named.notes {
            if !self.native_notes.contains(&note) {
                self.native_notes.push(note);
            }
        }
        if let Some(code) = code {
            let stats = code.stats();
            counters.add(Counter::UnwindTablesRefused, stats.tables_refused);
            counters.add(Counter::UnwindRulesRefused, stats.rules_refused);
            counters.add(Counter::UnwindTablesMissing, stats.tables_missing);
            counters.add(Counter::UnwindMappingsDropped, stats.mappings_refused);
        }
    }
}
