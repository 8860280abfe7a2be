//! The driver of the unwind. Called by `on_cpu` (any context) and `off_cpu` (interrupts off), after
//! the walk; reads the current thread's stack; may not sleep, fault, or insert into a map.
//!
//! As in `walker`, the step is a global function, and so is the search for a rule, which few steps
//! need: most addresses are in the cache.

use profiler_common::counter::Counter;
use profiler_common::hash;
use profiler_common::unwind::{
    self, CHUNK_WORDS, Found, MAX_TOKENS, Rule, Tables, UnwindStatus, find, rule_key,
};
use profiler_common::walk;

use crate::count;
use crate::globals::NATIVE;
use crate::maps::{RULE_CACHE, RULE_CACHE_SLOTS, RULES, TABLES};
use crate::scratch::{native, scratch};
use crate::user_memory::UserMemory;

const RUN_STEPS: u32 = 32;
const RUNS: u32 = MAX_TOKENS as u32 / RUN_STEPS;
const _: () = assert!(RUNS * RUN_STEPS == MAX_TOKENS as u32);

/// Kernel addresses that are kept: what `perf_event_max_stack` is where nobody changed it.
pub const KERNEL_FRAMES: u32 = 127;

/// What [`find_rule`] returns where there is no mapping; numbers of rules are less.
const NO_MAPPING: u32 = 1 << 16;
/// What it returns where the table is not there yet.
const PENDING: u32 = NO_MAPPING + 1;
/// The cache's slots hold the key's high bits and the rule's number.
const NUMBER_BITS: u64 = 0xffff;

/// What [`table_word`] returns where there is no word.
const NO_WORD: u64 = u64::MAX;

/// A word of a table. A function of its own, so that the searches, which are loops around it, are
/// a few instructions for the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn table_word(table: u32, index: u32) -> u64 {
    let Some(chunk) = TABLES.get_value_ptr_mut(table, &(index >> CHUNK_SHIFT)) else {
        return NO_WORD;
    };
    let within = index as usize & (CHUNK_WORDS - 1);
    // SAFETY: the map's value; the index is less than its length, and userspace does not change
    // a table that programs can find.
    unsafe { core::ptr::read_volatile(chunk.cast::<u32>().add(within)) as u64 }
}

const CHUNK_SHIFT: u32 = CHUNK_WORDS.trailing_zeros();

/// The maps.
struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn word(&self, table: u32, index: u32) -> Option<u32> {
        let word = table_word(table, index);
        if word == NO_WORD {
            return None;
        }
        Some(word as u32)
    }

    #[inline(always)]
    fn rule(&self, number: u16) -> Option<Rule> {
        // SAFETY: the map's value, which is not changed once a row names it.
        RULES.get_ptr(number as u32).map(|rule| unsafe { *rule })
    }
}

/// Searches the tables for the rule at the registers' address, and puts it into the cache.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_rule(slot: u32) -> u32 {
    let (Some(s), Some(n)) = (scratch(slot), native(slot)) else {
        return NO_MAPPING;
    };
    count::one(Counter::RulesSearched);
    let pc = n.unwind.registers.lookup_pc();
    let mappings = s.process.mappings;
    let number = match find(&Maps, mappings.table, mappings.count, pc) {
        Found::Rule(number) => number,
        Found::NoMapping => return NO_MAPPING,
        Found::Pending => return PENDING,
    };
    let key = rule_key(mappings.generation, pc);
    if let Some(cached) = RULE_CACHE.get_ptr_mut(key as u32 & (RULE_CACHE_SLOTS as u32 - 1)) {
        // SAFETY: the map's value. Whole words are written: what another CPU writes at the same
        // time is a whole slot as well.
        unsafe { core::ptr::write_volatile(cached, (key & !NUMBER_BITS) | number as u64) };
    }
    number as u32
}

/// The number of the rule at the registers' address, from the cache or the tables.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rule_number(slot: u32) -> u32 {
    let (Some(s), Some(n)) = (scratch(slot), native(slot)) else {
        return NO_MAPPING;
    };
    let key = rule_key(
        s.process.mappings.generation,
        n.unwind.registers.lookup_pc(),
    );
    let mut cached = 0;
    if let Some(place) = RULE_CACHE.get_ptr(key as u32 & (RULE_CACHE_SLOTS as u32 - 1)) {
        // SAFETY: as in `find_rule`.
        cached = unsafe { core::ptr::read_volatile(place) };
    }
    if (cached ^ key) & !NUMBER_BITS == 0 {
        (cached & NUMBER_BITS) as u32
    } else {
        find_rule(slot)
    }
}

/// One step of the unwind in `slot`, whose code has the rule of that number. Returns 1 to go on.
///
/// The number is an argument, not looked up here, so that the search is not below the step: 512
/// bytes of stack are for all of a chain of calls.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unwind_step(slot: u32, number: u32) -> u32 {
    let Some(n) = native(slot) else { return 0 };
    let found = if number < NO_MAPPING {
        Found::Rule(number as u16)
    } else if number == PENDING {
        Found::Pending
    } else {
        Found::NoMapping
    };
    let more = unwind::step(
        &UserMemory,
        |number| Maps.rule(number),
        found,
        &mut n.unwind,
        &mut n.block,
        &mut n.segments,
        &mut n.tokens,
    );
    more as u32
}

/// At most [`RUN_STEPS`] steps of the unwind in `slot`. Returns 1 to go on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unwind_run(slot: u32) -> u32 {
    for _ in 0..RUN_STEPS {
        if unwind_step(slot, rule_number(slot)) == 0 {
            return 0;
        }
    }
    1
}

/// Begins an unwind behind `kernel` addresses that are in the tokens already. Returns 1 when there
/// is user code to unwind.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unwind_begin(slot: u32, kernel: u32, user: u32) -> u32 {
    let (Some(s), Some(n)) = (scratch(slot), native(slot)) else {
        return 0;
    };
    let generation = s.process.mappings.generation;
    unwind::begin(&mut n.unwind, &mut n.block, generation);
    n.unwind.count = if kernel > KERNEL_FRAMES {
        KERNEL_FRAMES
    } else {
        kernel
    };
    unwind::fold_tokens(&mut n.unwind, &n.tokens, KERNEL_FRAMES);
    walk::align_segments(&s.process, &s.walk, &mut n.segments);
    let status = if NATIVE.load() == 0 {
        UnwindStatus::Complete
    } else if user == 0 {
        UnwindStatus::NoRegisters
    } else if s.process.mappings.table == 0 {
        UnwindStatus::NotReady
    } else {
        return 1;
    };
    n.unwind.status = status as u32;
    0
}

/// Unwinds the native stack of the current thread, whose registers are in the scratch of `slot`,
/// behind `kernel` addresses that are in the tokens already; `user` is 0 when it has no registers
/// that can be unwound from. Puts the result into the stack's hash.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unwind_stack(slot: u32, kernel: u32, user: u32) -> u32 {
    if unwind_begin(slot, kernel, user) != 0 {
        for _ in 0..RUNS {
            if unwind_run(slot) == 0 {
                break;
            }
        }
    }
    unwind_finish(slot)
}

/// Counts how the unwind ended, and makes it part of the stack's hash.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unwind_finish(slot: u32) -> u32 {
    let (Some(s), Some(n)) = (scratch(slot), native(slot)) else {
        return 0;
    };
    if n.unwind.status == UnwindStatus::Running as u32 {
        n.unwind.status = UnwindStatus::Truncated as u32;
    }
    if n.unwind.status == UnwindStatus::Complete as u32 {
        // What ran C code when the thread began has no place, and needs none.
        if NATIVE.load() != 0
            && s.process.layout.entry_kind != 0
            && n.segments.placed < s.walk.depth
        {
            count::one(Counter::MergeDisagreed);
        }
    } else if let Some(counter) = UnwindStatus::from_u8(n.unwind.status as u8).counter() {
        count::one(counter);
    }
    if n.unwind.by_frame_pointer != 0 {
        count::one(Counter::UnwindByFramePointer);
    }
    if n.unwind.skipped != 0 {
        count::one(Counter::UnwindSkipped);
    }
    let state = n.unwind.status as u64
        | (n.unwind.count as u64) << 8
        | (s.process.mappings.generation as u64) << 32;
    let mixed = hash::fold(hash::fold(s.header.stack, n.unwind.hash), state);
    s.header.stack = hash::finish(mixed);
    0
}
