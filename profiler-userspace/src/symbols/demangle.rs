//! Names of C++ and Rust functions as their sources have them.

use std::borrow::Cow;

use cpp_demangle::{DemangleOptions, Symbol};

/// Longer names stay as they are: what they stand for may be exponentially longer.
const MAX_MANGLED: usize = 4 << 10;
/// A name that comes out longer is shown as it was.
const MAX_DEMANGLED: usize = 64 << 10;

/// The name of a function as people wrote it: without Rust's hash, and without the type that a C++
/// function returns. What no language mangled stays as it is.
pub(super) fn demangle(name: &str) -> Cow<'_, str> {
    if name.len() > MAX_MANGLED || !name.starts_with("_") {
        return Cow::Borrowed(name);
    }
    rust(name)
        .or_else(|| cpp(name))
        .filter(|plain| !plain.is_empty() && plain.len() <= MAX_DEMANGLED)
        .map_or(Cow::Borrowed(name), Cow::Owned)
}

fn rust(name: &str) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Bounded(String::new());
    std::fmt::write(&mut text, format_args!("{demangled:#}")).ok()?;
    Some(text.0)
}

fn cpp(name: &str) -> Option<String> {
    let symbol = Symbol::new(name).ok()?;
    let options = DemangleOptions::new().no_return_type();
    let mut text = Bounded(String::new());
    symbol
        .structured_demangle(&mut text, &options)
        .is_ok()
        .then_some(text.0)
}

/// A text that refuses to grow too long.
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        if self.0.len() + part.len() > MAX_DEMANGLED {
            return Err(std::fmt::Error);
        }
        self.0.push_str(part);
        Ok(())
    }
}
