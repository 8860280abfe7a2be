//! All of the time of many processes: each one's waits are its own, by its own clock, and each
//! one's time is all there.

use profiler_common::cause::Cause;
use pyscry_tests::interpreters::{all, note_all};
use pyscry_tests::stolen::Stolen;
use pyscry_tests::times::{Stretch, line, now, time, told};
use pyscry_tests::{Crowd, Ended, Folded, HostRecorder, Interpreter, on_each};

const PROGRAM: &str = include_str!("../programs/many_waits.py");
const MODES: [(&str, Cause); 3] = [
    ("sleep", Cause::Sleep),
    ("lock", Cause::Lock),
    ("pipe", Cause::Pipe),
];

/// A process that waits in one way.
struct Member {
    pid: u32,
    version: String,
    mode: usize,
}

/// Starts one of each mode.
fn add(crowd: &mut Crowd, members: &mut Vec<Member>, python: &Interpreter) {
    let file = python.place("many_waits.py", PROGRAM);
    for (mode, (name, _)) in MODES.iter().enumerate() {
        let mut command = python.command();
        let pid = crowd.add(command.arg("-S").arg(&file).arg(name));
        members.push(Member {
            pid,
            version: python.version.clone(),
            mode,
        });
    }
}

/// What a process waited in its function for waits, of which none other is there, nanoseconds.
struct Waits {
    /// In the line that waits, blocked for its cause or without a CPU: between the clock's two readings.
    /// A thread that has no CPU in another line of the function may be before, between or behind them.
    between: f64,
    /// In all of the function.
    all: f64,
}

fn waits(member: &Member, folded: &Folded) -> Waits {
    for (mode, (name, _)) in MODES.iter().enumerate() {
        let function = format!("waits_for_{name}");
        let foreign = time(folded, |stretch| stretch.is_in(&function));
        assert!(
            mode == member.mode || foreign == 0.0,
            "{function} in {}: {folded:#?}",
            MODES[member.mode].0
        );
    }
    let (name, cause) = MODES[member.mode];
    let function = format!("waits_for_{name}");
    let wait = format!("many_waits.py:{})", line_of(&function) + 2);
    let fits = |stretch: &Stretch<'_>| {
        let counts = [Some(cause), Some(Cause::RunQueue)].contains(&stretch.cause);
        counts && stretch.is_in(&function)
    };
    Waits {
        between: time(folded, |stretch| {
            let waits = |frame: &String| frame.ends_with(&wait);
            fits(stretch) && stretch.frames.last().is_some_and(waits)
        }),
        all: time(folded, fits),
    }
}

/// The line of the program that begins a function.
fn line_of(function: &str) -> usize {
    let start = format!("def {function}(");
    let found = PROGRAM.lines().position(|line| line.starts_with(&start));
    1 + found.expect("a function of the program")
}

/// Records them, and compares.
fn compare(crowd: &mut Crowd, members: &[Member], args: &[&str]) {
    let recorder = HostRecorder::start(&[&["--wall", "--threads"], args].concat());
    let begin = now();
    let stolen = Stolen::from_now();
    crowd.go();
    let mut said = vec![[0.0; 2]; members.len()];
    for _ in members {
        let line = crowd.line();
        let words: Vec<&str> = line.split(' ').collect();
        let [mode, inner, waited, whole] = words[..] else {
            panic!("not said: {line:?}");
        };
        let number = |text: &str| text.parse::<f64>().expect("a number");
        let is_own =
            |member: &Member| member.pid.to_string() == inner && MODES[member.mode].0 == mode;
        let at = members.iter().position(is_own).expect("one of ours");
        said[at] = [number(waited), number(whole)];
    }
    let end = now();
    let stolen = stolen.until_now().as_nanos() as f64;
    let recorded = recorder.stop();
    let gone = now();
    let mut wrong = String::new();
    for (member, [waited, whole]) in members.iter().zip(said) {
        let folded = recorded.host.of_pid(member.pid);
        let waits = waits(member, &folded);
        let all = time(&folded, |_| true);
        let own = format!("Python {}, {}", member.version, MODES[member.mode].0);
        // What the interpreter runs in the call is no wait, nor is what a hypervisor takes of that.
        let tolerance = 0.01 * whole;
        let fits = waits.between > 0.0 && waits.between <= waited + tolerance;
        if !fits || waits.all < waited - tolerance - stolen {
            let Waits { between, all } = waits;
            wrong += &format!("{own}: waits {between} to {all} of {waited} ns, of {whole}\n");
        }
        // It was there all the time: a recording begins before it says so, and the wait for the word
        // tells how long.
        let before = time(&folded, |stretch| stretch.is_in("waits_for_go"));
        let (least, most) = (end - begin, gone - begin + before);
        if all < 0.99 * least || all > 1.01 * most {
            wrong += &format!("{own}: {all} ns in all, {least} to {most}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}{}", recorded.stderr);
    // The summary's own sum leaves no more than a hundredth out.
    let ended = Ended {
        code: recorded.code,
        stderr: recorded.stderr,
        folded: Folded::default(),
    };
    let sum = line(&ended, "Threads: ");
    let (head, rest) = sum.split_once(" in all = ").expect("a sum");
    let whole = told(head.split_once(", ").expect("the whole").1);
    let missing = rest.rsplit(" + ").next().expect("what is missing");
    assert!(missing.contains("not accounted for"), "{sum}");
    let missing = told(missing.trim_start_matches('-'));
    assert!(missing * 100.0 <= whole, "{}", ended.stderr);
}

#[test]
fn waits_of_some_processes() {
    on_each("waits of some processes", |python| {
        let mut crowd = Crowd::default();
        let mut members = Vec::new();
        add(&mut crowd, &mut members, python);
        crowd.are_ready(members.len());
        let pids: Vec<String> = members
            .iter()
            .map(|member| member.pid.to_string())
            .collect();
        let args: Vec<&str> = pids.iter().flat_map(|pid| ["--pid", pid]).collect();
        compare(&mut crowd, &members, &args);
    });
}

#[test]
fn waits_of_all_processes() {
    let mut crowd = Crowd::default();
    let mut members = Vec::new();
    for python in all() {
        add(&mut crowd, &mut members, &python);
    }
    crowd.are_ready(members.len());
    compare(&mut crowd, &members, &["--all"]);
    note_all("waits of all processes");
}
