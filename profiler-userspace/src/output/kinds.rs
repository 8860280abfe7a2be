//! The words for kinds of frames, the same in every format.

use super::view::FrameKind;

impl FrameKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Python,
        Self::Native,
        Self::Kernel,
        Self::Waiting,
        Self::Marker,
    ];

    /// One word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Native => "Native",
            Self::Kernel => "Kernel",
            Self::Waiting => "Waiting",
            Self::Marker => "Other",
        }
    }
}
