//! Which processes are recorded, and how they are kept apart.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use pyscry_tests::family::{are_at_work, at_work, place};
use pyscry_tests::interpreters::all;
use pyscry_tests::run::MINOR;
use pyscry_tests::{Family, Folded, HostRecorder, Interpreter, Recorded, on_one};

/// A user without rights, on every system.
const NOBODY: &str = "65534";

/// Processes that work, each in the function of its number.
struct Cast {
    families: BTreeMap<usize, Family>,
}

impl Cast {
    fn new(python: &Interpreter, numbers: &[usize]) -> Self {
        let one = |number: &usize| {
            let family = Family::of(python, &["single", &number.to_string()], 1);
            (*number, family)
        };
        Self {
            families: numbers.iter().map(one).collect(),
        }
    }

    fn pid(&self, number: usize) -> String {
        self.families[&number].pid().to_string()
    }

    /// Processes by the numbers of their functions.
    fn members(&self) -> BTreeMap<usize, u32> {
        let members = self.families.values().flat_map(|family| &family.members);
        members.map(|(number, pid)| (*number, *pid)).collect()
    }
}

/// Records for a moment.
fn record(args: &[&str]) -> Recorded {
    let recorder = HostRecorder::start(&[args, &["--rate", "499"]].concat());
    thread::sleep(Duration::from_millis(800));
    recorder.stop()
}

/// The numbers of the functions in a profile, below whatever stands outermost.
fn numbers(recorded: &Recorded) -> Vec<usize> {
    at_work(&recorded.raw)
}

#[test]
fn several_by_number() {
    on_one("several processes by number", MINOR, |python| {
        let cast = Cast::new(python, &[10, 11, 12]);
        let [first, second] = [cast.pid(10), cast.pid(11)];
        let together = format!("{first},{second}");
        for args in [
            &["--pid", &first, "--pid", &second][..],
            &["--pid", &together],
        ] {
            let recorded = record(args);
            assert_eq!(
                numbers(&recorded),
                [10, 11],
                "{args:?}: {}",
                recorded.stderr
            );
            are_at_work(&recorded.host, &Cast::members_of(&cast, &[10, 11]));
            assert!(
                recorded.host.commands.is_empty(),
                "{:?}",
                recorded.host.commands
            );
        }
        // One that ends does not end the recording of the others.
        let mut cast = cast;
        let recorder = HostRecorder::start(&["--pid", &together, "--rate", "499"]);
        drop(cast.families.remove(&10));
        thread::sleep(Duration::from_millis(800));
        let recorded = recorder.stop();
        assert!(numbers(&recorded).contains(&11), "{}", recorded.stderr);
        // And when all have ended, it ends by itself.
        let recorder = HostRecorder::start(&["--pid", &cast.pid(11), "--pid", &cast.pid(12)]);
        cast.families.clear();
        let recorded = recorder.end();
        assert!(recorded.stderr.contains("until"), "{}", recorded.stderr);
    });
}

impl Cast {
    fn members_of(&self, numbers: &[usize]) -> BTreeMap<usize, u32> {
        let mut members = self.members();
        members.retain(|number, _| numbers.contains(number));
        members
    }
}

/// An interpreter that everybody may run: those of the tests' own user may be out of reach.
fn public() -> Interpreter {
    let mut found = all();
    found.retain(|python| python.root.is_some());
    found.pop().expect("an interpreter in a chroot")
}

/// Starts a process as a user.
fn as_user(python: &Interpreter, user: &str, number: usize) -> Family {
    let mut command = Command::new("chroot");
    command.arg(format!("--userspec={user}:{user}"));
    command.arg(python.root.as_deref().unwrap_or(Path::new("/")));
    command.arg(&python.exe).arg("-S").arg(place(python));
    command.args(["single", &number.to_string()]);
    Family::start(&mut command, 1)
}

#[test]
fn by_name_and_by_user() {
    let python = public();
    let name = python.exe.file_name().expect("a name");
    let name = name.to_str().expect("a name");
    on_one("processes by name and user", MINOR, |other| {
        let mut cast = Cast::new(other, &[20]);
        for (number, user) in [(21, NOBODY), (22, "0")] {
            cast.families.insert(number, as_user(&python, user, number));
        }
        let excluded = format!("pid={}", cast.pid(22));
        let pattern = format!("{}?*", &name[..name.len() - 2]);
        for (args, expected) in [
            (&["--user", NOBODY][..], &[21][..]),
            (&["--user", "nobody"], &[21]),
            (&["--comm", name], &[21, 22]),
            (&["--comm", name, "--user", "root"], &[22]),
            (&["--comm", name, "--exclude", &excluded], &[21]),
            (&["--all", "--exclude", name], &[20]),
            (&["--comm", &pattern, "--exclude", "user=root"], &[21]),
            (&["--all", "--exclude", "user=65534"], &[20, 22]),
        ] {
            let recorded = record(args);
            let mut found = numbers(&recorded);
            // What else the machine runs may work in functions of such names.
            found.retain(|number| (20..23).contains(number));
            assert_eq!(found, expected, "{args:?}: {}", recorded.stderr);
            are_at_work(&recorded.host, &cast.members_of(expected));
        }
    });
}

/// The outermost frames of the stacks with that function.
fn roots(folded: &Folded, number: usize, depth: usize) -> Vec<Vec<String>> {
    let start = format!("work_{number} (");
    let is_own = |stack: &&Vec<String>| stack.iter().any(|frame| frame.starts_with(&start));
    let own = folded.stacks.keys().filter(is_own);
    let mut roots: Vec<_> = own.map(|stack| stack[..depth].to_vec()).collect();
    roots.sort_unstable();
    roots.dedup();
    roots
}

#[test]
fn kept_apart_in_every_way() {
    on_one("--group-by", MINOR, |python| {
        let cast = Cast::new(python, &[30, 31]);
        let (first, second) = (cast.pid(30), cast.pid(31));
        let both = ["--pid", &first, "--pid", &second];
        let comm = format!("python3.{}", python.minor());
        let process = |pid: &str| {
            let pid = pid.parse().expect("a number");
            format!(
                "process {pid}:\"{}\"",
                pyscry_tests::host::command_line(pid)
            )
        };
        let thread = |pid: &str| format!("thread ({pid}): MainThread");
        let container = "no container (host)".to_owned();
        for (way, expected) in [
            ("process", vec![process(&first)]),
            ("command", vec![format!("command {comm}")]),
            ("container", vec![container.clone()]),
            ("user", vec!["user root".to_owned()]),
            ("thread", vec![thread(&first)]),
            ("none", vec![]),
            (
                "user,container,process,thread",
                vec![
                    "user root".to_owned(),
                    container,
                    process(&first),
                    thread(&first),
                ],
            ),
        ] {
            let recorded = record(&[&both[..], &["--group-by", way]].concat());
            let found = roots(&recorded.raw, 30, expected.len() + 1);
            let [root] = &found[..] else {
                panic!("{way}: {found:?}: {}", recorded.stderr);
            };
            let (module, before) = root.split_last().expect("a frame");
            // A thread's name is the kernel's where Python's is not told.
            let is_as = |(found, expected): (&String, &String)| {
                found == expected || *found == expected.replace("MainThread", &comm)
            };
            assert!(before.iter().zip(&expected).all(is_as), "{way}: {root:?}");
            assert!(module.starts_with("<module> ("), "{way}: {root:?}");
        }
        let recorded = record(&[&both[..], &["--threads"]].concat());
        let found = roots(&recorded.raw, 31, 2);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0][0], process(&second));
        assert!(
            found[0][1].starts_with(&format!("thread ({second})")),
            "{found:?}"
        );
    });
}
