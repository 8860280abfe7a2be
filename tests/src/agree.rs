//! Native stacks against what is known of them.

use std::collections::BTreeMap;

use crate::frames::{Frame, is_whole, split_kernel};
use crate::gdb::Truth;
use crate::symbol::plain;

/// A stack as gdb gives it has the process's frames of a recorded one.
///
/// # Panics
/// When they differ.
pub fn is_as_gdb_says(stack: &[String], truth: &[Truth]) {
    assert!(is_whole(stack), "not whole: {stack:#?}");
    assert!(
        is_same(split_kernel(stack).0, truth),
        "recorded {stack:#?}\ngdb: {truth:#?}"
    );
}

/// As [`is_as_gdb_says`], of any thread of the process.
///
/// # Panics
/// When no thread has such a stack.
pub fn is_of_a_thread(stack: &[String], threads: &BTreeMap<u32, Vec<Truth>>) {
    assert!(is_whole(stack), "not whole: {stack:#?}");
    let (user, _) = split_kernel(stack);
    assert!(
        threads.values().any(|truth| is_same(user, truth)),
        "recorded {stack:#?}\ngdb: {threads:#?}"
    );
}

fn is_same(frames: &[String], truth: &[Truth]) -> bool {
    frames.len() == truth.len() && frames.iter().zip(truth).all(|(text, frame)| frame.is(text))
}

/// The names of a stack's native frames, from the given function on.
///
/// # Panics
/// When that is not in the stack.
#[must_use]
pub fn names_from(stack: &[String], function: &str) -> Vec<String> {
    let (user, _) = split_kernel(stack);
    let names = user.iter().map(|text| match Frame::of(text) {
        Frame::Native(name, _) | Frame::Python(name) => plain(name),
        _ => text.clone(),
    });
    let from: Vec<String> = names.skip_while(|name| name != function).collect();
    assert!(!from.is_empty(), "no {function} in {stack:#?}");
    from
}

/// The chain of functions, from the first one of it on, is the stack's.
///
/// # Panics
/// When it is not.
pub fn is_chain(stack: &[String], chain: &[&str]) {
    assert!(is_whole(stack), "not whole: {stack:#?}");
    assert_eq!(names_from(stack, chain[0]), chain, "{stack:#?}");
}

/// The chain of functions is the stack's, which may go on.
///
/// # Panics
/// When it is not.
pub fn begins_with_chain(stack: &[String], chain: &[&str]) {
    assert!(is_whole(stack), "not whole: {stack:#?}");
    let names = names_from(stack, chain[0]);
    assert!(
        names.iter().zip(chain).filter(|(a, b)| a == b).count() == chain.len(),
        "{chain:?} is not the beginning of {stack:#?}"
    );
}

#[cfg(test)]
mod tests {
    use super::{begins_with_chain, is_chain, names_from};

    fn stack() -> Vec<String> {
        let frames = [
            "_start (program)",
            "main (program)",
            "reads (a.c:7)",
            "read (libc.so.6)",
            "vfs_read ([kernel])",
        ];
        frames.map(str::to_owned).to_vec()
    }

    #[test]
    fn the_kernels_frames_are_no_part_of_a_chain() {
        assert_eq!(names_from(&stack(), "main"), ["main", "reads", "read"]);
        is_chain(&stack(), &["main", "reads", "read"]);
        begins_with_chain(&stack(), &["main", "reads"]);
        begins_with_chain(&stack(), &["main", "reads", "read"]);
    }

    #[test]
    #[should_panic(expected = "left")]
    fn a_chain_that_goes_on_is_another() {
        is_chain(&stack(), &["main", "reads"]);
    }

    #[test]
    #[should_panic(expected = "is not the beginning")]
    fn a_beginning_is_not_longer_than_the_stack() {
        begins_with_chain(&stack(), &["main", "reads", "read", "more"]);
    }

    #[test]
    #[should_panic(expected = "is not the beginning")]
    fn a_missing_caller_is_no_beginning() {
        begins_with_chain(&stack(), &["main", "caller", "reads"]);
    }

    #[test]
    #[should_panic(expected = "not whole")]
    fn what_is_marked_is_not_whole() {
        let marked = [&["[truncated]".to_owned()], &stack()[..]].concat();
        begins_with_chain(&marked, &["main"]);
    }
}
