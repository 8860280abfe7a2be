//! Rows of code that no call frame information covers, found by following it: kernels that were
//! written in assembly, such as OpenBLAS's, and libraries without any, such as musl.
//!
//! A function is followed from where its symbol says that it begins. Whatever is not certain is
//! left without a rule: what a jump goes to that reads its target from a register or a table, what
//! a call in the midst of a function goes to, and what other ways to the same instruction do not
//! agree on.

mod code;
mod effect;
mod entries;
mod flow;
mod state;

use profiler_common::unwind::Rule;

use self::code::{Distrust, Reader};
use self::entries::{Entries, Entry};
use self::flow::Known;
pub use self::state::State;
use super::frames;
use super::functions::{Functions, TooMany};
use super::image::Image;
use crate::elf::Elf;

/// Instructions that are read of a file. OpenBLAS has 450,000 in its kernels.
const MAX_INSTRUCTIONS: usize = 4_000_000;

/// Bytes that a function may have. OpenBLAS's longest has 28,000.
const MAX_BYTES: u64 = 1 << 20;

/// Places in a function that others jump to or call, before nothing is said of it any more.
const MAX_UNKNOWN: usize = 64;

/// Rows that may be found in a file.
const MAX_ROWS: usize = 1_000_000;

/// Adds the functions that neither `known` nor `found` covers, both of which have to be sorted.
/// Returns how many those are.
pub(super) fn add(
    elf: &Elf<'_>,
    image: &Image<'_, '_>,
    known: &Functions,
    found: &mut Functions,
) -> Result<usize, TooMany> {
    let is_free = |address: u64| !known.covers(address) && !found.covers(address);
    let entries = Entries::read(elf, is_free);
    let is_gap = |entry: &Entry| {
        [known, &*found].iter().all(|functions| {
            let gap = functions.gaps(entry.start, entry.end).next();
            gap == Some((entry.start, entry.end))
        })
    };
    let is_function = |address: u64| !is_free(address) || entries.is_start(address);
    let analysis = Analysis::new(image, &entries, &is_function, State::rule).run(is_gap);

    let mut count = 0;
    for (entry, rows) in entries.functions.iter().zip(analysis) {
        if rows.iter().all(|(_, rule)| *rule == Rule::NONE) {
            continue;
        }
        count += 1;
        found.begin(entry.start, entry.end)?;
        for (address, rule) in rows {
            found.push(address, rule)?;
        }
    }
    found.sort();
    Ok(count)
}

/// What following the code says of all functions with symbols, whether call frame information
/// covers them or not: the two can be compared. What is known at an address holds until the next.
#[must_use]
pub fn follow(elf: &Elf<'_>) -> Vec<Vec<(u64, State)>> {
    let image = Image::new(elf.file());
    let known = match image.frames().map(|section| frames::read(&image, &section)) {
        Some(Ok((known, _))) => known,
        _ => Functions::default(),
    };
    let entries = Entries::read(elf, |_| true);
    let is_function = |address: u64| known.covers(address) || entries.is_start(address);
    Analysis::new(&image, &entries, &is_function, State::clone).run(|_| true)
}

/// What is said of a function: each holds from its address on.
type Told<T> = Vec<(u64, T)>;

/// The functions of a file, while they are analyzed.
struct Analysis<'a, 'data, T> {
    image: &'a Image<'a, 'data>,
    entries: &'a Entries,
    reader: Reader<'a>,
    /// What to say of what is known.
    say: fn(&State) -> T,
    /// What is said of each.
    told: Vec<Told<T>>,
    /// Places in each that are come to nobody knows how.
    unknown: Vec<Vec<u32>>,
    /// Those that are still to be looked at, perhaps again.
    open: Vec<usize>,
    /// Whether each is one of those.
    is_open: Vec<bool>,
    rows: usize,
}

impl<'a, 'data, T: PartialEq> Analysis<'a, 'data, T> {
    fn new(
        image: &'a Image<'a, 'data>,
        entries: &'a Entries,
        is_function: &'a dyn Fn(u64) -> bool,
        say: fn(&State) -> T,
    ) -> Self {
        let count = entries.functions.len();
        let mut analysis = Self {
            image,
            entries,
            reader: Reader {
                is_function,
                left: MAX_INSTRUCTIONS,
            },
            say,
            told: Vec::new(),
            unknown: vec![Vec::new(); count],
            open: Vec::new(),
            is_open: vec![false; count],
            rows: 0,
        };
        analysis.told.resize_with(count, Vec::new);
        for address in &entries.others {
            analysis.enter(*address);
        }
        analysis
    }

    /// Analyzes those functions that are `wanted`. Each tells how others are come to, which may
    /// make less of what was known of them.
    fn run(mut self, wanted: impl Fn(&Entry) -> bool) -> Vec<Told<T>> {
        let functions = &self.entries.functions;
        let is_wanted: Vec<bool> = functions.iter().map(wanted).collect();
        for (number, wanted) in is_wanted.iter().enumerate().rev() {
            if *wanted {
                self.open(number);
            }
        }
        while let Some(number) = self.open.pop() {
            if self.reader.left == 0 || self.rows > MAX_ROWS {
                // What is still open may be known for more than it is.
                self.drop_open();
                break;
            }
            for address in self.analyze(number) {
                if let Some(entered) = self.enter(address)
                    && is_wanted.get(entered) == Some(&true)
                {
                    self.open(entered);
                }
            }
        }
        self.told
    }

    fn open(&mut self, number: usize) {
        if let Some(is_open) = self.is_open.get_mut(number)
            && !*is_open
        {
            *is_open = true;
            self.open.push(number);
        }
    }

    /// Analyzes a function. Returns where it goes to nobody knows how.
    fn analyze(&mut self, number: usize) -> Vec<u64> {
        if let Some(is_open) = self.is_open.get_mut(number) {
            *is_open = false;
        }
        let mut told = Vec::new();
        let exits = self.tell(number, &mut told).unwrap_or_else(|_| {
            told.clear();
            Vec::new()
        });
        told.shrink_to_fit();
        self.rows += told.len();
        if let Some(place) = self.told.get_mut(number) {
            self.rows -= place.len();
            *place = told;
        }
        exits
    }

    /// Notes that a function is come to nobody knows how. Returns it, if that is news.
    fn enter(&mut self, address: u64) -> Option<usize> {
        let number = self.entries.function_at(address)?;
        let start = self.entries.functions.get(number)?.start;
        let place = u32::try_from(address - start).ok()?;
        let unknown = self.unknown.get_mut(number)?;
        if unknown.len() > MAX_UNKNOWN || unknown.contains(&place) {
            return None;
        }
        unknown.push(place);
        Some(number)
    }

    fn tell(&mut self, number: usize, told: &mut Told<T>) -> Result<Vec<u64>, Distrust> {
        let Some(entry) = self.entries.functions.get(number).copied() else {
            return Ok(Vec::new());
        };
        let bytes = (entry.end - entry.start <= MAX_BYTES)
            .then(|| self.image.code_at(entry.start, entry.end))
            .flatten();
        let Some(bytes) = bytes else {
            return Ok(Vec::new());
        };
        let unknown = self.unknown.get(number).map_or(&[][..], Vec::as_slice);
        if unknown.len() > MAX_UNKNOWN {
            return Ok(Vec::new());
        }
        let mut roots = vec![0];
        roots.extend_from_slice(unknown);
        let code = self.reader.read(entry.start, bytes, &roots)?;
        let known = Known::new(code, unknown);
        let say = self.say;
        known.tell(|place, state| {
            let address = entry.start + u64::from(place);
            let said = say(state.unwrap_or(&State::LOST));
            if told.last().is_some_and(|row| row.0 == address) {
                told.pop();
            }
            if told.last().is_none_or(|row| row.1 != said) {
                told.push((address, said));
            }
        })
    }

    fn drop_open(&mut self) {
        for number in self.open.drain(..) {
            if let Some(told) = self.told.get_mut(number) {
                told.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests;
