//! Threads that compile tables: call frame information of a large library takes a tenth of a
//! second, of a compiler some seconds, in which samples go on. Small files come first, and one thread
//! takes nothing else, so that a program does not wait for another one's compiler.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::module::{Module, ModuleIndex, Source};
use crate::privilege;
use crate::unwind::{Disk, Rows};

/// More at once would be felt by the target.
const MOST_WORKERS: usize = 4;
/// Files of less bytes are small.
const SMALL: u64 = 16 << 20;

/// A file to compile.
#[derive(Debug)]
struct Job {
    module: ModuleIndex,
    build_id: Option<Vec<u8>>,
    source: Source,
}

/// The files to compile, by size and in the order in which they were asked for.
#[derive(Debug, Default)]
struct Jobs {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: BTreeMap<(u64, u64), Job>,
    count: u64,
    /// Nobody asks any more.
    over: bool,
}

impl Jobs {
    /// Returns whether it will be done.
    fn put(&self, job: Job) -> bool {
        let Ok(mut waiting) = self.waiting.lock() else {
            return false;
        };
        waiting.count += 1;
        let key = (job.source.bytes(), waiting.count);
        waiting.jobs.insert(key, job);
        // Not one of them: it may be the one that takes no large file.
        self.more.notify_all();
        true
    }

    /// Waits for the smallest one, of less than `below` bytes. `None` when there is no more to do.
    fn take(&self, below: u64) -> Option<Job> {
        let mut waiting = self.waiting.lock().ok()?;
        loop {
            if waiting.over {
                return None;
            }
            let first = waiting.jobs.first_entry();
            if let Some(first) = first.filter(|first| first.key().0 < below) {
                return Some(first.remove());
            }
            waiting = self.more.wait(waiting).ok()?;
        }
    }

    fn end(&self) {
        if let Ok(mut waiting) = self.waiting.lock() {
            waiting.over = true;
        }
        self.more.notify_all();
    }
}

/// What came of one.
#[derive(Debug)]
pub struct Built {
    /// Its module.
    pub module: ModuleIndex,
    /// Its rows; `None` of a file without any, or with more than there can be.
    pub rows: Option<Rows>,
}

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub struct Workers {
    jobs: Arc<Jobs>,
    built: UnboundedReceiver<Built>,
}

/// Where compiled tables are kept from one run to the next, made if it is not there; `None` where
/// there is no place. `$XDG_CACHE_HOME` goes before root's own place, so that somebody can begin
/// with an empty one.
fn cache_directory() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from);
    // A relative path is to be ignored (XDG Base Directory Specification).
    let base = named("XDG_CACHE_HOME").filter(|base| base.is_absolute());
    let base = base.or_else(|| privilege::is_root().then(|| PathBuf::from("/var/cache")));
    let directory = base
        .or_else(|| Some(named("HOME")?.join(".cache")))?
        .join("pyscry");
    // Without it nothing is kept, and all of it is compiled again next time.
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory);
    made.is_ok().then_some(directory)
}

/// The rows of a file: those that were kept, or compiled now. `None` of one without any, or with
/// more than there can be.
pub(crate) fn rows_of(
    source: &Source,
    build_id: Option<&[u8]>,
    disk: Option<&Disk>,
) -> Option<Rows> {
    let known = disk.zip(build_id).and_then(|(disk, id)| disk.load(id));
    known.or_else(|| {
        let rows = source.rows()?;
        if let (Some(disk), Some(id)) = (disk, build_id) {
            // It is compiled again next time.
            let _not_kept = disk.store(id, &rows);
        }
        Some(rows)
    })
}

/// Where compiled rows are kept; `None` where there is no place.
pub(crate) fn kept_rows() -> Option<Disk> {
    cache_directory().map(|directory| Disk::new(&directory))
}

fn run(job: Job, disk: Option<&Disk>) -> Built {
    Built {
        module: job.module,
        rows: rows_of(&job.source, job.build_id.as_deref(), disk),
    }
}

fn work(jobs: &Jobs, below: u64, built: &UnboundedSender<Built>, disk: Option<&Disk>) {
    while let Some(job) = jobs.take(below) {
        if built.send(run(job, disk)).is_err() {
            return;
        }
    }
}

impl Workers {
    /// Starts them.
    ///
    /// # Errors
    /// As starting a thread gives them.
    pub fn start() -> io::Result<Self> {
        let jobs = Arc::new(Jobs::default());
        let (done, built) = unbounded_channel();
        let count = thread::available_parallelism().map_or(1, usize::from);
        for number in 0..count.clamp(2, MOST_WORKERS) {
            let below = if number == 0 { SMALL } else { u64::MAX };
            let queue = Arc::clone(&jobs);
            let done = done.clone();
            thread::Builder::new()
                .name("pyscry-tables".to_owned())
                .spawn(move || {
                    let disk = kept_rows();
                    work(&queue, below, &done, disk.as_ref());
                })?;
        }
        Ok(Self { jobs, built })
    }

    /// Asks for a module's table. Returns whether it will come.
    pub fn ask(&self, index: ModuleIndex, module: &Module) -> bool {
        if matches!(module.source, Source::Nothing) {
            return false;
        }
        let job = Job {
            module: index,
            build_id: module.build_id.clone(),
            source: module.source.clone(),
        };
        self.jobs.put(job)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Option<Built> {
        self.built.recv().await
    }

    /// The next one, if it is there.
    pub fn try_next(&mut self) -> Option<Built> {
        self.built.try_recv().ok()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_come_first_and_have_a_thread_of_their_own() {
        let jobs = Jobs::default();
        let mut modules = crate::native::Modules::default();
        for bytes in [SMALL as usize, 3, 2] {
            let arena = vec![0; bytes];
            let module = modules.of_trampolines(arena.clone());
            assert!(jobs.put(Job {
                module,
                build_id: None,
                source: Source::Trampolines(arena.into()),
            }));
        }
        let take = |below| jobs.take(below).map(|job| job.source.bytes());
        assert_eq!(take(SMALL), Some(2));
        assert_eq!(take(u64::MAX), Some(3));
        assert_eq!(take(u64::MAX), Some(SMALL));
        jobs.end();
        assert_eq!(take(SMALL), None);
    }
}
