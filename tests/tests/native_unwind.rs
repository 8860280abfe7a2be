//! Stacks of native programs that run: every sample's frames are the chain of calls that is in the
//! program, and what gdb says.

use std::time::Duration;

use pyscry_tests::agree::{begins_with_chain, is_as_gdb_says, is_chain, is_of_a_thread};
use pyscry_tests::frames::{is_whole, split_kernel};
use pyscry_tests::{Folded, Frame, Native, Workshop, gdb, sampled};

/// CPU time that a program is recorded for.
const A_WHILE: Duration = Duration::from_millis(300);

/// A program, and the chain of calls from `main` on that it settles in.
struct Case<'a> {
    compiler: &'a str,
    source: &'a str,
    flags: &'a [&'a str],
    args: &'a [&'a str],
    chain: &'a [&'a str],
}

const CHAIN: Case<'static> = Case {
    compiler: "gcc",
    source: "native/chain.c",
    flags: &[],
    args: &[],
    chain: &[
        "main", "pointed", "many", "locals", "saves", "plain", "spin",
    ],
};

const REALIGN: Case<'static> = Case {
    source: "native/realign.c",
    chain: &[
        "main",
        "both",
        "arguments",
        "aligned",
        "grows",
        "last",
        "spin",
    ],
    ..CHAIN
};

/// Builds and runs a program that stays where it is, and compares all samples with both truths.
fn is_steady(case: &Case<'_>) -> Folded {
    let workshop = Workshop::default();
    let exe = workshop.make(case.compiler, case.source, case.flags, "program");
    let program = Native::start(&exe, case.args).settled();
    let truth = gdb::stacks(program.pid());
    let truth = truth.get(&program.pid()).expect("the main thread");
    let folded = sampled(program.pid(), A_WHILE, &["--native"]);
    for stack in folded.stacks.keys() {
        is_as_gdb_says(stack, truth);
        is_chain(stack, case.chain);
    }
    folded
}

fn with_flags(flags: &[&str]) {
    is_steady(&Case { flags, ..CHAIN });
}

#[test]
fn without_frame_pointers() {
    with_flags(&["-O2", "-fomit-frame-pointer"]);
}

#[test]
fn with_frame_pointers() {
    with_flags(&["-O2", "-fno-omit-frame-pointer"]);
}

#[test]
fn not_optimised() {
    with_flags(&["-O0"]);
}

#[test]
fn for_size() {
    with_flags(&["-Os"]);
}

#[test]
fn optimised_when_linked() {
    with_flags(&["-O3", "-flto"]);
}

#[test]
fn with_indirect_branch_tracking() {
    with_flags(&["-O2", "-fcf-protection=full", "-Wl,-z,ibtplt"]);
}

#[test]
fn with_stack_clash_protection() {
    with_flags(&["-O2", "-fstack-clash-protection", "-fstack-protector-all"]);
}

#[test]
fn not_relocatable() {
    with_flags(&["-O2", "-no-pie"]);
}

#[test]
fn static_and_not_relocatable() {
    with_flags(&["-O2", "-static", "-no-pie"]);
}

#[test]
fn static_and_relocatable() {
    with_flags(&["-O2", "-static-pie"]);
}

#[test]
fn with_a_linker_that_makes_no_index() {
    with_flags(&["-O2", "-Wl,--no-eh-frame-hdr"]);
}

#[test]
fn frames_that_are_realigned() {
    for flags in [
        &["-O2"][..],
        &["-O2", "-mavx2", "-mstackrealign"],
        &["-O0"],
        &["-O3", "-flto", "-mavx2"],
    ] {
        is_steady(&Case { flags, ..REALIGN });
    }
}

/// What has no symbols is told by its module and the place in it.
#[test]
fn stripped() {
    let workshop = Workshop::default();
    let exe = workshop.make("gcc", "native/chain.c", &["-O2", "-s"], "program");
    let program = Native::start(&exe, &[]).settled();
    let truth = gdb::stacks(program.pid());
    let folded = sampled(program.pid(), A_WHILE, &["--native"]);
    for stack in folded.stacks.keys() {
        is_as_gdb_says(stack, &truth[&program.pid()]);
        let (user, _) = split_kernel(stack);
        let is_own = |text: &&String| matches!(Frame::of(text), Frame::Unnamed("program", _));
        // _start, main and all of its chain.
        let own = user.iter().filter(is_own).count();
        assert_eq!(own, CHAIN.chain.len() + 1, "{stack:#?}");
    }
}

#[test]
fn deep_recursion() {
    for depth in [100, 500] {
        let mut chain = vec!["main"];
        chain.extend(vec!["deeper"; depth]);
        chain.push("spin");
        is_steady(&Case {
            source: "native/deep.c",
            flags: &["-O2", "-fno-optimize-sibling-calls"],
            args: &[&depth.to_string()],
            chain: &chain,
            ..CHAIN
        });
    }
}

/// What does not fit is cut at the root's side, and marked.
#[test]
fn too_deep_recursion() {
    let workshop = Workshop::default();
    let exe = workshop.make("gcc", "native/deep.c", &["-O2"], "program");
    let program = Native::start(&exe, &["10000"]).settled();
    for stack in sampled(program.pid(), A_WHILE, &["--native"]).stacks.keys() {
        assert!(
            matches!(Frame::of(&stack[0]), Frame::Marker(_)),
            "{stack:#?}"
        );
        let (user, _) = split_kernel(&stack[1..]);
        let (leaf, callers) = user.split_last().expect("frames");
        assert_eq!(Frame::of(leaf).native(), Some("spin"));
        assert!(callers.len() >= 1000, "{} frames", callers.len());
        let is_deeper = |text: &String| Frame::of(text).native() == Some("deeper");
        assert!(callers.iter().all(is_deeper), "{stack:#?}");
    }
}

/// Inlined functions have frames of their own where there is debug info, and places in files.
#[test]
fn inlined_functions() {
    let folded = is_steady(&Case {
        source: "native/inlines.c",
        flags: &["-O2", "-g"],
        chain: &["main", "outer", "holds", "inner", "innermost", "spin"],
        ..CHAIN
    });
    let line = |call: &str| {
        let text = include_str!("../programs/native/inlines.c");
        let at = text.lines().position(|line| line.contains(call));
        at.expect("the call") + 1
    };
    for stack in folded.stacks.keys() {
        for (function, call) in [
            ("main", "outer(argc)"),
            ("outer", "holds(a + 1)"),
            ("holds", "inner(a) + a"),
            ("inner", "innermost(a * 3)"),
            ("innermost", "    spin();"),
        ] {
            let place = format!("inlines.c:{})", line(call));
            let is_there = |text: &String| {
                Frame::of(text).native() == Some(function) && text.ends_with(&place)
            };
            assert!(
                stack.iter().any(is_there),
                "no {function} ({place} {stack:#?}"
            );
        }
    }
}

#[test]
fn templates() {
    let workshop = Workshop::default();
    let exe = workshop.make(
        "g++",
        "native/templates.cpp",
        &["-O2", "-std=c++17"],
        "program",
    );
    let program = Native::start(&exe, &[]).settled();
    let truth = gdb::stacks(program.pid());
    for stack in sampled(program.pid(), A_WHILE, &["--native"]).stacks.keys() {
        is_as_gdb_says(stack, &truth[&program.pid()]);
        let names = pyscry_tests::agree::names_from(stack, "main");
        let ends = [
            "main",
            ",3>::down",
            ",2>::down",
            ",1>::down",
            ",0>::down",
            "some::place::called",
            "#1}::operator()",
            "some::place::Derived::act",
            "spin",
        ];
        assert_eq!(names.len(), ends.len(), "{stack:#?}");
        for (name, end) in names.iter().zip(ends) {
            assert!(name.ends_with(end), "{name} is no {end}: {stack:#?}");
        }
    }
}

/// The leaf is anywhere in the unwinder of C++; what is above it never changes. Shortly before a
/// handler is entered, the unwinder overwrites the registers that its own frames saved with those
/// of the handler: its callers are lost then, to gdb as well, which may even take the stack for
/// ended.
#[test]
fn exceptions() {
    let workshop = Workshop::default();
    let exe = workshop.make("g++", "native/throws.cpp", &["-O2"], "program");
    let program = Native::start(&exe, &[]).settled();
    let folded = sampled(program.pid(), A_WHILE, &["--native"]);
    let is_main = |text: &String| Frame::of(text).native() == Some("main");
    let is_right = |stack: &[String]| is_whole(stack) && stack.iter().any(is_main);
    for stack in folded.stacks.keys() {
        if is_right(stack) {
            begins_with_chain(stack, &["main", "outer", "catches"]);
            continue;
        }
        let (user, _) = split_kernel(stack);
        let is_unwinder = |text: &String| {
            let name = Frame::of(text).native();
            name.is_some_and(|name| name.starts_with("_Unwind_"))
        };
        let last = &user[user.len().saturating_sub(2)..];
        assert!(last.iter().any(is_unwinder), "{stack:#?}");
    }
    let whole = folded.weight(is_right);
    assert!(
        whole * 10 >= folded.total() * 9,
        "{whole} of {} stacks are whole",
        folded.total()
    );
}

/// What Rust calls `main` from has inlined functions of its library, which two tools name in
/// different ways: the frames from the program's own `main` on are compared.
#[test]
fn rust() {
    for flags in [
        &["-O", "--edition=2024", "-Cpanic=unwind"][..],
        &[
            "-O",
            "--edition=2024",
            "-Cpanic=unwind",
            "-Csymbol-mangling-version=v0",
        ],
        &[
            "--edition=2024",
            "-Cpanic=abort",
            "-Cforce-frame-pointers=yes",
            "-Copt-level=1",
        ],
    ] {
        let workshop = Workshop::default();
        let flags = [flags, &["--crate-name=generic"]].concat();
        let exe = workshop.make("rustc", "native/generic.rs", &flags, "program");
        let program = Native::start(&exe, &[]).settled();
        let truth = gdb::stacks(program.pid());
        let truth = &truth[&program.pid()];
        for stack in sampled(program.pid(), A_WHILE, &["--native"]).stacks.keys() {
            let names = pyscry_tests::agree::names_from(stack, "generic::main");
            let ends = [
                "main",
                "dropped",
                "down",
                "down",
                "down",
                "down",
                "{{closure}}",
                "spin",
            ];
            let last = |name: &String| {
                let name = name.rsplit("::").next().unwrap_or_default();
                // Of the newer mangling: `{closure#0}`.
                if name.contains("{closure") {
                    "{{closure}}".to_owned()
                } else {
                    name.to_owned()
                }
            };
            assert_eq!(
                names.iter().map(last).collect::<Vec<_>>(),
                ends,
                "{stack:#?}"
            );
            let own = &truth[truth.len() - ends.len()..];
            let (user, _) = split_kernel(stack);
            for (text, frame) in user[user.len() - ends.len()..].iter().zip(own) {
                assert!(frame.is(text), "{text}: {frame:?}");
            }
            // What starts the program is the same, without what is inlined there.
            let is_start = |text: &String| Frame::of(text).native() == Some("_start");
            assert!(is_start(&stack[0]), "{stack:#?}");
        }
    }
}

/// A program with a library that it calls in a loop, so that samples are in the slots between.
fn plt(flags: &[&str], links: &[&str]) {
    let workshop = Workshop::default();
    let library = [flags, &["-O2", "-shared", "-fPIC"]].concat();
    let _library = workshop.make("gcc", "native/library.c", &library, "libstep.so");
    let directory = workshop.path("").display().to_string();
    let search = [
        format!("-L{directory}"),
        format!("-Wl,-rpath,{directory}"),
        "-lstep".to_owned(),
    ];
    let search: Vec<&str> = search.iter().map(String::as_str).collect();
    let exe = workshop.make(
        "gcc",
        "native/plt.c",
        &[flags, &["-O2"], links, &search].concat(),
        "program",
    );
    let program = Native::start(&exe, &[]).settled();
    let folded = sampled(program.pid(), A_WHILE, &["--native"]);
    let mut below = 0;
    for (stack, weight) in &folded.stacks {
        begins_with_chain(stack, &["main", "caller", "calls"]);
        let (user, _) = split_kernel(stack);
        let called = user
            .iter()
            .rposition(|text| Frame::of(text).native() == Some("calls"));
        // At most one function is called: a slot, or what it leads to.
        let callees = &user[called.expect("checked above") + 1..];
        assert!(callees.len() <= 1, "{stack:#?}");
        below += *weight * callees.len() as u64;
    }
    assert_ne!(
        below, 0,
        "no sample in what is called: {:#?}",
        folded.stacks
    );
}

#[test]
fn slots_of_the_plt() {
    plt(&["-fcf-protection=none"], &["-Wl,-z,lazy"]);
}

#[test]
fn slots_of_the_second_plt() {
    plt(&["-fcf-protection=full"], &["-Wl,-z,lazy", "-Wl,-z,ibtplt"]);
}

#[test]
fn slots_that_are_bound_at_once() {
    plt(&["-fcf-protection=none"], &["-Wl,-z,now"]);
}

/// Libraries come and go, and their functions are bound when they are called first. What has just
/// come is not known yet: there, and only there, a stack may end.
#[test]
fn the_dynamic_linker() {
    let workshop = Workshop::default();
    let flags = ["-O2", "-shared", "-fPIC"];
    let _library = workshop.make("gcc", "native/library.c", &flags, "libstep.so");
    let directory = workshop.path("").display().to_string();
    let search = [format!("-L{directory}"), format!("-Wl,-rpath,{directory}")];
    let links = [
        &flags[..],
        &[&search[0], &search[1], "-lstep", "-Wl,-z,lazy"],
    ]
    .concat();
    let binds = workshop.make("gcc", "native/binds.c", &links, "libbinds.so");
    let exe = workshop.make("gcc", "native/loads.c", &["-O2"], "program");
    let program = Native::start(&exe, &[binds.to_str().expect("a path")]).settled();
    let is_library = |module: &str| ["libbinds.so", "libstep.so"].contains(&module);
    for stack in sampled(program.pid(), A_WHILE, &["--native"]).stacks.keys() {
        if is_whole(stack) {
            begins_with_chain(stack, &["main", "caller", "loads"]);
            continue;
        }
        let first = stack.get(1).map(|text| Frame::of(text));
        let ends_in_library = match first {
            Some(Frame::Native(name, module)) => {
                // What the library calls: to bind a slot, and at its end.
                name.starts_with("_dl_runtime_resolve")
                    || name == "__cxa_finalize"
                    || is_library(module)
            }
            Some(Frame::Unnamed(module, _)) => is_library(module) || module == "[jit]",
            Some(Frame::Marker(marker)) => marker == "[unmapped code]",
            _ => false,
        };
        assert!(ends_in_library, "{stack:#?}");
    }
}

fn signal(way: &str, interrupted: &[&str]) {
    let chain = [
        &["main", "interrupted"],
        interrupted,
        &["", "handler", "handles", "spin"],
    ]
    .concat();
    let workshop = Workshop::default();
    let exe = workshop.make("gcc", "native/signal.c", &["-O2"], "program");
    let program = Native::start(&exe, &[way]).settled();
    let truth = gdb::stacks(program.pid());
    for stack in sampled(program.pid(), A_WHILE, &["--native"]).stacks.keys() {
        is_as_gdb_says(stack, &truth[&program.pid()]);
        let names = pyscry_tests::agree::names_from(stack, "main");
        assert_eq!(names.len(), chain.len(), "{stack:#?}");
        for (name, is) in names.iter().zip(&chain) {
            // The C library's return from a signal has no name in it.
            assert!(name == is || is.is_empty(), "{name} is no {is}: {stack:#?}");
        }
    }
}

#[test]
fn signal_handlers() {
    signal("main", &["loops"]);
}

#[test]
fn signal_handlers_on_a_stack_of_their_own() {
    signal("own", &["loops"]);
}

#[test]
fn signals_at_a_functions_first_instruction() {
    signal("fault", &["faults"]);
}

#[test]
fn the_vdso() {
    let workshop = Workshop::default();
    let exe = workshop.make("gcc", "native/vdso.c", &["-O2"], "program");
    let program = Native::start(&exe, &[]).settled();
    let folded = sampled(program.pid(), A_WHILE, &["--native"]);
    let mut inside = 0;
    for (stack, weight) in &folded.stacks {
        begins_with_chain(stack, &["main", "caller", "asks"]);
        let is_vdso = |text: &String| {
            matches!(
                Frame::of(text),
                Frame::Native(_, "[vdso]") | Frame::Unnamed("[vdso]", _)
            )
        };
        if let Some(first) = stack.iter().position(is_vdso) {
            let name = Frame::of(&stack[first - 1]).native();
            assert!(
                name.is_some_and(|name| name.ends_with("clock_gettime")),
                "{stack:#?}"
            );
            inside += weight;
        }
    }
    assert_ne!(inside, 0, "no sample in the vDSO: {:#?}", folded.stacks);
}

/// Threads begin in the C library, which hands over to the worker, or to that of a library.
fn threads(source: &str, flags: &[&str], ends: &[&[&str]]) {
    let workshop = Workshop::default();
    let exe = workshop.make("gcc", source, flags, "program");
    let program = Native::start(&exe, &[]).settled();
    let truth = gdb::stacks(program.pid());
    let folded = sampled(program.pid(), A_WHILE, &["--native"]);
    let mut seen = vec![0; ends.len()];
    for (stack, weight) in &folded.stacks {
        is_of_a_thread(stack, &truth);
        let (user, _) = split_kernel(stack);
        let fits = |end: &&[&str]| {
            user.len() >= end.len()
                && user[user.len() - end.len()..]
                    .iter()
                    .zip(*end)
                    .all(|(text, name)| {
                        name.is_empty()
                            || Frame::of(text)
                                .native()
                                .is_some_and(|is| pyscry_tests::symbol::plain(is) == *name)
                    })
        };
        let end = ends.iter().position(fits);
        seen[end.unwrap_or_else(|| panic!("none of {ends:?}: {stack:#?}"))] += weight;
    }
    assert!(
        seen.iter().all(|weight| *weight > 0),
        "{:#?}",
        folded.stacks
    );
}

#[test]
fn threads_of_a_pool() {
    threads(
        "native/pool.c",
        &["-O2", "-pthread"],
        &[&["worker", "picks", "task"]],
    );
}

#[test]
fn threads_of_openmp() {
    threads(
        "native/openmp.c",
        &["-O2", "-fopenmp"],
        &[
            &["main", "region", "GOMP_parallel", "region._omp_fn", "task"],
            &["", "region._omp_fn", "task"],
        ],
    );
}

/// The kernel's frames go on where the process's end, in the system call.
#[test]
fn system_calls() {
    let workshop = Workshop::default();
    let exe = workshop.make("gcc", "native/calls.c", &["-O2"], "program");
    let program = Native::start(&exe, &[]).settled();
    let folded = sampled(program.pid(), A_WHILE, &["--native"]);
    let mut inside = 0;
    for (stack, weight) in &folded.stacks {
        begins_with_chain(stack, &["main", "caller", "reads"]);
        let (user, kernel) = split_kernel(stack);
        let is_read = |text: &String| matches!(Frame::of(text), Frame::Kernel(name) if name.contains("vfs_read"));
        if kernel.iter().any(is_read) {
            let name = user.last().and_then(|leaf| Frame::of(leaf).native());
            assert!(
                name.is_some_and(|name| name == "read" || name == "__read"),
                "{stack:#?}"
            );
            inside += weight;
        }
    }
    assert_ne!(inside, 0, "no sample in the kernel: {:#?}", folded.stacks);
}

#[test]
fn the_kernel_can_be_left_out() {
    let workshop = Workshop::default();
    let exe = workshop.make("gcc", "native/calls.c", &["-O2"], "program");
    let program = Native::start(&exe, &[]).settled();
    let folded = sampled(program.pid(), A_WHILE, &["--native", "--no-kernel"]);
    for stack in folded.stacks.keys() {
        begins_with_chain(stack, &["main", "caller", "reads"]);
        assert_eq!(split_kernel(stack).1, &[] as &[String], "{stack:#?}");
    }
    // Samples in the kernel are samples in the function that called it.
    let reads = |stack: &[String]| {
        let name = stack.last().and_then(|leaf| Frame::of(leaf).native());
        name.is_some_and(|name| name == "read" || name == "__read")
    };
    assert_ne!(folded.weight(reads), 0, "{:#?}", folded.stacks);
}
