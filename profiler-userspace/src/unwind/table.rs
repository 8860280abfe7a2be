//! Rows in the words that go into the kernel: see [`profiler_common::unwind`].

use profiler_common::unwind::{PAGE_BYTES, Rule, row};

use super::rows::Row;

/// Pages that a table may have: 4 GiB of code.
pub const MAX_PAGES: u32 = 1 << 16;

/// Why rows cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The rows are too far from each other, or out of what a process can address.
    #[error("the code spans more than {MAX_PAGES} pages of {PAGE_BYTES} bytes")]
    TooFar,
}

/// Rows in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The page of the first row, counted from address 0 of the file.
    pub first_page: u32,
    /// Pages from there to that of the last row.
    pub pages: u32,
    /// First, for each page and for the end, the index of its first row; behind them the rows.
    pub words: Vec<u32>,
    /// Rows whose rule has no number, so that nothing is known there.
    pub unnumbered: usize,
}

impl Table {
    /// Packs rows, which are in the order of their addresses. `number` gives a rule its number in
    /// the table of all rules, or `None` where that is full; 0 has to be [`Rule::NONE`].
    ///
    /// # Errors
    /// [`TableError`].
    pub fn pack(
        rows: &[Row],
        mut number: impl FnMut(&Rule) -> Option<u16>,
    ) -> Result<Self, TableError> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(Self {
                first_page: 0,
                pages: 0,
                words: vec![1],
                unnumbered: 0,
            });
        };
        let first_page =
            u32::try_from(first.address / PAGE_BYTES).map_err(|_| TableError::TooFar)?;
        let pages = (last.address / PAGE_BYTES)
            .checked_sub(first_page.into())
            .and_then(|pages| u32::try_from(pages + 1).ok())
            .filter(|pages| *pages <= MAX_PAGES)
            .ok_or(TableError::TooFar)?;

        let mut words = Words::new(first_page, pages, rows.len());
        let mut unnumbered = 0;
        for row in rows {
            let number = if row.rule == Rule::NONE {
                0
            } else {
                number(&row.rule).unwrap_or_else(|| {
                    unnumbered += 1;
                    0
                })
            };
            words.push(row.address, number);
        }
        Ok(Self {
            first_page,
            pages,
            words: words.finish(),
            unnumbered,
        })
    }
}

/// Words in the making.
struct Words {
    words: Vec<u32>,
    pages: usize,
    /// Pages that have their index.
    begun: usize,
    /// Address of the next one, bytes.
    next: u64,
    /// The number that holds.
    holds: u16,
}

impl Words {
    fn new(first_page: u32, pages: u32, rows: usize) -> Self {
        let pages = pages as usize;
        let mut words = Vec::with_capacity(pages + 1 + rows + rows / 64);
        words.resize(pages + 1, 0);
        Self {
            words,
            pages,
            begun: 0,
            next: u64::from(first_page) * PAGE_BYTES,
            holds: 0,
        }
    }

    /// Adds a row. Its page is none of those before the last row's.
    fn push(&mut self, address: u64, number: u16) {
        if number == self.holds {
            return;
        }
        while address - address % PAGE_BYTES > self.next {
            self.begin_page(self.holds != 0);
        }
        let low = address % PAGE_BYTES;
        if address >= self.next {
            self.begin_page(low != 0);
        }
        self.words.push(row(low as u16, number));
        self.holds = number;
    }

    /// Begins the next page; `inherit` when it needs a row for what held before it.
    fn begin_page(&mut self, inherit: bool) {
        self.index(self.begun);
        if inherit {
            self.words.push(row(0, self.holds));
        }
        self.begun += 1;
        self.next += PAGE_BYTES;
    }

    /// Writes the index of a page's first row, which comes next.
    fn index(&mut self, page: usize) {
        let next = self.words.len() as u32;
        if let Some(word) = self.words.get_mut(page) {
            *word = next;
        }
    }

    fn finish(mut self) -> Vec<u32> {
        while self.begun < self.pages {
            self.begin_page(self.holds != 0);
        }
        self.index(self.pages);
        self.words
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use profiler_common::unwind::{row_low, row_rule};
    use proptest::prelude::*;

    use super::*;

    fn rule(number: u16) -> Rule {
        match number {
            0 => Rule::NONE,
            _ => Rule {
                cfa_offset: number.into(),
                ..Rule::END
            },
        }
    }

    fn rows(list: &[(u64, u16)]) -> Vec<Row> {
        list.iter()
            .map(|&(address, number)| Row {
                address,
                rule: rule(number),
            })
            .collect()
    }

    fn pack(list: &[(u64, u16)]) -> Table {
        Table::pack(&rows(list), |rule| Some(rule.cfa_offset as u16)).unwrap()
    }

    /// The number of the rule at an address, as the format describes it.
    fn lookup(table: &Table, address: u64) -> u16 {
        let page = address / PAGE_BYTES;
        if page < table.first_page.into() || page >= u64::from(table.first_page + table.pages) {
            return 0;
        }
        let page = page as usize - table.first_page as usize;
        let range = table.words[page] as usize..table.words[page + 1] as usize;
        let rows = &table.words[range];
        if let Some(first) = rows.first() {
            assert_eq!(row_low(*first), 0, "a page begins with a row at 0");
        }
        rows.iter()
            .take_while(|row| u64::from(row_low(**row)) <= address % PAGE_BYTES)
            .last()
            .map_or(0, |row| row_rule(*row))
    }

    #[test]
    fn a_rule_holds_over_pages() {
        let table = pack(&[(0x1_8000, 7), (0x4_0000, 8), (0x4_0004, 0)]);
        assert_eq!((table.first_page, table.pages), (1, 4));
        assert_eq!(
            table.words,
            [
                5,
                7,
                8,
                9,
                11,
                row(0, 0),
                row(0x8000, 7),
                row(0, 7),
                row(0, 7),
                row(0, 8),
                row(4, 0)
            ]
        );
    }

    #[test]
    fn nothing() {
        let table = pack(&[]);
        assert_eq!((table.pages, &table.words[..]), (0, &[1][..]));
    }

    #[test]
    fn a_full_table_of_rules() {
        let rows = rows(&[(0x1000, 1), (0x1004, 2), (0x1008, 0)]);
        let table = Table::pack(&rows, |rule| (rule.cfa_offset == 1).then_some(1)).unwrap();
        assert_eq!(table.unnumbered, 1);
        assert_eq!(lookup(&table, 0x1000), 1);
        assert_eq!(lookup(&table, 0x1004), 0);
    }

    #[test]
    fn too_far() {
        let pack = |first, last| Table::pack(&rows(&[(first, 1), (last, 0)]), |_| Some(1));
        assert!(pack(0x1000, u64::from(MAX_PAGES) * PAGE_BYTES - 1).is_ok());
        assert!(pack(0x1000, u64::from(MAX_PAGES) * PAGE_BYTES).is_err());
        assert!(pack(0, u64::MAX).is_err());
        assert!(pack(u64::MAX - 8, u64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn lookups_find_the_rows(
            start in 0..1_u64 << 34,
            list in prop::collection::vec((1..0x1_8000_u64, 0..5_u16), 1..60),
        ) {
            let mut address = start;
            let mut list: Vec<_> = list
                .into_iter()
                .map(|(distance, number)| {
                    address += distance;
                    (address, number)
                })
                .collect();
            list.push((address + 1, 0));
            let mut numbers = HashMap::new();
            let table = Table::pack(&rows(&list), |rule| {
                let next = numbers.len() as u16 + 1;
                Some(*numbers.entry(*rule).or_insert(next))
            })
            .unwrap();
            numbers.insert(Rule::NONE, 0);
            prop_assert_eq!(lookup(&table, list[0].0 - 1), 0);
            for pair in list.windows(2) {
                let expected = numbers[&rule(pair[0].1)];
                let middle = pair[0].0.midpoint(pair[1].0);
                for address in [pair[0].0, middle, pair[1].0 - 1] {
                    prop_assert_eq!(lookup(&table, address), expected);
                }
            }
            for address in [address + 1, address + PAGE_BYTES, u64::MAX] {
                prop_assert_eq!(lookup(&table, address), 0);
            }
        }
    }
}
