//! Hundreds of interpreters of all versions at once: each is there with what it did itself, by the
//! kernel's own accounting, and all together are what the machine did.

use std::collections::BTreeMap;
use std::time::Instant;

use pyscry_tests::host::{busy, works};
use pyscry_tests::interpreters::{all, note_all};
use pyscry_tests::stolen::Stolen;
use pyscry_tests::{Crowd, Host, HostRecorder};

const PROGRAM: &str = include_str!("../programs/own_name.py");
/// Interpreters; the first half is there before the recording.
const COUNT: usize = 200;
const RATE: f64 = 499.0;

/// The first number of a function: those of other tests have others.
fn first() -> usize {
    std::process::id() as usize * 1000
}

fn is_own(number: &usize) -> bool {
    (first()..first() + COUNT).contains(number)
}

/// One of them.
struct Member {
    pid: u32,
    version: String,
    /// What a frame says of it.
    command: String,
    /// Seconds of CPU time while it was recorded.
    used: f64,
}

/// All stacks with functions of a process are below that process.
fn are_all_their_own(host: &Host, members: &[Member]) {
    for (process, folded) in &host.processes {
        let own = members.iter().position(|member| member.pid == process.pid);
        if let Some(own) = own {
            // A child of ours has our command line until it executes the interpreter.
            let has_work = folded.stacks.keys().any(|stack| works(stack).count() != 0);
            assert!(
                !has_work || process.command == members[own].command,
                "{process:?} is {:?}",
                members[own].command
            );
        }
        for (stack, weight) in &folded.stacks {
            for number in works(stack).filter(is_own) {
                assert_eq!(
                    Some(number - first()),
                    own,
                    "{process:?}: {weight} x {stack:?}"
                );
            }
            // Name, file and line are of one function.
            let own_frames = stack.iter().filter(|frame| frame.starts_with("work_"));
            for frame in own_frames.filter(|_| own.is_some()) {
                let number = first() + own.unwrap_or_default();
                let is_line =
                    |line: &u32| *frame == format!("work_{number} (work_{number}.py:{line})");
                assert!((1..=3).any(|line| is_line(&line)), "{process:?}: {frame}");
            }
        }
    }
}

/// The samples of each process are as many as its CPU time.
fn are_as_the_kernel_says(host: &Host, members: &[Member]) {
    let mut wrong = String::new();
    let [mut samples, mut named, mut expected, mut squares] = [0.0; 4];
    let mut by_version: BTreeMap<&str, [f64; 2]> = BTreeMap::new();
    for (number, member) in members.iter().enumerate() {
        let folded = host.of_pid(member.pid);
        let (seen, due) = (folded.total() as f64, member.used * RATE);
        let own = folded.in_function(&format!("work_{}", first() + number));
        samples += seen;
        named += own as f64;
        expected += due;
        squares += (seen - due).powi(2) / due;
        let version = by_version.entry(&member.version).or_default();
        version[0] += seen;
        version[1] += due;
        // One of hundreds may well be three deviations away; not five.
        if own == 0 || (seen - due).abs() > 5.0 * due.sqrt() + 3.0 {
            wrong += &format!(
                "Python {}, process {}: {seen} samples, {own} in its function, {due:.1} due\n",
                member.version, member.pid
            );
        }
    }
    println!(
        "{COUNT} interpreters: {samples} samples, {named} in their own functions, {expected:.0} due, \
         squares of deviations {:.2} of what chance gives",
        squares / COUNT as f64
    );
    assert!(wrong.is_empty(), "{wrong}");
    let deviation = |seen: f64, due: f64| (seen - due).abs() - 4.0 * due.sqrt();
    assert!(
        deviation(samples, expected) <= 0.02 * expected,
        "{samples} samples, {expected:.0} due"
    );
    for (version, [seen, due]) in by_version {
        assert!(
            deviation(seen, due) <= 0.03 * due,
            "Python {version}: {seen} samples, {due:.0} due"
        );
    }
    // No more scattered than chance makes it.
    assert!(squares < 1.5 * COUNT as f64, "{squares}");
}

/// Starts some more, and returns once all of them are ready.
fn start(crowd: &mut Crowd, members: &mut Vec<Member>, count: usize) {
    let pythons = all();
    assert!(pythons.len() >= 10, "of only {} versions", pythons.len());
    let files: Vec<_> = pythons
        .iter()
        .map(|python| python.place("own_name.py", PROGRAM))
        .collect();
    let from = members.len();
    for number in from..from + count {
        let version = number % pythons.len();
        let (python, file) = (&pythons[version], &files[version]);
        let mut command = python.command();
        let number = (first() + number).to_string();
        // Some have more to do than others.
        let seconds = format!("0.{:02}", 5 + members.len() % 4 * 2);
        let file = file.to_str().expect("a path");
        let args = ["-S", file, &number, &seconds].map(str::to_owned);
        let pid = crowd.add(command.args(&args));
        let exe = python.exe.to_str().expect("a path").to_owned();
        members.push(Member {
            pid,
            version: python.version.clone(),
            command: [&[exe], &args[..]].concat().join(" "),
            used: 0.0,
        });
    }
    crowd.are_ready(count);
}

#[test]
fn hundreds_of_interpreters() {
    let mut crowd = Crowd::default();
    let mut members = Vec::new();
    start(&mut crowd, &mut members, COUNT / 2);
    let recorder = HostRecorder::start(&["--all", "--rate", "499"]);
    let (begin, busy_before) = (Instant::now(), busy());
    let stolen = Stolen::from_now();
    start(&mut crowd, &mut members, COUNT / 2);
    crowd.go();
    for _ in 0..COUNT {
        let line = crowd.line();
        let numbers: Vec<u64> = line
            .split(' ')
            .map(|word| word.parse().unwrap_or_else(|_| panic!("not said: {line}")))
            .collect();
        let number = numbers[0] as usize - first();
        let pid = members[number].pid;
        let before = if number < COUNT / 2 { numbers[1] } else { 0 };
        members[number].used = crowd.used(pid).as_secs_f64() - before as f64 / 1e9;
    }
    let (took, used) = (begin.elapsed().as_secs_f64(), busy() - busy_before);
    let stolen = stolen.until_now().as_secs_f64();
    let recorded = recorder.stop();
    println!("{}", recorded.stderr);
    are_all_their_own(&recorded.host, &members);
    are_as_the_kernel_says(&recorded.host, &members);

    // What the machine did besides is there as well.
    let lost = recorded.counter("samples_lost");
    let all_of_it = (recorded.host.total + lost) as f64 / RATE;
    let cpus = std::thread::available_parallelism().expect("CPUs").get() as f64;
    let points_of = |time: f64| time / (took * cpus) * 100.0;
    let (points, taken) = (points_of(all_of_it - used), points_of(stolen));
    println!("the machine used {used:.2} s, the profile has {all_of_it:.2} s, {points:.2} points");
    // A clock may tick once of a CPU that a hypervisor took.
    assert!(
        (-4.0..4.0 + taken).contains(&points),
        "{points} points, {taken} taken: {}",
        recorded.stderr
    );
    note_all("200 interpreters at once");
}
