//! Stacks with native frames: whether they are whole, and in the true order.

use super::folded::is_call;

/// Python functions of the program where C code calls the last one.
const SORT: [&str; 5] = ["<module>", "outer", "middle", "sort", "leaf"];
/// Python functions of the program where it sleeps.
const NAP: [&str; 4] = ["<module>", "outer", "middle", "nap"];

/// Where the calls of these functions stand, if all are there, in this order, nothing else of
/// Python is, and the unwind came to the thread's beginning.
fn places(frames: &[&str], functions: &[&str]) -> Option<Vec<usize>> {
    let markers = ["[incomplete", "[truncated", "[unmapped"];
    let broken = |frame: &&str| markers.iter().any(|marker| frame.starts_with(marker));
    if frames.iter().any(broken) {
        return None;
    }
    let python: Vec<usize> = (0..frames.len())
        .filter(|index| frames[*index].contains(".py:"))
        .collect();
    let right = python.len() == functions.len()
        && python
            .iter()
            .zip(functions)
            .all(|(index, function)| is_call(frames[*index], function));
    right.then_some(python)
}

/// Whether C code stands between `sort` and `leaf`: more of it than where Python calls Python, of
/// which versions up to 3.10 have some as well. Of an interpreter without symbols only its file is
/// known.
pub(crate) fn calls_through_c(frames: &[&str]) -> bool {
    let Some(&[.., middle, sort, leaf]) = places(frames, &SORT).as_deref() else {
        return false;
    };
    let between = &frames[sort + 1..leaf];
    between.iter().all(|frame| frame.contains("python")) && leaf - sort > sort - middle
}

/// Whether the C library stands behind `nap`, and the kernel, in which the thread sleeps, behind it.
pub(crate) fn sleeps_in_kernel(frames: &[&str]) -> bool {
    let Some(&[.., nap]) = places(frames, &NAP).as_deref() else {
        return false;
    };
    let library = frames.iter().rposition(|frame| frame.contains("(libc"));
    let kernel = frames
        .iter()
        .position(|frame| frame.ends_with("([kernel])"));
    matches!((library, kernel), (Some(library), Some(kernel)) if nap < library && library < kernel)
}

#[cfg(test)]
mod tests {
    use super::{calls_through_c, sleeps_in_kernel};

    #[test]
    fn c_code_between_python_functions() {
        let through = |sort: &str, leaf: &str| {
            let stack = format!(
                "__libc_start_main (libc.so.6);python3.9+0x1;<module> (p.py:9);python3.9+0x2;\
                 outer (p.py:8);python3.9+0x2;middle (p.py:7);python3.9+0x2;sort (p.py:6){sort};\
                 leaf (p.py:5){leaf}"
            );
            calls_through_c(&stack.split(';').collect::<Vec<_>>())
        };
        assert!(through(";python3.9+0x2;PyList_Sort (python3.9)", ""));
        assert!(through(
            ";python3.9+0x2;python3.9+0x3",
            ";python3.9+0x4;tick ([kernel])"
        ));
        assert!(!through(";python3.9+0x2", ""));
        assert!(!through(";python3.9+0x2;python3.9+0x3", ";[unmapped code]"));
    }

    #[test]
    fn the_kernel_below_the_library() {
        let sleeps = |end: &str| {
            let stack =
                format!("<module> (p.py:9);outer (p.py:8);middle (p.py:7);nap (p.py:6){end}");
            sleeps_in_kernel(&stack.split(';').collect::<Vec<_>>())
        };
        assert!(sleeps(
            ";select (libc-2.31.so);do_syscall_64 ([kernel]);schedule ([kernel])"
        ));
        assert!(!sleeps(";select (libc-2.31.so)"));
        assert!(!sleeps(";do_syscall_64 ([kernel])"));
    }
}
