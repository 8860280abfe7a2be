//! Tells when a process maps code: the kernel writes a record for every such mapping into a buffer
//! of each CPU, of an event that counts nothing (`perf_event_open(2)`, `PERF_COUNT_SW_DUMMY`).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::thread;

use aya::util::online_cpus;
use memmap2::{MmapMut, MmapOptions};
use perf_event_open_sys as sys;
use sys::bindings::{
    PERF_COUNT_SW_DUMMY, PERF_FLAG_FD_CLOEXEC, PERF_RECORD_LOST, PERF_RECORD_MMAP2,
    PERF_TYPE_SOFTWARE, perf_event_mmap_page,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

const PAGE: usize = 4096;
/// Pages of a buffer, a power of two: some hundred records.
const DATA_PAGES: usize = 16;

/// Hears of mappings until it is dropped.
#[derive(Debug)]
pub struct MapWatch {
    heard: UnboundedReceiver<Mapped>,
    // Its end is what the thread waits for.
    _stop: OwnedFd,
}

/// A file as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MappedFile {
    /// Its device: major and minor number.
    device: u64,
    inode: u64,
    /// Another file with the same inode number has another.
    generation: u64,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapped {
    /// A process mapped code.
    By {
        /// The process.
        pid: u32,
        /// What it mapped.
        file: MappedFile,
        /// The file's path as the process sees it, or what the kernel calls what is none.
        name: String,
    },
    /// Records were lost: any process may have.
    Lost,
}

/// One CPU's buffer.
struct Buffer {
    event: OwnedFd,
    memory: MmapMut,
}

impl Buffer {
    fn open(cpu: u32) -> io::Result<Self> {
        let mut attr = sys::bindings::perf_event_attr {
            size: size_of::<sys::bindings::perf_event_attr>() as u32,
            type_: PERF_TYPE_SOFTWARE,
            config: u64::from(PERF_COUNT_SW_DUMMY),
            ..Default::default()
        };
        attr.set_mmap(1);
        attr.set_mmap2(1);
        // At every record: `wakeup_events` counts samples only (kernel/events/ring_buffer.c).
        attr.set_watermark(1);
        attr.__bindgen_anon_2.wakeup_watermark = 1;
        // SAFETY: `attr` is valid and says its size.
        let fd = unsafe {
            sys::perf_event_open(
                &mut attr,
                -1,
                cpu as i32,
                -1,
                u64::from(PERF_FLAG_FD_CLOEXEC),
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the event's own buffer, which only the kernel writes.
        let memory = unsafe {
            MmapOptions::new()
                .len((1 + DATA_PAGES) * PAGE)
                .map_mut(event.as_raw_fd())
        }?;
        Ok(Self { event, memory })
    }

    fn word(&self, at: u64) -> u64 {
        let mut word = [0; 8];
        let data = self.memory.get(PAGE..).unwrap_or_default();
        // Records are multiples of 8 bytes, and so is the buffer: a word never wraps.
        let at = at as usize & (DATA_PAGES * PAGE - 1);
        if let Some(bytes) = data.get(at..at + 8) {
            word.copy_from_slice(bytes);
        }
        u64::from_ne_bytes(word)
    }

    /// What a record of a mapping says (`PERF_RECORD_MMAP2`): behind the header pid and tid, address,
    /// length, offset, device, inode, its generation, protection and flags, and the file's name.
    fn mapped(&self, at: u64, size: u64) -> Mapped {
        const NAME_AT: u64 = 72;
        let words = (at + NAME_AT..at + size).step_by(8);
        let name: Vec<u8> = words.flat_map(|at| self.word(at).to_ne_bytes()).collect();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Mapped::By {
            pid: self.word(at + 8) as u32,
            file: MappedFile {
                device: self.word(at + 40),
                inode: self.word(at + 48),
                generation: self.word(at + 56),
            },
            name: String::from_utf8_lossy(name).into_owned(),
        }
    }

    /// Takes what the kernel wrote.
    fn take(&mut self, mut tell: impl FnMut(Mapped)) {
        let page = self.memory.as_mut_ptr().cast::<perf_event_mmap_page>();
        // SAFETY: the first page is such a structure; the kernel writes `data_head`, we
        // `data_tail`, each a whole word.
        let (head, tail) = unsafe {
            (
                AtomicU64::from_ptr(&raw mut (*page).data_head),
                AtomicU64::from_ptr(&raw mut (*page).data_tail),
            )
        };
        let end = head.load(Ordering::Acquire);
        let mut at = tail.load(Ordering::Relaxed);
        while at < end {
            let header = self.word(at);
            let (kind, size) = (header as u32, header >> 48);
            match kind {
                PERF_RECORD_MMAP2 => tell(self.mapped(at, size)),
                PERF_RECORD_LOST => tell(Mapped::Lost),
                _ => {}
            }
            // A size of 0 would never end.
            at += size.max(8);
        }
        fence(Ordering::SeqCst);
        tail.store(end, Ordering::Release);
    }
}

fn watch(mut buffers: Vec<Buffer>, stop: &OwnedFd, heard: &UnboundedSender<Mapped>) {
    let poll = |fd: &OwnedFd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    loop {
        let mut fds: Vec<_> = std::iter::once(poll(stop))
            .chain(buffers.iter().map(|buffer| poll(&buffer.event)))
            .collect();
        // SAFETY: `fds` is valid, and as long as said.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
        let interrupted =
            ready < 0 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if interrupted {
            continue;
        }
        if ready < 0 || fds.first().is_none_or(|stop| stop.revents != 0) {
            return;
        }
        for buffer in &mut buffers {
            buffer.take(|mapped| {
                // Nobody listens any more: the next look at `stop` ends this.
                let _gone = heard.send(mapped);
            });
        }
    }
}

impl MapWatch {
    /// Begins to listen.
    ///
    /// # Errors
    /// As opening the events gives them.
    pub fn start() -> io::Result<Self> {
        let cpus = online_cpus().map_err(|(_, error)| error)?;
        let buffers = cpus.into_iter().map(Buffer::open);
        let buffers = buffers.collect::<io::Result<Vec<_>>>()?;
        let mut ends = [0; 2];
        // SAFETY: `ends` has room for two descriptors.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: new descriptors that nobody else owns.
        let [stop, hold] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        let (sender, heard) = unbounded_channel();
        thread::Builder::new()
            .name("pyscry-maps".to_owned())
            .spawn(move || watch(buffers, &stop, &sender))?;
        Ok(Self { heard, _stop: hold })
    }

    /// Waits until a process maps code.
    pub async fn next(&mut self) -> Option<Mapped> {
        self.heard.recv().await
    }
}
