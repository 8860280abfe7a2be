//! The processes that came from a process.

use std::collections::{BTreeMap, BTreeSet};

use crate::process::identity::Identity;
use crate::process::proc_file;

/// The processes that came from `pid` and are there now, each with its parent: a parent comes before
/// its children, children in the order of their numbers.
#[must_use]
pub fn descendants(pid: u32) -> Vec<(u32, u32)> {
    let mut by_parent: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for child in proc_file::processes() {
        // One that ended meanwhile is no more.
        if let Ok(identity) = Identity::read(child) {
            by_parent.entry(identity.parent).or_default().insert(child);
        }
    }
    let mut found = Vec::new();
    let mut seen = BTreeSet::from([pid]);
    let mut next = vec![pid];
    while let Some(parent) = next.pop() {
        let children = by_parent.get(&parent);
        let children: Vec<u32> = children
            .into_iter()
            .flatten()
            .copied()
            // Numbers that were used again while they were read could lead in a circle.
            .filter(|child| seen.insert(*child))
            .collect();
        found.extend(children.iter().map(|child| (*child, parent)));
        next.extend(children.into_iter().rev());
    }
    found
}
