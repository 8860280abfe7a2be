//! One word of a native stack as it goes out.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// The address that a call returns to, in the target: the call is before it.
    Return(u64),
    /// The address of an instruction of the target that was interrupted.
    Exact(u64),
    /// An address in the kernel.
    Kernel(u64),
    /// The Python frames up to this many, counted from the leaf, that are not passed yet.
    Python(u32),
    /// Native frames that no rule leads through, if there are any.
    Skipped,
}

/// A [`TokenKind`] in one word. Addresses of the target lie below 2^56, the kernel's have all high
/// bits set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Token(pub u64);

const KIND_SHIFT: u32 = 56;
const RETURN: u64 = 0;
const EXACT: u64 = 1;
const PYTHON: u64 = 2;
const GAP: u64 = 3;

impl Token {
    /// An address of the target, as a return address or not.
    #[inline(always)]
    #[must_use]
    pub const fn code(pc: u64, exact: bool) -> Self {
        let address = pc & ((1 << KIND_SHIFT) - 1);
        if exact {
            Self(address | EXACT << KIND_SHIFT)
        } else {
            Self(address | RETURN << KIND_SHIFT)
        }
    }

    /// The place of Python frames.
    #[inline(always)]
    #[must_use]
    pub const fn python(frames: u32) -> Self {
        Self(frames as u64 | PYTHON << KIND_SHIFT)
    }

    /// See [`TokenKind::Skipped`].
    pub const SKIPPED: Self = Self(GAP << KIND_SHIFT);

    /// What it is; `None` for what this version does not know.
    #[must_use]
    pub const fn kind(self) -> Option<TokenKind> {
        let value = self.0 & ((1 << KIND_SHIFT) - 1);
        match self.0 >> KIND_SHIFT {
            RETURN => Some(TokenKind::Return(value)),
            EXACT => Some(TokenKind::Exact(value)),
            PYTHON => Some(TokenKind::Python(value as u32)),
            GAP => Some(TokenKind::Skipped),
            0xff => Some(TokenKind::Kernel(self.0)),
            _ => None,
        }
    }
}
