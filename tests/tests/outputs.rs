//! Files that cannot be written, readers that have gone, and pictures of whatever there is.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use pyscry_tests::run::{EARLY, LONG, MINOR, Output, SLEEPS, SPINS, command, run};
use pyscry_tests::until_told::{WAYS, until_told};
use pyscry_tests::{Interpreter, Target, on_one};

#[test]
fn output_that_cannot_be_written() {
    on_one("output that cannot be written", MINOR, |python| {
        let target = Target::start(python, "output.py", SLEEPS);
        let pid = target.pid().to_string();
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        fs::write(&file, "").expect("a file");
        for path in [
            directory.path().join("missing/out.svg"),
            directory.path().to_owned(),
            file.join("out.svg"),
        ] {
            let path = path.to_str().expect("a path");
            for more in [&[][..], &["--off-cpu"]] {
                let args = ["record", "--pid", &pid, "-d", LONG, "-o", path];
                let outcome = run(command(&args).args(more));
                outcome.is_error(&[path]);
                assert!(outcome.took < EARLY, "{outcome:?}");
            }
        }
        // A program that is not going to be recorded is not launched either.
        let launched = directory.path().join("launched");
        let outcome = run(command(&["record", "-o"])
            .arg(file.join("out.svg"))
            .args(["--", "touch"])
            .arg(&launched));
        outcome.is_error(&["out.svg"]);
        assert!(!launched.exists(), "it was launched");
    });
}

#[test]
fn a_file_that_was_there_survives_an_error() {
    let output = Output::default();
    fs::write(output.path(), "precious").expect("a file");
    let outcome = run(&mut output.record(&["--pid", &i32::MAX.to_string()]));
    outcome.is_error(&["no process"]);
    assert_eq!(
        fs::read_to_string(output.path()).expect("the file"),
        "precious"
    );
}

/// A path that is no UTF-8, and a command line of several lines.
#[test]
fn words_that_are_no_text() {
    on_one("words that are no text", MINOR, |python| {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join(OsStr::from_bytes(b"\xff\x01\n.svg"));
        let outcome = run(command(&["record", "-o"])
            .arg(&file)
            .arg("--")
            .arg(&python.exe)
            .args(["-c", "x = 1\nprint(x)\n"]));
        outcome.is_good();
        let recorded = |line: &&str| line.starts_with("Recorded process");
        let line = outcome.stderr.lines().find(recorded).expect("a summary");
        assert!(line.contains("x = 1 print(x)"), "{outcome:?}");
        assert!(is_xml(python, &file), "{outcome:?}");
    });
}

/// A disk can be full whatever was found out before.
#[test]
fn output_that_cannot_be_written_at_the_end() {
    on_one("full disk", MINOR, |python| {
        let target = Target::start(python, "full.py", SPINS);
        let pid = target.pid().to_string();
        let args = ["record", "--pid", &pid, "-d", "0.5", "-o", "/dev/full"];
        let outcome = run(&mut command(&args));
        outcome.is_tidy();
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let errors = outcome
            .said()
            .lines()
            .filter(|line| line.starts_with("pyscry: "));
        let errors: Vec<_> = errors.collect();
        assert_eq!(errors.len(), 1, "{outcome:?}");
        assert!(errors[0].contains("/dev/full"), "{outcome:?}");
    });
}

/// Whoever read the messages has gone: `pyscry record ... 2>&1 | head -1`.
#[test]
fn messages_that_nobody_reads() {
    on_one("closed pipe", MINOR, |python| {
        for (way, options) in WAYS {
            let target = Target::start_with(python, "closed.py", &until_told(""), &[way]);
            let pid = target.pid().to_string();
            let output = Output::default();
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let status = output
                .record(&["--pid", &pid, "--duration", "0.5"])
                .args(options)
                .stderr(writer)
                .status()
                .expect("pyscry runs");
            assert_eq!(status.code(), Some(0), "{way}: {status}");
            assert_ne!(output.folded().in_function("before"), 0, "{way}");
        }
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = command(&["doctor"])
            .stdout(writer)
            .status()
            .expect("pyscry runs");
        assert_ne!(status.code(), Some(101), "a panic");
    });
}

/// Whether a file is XML, as Python sees it.
fn is_xml(python: &Interpreter, file: &Path) -> bool {
    let program = "import sys, xml.dom.minidom as x\n\
        assert x.parse(sys.argv[1]).documentElement.tagName == 'svg'";
    let status = python
        .command()
        .args(["-I", "-c", program])
        .arg(file)
        .status();
    status.expect("Python runs").success()
}

#[test]
fn a_recording_without_samples_is_explained() {
    on_one("recording without samples", MINOR, |python| {
        let target = Target::start(python, "sleeps.py", SLEEPS);
        let pid = target.pid().to_string();
        let output = Output::default();
        let outcome = run(&mut output.record(&["--pid", &pid, "-d", "0.3"]));
        outcome.is_good();
        assert!(
            outcome.stderr.contains("Nothing was recorded"),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains("--off-cpu"), "{outcome:?}");
        assert_eq!(output.folded().total(), 0);

        let picture = output.directory.path().join("out.svg");
        let outcome = run(command(&["record", "--pid", &pid, "-d", "0.3", "-o"]).arg(&picture));
        outcome.is_good();
        assert!(
            outcome.stderr.contains("Nothing was recorded"),
            "{outcome:?}"
        );
        let svg = fs::read_to_string(&picture).expect("a picture");
        assert!(svg.contains("Nothing was recorded"), "{svg}");
        assert!(is_xml(python, &picture), "{svg}");
    });
}

/// Names and arguments with what XML and file names do not like.
#[test]
fn a_picture_is_xml_whatever_the_names() {
    on_one("picture of odd names", MINOR, |python| {
        let program = "\
exec(compile('def spins():\\n while True: pass', '<a & \"b\"; c\\n>', 'exec'))
spins.__code__ = spins.__code__.replace(co_name='<&>', co_qualname='<a>&\\x01\\u5de5;\"')
print('ready')
spins()
";
        let target = Target::start(python, "odd <&> names.py", program);
        let pid = target.pid().to_string();
        let output = Output::default();
        let picture = output.directory.path().join("odd <&> name.svg");
        let outcome = run(command(&["record", "--pid", &pid, "-d", "0.5", "-o"]).arg(&picture));
        outcome.is_good();
        let svg = fs::read_to_string(&picture).expect("a picture");
        assert!(is_xml(python, &picture), "{svg}");
        assert!(svg.contains('工'), "{svg}");
    });
}
