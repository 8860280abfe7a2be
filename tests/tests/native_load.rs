//! Libraries that Python programs spend their time in: stacks are whole, and go from Python's
//! frames into the library's functions.

use std::env;
use std::time::Duration;

use pyscry_tests::frames::{is_whole, split_kernel};
use pyscry_tests::run::MINOR;
use pyscry_tests::symbol::plain;
use pyscry_tests::{Frame, Interpreter, Target, on_each, on_one, sampled};

const PROGRAM: &str = include_str!("../programs/native_load.py");

/// A library and what uses it.
struct Load {
    /// The function of the program that makes what is repeated.
    name: &'static str,
    /// What the module's file begins with.
    modules: &'static [&'static str],
    /// A function of the library that has a symbol everywhere, and that its work is done in.
    function: Option<&'static str>,
    /// Whether all of its code has call frame information.
    has_rules: bool,
}

const LOADS: [Load; 3] = [
    Load {
        name: "compress",
        modules: &["libz."],
        function: Some("deflate"),
        has_rules: true,
    },
    Load {
        name: "digest",
        modules: &["libcrypto."],
        // EVP_DigestUpdate jumps to it.
        function: Some("SHA256_Update"),
        has_rules: true,
    },
    Load {
        name: "query",
        modules: &["libsqlite3."],
        function: Some("sqlite3_step"),
        has_rules: true,
    },
];

const ARRAYS: [Load; 2] = [
    Load {
        name: "sort",
        modules: &["_multiarray_umath."],
        function: None,
        has_rules: true,
    },
    Load {
        name: "multiply",
        modules: &["libscipy_openblas", "libopenblas", "_multiarray_umath."],
        function: None,
        // OpenBLAS's kernels are assembly: Python's frames are found past them, the library's not.
        has_rules: false,
    },
];

/// Whether a frame is of the library.
fn is_of(load: &Load, text: &str) -> bool {
    let is = |module: &str| load.modules.iter().any(|start| module.starts_with(start));
    match Frame::of(text) {
        Frame::Native(_, module) | Frame::Unnamed(module, _) => is(module),
        _ => false,
    }
}

fn is_called(text: &str, function: &str) -> bool {
    Frame::of(text)
        .native()
        .is_some_and(|name| plain(name) == function)
}

/// The names of a stack's Python frames.
fn python_names(stack: &[String]) -> Vec<&str> {
    let names = stack.iter().filter_map(|text| match Frame::of(text) {
        // `digest.<locals>.<lambda>` since 3.11.
        Frame::Python(name) => Some(name.rsplit('.').next().unwrap_or_default()),
        _ => None,
    });
    names.collect()
}

fn is_right(python: &Interpreter, load: &Load, target: &Target) {
    let what = format!("Python {}, {}", python.version, load.name);
    let folded = sampled(target.pid(), Duration::from_secs(1), &["--native"]);
    let total = folded.total();
    let whole = folded.weight(is_whole);
    assert!(
        !load.has_rules || whole * 1000 >= total * 995,
        "{what}: {whole} of {total} stacks are whole: {:#?}",
        folded
            .stacks
            .keys()
            .filter(|stack| !is_whole(stack))
            .collect::<Vec<_>>()
    );

    let callers = ["<module>", "repeats", "works", "<lambda>"];
    let mut inside = 0;
    let is_known = |stack: &[String]| is_whole(stack) || !load.has_rules;
    for (stack, weight) in folded.stacks.iter().filter(|(stack, _)| is_known(stack)) {
        let names = python_names(stack);
        // Between two rounds the innermost ones are not there.
        let known = names.len() >= 2
            && names.len() <= callers.len()
            && names.iter().zip(callers).all(|(name, is)| *name == is);
        assert!(known, "{what}: {names:?} in {stack:#?}");
        let (user, _) = split_kernel(stack);
        let Some(first) = user.iter().position(|text| is_of(load, text)) else {
            continue;
        };
        // The library is called by the innermost function of Python, and when that one's caller
        // drops what it returned.
        assert!(names.len() + 1 >= callers.len(), "{what}: {stack:#?}");
        let is_python = |text: &String| matches!(Frame::of(text), Frame::Python(_));
        assert!(!user[first..].iter().any(is_python), "{what}: {stack:#?}");
        let in_function = |function| user[first..].iter().any(|text| is_called(text, function));
        if load.function.is_none_or(in_function) {
            inside += weight;
        }
    }
    // All that takes time in these programs is the library's.
    assert!(
        inside * 10 >= total * 9,
        "{what}: {inside} of {total} samples are in {:?} of {:?}: {:#?}",
        load.function,
        load.modules,
        folded.stacks
    );
}

#[test]
fn stacks_of_libraries_are_whole() {
    on_each("native libraries under load", |python| {
        for load in &LOADS {
            let target = Target::start_with(python, "native_load.py", PROGRAM, &[load.name]);
            is_right(python, load, &target);
        }
    });
}

/// Where numpy is for the version that `cargo xtask test` installs it for.
const SITE: &str = "PYSCRY_SITE";

#[test]
fn stacks_of_numpy_are_whole() {
    let Some(site) = env::var_os(SITE) else {
        panic!("{SITE} is not set: run the tests with `cargo xtask test`");
    };
    let site = site.to_string_lossy();
    on_one("numpy under load", MINOR, |python| {
        for load in &ARRAYS {
            let args = [load.name, &*site];
            let target = Target::start_with(python, "native_load.py", PROGRAM, &args);
            is_right(python, load, &target);
        }
    });
}
