//! What containers are made of: roots, namespaces and control groups of their own. Names and lines
//! are right, numbers are the host's.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use pyscry_tests::cgroup::{Cgroup, container_id};
use pyscry_tests::family::{are_at_work, at_work, place};
use pyscry_tests::host::command_line;
use pyscry_tests::interpreters::all;
use pyscry_tests::run::PATIENCE;
use pyscry_tests::{Family, HostRecorder, Interpreter, on_each};

const RATE: [&str; 2] = ["--rate", "499"];

fn a_while() {
    thread::sleep(Duration::from_millis(1500));
}

/// The only child of a process, as the host counts.
fn child(pid: u32) -> u32 {
    let begin = Instant::now();
    loop {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        if let [child] = text.split_whitespace().collect::<Vec<_>>()[..] {
            return child.parse().expect("a number");
        }
        assert!(begin.elapsed() < PATIENCE, "children of {pid}: {text:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A process that is the first one of its own namespace.
struct Contained {
    family: Family,
    /// The host's number of it.
    pid: u32,
}

/// Starts an interpreter in namespaces of its own, at work in the function of that number.
fn contained(python: &Interpreter, namespaces: &[&str], number: usize) -> Contained {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--mount", "--fork", "--kill-child"]);
    command.args(namespaces);
    // Nothing that is mounted in there is seen outside.
    let enter = r#"
root=$1; shift
if [ "$root" = / ]; then
    mount -t proc proc /proc
    exec "$@"
fi
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"
"#;
    command.args(["sh", "-ec", enter, "sh"]);
    command.arg(python.root.as_deref().unwrap_or(Path::new("/")));
    command.arg(&python.exe).arg("-S").arg(place(python));
    command.args(["single", &number.to_string()]);
    let family = Family::start(&mut command, 1);
    // That is what it takes itself for.
    assert_eq!(family.members[&number], 1, "{command:?}");
    let pid = child(family.pid());
    Contained { family, pid }
}

#[test]
fn processes_of_other_namespaces() {
    on_each("namespaces", |python| {
        let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
        let before = contained(python, ways[0], 10);
        // By number, as the host counts, it is one process.
        let pid = before.pid.to_string();
        let ended = pyscry_tests::record(&["--pid", &pid, "--duration", "0.7"]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        assert_eq!(at_work(&ended.folded), [10], "{}", ended.stderr);

        let recorder = HostRecorder::start(&[&["--all"], &RATE[..]].concat());
        let others = [
            contained(python, ways[0], 11),
            contained(python, ways[1], 12),
        ];
        a_while();
        let mut all = vec![before];
        all.extend(others);
        let commands = all.iter().map(|contained| command_line(contained.pid));
        let commands: Vec<_> = commands.collect();
        let recorded = recorder.stop();
        let members = all.iter().map(|contained| {
            let number = contained.family.members.keys().next().expect("a number");
            (*number, contained.pid)
        });
        are_at_work(&recorded.host, &members.collect());
        for (index, command) in commands.iter().enumerate() {
            let process = recorded.host.only_with(&format!("work_{}", 10 + index));
            assert_eq!(process.command, *command);
        }
    });
}

#[test]
fn containers_are_chosen_and_named() {
    on_each("containers", |python| {
        let ids = [1, 2].map(container_id);
        let groups = ids
            .each_ref()
            .map(|id| Cgroup::new(&format!("/docker/{id}")));
        let mut inside = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            let contained = contained(python, &[], 20 + index);
            group.takes(contained.pid);
            inside.push(contained);
        }
        let outside = Family::of(python, &["single", "29"], 1);
        // By the beginning of a container's id, by a group's path, and by one above.
        let record = |args: &[&str]| {
            let recorder = HostRecorder::start(&[args, &RATE[..]].concat());
            thread::sleep(Duration::from_millis(700));
            recorder.stop()
        };
        let first = record(&["--container", &ids[0][..12]]);
        let second = record(&["--cgroup", &groups[1].path]);
        let not_first = record(&["--all", "--exclude", &format!("container={}", ids[0])]);
        let both = record(&["--cgroup", "/docker", "--group-by", "container,process"]);
        let numbers = |recorded: &pyscry_tests::Recorded| {
            let all = recorded.host.processes.values();
            let mut found: Vec<_> = all.flat_map(at_work).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(numbers(&first), [20], "{}", first.stderr);
        assert_eq!(numbers(&second), [21], "{}", second.stderr);
        let rest = numbers(&not_first);
        assert!(!rest.contains(&20), "{rest:?}: {}", not_first.stderr);
        assert!(
            rest.contains(&21) && rest.contains(&29),
            "{rest:?}: {}",
            not_first.stderr
        );
        for (index, id) in ids.iter().enumerate() {
            let pid = inside[index].pid;
            let frames = both
                .raw
                .stacks
                .keys()
                .filter(|stack| stack[1].starts_with(&format!("process {pid}:\"")));
            let mut count = 0;
            for stack in frames {
                assert_eq!(stack[0], format!("container {}", &id[..12]), "{stack:?}");
                count += 1;
            }
            assert_ne!(count, 0, "{pid}: {:#?}", both.raw);
            // Its container, and its number in there.
            let line = both.stderr.lines().find(|line| {
                let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).collect();
                words.contains(&pid.to_string().as_str()) && line.contains(&id[..12])
            });
            let line = line.unwrap_or_else(|| panic!("no line of {pid}: {}", both.stderr));
            let words: Vec<&str> = line.split(|c: char| !c.is_alphanumeric()).collect();
            assert!(words.contains(&"1"), "no inner number: {line:?}");
        }
        assert_eq!(outside.members.len(), 1);
    });
}

#[test]
fn groups_of_control_are_followed_by_children() {
    // A worker that comes is in its parent's group.
    let pythons = all();
    let python = pythons.last().expect("an interpreter");
    let group = Cgroup::new(&format!("/pyscry-test-{}", std::process::id()));
    let mut family = Family::of(python, &["prefork", "30"], 3);
    for pid in family.members.values() {
        group.takes(*pid);
    }
    let recorder = HostRecorder::start(&[&["--cgroup", &group.path], &RATE[..]].concat());
    family.tell("go");
    family.expect(1);
    a_while();
    let recorded = recorder.stop();
    are_at_work(&recorded.host, &family.members);
    let pids: Vec<u32> = recorded.host.pids().into_iter().collect();
    let mut own: Vec<u32> = family.members.values().copied().collect();
    own.sort_unstable();
    assert_eq!(pids, own, "{}", recorded.stderr);
}
