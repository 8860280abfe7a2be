//! Native and kernel frames as they are shown. Names are as files have them: whoever writes a
//! format takes out of them what it cannot hold.

use super::frame::{KernelFrame, NativeFrame};
use super::perf_map;

/// `symbol (file:line)` where debug information is at hand, else `symbol (module)`, else
/// `module+0x1a2b`. Code outside every file and without a name is `[jit]`, without an address: so
/// stacks through it stay equal.
#[must_use]
pub fn native(frame: &NativeFrame) -> String {
    let module = &*frame.module;
    match (&frame.name, &frame.file, frame.line) {
        (Some(name), Some(file), Some(line)) => format!("{name} ({file}:{line})"),
        (Some(name), Some(file), None) => format!("{name} ({file})"),
        (Some(name), None, _) => format!("{name} ({module})"),
        (None, ..) if module == perf_map::MODULE => module.to_owned(),
        (None, ..) => format!("{module}+{:#x}", frame.offset),
    }
}

/// `symbol ([kernel])`, `symbol ([nf_tables])` in a kernel module, `[kernel]` without a name.
#[must_use]
pub fn kernel(frame: &KernelFrame) -> String {
    let module = frame.module.as_deref().unwrap_or("kernel");
    frame.name.as_ref().map_or_else(
        || "[kernel]".to_owned(),
        |name| format!("{name} ([{module}])"),
    )
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
        assert_eq!(native(&frame), "f (/src/a.c:7)");
        frame.line = None;
        assert_eq!(native(&frame), "f (/src/a.c)");
        frame.file = None;
        assert_eq!(native(&frame), "f (libfoo.so)");
        frame.name = None;
        assert_eq!(native(&frame), "libfoo.so+0x1a2b");
        frame.module = perf_map::MODULE.into();
        assert_eq!(native(&frame), "[jit]");
    }
}
