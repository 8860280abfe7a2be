//! A frame with its name.

use std::sync::Arc;

/// A function of native code at one address, or one that was inlined there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NativeFrame {
    /// The function, demangled; `None` where no symbol covers the address.
    pub name: Option<Arc<str>>,
    /// The name as the file has it, for tests of names: mangled, with suffixes like `.cold`,
    /// without a symbol version.
    pub raw_name: Option<Arc<str>>,
    /// The source file, joined with its directory, as debug information has it.
    pub file: Option<Arc<str>>,
    /// The line in it.
    pub line: Option<u32>,
    /// The module's file name, or a name in brackets.
    pub module: Arc<str>,
    /// The address as the module's file states it, for `libfoo.so+0x1a2b`; of code outside every
    /// file 0, so that equal stacks stay equal.
    pub offset: u64,
    /// Inlined into the frame behind it.
    pub inlined: bool,
}

/// What runs at one address, from the innermost inlined function to the function itself.
pub type NativeFrames = Arc<[NativeFrame]>;

/// A function of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelFrame {
    /// The function; `None` where it is not known.
    pub name: Option<Arc<str>>,
    /// Its first address, 0 where it is not known.
    pub start: u64,
    /// Bytes up to the next function; `None` for the last of a module. The kernel does not tell
    /// sizes.
    pub size: Option<u64>,
    /// The kernel module, without brackets; `None` in the kernel's image.
    pub module: Option<Arc<str>>,
}
