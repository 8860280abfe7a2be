//! Functions: ranges of addresses, each with rows of its own, and how they become one list.

use std::ops::Range;

use profiler_common::unwind::Rule;

use super::rows::{MAX_ROWS, Row};

/// Functions that a file may have. OpenBLAS has 12,000 of 34 rows each, CPython 6,000.
const MAX_FUNCTIONS: usize = MAX_ROWS / 2;

/// There are more rows than [`MAX_ROWS`], or functions than [`MAX_FUNCTIONS`].
#[derive(Clone, Copy, Debug)]
pub(super) struct TooMany;

/// A range of addresses and its rows.
#[derive(Clone, Copy, Debug)]
struct Function {
    start: u64,
    end: u64,
    /// The rows' range in [`Functions::rows`].
    first: usize,
    behind: usize,
}

/// Functions from one source.
#[derive(Debug, Default)]
pub(super) struct Functions {
    functions: Vec<Function>,
    rows: Vec<Row>,
}

impl Functions {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.functions.len()
    }

    /// Their addresses.
    pub(super) fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let functions = self.functions.iter();
        functions.map(|function| function.start..function.end)
    }

    /// Adds a function without rows. Its end must be behind its start.
    pub(super) fn begin(&mut self, start: u64, end: u64) -> Result<(), TooMany> {
        if self.functions.len() >= MAX_FUNCTIONS {
            return Err(TooMany);
        }
        self.functions.push(Function {
            start,
            end,
            first: self.rows.len(),
            behind: self.rows.len(),
        });
        Ok(())
    }

    /// Adds a row to the function that was added last. Rows come in the order of their addresses;
    /// of two at one address the later one counts.
    pub(super) fn push(&mut self, address: u64, rule: Rule) -> Result<(), TooMany> {
        if let Some(function) = self.functions.last_mut() {
            let own = self.rows.get(function.first..).unwrap_or_default();
            if own.last().is_some_and(|last| last.rule == rule) {
                return Ok(());
            }
            if self.rows.len() >= MAX_ROWS {
                return Err(TooMany);
            }
            self.rows.push(Row { address, rule });
            function.behind = self.rows.len();
        }
        Ok(())
    }

    /// Adds a function of one row.
    pub(super) fn add(&mut self, start: u64, end: u64, rule: Rule) -> Result<(), TooMany> {
        if start < end {
            self.begin(start, end)?;
            self.push(start, rule)?;
        }
        Ok(())
    }

    /// Sorts, and resolves what overlaps: as in the search table that unwinders use at run time,
    /// an address belongs to the function that begins last before it. Of functions with one start,
    /// the first in the file counts.
    pub(super) fn sort(&mut self) {
        self.functions.sort_by_key(|function| function.start);
        self.functions.dedup_by_key(|function| function.start);
        let mut next = u64::MAX;
        for function in self.functions.iter_mut().rev() {
            function.end = function.end.min(next);
            next = function.start;
        }
    }

    /// Whether a function has an address; they have to be sorted.
    pub(super) fn covers(&self, address: u64) -> bool {
        let behind = self
            .functions
            .partition_point(|function| function.start <= address);
        let last = behind.checked_sub(1).and_then(|at| self.functions.get(at));
        last.is_some_and(|function| address < function.end)
    }

    /// What of a range no function covers; they have to be sorted.
    pub(super) fn gaps(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let from = self
            .functions
            .partition_point(|function| function.end <= start);
        let mut cursor = start;
        self.functions
            .get(from..)
            .unwrap_or_default()
            .iter()
            .map(|function| (function.start, function.end))
            .take_while(move |function| function.0 < end)
            .chain([(end, end)])
            .map(move |function| {
                let gap = (cursor, function.0);
                cursor = function.1;
                gap
            })
            .filter(|gap| gap.0 < gap.1)
    }

    /// One list of these functions, and of others where these leave gaps. Both have to be sorted.
    pub(super) fn flatten(&self, others: &Self) -> Vec<Row> {
        let mut list = List {
            rows: Vec::with_capacity(self.rows.len() + self.functions.len() / 2),
        };
        let mut left = others.functions.as_slice();
        let mut cursor = 0;
        for function in &self.functions {
            others.fill(&mut left, cursor, function.start, &mut list);
            self.part(function, function.start, function.end, &mut list);
            cursor = function.end;
        }
        others.fill(&mut left, cursor, u64::MAX, &mut list);
        list.rows
    }

    /// Puts what of `left` is in a range into a list, and takes what ends there out of it.
    fn fill(&self, left: &mut &[Function], start: u64, end: u64, list: &mut List) {
        while let Some((function, rest)) = left.split_first()
            && function.start < end
        {
            let (from, to) = (function.start.max(start), function.end.min(end));
            if from < to {
                self.part(function, from, to, list);
            }
            if function.end > end {
                break;
            }
            *left = rest;
        }
    }

    /// Puts the part of a function from `start` to `end` into a list.
    fn part(&self, function: &Function, start: u64, end: u64, list: &mut List) {
        let rows = self
            .rows
            .get(function.first..function.behind)
            .unwrap_or_default();
        let holds = rows.partition_point(|row| row.address <= start);
        let first = holds.checked_sub(1).and_then(|at| rows.get(at));
        list.push(start, first.map_or(Rule::NONE, |row| row.rule));
        for row in rows.get(holds..).unwrap_or_default() {
            if row.address >= end {
                break;
            }
            list.push(row.address, row.rule);
        }
        list.push(end, Rule::NONE);
    }
}

/// Rows in the order of their addresses.
struct List {
    rows: Vec<Row>,
}

impl List {
    fn push(&mut self, address: u64, rule: Rule) {
        if self.rows.last().is_some_and(|last| last.address == address) {
            self.rows.pop();
        }
        let holds = self.rows.last().map_or(Rule::NONE, |last| last.rule);
        if holds != rule {
            self.rows.push(Row { address, rule });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A rule that tells itself from others.
    fn rule(number: i32) -> Rule {
        Rule {
            cfa_offset: number,
            ..Rule::END
        }
    }

    fn functions(list: &[(u64, u64, i32)]) -> Functions {
        let mut functions = Functions::default();
        for &(start, end, number) in list {
            functions.add(start, end, rule(number)).unwrap();
        }
        functions.sort();
        functions
    }

    fn rows(list: &[(u64, Option<i32>)]) -> Vec<Row> {
        list.iter()
            .map(|&(address, number)| Row {
                address,
                rule: number.map_or(Rule::NONE, rule),
            })
            .collect()
    }

    #[test]
    fn the_later_start_wins_and_leaves_a_gap_behind_it() {
        let all = functions(&[(0, 100, 1), (50, 60, 2), (50, 90, 3), (200, 300, 4)]);
        assert_eq!(
            all.flatten(&Functions::default()),
            rows(&[
                (0, Some(1)),
                (50, Some(2)),
                (60, None),
                (200, Some(4)),
                (300, None)
            ])
        );
    }

    #[test]
    fn others_fill_the_gaps() {
        let all = functions(&[(10, 20, 1), (30, 40, 1), (40, 50, 2)]);
        let others = functions(&[(0, 5, 7), (15, 45, 8), (45, 60, 2)]);
        assert_eq!(
            all.flatten(&others),
            rows(&[
                (0, Some(7)),
                (5, None),
                (10, Some(1)),
                (20, Some(8)),
                (30, Some(1)),
                (40, Some(2)),
                (60, None)
            ])
        );
    }

    #[test]
    fn a_row_at_the_address_of_another_replaces_it() {
        let mut all = Functions::default();
        all.begin(0, 10).unwrap();
        all.push(0, rule(1)).unwrap();
        all.push(4, rule(2)).unwrap();
        all.push(4, rule(1)).unwrap();
        all.sort();
        assert_eq!(
            all.flatten(&Functions::default()),
            rows(&[(0, Some(1)), (10, None)])
        );
    }

    #[test]
    fn gaps_are_what_is_not_covered() {
        let all = functions(&[(10, 20, 1), (30, 40, 1), (40, 50, 2)]);
        let gaps = |start, end| all.gaps(start, end).collect::<Vec<_>>();
        assert_eq!(gaps(0, 100), [(0, 10), (20, 30), (50, 100)]);
        assert_eq!(gaps(15, 35), [(20, 30)]);
        assert_eq!(gaps(12, 18), []);
        assert_eq!(gaps(60, 70), [(60, 70)]);
        assert_eq!(gaps(25, 26), [(25, 26)]);
    }
}
