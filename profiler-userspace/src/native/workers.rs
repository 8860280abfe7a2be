//! Threads that compile tables: call frame information of a large library takes a tenth of a
//! second, in which samples go on.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::module::{Module, ModuleIndex, Source};
use crate::privilege;
use crate::unwind::{Disk, Rows};

/// More at once would be felt by the target.
const MOST_WORKERS: usize = 4;

/// A file to compile.
#[derive(Debug)]
struct Job {
    module: ModuleIndex,
    build_id: Option<Vec<u8>>,
    source: Source,
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
    jobs: mpsc::Sender<Job>,
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

fn run(job: Job, disk: Option<&Disk>) -> Built {
    let build_id = job.build_id.as_deref();
    let known = disk.zip(build_id).and_then(|(disk, id)| disk.load(id));
    let rows = known.or_else(|| {
        let rows = job.source.rows()?;
        if let (Some(disk), Some(id)) = (disk, build_id) {
            // It is compiled again next time.
            let _not_kept = disk.store(id, &rows);
        }
        Some(rows)
    });
    Built {
        module: job.module,
        rows,
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>, built: &UnboundedSender<Built>, disk: Option<&Disk>) {
    loop {
        let job = match jobs.lock() {
            Ok(jobs) => jobs.recv(),
            Err(_) => return,
        };
        let Ok(job) = job else { return };
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
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let (done, built) = unbounded_channel();
        let count = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..count.min(MOST_WORKERS) {
            let queue = Arc::clone(&queue);
            let done = done.clone();
            thread::Builder::new()
                .name("pyscry-tables".to_owned())
                .spawn(move || {
                    let disk = cache_directory().map(|directory| Disk::new(&directory));
                    work(&queue, &done, disk.as_ref());
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
        self.jobs.send(job).is_ok()
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
