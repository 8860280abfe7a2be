//! Native and kernel frames as they are shown. Names are as files have them: whoever writes a
//! format takes out of them what it cannot hold.

use std::fmt;
use std::sync::Arc;

use super::frame::{KernelFrame, NativeFrame};
use super::perf_map;

/// A frame as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The function, or what stands for it.
    pub name: Arc<str>,
    /// The file or module; `None` where the name says it.
    pub place: Option<Arc<str>>,
    /// The line in the file.
    pub line: Option<u32>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.line) {
            (Some(place), Some(line)) => write!(f, "{} ({place}:{line})", self.name),
            (Some(place), None) => write!(f, "{} ({place})", self.name),
            (None, _) => f.write_str(&self.name),
        }
    }
}

/// `symbol (file:line)` where debug information is at hand, else `symbol (module)`, else
/// `module+0x1a2b`. Code outside every file and without a name is `[jit]`, without an address: so
/// stacks through it stay equal.
#[must_use]
pub fn native(frame: &NativeFrame) -> Shown {
    let module = &*frame.module;
    let Some(name) = &frame.name else {
        let name = match module {
            perf_map::MODULE => Arc::clone(&frame.module),
            _ => format!("{module}+{:#x}", frame.offset).into(),
        };
        return Shown {
            name,
            place: None,
            line: None,
        };
    };
    Shown {
        name: Arc::clone(name),
        place: Some(Arc::clone(frame.file.as_ref().unwrap_or(&frame.module))),
        line: frame.line.filter(|_| frame.file.is_some()),
    }
}

/// `symbol ([kernel])`, `symbol ([nf_tables])` in a kernel module, `[kernel]` without a name.
#[must_use]
pub fn kernel(frame: &KernelFrame) -> Shown {
    let module = frame.module.as_deref().unwrap_or("kernel");
    let Some(name) = &frame.name else {
        return unknown_kernel();
    };
    Shown {
        name: Arc::clone(name),
        place: Some(format!("[{module}]").into()),
        line: None,
    }
}

/// A function of the kernel of which nothing is known.
#[must_use]
pub fn unknown_kernel() -> Shown {
    Shown {
        name: "[kernel]".into(),
        place: None,
        line: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms() {
        let mut frame = NativeFrame {
            name: Some("f".into()),
            raw_name: Some("f".into()),
            file: Some("/src/a.c".into()),
            line: Some(7),
            module: "libfoo.so".into(),
            offset: 0x1a2b,
            inlined: false,
        };
        assert_eq!(native(&frame).to_string(), "f (/src/a.c:7)");
        frame.line = None;
        assert_eq!(native(&frame).to_string(), "f (/src/a.c)");
        frame.file = None;
        assert_eq!(native(&frame).to_string(), "f (libfoo.so)");
        frame.name = None;
        assert_eq!(native(&frame).to_string(), "libfoo.so+0x1a2b");
        frame.module = perf_map::MODULE.into();
        assert_eq!(native(&frame).to_string(), "[jit]");
    }
}
