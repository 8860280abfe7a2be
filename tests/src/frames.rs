//! Frames as folded stacks write them.

/// What a frame's text is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// `[truncated]`, `[run queue]`: no frame, but what is to be said of the stack.
    Marker(&'a str),
    /// `name (file.py:12)`.
    Python(&'a str),
    /// `symbol ([kernel])`, and `[kernel]` where it has none.
    Kernel(&'a str),
    /// `symbol (module)` or `symbol (file.c:12)`: the symbol, and what is in the parentheses.
    Native(&'a str, &'a str),
    /// `module+0x1a2b`; `[jit]` of code that is of no file.
    Unnamed(&'a str, u64),
}

impl<'a> Frame<'a> {
    /// Tells what a frame is by its text.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        if let Some((name, place)) = text.strip_suffix(')').and_then(split) {
            return if is_python(place) {
                Self::Python(name)
            } else if is_kernel(place) {
                Self::Kernel(name)
            } else {
                Self::Native(name, place)
            };
        }
        if let Some((module, offset)) = text.rsplit_once("+0x")
            && let Ok(offset) = u64::from_str_radix(offset, 16)
        {
            return if is_kernel(module) {
                Self::Kernel(text)
            } else {
                Self::Unnamed(module, offset)
            };
        }
        match text {
            "[kernel]" => return Self::Kernel(text),
            "[jit]" => return Self::Unnamed(text, 0),
            _ => {}
        }
        if text.starts_with('[') && text.ends_with(']') {
            return Self::Marker(text);
        }
        panic!("neither a frame nor a marker: {text:?}");
    }

    /// Its function, when it is native and has a name.
    #[must_use]
    pub fn native(&self) -> Option<&'a str> {
        match self {
            Self::Native(name, _) => Some(name),
            _ => None,
        }
    }
}

/// Name and place of `name (place`: the place has no parenthesis.
fn split(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(" (")
}

/// Python's places are `file.py:12`, `<string>:1`, `<frozen importlib._bootstrap>:241`.
fn is_python(place: &str) -> bool {
    let Some((file, line)) = place.rsplit_once(':') else {
        return false;
    };
    let is_line = line == "?" || line.parse::<u32>().is_ok();
    is_line && (file.ends_with(".py") || file.starts_with('<') && file.ends_with('>'))
}

/// The kernel and its modules, `[nf_tables]`; the vDSO is the process's.
fn is_kernel(place: &str) -> bool {
    place.starts_with('[') && place.ends_with(']') && place != "[vdso]" && place != "[vsyscall]"
}

/// Whether a stack has what stands for frames that are missing.
#[must_use]
pub fn is_whole(stack: &[String]) -> bool {
    let is_missing =
        |text: &String| matches!(Frame::of(text), Frame::Marker(marker) if marker != "[run queue]");
    !stack.iter().any(is_missing)
}

/// The frames of a stack that are not the kernel's, and those that are.
///
/// # Panics
/// When the kernel's are not together at the leaf.
#[must_use]
pub fn split_kernel(stack: &[String]) -> (&[String], &[String]) {
    let is_kernel = |text: &String| matches!(Frame::of(text), Frame::Kernel(_));
    let own = stack.iter().position(is_kernel).unwrap_or(stack.len());
    let (user, kernel) = stack.split_at(own);
    assert!(
        kernel.iter().all(is_kernel),
        "the kernel's leaf is another's caller: {stack:#?}"
    );
    (user, kernel)
}

#[cfg(test)]
mod tests {
    use super::{Frame, is_whole, split_kernel};

    #[test]
    fn each_sort_is_told_by_its_text() {
        for (text, frame) in [
            ("main (chain)", Frame::Native("main", "chain")),
            (
                "f(int) const (libx.so.1)",
                Frame::Native("f(int) const", "libx.so.1"),
            ),
            (
                "holds (inlines.c:21)",
                Frame::Native("holds", "inlines.c:21"),
            ),
            ("libc.so.6+0x2724a", Frame::Unnamed("libc.so.6", 0x2724a)),
            ("[vdso]+0x9c1", Frame::Unnamed("[vdso]", 0x9c1)),
            (
                "clock_gettime ([vdso])",
                Frame::Native("clock_gettime", "[vdso]"),
            ),
            ("vfs_read ([kernel])", Frame::Kernel("vfs_read")),
            ("[kernel]", Frame::Kernel("[kernel]")),
            ("[truncated]", Frame::Marker("[truncated]")),
            ("<module> (/tmp/a.py:3)", Frame::Python("<module>")),
            ("f (<frozen os>:3)", Frame::Python("f")),
        ] {
            assert_eq!(Frame::of(text), frame);
        }
    }

    #[test]
    fn markers_tell_that_frames_are_missing() {
        let stack = |frames: &[&str]| {
            frames
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        };
        assert!(is_whole(&stack(&[
            "main (a)",
            "read ([kernel])",
            "[run queue]"
        ])));
        assert!(!is_whole(&stack(&["[incomplete: no rule]", "main (a)"])));
    }

    #[test]
    fn the_kernels_frames_are_at_the_leaf() {
        let stack = ["main (a)", "read ([kernel])"].map(str::to_owned);
        assert_eq!(split_kernel(&stack), stack.split_at(1));
    }
}
