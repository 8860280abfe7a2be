//! Options: nonsense is refused, and the least and the most that can be asked for works.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::fs;
use std::path::Path;

use pyscry_tests::run::{LONG, MINOR, Output, SPINS, command, fails, run};
use pyscry_tests::{Target, on_one};

#[test]
fn options_that_make_no_sense() {
    let own = std::process::id().to_string();
    for (option, value) in [
        ("--rate", "0"),
        ("--rate", "-5"),
        ("--rate", "1000000"),
        ("--rate", "99999999999999999999"),
        ("--rate", "fast"),
        ("--rate", "1.5"),
        ("--duration", "foo"),
        ("--duration", "0"),
        ("--duration", "-1"),
        ("--duration", "nan"),
        ("--duration", "inf"),
        ("--duration", "1e300"),
        ("--duration", ""),
        ("--format", "gif"),
        ("--off-cpu-min", "soon"),
    ] {
        let args = [
            "record",
            "--pid",
            &own,
            "--off-cpu",
            &format!("{option}={value}"),
        ];
        run(&mut command(&args)).is_usage_error(&[option, value]);
    }
    for (option, value) in [
        ("--comm", ""),
        ("--user", "nobody-has-this-name"),
        ("--user", ""),
        ("--cgroup", "/a/../b"),
        ("--cgroup", ""),
        ("--container", "a/b"),
        ("--container", ""),
        ("--exclude", "pid=me"),
        ("--exclude", "user=nobody-has-this-name"),
        ("--exclude", ""),
        ("--group-by", "colour"),
        ("--group-by", "process,colour"),
        ("--group-by", ""),
    ] {
        run(&mut command(&[
            "record",
            "--all",
            &format!("{option}={value}"),
        ]))
        .is_usage_error(&[option]);
    }
    for pid in ["0", "-1", "me", "99999999999", "1.5", "", "1,me", "1,"] {
        let wrong = pid.strip_prefix("1,").unwrap_or(pid);
        run(&mut command(&["record", &format!("--pid={pid}")])).is_usage_error(&["--pid", wrong]);
    }
}

#[test]
fn options_that_do_not_go_together() {
    let own = std::process::id().to_string();
    let both = ["record", "--pid", &own, "--", "python3"];
    run(&mut command(&both)).is_usage_error(&["--pid", "PROGRAM"]);
    let short = ["record", "--pid", &own, "--off-cpu-min", "1ms"];
    run(&mut command(&short)).is_usage_error(&["--off-cpu"]);
    let all = ["record", "--pid", &own, "--all"];
    run(&mut command(&all)).is_usage_error(&["--pid", "--all"]);
    let all = ["record", "--all", "--", "python3"];
    run(&mut command(&all)).is_usage_error(&["--all", "PROGRAM"]);
    // Each says what to type instead.
    for (words, said) in [
        (
            &["--pid", &own, "--comm", "python3"][..],
            &["--subprocesses", "--pid"][..],
        ),
        (
            &["--user", "root", "--", "python3"],
            &["--subprocesses", "--user"],
        ),
        (
            &["--pid", &own, "--exclude", "nginx"],
            &["--subprocesses", "--all"],
        ),
        (
            &["--comm", "python3", "--subprocesses"],
            &["--subprocesses", "--pid"],
        ),
        (&["--subprocesses"], &["--pid", "PROGRAM", "--all"]),
        (&["--exclude", "nginx"], &["--pid", "PROGRAM", "--all"]),
        (
            &["--all", "--group-by", "none,process"],
            &["--group-by", "none"],
        ),
    ] {
        run(command(&["record"]).args(words)).is_usage_error(said);
    }
    run(&mut command(&["record", "--frobnicate"])).is_usage_error(&["--frobnicate"]);
    run(&mut command(&["frobnicate"])).is_usage_error(&["frobnicate"]);
}

#[test]
fn no_target() {
    for more in [&[][..], &["-d", "1"], &["--off-cpu"], &["--"]] {
        let output = Output::default();
        let outcome = run(&mut output.record(more));
        outcome.is_usage_error(&["--pid", "PROGRAM", "--all"]);
        assert!(!output.path().exists(), "{outcome:?}");
    }
    let outcome = run(&mut command::<&str>(&[]));
    outcome.is_tidy();
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("Usage: pyscry"), "{outcome:?}");
}

#[test]
fn a_program_that_cannot_be_launched() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("text");
    fs::write(&text, "no program\n").expect("a file");
    for program in [
        Path::new("no-such-program-anywhere"),
        Path::new("/no/such/program"),
        directory.path(),
        &text,
    ] {
        let program = program.to_str().expect("a path");
        fails(&["-d", LONG, "--", program, "argument"], &[program]);
        fails(&["--off-cpu", "--", program], &[program]);
    }
}

#[test]
fn the_least_and_the_most_that_can_be_asked_for() {
    on_one("extreme options", MINOR, |python| {
        let target = Target::start(python, "extreme.py", SPINS);
        let pid = target.pid().to_string();
        for options in [
            ["--rate", "10000", "--duration", "0.5"],
            ["--rate", "1", "--duration", "0.001"],
            ["--rate", "99", "--duration", "0.000001"],
        ] {
            let output = Output::default();
            let outcome = run(output.record(&["--pid", &pid]).args(options));
            outcome.is_good();
            let samples = output.folded().in_function("spins");
            // As many as a tenth of the time would give, on a machine that others use, too.
            assert!(
                options[1] != "10000" || samples > 500,
                "{samples}: {outcome:?}"
            );
        }
    });
}

/// What py-spy's users type, by the name that they type.
#[test]
fn scripts_of_py_spy() {
    on_one("scripts of py-spy", MINOR, |python| {
        let target = Target::start(python, "spins.py", SPINS);
        let pid = target.pid().to_string();
        let directory = tempfile::tempdir().expect("a directory");
        let link = directory.path().join("py-spy");
        std::os::unix::fs::symlink(pyscry_tests::pyscry::binary(), &link).expect("a link");
        let py_spy = |words: &str| {
            let mut command = std::process::Command::new(&link);
            command.current_dir(directory.path());
            command.args(words.split_whitespace());
            command
        };
        let exists = |name: &str| {
            let path = directory.path().join(name);
            assert!(
                fs::metadata(&path).is_ok_and(|found| found.len() > 0),
                "{name}"
            );
        };
        for (words, file) in [
            (format!("record -o a.svg -d 1 -p {pid}"), "a.svg"),
            (
                format!("r -d 1 -r 50 -f SPEEDSCOPE -o b.json --pid {pid} -s -t"),
                "b.json",
            ),
            (
                format!("record --format chrometrace -d 1 -o c.json -p {pid} -F -g"),
                "c.json",
            ),
            (
                format!("rec -f raw -d 1 -i -n --nolineno -o d.txt -p {pid}"),
                "d.txt",
            ),
            (
                format!("record --nonblocking --hideprogress -d 1 -o e.svg -p {pid}"),
                "e.svg",
            ),
            (
                format!(
                    "record -o f.txt -f raw --duration unlimited --capture -- {} -c pass",
                    python.exe.display()
                ),
                "f.txt",
            ),
        ] {
            let outcome = run(&mut py_spy(&words));
            outcome.is_good();
            // Nothing ran in a program that ends at once, and an empty file says so.
            if file != "f.txt" {
                exists(file);
            }
        }
        // The exit code of a program is ours, and what it printed is told when that was kept.
        let fails = py_spy("record --capture -f raw -o g.txt --")
            .arg(&python.exe)
            .args([
                "-c",
                "import sys, time\ntime.sleep(.2)\nprint('said before')\nsys.exit(3)",
            ])
            .output()
            .expect("it runs");
        assert_eq!(fails.status.code(), Some(3), "{fails:?}");
        assert!(
            String::from_utf8_lossy(&fails.stderr).contains("said before"),
            "{fails:?}"
        );
        assert!(fails.stdout.is_empty(), "{fails:?}");
        for words in [
            "record -d foo -p 1",
            "record -p foo",
            "record -F --nolineno -p 1",
            "top --delay x",
        ] {
            run(&mut py_spy(words)).is_usage_error(&[]);
        }
        let completions = run(&mut py_spy("completions bash"));
        assert!(
            completions.stdout.contains("--subprocesses"),
            "{completions:?}"
        );
        let page = run(&mut py_spy("man"));
        assert!(page.stdout.contains(".TH"), "{page:?}");
    });
}
