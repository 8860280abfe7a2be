//! Native frames of several processes at once: each stack has the functions of its own process.

use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyscry_tests::frames::is_whole;
use pyscry_tests::native::run_for;
use pyscry_tests::symbol::plain;
use pyscry_tests::{Folded, Frame, Native, Recorder, Target, Workshop, on_each_built_here, on_one};

const LOAD: &str = include_str!("../programs/native_load.py");
const FORK: &str = include_str!("../programs/native_fork.py");

/// CPU time that processes are recorded for.
const A_WHILE: Duration = Duration::from_millis(800);

/// One at a time: each of these records all of the host, the others' programs too.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stacks below the root of a process.
fn of(folded: &Folded, root: &str) -> Folded {
    let stacks = folded.stacks.iter();
    let own = stacks.filter(|(stack, _)| stack[0].starts_with(root));
    Folded {
        stacks: own
            .map(|(stack, weight)| (stack[1..].to_vec(), *weight))
            .collect(),
    }
}

fn of_process(folded: &Folded, pid: u32) -> Folded {
    of(folded, &format!("process {pid}:"))
}

fn calls(stack: &[String], function: &str) -> bool {
    let native = |text: &String| Frame::of(text).native().map(plain).unwrap_or_default();
    stack.iter().any(|text| native(text) == function)
}

/// Most of the whole stacks go through a function, and none goes through another one. How many are
/// whole is a matter of how soon a machine with other work has the tables ready.
fn runs(folded: &Folded, what: &str, function: &str, never: &[&str]) {
    let total = folded.total();
    assert!(total > 50, "{what}: {total} samples");
    let right = folded.weight(|stack| is_whole(stack) && calls(stack, function));
    let whole = folded.weight(is_whole);
    assert!(
        right * 10 >= whole * 8 && right * 4 >= total,
        "{what}: {right} in {function}, {whole} whole, of {total}: {:#?}",
        folded.stacks
    );
    for other in never {
        let wrong = folded.weight(|stack| calls(stack, other));
        assert_eq!(wrong, 0, "{what} in {other}: {:#?}", folded.stacks);
    }
}

fn finish(recorder: Recorder) -> Folded {
    recorder.signal(libc::SIGTERM);
    let ended = recorder.end();
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    ended.folded
}

#[test]
fn two_interpreters_and_a_program() {
    let _alone = alone();
    let workshop = Workshop::default();
    let exe = workshop.make("cc", "native/many.c", &["-O2"], "many");
    on_one("native frames of many", 9, |old| {
        on_one("native frames of many", 12, |new| {
            let zlib = Target::start_with(new, "native_load.py", LOAD, &["compress"]);
            let hash = Target::start_with(old, "native_load.py", LOAD, &["digest"]);
            let program = Native::start(&exe, &[]).settled();
            let pids = [zlib.pid(), hash.pid(), program.pid()];
            for args in [
                &["--all"][..],
                &["--pid", &pids.map(|pid| pid.to_string()).join(",")],
            ] {
                let recorder = Recorder::start(&[args, &["--native", "--rate", "499"]].concat());
                for pid in pids {
                    run_for(pid, A_WHILE);
                }
                let folded = finish(recorder);
                let (zlib, hash) = (of_process(&folded, pids[0]), of_process(&folded, pids[1]));
                runs(&zlib, "zlib", "deflate", &["SHA256_Update", "only_here"]);
                runs(&hash, "hash", "SHA256_Update", &["deflate", "only_here"]);
                let program = match args {
                    // All programs without Python are told by their names.
                    ["--all"] => of(&folded, "command many"),
                    _ => of_process(&folded, pids[2]),
                };
                runs(&program, "many", "only_here", &["SHA256_Update", "deflate"]);
            }
        });
    });
}

/// A child has its parent's mappings until it maps something of its own.
#[test]
fn a_child_that_maps_a_library() {
    let _alone = alone();
    let workshop = Workshop::default();
    let flags = ["-O2", "-shared", "-fPIC", "-DLIBRARY"];
    let library = workshop.make("cc", "native/many.c", &flags, "libmany.so");
    let library = library.to_string_lossy();
    on_each_built_here("native frames of a child", |python| {
        for args in [&["--all"][..], &["--subprocesses"]] {
            let mut target = Target::start_with(python, "native_fork.py", FORK, &[&library]);
            let pid = target.pid().to_string();
            let whom = match args {
                ["--all"] => args.to_vec(),
                _ => [args, &["--pid", &pid]].concat(),
            };
            let recorder = Recorder::start(&[&whom, &["--native", "--rate", "499"][..]].concat());
            target.tell("go");
            let child = child_of(target.pid());
            run_for(child, A_WHILE);
            run_for(target.pid(), Duration::from_millis(100));
            let folded = finish(recorder);
            // SAFETY: a number, of a process that was found above.
            unsafe { libc::kill(child as libc::pid_t, libc::SIGKILL) };
            let what = format!("Python {}, {args:?}", python.version);
            let of_child = of_process(&folded, child);
            runs(&of_child, &what, "only_here", &["deflate"]);
            let of_parent = of_process(&folded, target.pid());
            assert_eq!(of_parent.weight(|stack| calls(stack, "only_here")), 0);
            assert_ne!(of_parent.weight(|stack| calls(stack, "deflate")), 0);
        }
    });
}

/// Waits for a process's first child.
fn child_of(pid: u32) -> u32 {
    let path = format!("/proc/{pid}/task/{pid}/children");
    loop {
        let text = std::fs::read_to_string(&path).expect("its children");
        if let Some(child) = text.split_whitespace().next() {
            return child.parse().expect("a number");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn programs_that_start_while_it_is_recorded() {
    let _alone = alone();
    let workshop = Workshop::default();
    let exe = workshop.make("cc", "native/many.c", &["-O2"], "later");
    on_one("native frames of what starts later", 12, |python| {
        let recorder = Recorder::start(&["--all", "--native", "--rate", "499"]);
        let zlib = Target::start_with(python, "native_load.py", LOAD, &["compress"]);
        let program = Native::start(&exe, &[]);
        for pid in [zlib.pid(), program.pid()] {
            run_for(pid, 2 * A_WHILE);
        }
        let folded = finish(recorder);
        let zlib = of_process(&folded, zlib.pid());
        let right = zlib.weight(|stack| is_whole(stack) && calls(stack, "deflate"));
        assert!(right * 4 >= zlib.total(), "{:#?}", zlib.stacks);
        runs(
            &of(&folded, "command later"),
            "later",
            "only_here",
            &["deflate"],
        );
    });
}

/// The kernel's frames alone, of all processes.
#[test]
fn kernel_frames_of_many() {
    let _alone = alone();
    let writes = || {
        Command::new("dd")
            .args(["if=/dev/zero", "of=/dev/null", "bs=1M"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("dd runs")
    };
    on_one("kernel frames of many", 12, |python| {
        let program = "import sys\nprint('ready')\nf = open('/dev/zero', 'rb', 0)\n\
                       def reads():\n    f.read(1 << 24)\nwhile True: reads()\n";
        let targets = [0, 1].map(|_| Target::start(python, "reads.py", program));
        let mut others = writes();
        let recorder = Recorder::start(&["--all", "--kernel", "--rate", "499"]);
        for target in &targets {
            run_for(target.pid(), A_WHILE);
        }
        let folded = finish(recorder);
        others.kill().expect("it runs");
        let _status = others.wait();
        for target in &targets {
            let own = of_process(&folded, target.pid());
            let is_kernel = |text: &String| matches!(Frame::of(text), Frame::Kernel(_));
            let right = own.weight(|stack| {
                stack.iter().any(is_kernel) && stack.iter().any(|text| text.starts_with("reads "))
            });
            assert!(right * 2 > own.total(), "{:#?}", own.stacks);
        }
        // No target without native frames: its command is all that is shown.
        assert!(folded.stacks.contains_key(&vec!["command dd".to_owned()]));
    });
}
