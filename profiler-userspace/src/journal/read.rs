//! Reads a recording file, as far as it is whole.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read};

use profiler_common::cause::Cause;

use super::item::{About, End, Item, Process, Waker};
use super::{BLOCK, MAGIC, MOST_BYTES};
use crate::record::frame::FrameText;

/// A file that is no recording.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("this is no recording of pyscry's")]
    NotOurs,
    /// A layout of another version.
    #[error("this is a recording of another version of pyscry (layout {0})")]
    Version(String),
    /// It ends before its first block does.
    #[error("nothing of this recording is whole")]
    Empty,
}

/// What happened. Times are `CLOCK_MONOTONIC`, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When: of a wait, its beginning.
    pub at_ns: u64,
    /// The thread; `None` for a process that is no target.
    pub thread: Option<u32>,
    /// The stack's hash.
    pub stack: u64,
    /// It held the interpreter's lock.
    pub holds_gil: bool,
    /// What it waited for; `None` of a sample.
    pub wait: Option<Wait>,
}

/// A wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wait {
    /// How long it was, nanoseconds.
    pub ns: u64,
    /// Why.
    pub cause: Cause,
    /// The system call, or `NO_SYSCALL`.
    pub syscall: u16,
    /// Who ended it.
    pub waker: Option<Waker>,
}

/// A thread.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thread {
    /// The number of its process in the file.
    pub process: u32,
    /// As the host numbers it.
    pub tid: u32,
    /// What it is called.
    pub name: Option<String>,
    /// How long it was on a CPU, nanoseconds, where that was measured.
    pub on_cpu_ns: Option<u64>,
}

/// All that a file contains.
#[derive(Debug)]
pub struct Contents {
    /// What was recorded.
    pub about: About,
    /// Frames, by number.
    pub frames: Vec<FrameText>,
    /// Stacks: numbers of frames, from the root to the leaf, by hash.
    pub stacks: BTreeMap<u64, Vec<u32>>,
    /// Processes, by number.
    pub processes: BTreeMap<u32, Process>,
    /// Threads, by number.
    pub threads: BTreeMap<u32, Thread>,
    /// What happened, as it was found.
    pub events: Vec<Event>,
    /// What was known at the end; `None` of a recording that did not come to it.
    pub end: Option<End>,
    /// Bytes at the end of the file that are no whole block.
    pub cut_off: u64,
}

/// Reads a file.
///
/// # Errors
/// [`ReadError`]. A file that was cut off is none: what is whole of it is returned.
pub fn read(mut file: impl BufRead) -> Result<Contents, ReadError> {
    check_magic(&mut file)?;
    let mut reading = Reading::default();
    loop {
        match block(&mut file)? {
            Block::End => break,
            Block::Cut(bytes) => {
                reading.cut_off = bytes + drain(&mut file)?;
                break;
            }
            Block::Whole(content) => {
                let mut rest = content.as_slice();
                while !rest.is_empty() {
                    let Ok((item, behind)) = postcard::take_from_bytes(rest) else {
                        reading.cut_off = rest.len() as u64 + drain(&mut file)?;
                        return reading.finish();
                    };
                    rest = behind;
                    reading.take(item);
                }
            }
        }
    }
    reading.finish()
}

fn check_magic(file: &mut impl Read) -> Result<(), ReadError> {
    let mut magic = Vec::new();
    file.take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    if magic == MAGIC {
        return Ok(());
    }
    const NAME: &[u8] = b"pyscry recording ";
    match magic.strip_prefix(NAME) {
        Some(version) => {
            let version = String::from_utf8_lossy(version);
            Err(ReadError::Version(version.trim().to_owned()))
        }
        None => Err(ReadError::NotOurs),
    }
}

enum Block {
    Whole(Vec<u8>),
    /// So many bytes of one that is not whole.
    Cut(u64),
    End,
}

fn block(file: &mut impl Read) -> io::Result<Block> {
    const HEAD: usize = 16;
    let mut head = Vec::with_capacity(HEAD);
    file.take(HEAD as u64).read_to_end(&mut head)?;
    if head.is_empty() {
        return Ok(Block::End);
    }
    let cut = |bytes: usize| Ok(Block::Cut(bytes as u64));
    let number = |at: usize| {
        let bytes = head.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (Some(size), Some(packed_size), Some(crc)) = (number(4), number(8), number(12)) else {
        return cut(head.len());
    };
    let too_large = size as usize > MOST_BYTES || packed_size as usize > 2 * MOST_BYTES;
    if !head.starts_with(BLOCK) || too_large {
        return cut(head.len());
    }
    let mut packed = Vec::new();
    file.take(u64::from(packed_size)).read_to_end(&mut packed)?;
    if packed.len() != packed_size as usize || crc32fast::hash(&packed) != crc {
        return cut(HEAD + packed.len());
    }
    match zstd::bulk::decompress(&packed, size as usize) {
        Ok(content) if content.len() == size as usize => Ok(Block::Whole(content)),
        _ => cut(HEAD + packed.len()),
    }
}

/// Reads what is left, and says how much it was.
fn drain(file: &mut impl Read) -> io::Result<u64> {
    io::copy(file, &mut io::sink())
}

/// A file that is being read.
#[derive(Default)]
struct Reading {
    about: Option<About>,
    frames: Vec<FrameText>,
    stacks: BTreeMap<u64, Vec<u32>>,
    processes: BTreeMap<u32, Process>,
    threads: BTreeMap<u32, Thread>,
    events: Vec<Event>,
    end: Option<End>,
    cut_off: u64,
    last_ns: u64,
}

impl Reading {
    fn take(&mut self, item: Item) {
        match item {
            Item::About(about) => {
                self.last_ns = about.began_ns;
                self.about = Some(*about);
            }
            Item::Frame(frame) => self.frames.push(frame.into()),
            Item::Stack(hash, frames) => {
                self.stacks.insert(hash, frames);
            }
            Item::Process(process) => {
                self.processes.insert(process.process, *process);
            }
            Item::Thread {
                thread,
                process,
                tid,
            } => {
                let found = self.threads.entry(thread).or_default();
                (found.process, found.tid) = (process, tid);
            }
            Item::ThreadName { thread, name } => {
                self.threads.entry(thread).or_default().name = Some(name);
            }
            Item::Sample {
                after_ns,
                thread,
                stack,
                holds_gil,
            } => self.event(after_ns, Some(thread), stack, holds_gil, None),
            Item::Wait {
                after_ns,
                ns,
                thread,
                stack,
                holds_gil,
                cause,
                syscall,
                waker,
            } => {
                let wait = Wait {
                    ns,
                    cause: Cause::from_u8(cause),
                    syscall,
                    waker,
                };
                self.event(after_ns, Some(thread), stack, holds_gil, Some(wait));
            }
            Item::Other { after_ns, stack } => self.event(after_ns, None, stack, false, None),
            Item::OnCpu { thread, ns } => {
                self.threads.entry(thread).or_default().on_cpu_ns = Some(ns);
            }
            Item::End(end) => self.end = Some(*end),
        }
    }

    fn event(
        &mut self,
        after_ns: i64,
        thread: Option<u32>,
        stack: u64,
        holds_gil: bool,
        wait: Option<Wait>,
    ) {
        self.last_ns = self.last_ns.wrapping_add_signed(after_ns);
        self.events.push(Event {
            at_ns: self.last_ns,
            thread,
            stack,
            holds_gil,
            wait,
        });
    }

    fn finish(self) -> Result<Contents, ReadError> {
        Ok(Contents {
            about: self.about.ok_or(ReadError::Empty)?,
            frames: self.frames,
            stacks: self.stacks,
            processes: self.processes,
            threads: self.threads,
            events: self.events,
            end: self.end,
            cut_off: self.cut_off,
        })
    }
}
