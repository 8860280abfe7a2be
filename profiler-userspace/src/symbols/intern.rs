//! Each text once.

use std::collections::HashSet;
use std::sync::Arc;

/// The texts of a recording.
#[derive(Debug, Default)]
pub(super) struct Interner {
    known: HashSet<Arc<str>>,
}

impl Interner {
    /// A text, shared with all that are equal.
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        let new = Arc::<str>::from(text);
        self.known.insert(Arc::clone(&new));
        new
    }
}
