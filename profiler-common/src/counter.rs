//! Every outcome that somebody may have to know of: one enum for the kernel, the output and the
//! documentation.

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $class:ident;)+) => {
        /// A counter. The kernel's map `COUNTERS` is indexed by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// All counters, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that output and documentation use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it counts.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }

            /// How much it matters.
            #[must_use]
            pub const fn class(self) -> Class {
                match self { $(Self::$variant => Class::$class,)+ }
            }
        }
    };
}

/// What a counter means for the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Plain accounting.
    Info,
    /// Weight that is missing from the profile.
    Lost,
    /// Weight that is in the profile with less of a stack than it should have.
    Degraded,
}

counters! {
    /// On-CPU samples taken of target threads.
    Samples = "samples", Info;
    /// On-CPU samples of processes that are no targets: each counts for its command.
    OtherSamples = "other_samples", Info;
    /// Off-CPU stretches, those that had not ended with the recording included.
    OffCpuStretches = "off_cpu_stretches", Info;
    /// Stacks sent with their frames, because the gate had not seen them.
    StacksSent = "stacks_sent", Info;
    /// Code objects sent with what names them, because the gate had not seen them.
    CodesSent = "codes_sent", Info;
    /// Code objects that the full ring buffer did not take: their names are read from the process.
    CodesLost = "codes_lost", Info;
    /// Code objects with a name of more than 4,096 characters or a line table of more than 32 KiB, of which the beginning was sent: the names are read from the process.
    CodesTruncated = "codes_truncated", Info;
    /// Code objects left out of samples with more than 256 new ones, or 256 KiB of them: their names are read from the process.
    CodesLeftOut = "codes_left_out", Info;
    /// Code objects whose names were read from the process, because the kernel had not sent them.
    CodesRead = "codes_read", Info;
    /// Threads sampled before or after they have a Python thread state, or that never have one.
    NoThreadState = "no_thread_state", Info;
    /// Samples of a process whose Python is not known yet, or no more since it executed another program.
    ProcessNotReady = "process_not_ready", Degraded;
    /// On-CPU samples that the full ring buffer did not take, or that came by the thousands before it was known what their process is.
    SamplesLost = "samples_lost", Lost;
    /// Stacks that the full ring buffer did not take; they are sent again when they recur.
    StacksLost = "stacks_lost", Degraded;
    /// Off-CPU stretches that the full ring buffer did not take, or that came by the thousands before it was known what their process is.
    OffCpuLost = "off_cpu_lost", Lost;
    /// Nanoseconds of the off-CPU stretches in off_cpu_lost.
    OffCpuLostNs = "off_cpu_lost_ns", Lost;
    /// Off-CPU stretches shorter than --off-cpu-min.
    OffCpuShort = "off_cpu_short", Info;
    /// Nanoseconds of the off-CPU stretches in off_cpu_short.
    OffCpuShortNs = "off_cpu_short_ns", Info;
    /// Switches that the kernel did not report: the time is there, from its own accounting of the thread.
    SwitchesMissed = "switches_missed", Degraded;
    /// Records of a process's or thread's life that the full ring buffer did not take.
    LifecycleLost = "lifecycle_lost", Degraded;
    /// The kernel's map of processes was full: these are missing, or count for their commands.
    ProcessesUnknown = "processes_unknown", Lost;
    /// Programs that ended before it could be read what they are: shown by number, or as (ended).
    ProcessesUnnamed = "processes_unnamed", Degraded;
    /// The kernel's thread map was full: off-CPU time of these threads is missing.
    ThreadsUntracked = "threads_untracked", Lost;
    /// The way to the thread state could not be read.
    ThreadStateUnreadable = "thread_state_unreadable", Degraded;
    /// A thread state that belongs to another thread.
    ThreadStateForeign = "thread_state_foreign", Degraded;
    /// A frame could not be read: the stack ends there.
    FrameUnreadable = "frame_unreadable", Degraded;
    /// A frame's code object is no code object: the stack ends there.
    CodeInvalid = "code_invalid", Degraded;
    /// A code object could not be read in the kernel: the frame is kept, its identity unproven.
    CodeUnreadable = "code_unreadable", Info;
    /// A chain of frames that comes back to itself.
    FrameCycle = "frame_cycle", Degraded;
    /// Stacks deeper than 1,024 Python frames: the leaf side is kept.
    Truncated = "truncated", Degraded;
    /// Waits whose system call or descriptor could not be read: shown as [other].
    CauseUnreadable = "cause_unreadable", Degraded;
    /// Samples and waits of which it is not known who held the interpreter's lock, which could not be read.
    GilUnreadable = "gil_unreadable", Degraded;
    /// Frames whose code object was freed before its name was read: shown as [freed code].
    CodeGone = "code_gone", Degraded;
    /// Code objects that were freed before their line table, of which the beginning was sent at most, was read: lines are missing.
    CodeLinesGone = "code_lines_gone", Degraded;
    /// Stacks whose names were read without a proof that the code object was still the same.
    CodeUnproven = "code_unproven", Info;
    /// Stacks that have weight, or ended a wait, and whose frames never came: shown as [stack lost].
    StackMissing = "stack_missing", Degraded;
    /// Threads that were off-CPU when the recording began and ran before their stack was read.
    SnapshotMissing = "snapshot_missing", Degraded;
    /// Native stacks sent with their frames, because the gate had not seen them.
    NativeStacksSent = "native_stacks_sent", Info;
    /// Native stacks that the full ring buffer did not take; they are sent again when they recur.
    NativeStacksLost = "native_stacks_lost", Degraded;
    /// Samples of a process whose mappings are not known yet, or no more since it executed another program: no native frames.
    UnwindNotReady = "unwind_not_ready", Degraded;
    /// Samples of threads without registers of 64-bit user code: no native frames.
    UnwindNoRegisters = "unwind_no_registers", Degraded;
    /// Native stacks of more than 3,072 frames: the leaf side is kept.
    UnwindTruncated = "unwind_truncated", Degraded;
    /// A return address lies in no executable mapping: the native stack ends there.
    UnwindNoMapping = "unwind_no_mapping", Degraded;
    /// No rule covers the code and frame pointers lead nowhere: the native stack ends there.
    UnwindNoRule = "unwind_no_rule", Degraded;
    /// The stack could not be read: the native stack ends there.
    UnwindStackUnreadable = "unwind_stack_unreadable", Degraded;
    /// The caller's frame does not lie above: the native stack ends there.
    UnwindNotAdvancing = "unwind_not_advancing", Degraded;
    /// Samples whose native stack was unwound by frame pointers in part, for want of a rule.
    UnwindByFramePointer = "unwind_by_frame_pointer", Info;
    /// Samples whose native stack leaves code without a rule out, up to the next activation of the interpreter's loop.
    UnwindSkipped = "unwind_skipped", Info;
    /// Samples whose kernel stack could not be read.
    KernelStackUnreadable = "kernel_stack_unreadable", Degraded;
    /// Rules that were searched in the tables, because the cache did not have them.
    RulesSearched = "rules_searched", Info;
    /// Samples whose native and Python stacks do not agree: the Python stack is kept whole, and the native leaf.
    MergeDisagreed = "merge_disagreed", Degraded;
    /// Files whose unwind table did not fit into the memory set aside for them: frame pointers are used.
    UnwindTablesRefused = "unwind_tables_refused", Degraded;
    /// Rows whose rule did not fit into the table of all rules: frame pointers are used.
    UnwindRulesRefused = "unwind_rules_refused", Degraded;
    /// Files without call frame information that can be used: frame pointers are used.
    UnwindTablesMissing = "unwind_tables_missing", Info;
    /// Times that the mappings of a process found no room in the kernel, or made room for another's: no native frames until it is sampled again.
    UnwindMappingsDropped = "unwind_mappings_dropped", Degraded;
    /// A map entry that must be there was not, or a record makes no sense: a defect of ours.
    Internal = "internal", Lost;
}

/// How many counters there are.
pub const COUNTERS: usize = Counter::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_documented() {
        let documented = include_str!("../../ARCHITECTURE.md");
        for counter in Counter::ALL {
            let row = std::format!("| `{}` | {} |", counter.name(), counter.meaning());
            assert!(documented.contains(&row), "ARCHITECTURE.md lacks: {row}");
        }
    }

    #[test]
    fn counters_are_their_own_index_and_have_distinct_names() {
        let mut names = std::collections::BTreeSet::new();
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
            assert!(names.insert(counter.name()), "{} twice", counter.name());
            assert!(!counter.meaning().is_empty());
        }
    }
}
