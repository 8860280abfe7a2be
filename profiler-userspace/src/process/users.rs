//! Names of users, as the host has them.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// What was looked up. A look reads a file at least, and asks a directory server at most: far too
/// long for each new process, while a host has few users.
static NAMES: LazyLock<Mutex<HashMap<u32, Arc<str>>>> = LazyLock::new(Mutex::default);

/// The name of a user; the number where it has none.
#[must_use]
pub fn name(uid: u32) -> Arc<str> {
    // Whoever panicked meanwhile left a whole map: entries go in at once.
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let look = || match uzers::get_user_by_uid(uid) {
        Some(user) => user.name().to_string_lossy().into(),
        None => uid.to_string().into(),
    };
    Arc::clone(names.entry(uid).or_insert_with(look))
}

/// The number of a user, by name.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    uzers::get_user_by_name(name).map(|user| user.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(&*name(0), "root");
        assert_eq!(&*name(0), "root");
        assert_eq!(number("root"), Some(0));
        // The number that stands for no user.
        assert_eq!(&*name(u32::MAX), "4294967295");
        assert_eq!(number("no user has such a name"), None);
    }
}
