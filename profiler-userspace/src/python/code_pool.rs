//! What code objects say, kept once for all processes: the workers of a service run the same code.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::code::CodeInfo;
use super::short_file::{Files, ShortFiles};

#[derive(Debug, Default)]
struct Known {
    strings: HashSet<Arc<str>>,
    codes: HashSet<Arc<CodeInfo>>,
    /// As many code objects were left when they were last swept.
    swept: usize,
    short_files: ShortFiles,
}

/// What nobody has any more is thrown away when there is twice as much as was left the last time, and
/// as much as this.
const SWEEP_FROM: usize = 1 << 14;

/// A pool of names and code objects. Copies of it are the same pool.
#[derive(Clone, Debug, Default)]
pub struct CodePool(Arc<Mutex<Known>>);

impl CodePool {
    /// The one copy of a code object with these fields.
    #[must_use]
    pub fn code(
        &self,
        name: String,
        file: String,
        first_line: i32,
        line_table: Vec<u8>,
        whole: bool,
    ) -> Arc<CodeInfo> {
        // Nothing is half done when a panic interrupts an insertion.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let info = CodeInfo {
            name: known.string(name),
            file: known.string(file),
            first_line,
            line_table,
            whole,
        };
        if let Some(found) = known.codes.get(&info) {
            return Arc::clone(found);
        }
        if known.codes.len() >= SWEEP_FROM.max(2 * known.swept) {
            known.sweep();
        }
        let info = Arc::new(info);
        known.codes.insert(Arc::clone(&info));
        info
    }

    /// The part of a file's path that is shown.
    #[must_use]
    pub fn short_file(&self, files: &Files, file: &Arc<str>) -> Arc<str> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.short_files.of(files, file)
    }
}

impl Known {
    fn sweep(&mut self) {
        self.codes.retain(|code| Arc::strong_count(code) > 1);
        self.strings.retain(|string| Arc::strong_count(string) > 1);
        self.swept = self.codes.len();
    }

    fn string(&mut self, text: String) -> Arc<str> {
        if let Some(found) = self.strings.get(text.as_str()) {
            return Arc::clone(found);
        }
        let shared: Arc<str> = Arc::from(text);
        self.strings.insert(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_share_what_is_the_same() {
        let pool = CodePool::default();
        let other = pool.clone();
        let of = |pool: &CodePool, name: &str, line| {
            pool.code(name.to_owned(), "a.py".to_owned(), line, vec![1, 2], true)
        };
        let first = of(&pool, "one", 1);
        assert!(Arc::ptr_eq(&first, &of(&other, "one", 1)));
        let second = of(&other, "one", 2);
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first.name, &second.name));
        assert!(Arc::ptr_eq(&first.file, &of(&pool, "two", 1).file));
    }
}
