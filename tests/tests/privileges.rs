//! What users, namespaces and kernels without what pyscry needs get to see.

#![allow(clippy::expect_used, reason = "what a test starts has to be there")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use pyscry_tests::pyscry::binary;
use pyscry_tests::run::{EARLY, LONG, MINOR, Output, SLEEPS, SPINS, run};
use pyscry_tests::{Target, on_one};

/// A copy of the binary that everybody may run.
fn public_copy(directory: &Path) -> PathBuf {
    let everybody = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
    };
    everybody(directory);
    let copy = directory.join("pyscry");
    fs::copy(binary(), &copy).expect("a copy");
    everybody(&copy);
    copy
}

/// Runs a program as a user who may do nothing.
fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--inh-caps=-all", "--bounding-set=-all", "--"]);
    command.arg(program);
    command
}

#[test]
fn without_privileges_the_command_that_would_work() {
    on_one("without privileges", MINOR, |python| {
        let target = Target::start(python, "privileges.py", SPINS);
        let pid = target.pid().to_string();
        let directory = tempfile::tempdir().expect("a directory");
        let copy = public_copy(directory.path());
        let output = Output::default();
        let file = output.directory.path().join("it's mine.svg");
        let outcome = run(as_nobody(&copy)
            .args(["record", "--pid", &pid, "-d", "0.3", "-o"])
            .arg(&file));
        let command = format!(
            "sudo {} record --pid {pid} -d 0.3 -o '{}'",
            copy.display(),
            file.to_str().expect("a path").replace('\'', r"'\''")
        );
        outcome.is_error(&[&command]);
        assert!(outcome.took < EARLY, "{outcome:?}");

        // That is what works, here without sudo.
        let said = outcome.said();
        let line = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("sudo "));
        let outcome = run(Command::new("sh").arg("-c").arg(line.expect("a command")));
        outcome.is_good();
        assert!(
            fs::read_to_string(&file)
                .expect("a picture")
                .contains("spins")
        );

        let launched = output.directory.path().join("launched");
        let outcome = run(as_nobody(&copy)
            .args(["record", "--", "touch"])
            .arg(&launched));
        outcome.is_error(&["sudo", "touch"]);
        assert!(!launched.exists(), "it was launched");

        let outcome = run(as_nobody(&copy).arg("doctor"));
        outcome.is_tidy();
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let command = format!("sudo {} doctor", copy.display());
        assert!(outcome.stdout.contains(&command), "{outcome:?}");
    });
}

#[test]
fn a_file_made_through_sudo_is_of_the_user_behind_it() {
    on_one("output through sudo", MINOR, |python| {
        const USER: u32 = 65534;
        let target = Target::start(python, "sudo.py", SPINS);
        let pid = target.pid().to_string();
        let output = Output::default();
        let behind_sudo = |output: &Output| {
            let mut command = output.record(&["--pid", &pid, "-d", "0.3"]);
            command.env("SUDO_UID", USER.to_string());
            command.env("SUDO_GID", USER.to_string());
            run(&mut command).is_good();
            fs::metadata(output.path()).expect("a file").uid()
        };
        assert_eq!(behind_sudo(&output), USER);
        // What was there keeps its owner.
        let theirs = Output::default();
        fs::write(theirs.path(), "").expect("a file");
        assert_eq!(behind_sudo(&theirs), 0);
    });
}

/// Runs `pyscry` after `preparation`, in namespaces of its own.
fn unshared(namespaces: &[&str], preparation: &str, args: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(namespaces).args(["--", "sh", "-c"]);
    command.arg(format!("{preparation} exec \"$0\" \"$@\""));
    command.arg(binary()).args(args);
    command
}

#[test]
fn a_kernel_that_does_not_describe_its_types() {
    on_one("without BTF", MINOR, |python| {
        let target = Target::start(python, "btf.py", SLEEPS);
        let pid = target.pid().to_string();
        let hide = "mount -t tmpfs none /sys/kernel/btf &&";
        let output = Output::default();
        let file = output.path();
        let file = file.to_str().expect("a path");
        for more in [&[][..], &["--off-cpu"]] {
            let args = [&["record", "--pid", &pid, "-d", LONG, "-o", file], more].concat();
            let outcome = run(&mut unshared(&["--mount"], hide, &args));
            outcome.is_error(&["BTF"]);
            assert!(!output.path().exists(), "{outcome:?}");
        }
        let outcome = run(&mut unshared(&["--mount"], hide, &["doctor"]));
        outcome.is_tidy();
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stdout.contains("FAIL  BTF: "), "{outcome:?}");
    });
}

#[test]
fn a_container_with_process_ids_of_its_own() {
    let output = Output::default();
    let file = output.path();
    let file = file.to_str().expect("a path");
    let namespaces = ["--pid", "--fork", "--mount-proc"];
    let args = ["record", "-d", LONG, "-o", file, "--", "sleep", "600"];
    let outcome = run(&mut unshared(&namespaces, "", &args));
    outcome.is_error(&["container"]);
    assert!(!output.path().exists(), "{outcome:?}");
    let outcome = run(&mut unshared(&namespaces, "", &["doctor"]));
    outcome.is_tidy();
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(
        outcome.stdout.contains("FAIL  process ids: "),
        "{outcome:?}"
    );
}
