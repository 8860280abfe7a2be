//! Which of several names for one address is shown.

use std::cmp::Reverse;

/// How much a name is preferred: the greatest wins, whatever the order of the table.
pub(super) type Preference<'a> = (
    bool,
    Reverse<usize>,
    bool,
    Reverse<usize>,
    Reverse<&'a [u8]>,
);

/// People know `read` rather than `__read` or `__libc_read`, and an exported name rather than a
/// local one; the rest only makes the choice the same every time.
pub(super) fn preference(name: &[u8], exported: bool) -> Preference<'_> {
    let underscores = name.iter().take_while(|byte| **byte == b'_').count();
    (
        // What glibc calls its own functions inside.
        !name.starts_with(b"__GI_"),
        Reverse(underscores),
        exported,
        Reverse(name.len()),
        Reverse(name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_people_know_wins() {
        let best = [&b"__libc_read"[..], b"read", b"__read"]
            .into_iter()
            .max_by_key(|name| preference(name, true));
        assert_eq!(best, Some(&b"read"[..]));
        assert!(preference(b"__a", true) > preference(b"__GI_a", true));
        assert!(preference(b"zlib_a", true) > preference(b"a_local", false));
    }
}
