//! Versions of CPython, and which of them can be profiled.

use std::fmt;

/// The oldest minor version 3.x that is supported.
pub const OLDEST_MINOR: u8 = 8;
/// The newest minor version 3.x that is supported.
pub const NEWEST_MINOR: u8 = 15;

/// A version of CPython.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 3, or 2.
    pub major: u8,
    /// The 8 in 3.8.
    pub minor: u8,
    /// The 18 in 3.8.18; `None` where only the minor version is known.
    pub micro: Option<u8>,
}

impl Version {
    /// From `PY_VERSION_HEX` (`Include/patchlevel.h`).
    #[must_use]
    pub fn from_hex(hex: u64) -> Self {
        Self {
            major: (hex >> 24) as u8,
            minor: (hex >> 16) as u8,
            micro: Some((hex >> 8) as u8),
        }
    }

    /// From `3.8.18`, `3.13.0rc1`, `3.12.1+` or `3.8`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let micro = match parts.next() {
            None => None,
            Some(rest) => {
                let digits =
                    rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                Some(rest[..digits].parse().ok()?)
            }
        };
        Some(Self {
            major,
            minor,
            micro,
        })
    }

    /// Whether frames of this version can be walked.
    #[must_use]
    pub fn is_supported(self) -> bool {
        self.major == 3 && (OLDEST_MINOR..=NEWEST_MINOR).contains(&self.minor)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.micro.map_or(Ok(()), |micro| write!(f, ".{micro}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_spellings() {
        let of = |major, minor, micro| {
            Some(Version {
                major,
                minor,
                micro,
            })
        };
        assert_eq!(Version::parse("3.8.18"), of(3, 8, Some(18)));
        assert_eq!(Version::parse("3.13.0rc1"), of(3, 13, Some(0)));
        assert_eq!(Version::parse("3.12.1+"), of(3, 12, Some(1)));
        assert_eq!(Version::parse("3.9"), of(3, 9, None));
        assert_eq!(Version::parse("three"), None);
        assert_eq!(Some(Version::from_hex(0x030e_0af0)), of(3, 14, Some(10)));
    }

    #[test]
    fn the_range() {
        let supported = |minor| {
            Version {
                major: 3,
                minor,
                micro: None,
            }
            .is_supported()
        };
        assert!(!supported(7) && supported(8) && supported(15) && !supported(16));
        assert!(
            !Version {
                major: 2,
                minor: 10,
                micro: None
            }
            .is_supported()
        );
    }
}
