//! `cargo xtask test`: every test, with every interpreter.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::pythons::{self, Python};
use crate::{bench, numpy, readers, soak, tools};

/// What sudo would take away, and cargo and the interpreters are found by.
const KEPT: [&str; 10] = [
    "CARGO_HOME",
    "CARGO_MANIFEST_DIR",
    "CARGO_TARGET_DIR",
    "CI",
    "HOME",
    "PATH",
    "PYENV_ROOT",
    "PYSCRY_CACHE",
    "PYSCRY_CI",
    "RUSTUP_HOME",
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For `cargo test`, and after another `--` for the tests themselves.
    #[arg(last = true)]
    cargo: Vec<OsString>,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    // As the user, so that what is built belongs to them. The tests run the binary, too.
    tools::run(tools::cargo().args(["build", "--workspace", "--exclude", "profiler-ebpf"]))?;
    tools::run(cargo_test().arg("--no-run"))?;
    if !tools::is_root()? {
        return Err(as_root());
    }

    let (pythons, found) = pythons::write()?;
    let site = numpy::install(&found);
    let readers = readers::install(&found);
    let ran = tools::target().join("pyscry-ran.tsv");
    fs::write(&ran, "").with_context(|| format!("cannot write {}", ran.display()))?;
    let mut tests = cargo_test();
    tests
        .arg("--no-fail-fast")
        .args(&args.cargo)
        .env("PYSCRY_PYTHONS", pythons)
        .env("PYSCRY_RAN", &ran);
    match site {
        Ok(site) => {
            tests.env("PYSCRY_SITE", site);
        }
        // The tests that need it fail, others run.
        Err(err) => eprintln!("WARNING: there is no numpy for the tests: {err:#}"),
    }
    match readers {
        Ok(readers) => {
            tests.env("PYSCRY_READERS", readers);
        }
        Err(err) => eprintln!("WARNING: nothing opens the files of the tests: {err:#}"),
    }
    let outcome = tools::run(&mut tests);
    for python in &found {
        remove_programs(python);
    }
    // Also of a run with failures it is of interest what ran.
    let unused = report(&ran, &found)?;
    outcome?;
    // A selection of tests is run for those.
    if args.cargo.is_empty() {
        soak(&found)?;
    }
    // A selection of tests may well leave an interpreter out.
    if args.cargo.is_empty() && tools::in_ci() && !unused.is_empty() {
        bail!("no test ran with {}", unused.join(", "));
    }
    Ok(())
}

/// The shortest of long recordings.
fn soak(pythons: &[Python]) -> Result<()> {
    const TIME: Duration = Duration::from_secs(60);
    let outside = pythons.iter().rfind(|python| python.root.is_none());
    let outside = outside.context("no interpreter outside of a chroot")?;
    let python = bench::python::Python::find(Some(&outside.exe))?;
    soak::soak(&tools::target().join("debug/pyscry"), &python, TIME)
}

/// Removes the programs that tests put where an interpreter sees them.
fn remove_programs(python: &Python) {
    let root = python.root.as_deref().unwrap_or(Path::new("/"));
    // Not there when no test ran with this one.
    let _absent = fs::remove_dir_all(root.join("tmp/pyscry-tests"));
}

/// `cargo test` for all that compiles for this machine.
fn cargo_test() -> Command {
    let mut command = tools::cargo();
    command.args(["test", "--workspace", "--exclude", "profiler-ebpf"]);
    command
}

/// Becomes root through sudo, and does not return when that works.
fn as_root() -> anyhow::Error {
    let Ok(exe) = env::current_exe() else {
        return anyhow::anyhow!("cannot tell which program this is");
    };
    let mut sudo = Command::new("sudo");
    sudo.arg("-E").arg("env");
    for name in KEPT {
        if let Some(value) = env::var_os(name) {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            sudo.arg(setting);
        }
    }
    eprintln!("the tests load BPF programs and run in chroots: they need root, asking sudo");
    let err = sudo.arg(exe).args(env::args_os().skip(1)).exec();
    anyhow::anyhow!("the tests need root and sudo cannot be run ({err}): run them as root")
}

/// Prints which version ran which test, and returns the versions that ran none.
fn report(ran: &Path, pythons: &[Python]) -> Result<Vec<String>> {
    let text = fs::read_to_string(ran).with_context(|| format!("cannot read {}", ran.display()))?;
    let mut tests: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (version, test) in text.lines().filter_map(|line| line.split_once('\t')) {
        tests.entry(test).or_default().insert(version);
    }
    let versions: Vec<&str> = pythons
        .iter()
        .map(|python| python.version.as_str())
        .collect();
    print!("{}", table(&tests, &versions));
    Ok(versions
        .into_iter()
        .filter(|version| !tests.values().any(|ran| ran.contains(version)))
        .map(str::to_owned)
        .collect())
}

/// A line per test, a column per version.
fn table(tests: &BTreeMap<&str, BTreeSet<&str>>, versions: &[&str]) -> String {
    let width = tests
        .keys()
        .map(|test| test.len())
        .chain([4])
        .max()
        .unwrap_or_default();
    let mut text = format!("\n{:width$}  {}\n", "test", versions.join("  "));
    for (test, ran) in tests {
        text.push_str(&format!("{test:width$}"));
        for version in versions {
            let mark = if ran.contains(version) { "x" } else { "-" };
            text.push_str(&format!("  {mark:^width$}", width = version.len()));
        }
        text.push('\n');
    }
    text
}
