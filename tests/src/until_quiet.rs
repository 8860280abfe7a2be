//! Processes of which all threads wait.

use std::fs;
use std::time::{Duration, Instant};

use crate::run::PATIENCE;

/// How often each thread has come to a CPU, and its state.
fn switches(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let status = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.expect("a thread").path().join("status");
        let text = fs::read_to_string(path).expect("its status");
        let words = ["State:", "voluntary_ctxt", "nonvoluntary_ctxt"];
        text.lines()
            .filter(|line| words.iter().any(|word| line.starts_with(word)))
            .collect()
    };
    threads.map(status).collect()
}

/// Waits until no thread of a process runs any more, for what it waits for does not come.
///
/// # Panics
/// When that takes too long.
pub fn until_quiet(pid: u32) {
    let begin = Instant::now();
    let mut before = switches(pid);
    loop {
        // Longer than one thread makes way for another.
        std::thread::sleep(Duration::from_millis(300));
        let now = switches(pid);
        if now == before {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "process {pid}: {now:#?}");
        before = now;
    }
}
