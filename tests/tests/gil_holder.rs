//! The interpreter's lock in live processes: who holds it, and what is waited at for it, as the
//! kernel's programs find out.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use profiler_common::gil::{self, Gil};
use pyscry::process::RemoteMemory;
use pyscry::python::inspect::{self, Python};
use pyscry::python::threads;
use pyscry_tests::run::PATIENCE;
use pyscry_tests::{Target, on_each};

/// How often the lock is looked at.
const LOOKS: usize = 500;

/// `x86_64`'s number of the system call `futex`.
const FUTEX: &str = "202";

/// Threads that do what the argument says, and the identity of each that runs Python all the time.
const PROGRAM: &str = "
import sys, threading, time
lock = threading.Lock()
lock.acquire()
def spin():
    while True:
        pass
def start(work, *args):
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread.ident
how = sys.argv[1]
for _ in range(3):
    start(time.sleep, 600)
start(lock.acquire)
spinners = []
if how == 'two':
    spinners.append(start(spin))
if how != 'sleep':
    spinners.append(threading.get_ident())
print('ready')
print(*spinners)
if how == 'sleep':
    time.sleep(600)
spin()
";

struct Looked {
    target: Target,
    mem: RemoteMemory,
    found: Python,
    /// The thread states of those that run Python all the time.
    spinners: Vec<u64>,
}

impl Looked {
    fn start(python: &pyscry_tests::Interpreter, how: &str) -> Self {
        let mut target = Target::start_with(python, "gil_holder.py", PROGRAM, &[how]);
        let line = target.line();
        let idents: Vec<u64> = line
            .split_whitespace()
            .map(|ident| ident.parse().expect("the identity of a thread"))
            .collect();
        let found = inspect::inspect(target.pid()).unwrap_or_else(|error| panic!("{error}"));
        let mem = RemoteMemory::new(target.pid());
        let states = threads::thread_states(&mem, &found.layout, found.located.runtime);
        let states = states.expect("the thread states");
        let state = |ident: &u64| {
            let state = states.iter().find(|state| state.thread_id == *ident);
            state.expect("the thread state of a thread").address
        };
        Self {
            spinners: idents.iter().map(state).collect(),
            target,
            mem,
            found,
        }
    }

    fn gil(&self) -> Gil {
        let mut gil = Gil::default();
        let (entry, interp) = (&self.found.entry, self.found.interp);
        gil::read(&self.mem, entry, interp, &mut gil).expect("the lock");
        gil
    }

    /// How often each held it.
    fn holders(&self) -> BTreeMap<u64, usize> {
        let mut holders = BTreeMap::new();
        for _ in 0..LOOKS {
            let gil = self.gil();
            assert_ne!(gil.address, 0, "no lock was found");
            *holders.entry(gil.holder).or_default() += 1;
            // No multiple of the 5 ms after which the interpreter gives the lock on.
            thread::sleep(Duration::from_micros(700));
        }
        holders
    }

    /// The lines of a file of each thread.
    fn of_threads(&self, file: &str) -> Vec<String> {
        let directory = format!("/proc/{}/task", self.target.pid());
        let entries = fs::read_dir(directory).expect("the threads");
        entries
            .map(|entry| entry.expect("a thread").path().join(file))
            .map(|path| fs::read_to_string(path).expect("of a thread that does not end"))
            .collect()
    }
}

/// The first argument of a futex that a thread is in.
fn futex(syscall: &str) -> Option<u64> {
    let mut words = syscall.split_whitespace();
    (words.next()? == FUTEX).then_some(())?;
    u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()
}

#[test]
fn the_thread_that_runs_holds_it() {
    on_each("holder of the GIL", |python| {
        let process = Looked::start(python, "one");
        let holders = process.holders();
        let own = holders.get(&process.spinners[0]).copied().unwrap_or(0);
        // Nobody else wants it. The interpreter may let it go to look whether somebody does.
        assert!(
            own * 100 >= LOOKS * 98,
            "Python {}: {holders:x?}, not {:x?}",
            python.version,
            process.spinners
        );
    });
}

#[test]
fn nobody_holds_it_when_all_sleep() {
    on_each("GIL that is free", |python| {
        let process = Looked::start(python, "sleep");
        let begin = Instant::now();
        let asleep = || {
            let stats = process.of_threads("stat");
            let state = |stat: &String| stat.rsplit(") ").next()?.chars().next();
            stats.iter().all(|stat| state(stat) == Some('S'))
        };
        while !asleep() {
            assert!(begin.elapsed() < PATIENCE, "somebody does not sleep");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(
            process.holders(),
            BTreeMap::from([(0, LOOKS)]),
            "Python {}",
            python.version
        );
    });
}

/// One of two holds it, and the other waits at a futex of the lock. Others wait at none of it.
#[test]
fn who_wants_it_waits_at_it() {
    on_each("waits for the GIL", |python| {
        let process = Looked::start(python, "two");
        let mut holders = process.holders();
        // In between it is free, for as long as who was woken waits for a CPU.
        holders.remove(&0);
        for spinner in &process.spinners {
            // They take turns of 5 ms: each has about half of it.
            let held = holders.remove(spinner).unwrap_or(0);
            assert!(held * 10 >= LOOKS, "Python {}: {held}", python.version);
        }
        assert!(
            holders.is_empty(),
            "Python {}: {holders:x?}",
            python.version
        );
        let (mut at_gil, mut elsewhere) = (0, 0);
        for _ in 0..LOOKS {
            let gil = process.gil().address;
            let futexes = process.of_threads("syscall");
            let waited: Vec<u64> = futexes.iter().filter_map(|line| futex(line)).collect();
            let at: Vec<_> = waited
                .iter()
                .filter(|futex| gil::waits_at(&process.found.entry.gil, gil, **futex))
                .collect();
            // Those who sleep are in no futex; who waits for the other lock always is.
            elsewhere += waited.len() - at.len();
            at_gil += at.len();
            thread::sleep(Duration::from_micros(700));
        }
        assert_eq!(elsewhere, LOOKS, "Python {}", python.version);
        // One at a time, but for the moments in which it is given on; and who has been woken is in
        // the queue for a CPU.
        assert!(
            (LOOKS / 2..=LOOKS * 6 / 5).contains(&at_gil),
            "Python {}: {at_gil} of {LOOKS}",
            python.version
        );
    });
}
