//! Folded stacks: `root;…;leaf WEIGHT`, a line per stack.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The file's content.
#[must_use]
pub fn to_text(lines: &BTreeMap<String, u64>) -> String {
    let mut text = String::new();
    for (stack, weight) in lines {
        // Writing to a string does not fail.
        let _infallible = writeln!(text, "{stack} {weight}");
    }
    text
}
