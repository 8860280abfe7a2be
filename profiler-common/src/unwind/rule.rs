//! A rule: how the caller's registers come out of a frame's, as call frame information says it
//! (DWARF 5, 6.4; the System V ABI for x86-64, 3.7).
//!
//! Only `rsp`, `rip` and `rbp` are followed from frame to frame. The other registers are known in
//! the interrupted frame, and again behind a signal frame.

/// DWARF's number of `rbp`.
pub const REG_RBP: u8 = 6;
/// DWARF's number of `rsp`.
pub const REG_RSP: u8 = 7;
/// DWARF's number of the return address, `rip`.
pub const REG_RIP: u8 = 16;
/// General registers, numbered as DWARF does: `rax` 0, `rdx` 1, `rcx` 2, `rbx` 3, `rsi` 4, `rdi` 5,
/// `rbp` 6, `rsp` 7, `r8` to `r15`.
pub const REGISTERS: usize = 16;

/// How the canonical frame address (CFA, the value of `rsp` in the caller) is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CfaKind {
    /// There is no rule here: nothing covers this code, or nothing that can be followed.
    None = 0,
    /// `reg + cfa_offset`.
    Register = 1,
    /// `*(reg + cfa_offset) + cfa_second`.
    Deref = 2,
    /// `*(reg + 8 * index + cfa_offset) + cfa_second`.
    DerefIndexed = 3,
    /// `rsp + cfa_offset + (8 if (rip & 15) >= cfa_second)`: an entry of a procedure linkage table
    /// pushes in its middle.
    Plt = 4,
    /// A signal frame: the kernel put the interrupted registers, a `struct sigcontext`, at
    /// `rsp + cfa_offset` (`arch/x86/include/uapi/asm/sigcontext.h`).
    Signal = 5,
}

/// How the caller's `rbp` is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RbpKind {
    /// It is still there.
    Same = 0,
    /// `*(CFA + rbp_offset)`.
    AtCfa = 1,
    /// `*(rbp + rbp_offset)`.
    AtRbp = 2,
    /// It is lost, or somewhere that cannot be followed.
    Unknown = 3,
}

/// How the return address is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RaKind {
    /// `*(CFA + ra_offset)`.
    AtCfa = 0,
    /// Nobody called: the outermost frame.
    End = 1,
}

/// One rule, 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Rule {
    /// A [`CfaKind`].
    pub cfa: u8,
    /// DWARF's number of the register that the CFA is counted from.
    pub reg: u8,
    /// DWARF's number of the register that [`CfaKind::DerefIndexed`] adds eight times.
    pub index: u8,
    /// An [`RbpKind`].
    pub rbp: u8,
    /// A [`RaKind`].
    pub ra: u8,
    /// Zero.
    pub pad: u8,
    /// See [`RaKind`], bytes.
    pub ra_offset: i16,
    /// See [`CfaKind`], bytes.
    pub cfa_offset: i32,
    /// See [`CfaKind`].
    pub cfa_second: i16,
    /// See [`RbpKind`], bytes.
    pub rbp_offset: i16,
}

const _: () = assert!(size_of::<Rule>() == 16);

// SAFETY: no padding (the size above), every bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Rule {}

impl Rule {
    /// No rule.
    pub const NONE: Self = Self {
        cfa: CfaKind::None as u8,
        reg: 0,
        index: 0,
        rbp: RbpKind::Unknown as u8,
        ra: RaKind::AtCfa as u8,
        pad: 0,
        ra_offset: 0,
        cfa_offset: 0,
        cfa_second: 0,
        rbp_offset: 0,
    };

    /// The outermost frame of a thread: nobody called it.
    pub const END: Self = Self {
        cfa: CfaKind::Register as u8,
        reg: REG_RSP,
        index: 0,
        rbp: RbpKind::Unknown as u8,
        ra: RaKind::End as u8,
        pad: 0,
        ra_offset: 0,
        cfa_offset: 8,
        cfa_second: 0,
        rbp_offset: 0,
    };
}
