//! Ranges of addresses, nested ones too, and which covers an address.

/// How many ranges that begin before an address and end before it are passed over in search of one
/// that covers it.
const MAX_STEPS: usize = 256;

/// A range with what it means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<T> {
    /// First address.
    pub start: u64,
    /// Address behind the last.
    pub end: u64,
    /// What it means.
    pub value: T,
}

/// Ranges by address.
#[derive(Debug)]
pub(super) struct AddressMap<T> {
    entries: Vec<Entry<T>>,
    /// The greatest end among the entries up to this one: where to stop looking.
    furthest: Vec<u64>,
}

impl<T> Default for AddressMap<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            furthest: Vec::new(),
        }
    }
}

impl<T> AddressMap<T> {
    /// Sorts ranges. Of ranges that begin at one address the shortest that covers an address is
    /// found; of equal ranges the last.
    pub(super) fn new(mut entries: Vec<Entry<T>>) -> Self {
        entries.sort_by_key(|entry| (entry.start, std::cmp::Reverse(entry.end)));
        let furthest = entries
            .iter()
            .scan(0, |furthest, entry| {
                *furthest = entry.end.max(*furthest);
                Some(*furthest)
            })
            .collect();
        Self { entries, furthest }
    }

    /// The innermost range that covers an address.
    pub(super) fn find(&self, address: u64) -> Option<&Entry<T>> {
        let behind = self.entries.partition_point(|entry| entry.start <= address);
        self.entries
            .iter()
            .zip(&self.furthest)
            .take(behind)
            .rev()
            .take(MAX_STEPS)
            .take_while(|(_, furthest)| address < **furthest)
            .map(|(entry, _)| entry)
            .find(|entry| address < entry.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(ranges: &[(u64, u64)]) -> AddressMap<usize> {
        let entries = ranges.iter().enumerate();
        AddressMap::new(
            entries
                .map(|(value, &(start, end))| Entry { start, end, value })
                .collect(),
        )
    }

    fn found(map: &AddressMap<usize>, address: u64) -> Option<usize> {
        map.find(address).map(|entry| entry.value)
    }

    #[test]
    fn a_range_must_cover_the_address() {
        let map = map(&[(10, 20), (40, 50)]);
        assert_eq!(found(&map, 9), None);
        assert_eq!(found(&map, 10), Some(0));
        assert_eq!(found(&map, 19), Some(0));
        assert_eq!(found(&map, 20), None);
        assert_eq!(found(&map, 45), Some(1));
        assert_eq!(found(&map, u64::MAX), None);
    }

    #[test]
    fn inner_ranges_hide_outer_ones_only_where_they_are() {
        let map = map(&[(0, 100), (10, 20), (12, 14), (0, 50)]);
        assert_eq!(found(&map, 13), Some(2));
        assert_eq!(found(&map, 15), Some(1));
        assert_eq!(found(&map, 30), Some(3));
        assert_eq!(found(&map, 60), Some(0));
    }

    #[test]
    fn later_equal_ranges_win() {
        let map = map(&[(10, 20), (10, 20)]);
        assert_eq!(found(&map, 10), Some(1));
    }
}
