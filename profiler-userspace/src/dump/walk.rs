//! A whole stack, from a thread state: the walk's own steps ([`profiler_common::walk`]), as often as it
//! takes. The kernel has room for 1,024 frames; here each 1,024 are taken out, and the walk goes on.

use profiler_common::layout::{EntryKind, NONE, ProcessEntry};
use profiler_common::mem::{Fault, Memory};
use profiler_common::unwind::Segments;
use profiler_common::walk::{self, Frame, MAX_FRAMES, Walk, WalkCache, WalkStatus};

use crate::python::threads::ThreadState;

/// Steps at most: what grows while it is walked has no end.
const MAX_STEPS: u32 = 4 << 20;
/// Bytes of a thread state in which its own `CFrame` lies, see [`walk::align_segments`].
const TSTATE_CFRAME: u64 = 0x400;

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkedFrame {
    /// Its address.
    pub address: u64,
    /// Its code.
    pub frame: Frame,
}

/// One stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// From the innermost on.
    pub frames: Vec<WalkedFrame>,
    /// How the walk ended; complete, too, where the thread runs no Python now.
    pub status: WalkStatus,
    /// Where on the C stack frames belong, from the innermost on: an address there, and how many
    /// frames the walk had passed then.
    pub segments: Vec<(u64, u32)>,
}

impl Walked {
    /// The stack of a thread without Python.
    #[must_use]
    pub fn none() -> Self {
        Self {
            frames: Vec::new(),
            status: WalkStatus::Complete,
            segments: Vec::new(),
        }
    }

    /// Whether two reads, one behind the other, show one stack: the same frames, that stand at the same
    /// instructions. The innermost may have gone on.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        let same = |(index, (one, other)): (usize, (&WalkedFrame, &WalkedFrame))| {
            one.address == other.address
                && one.frame.code == other.frame.code
                && one.frame.witness == other.frame.witness
                && (index == 0 || one.frame.lasti == other.frame.lasti)
        };
        self.status == other.status
            && self.frames.len() == other.frames.len()
            && self.frames.iter().zip(&other.frames).enumerate().all(same)
    }

    /// Whether a frame is the oldest that its activation of the interpreter's loop runs.
    #[must_use]
    pub fn is_entry(&self, entry: &ProcessEntry, index: usize) -> bool {
        if entry.layout.entry_kind == EntryKind::None as u8 {
            return true;
        }
        let end = index as u32 + 1;
        let at = self.segments.partition_point(|(_, frames)| *frames < end);
        self.segments
            .get(at)
            .is_some_and(|(_, frames)| *frames == end)
    }
}

/// Walks the stack of a thread state. It is of one moment only where the thread does not run
/// meanwhile.
#[must_use]
pub fn walk<M: Memory>(mem: &M, entry: &ProcessEntry, tgid: u32, state: &ThreadState) -> Walked {
    let mut walked = Walked {
        frames: Vec::new(),
        status: WalkStatus::Running,
        segments: Vec::new(),
    };
    let Ok((frame, cframe)) = newest(mem, entry, state.address) else {
        walked.status = WalkStatus::ThreadStateUnreadable;
        return walked;
    };
    if frame == 0 {
        walked.status = WalkStatus::Complete;
        return walked;
    }
    let mut walk = Walk {
        frame,
        landmark: frame,
        cframe,
        tstate: state.address,
        interp: state.interp,
        tgid,
        ..Walk::NEW
    };
    let mut cache = WalkCache::default();
    let mut segments = Box::new(Segments::EMPTY);
    let mut frames = Box::new([Frame::default(); MAX_FRAMES]);
    let mut addresses = Vec::new();
    // Frames that were taken out.
    let mut before = 0;
    for _ in 0..MAX_STEPS {
        let (address, depth) = (walk.frame, walk.depth);
        let more = walk::step(
            mem,
            entry,
            &mut walk,
            &mut cache,
            &mut frames,
            Some(&mut segments),
        );
        if walk.depth > depth {
            addresses.push(address);
        }
        // There is room for 512 of them.
        while let Some((address, frames)) = segments.get(segments.next) {
            walked.segments.push((address, before + frames));
            segments.next += 1;
        }
        segments.clear();
        if more {
            continue;
        }
        if walk.status != WalkStatus::Truncated as u32 {
            break;
        }
        before += take(&mut walked, &mut walk, &mut addresses, &frames);
        walk.status = WalkStatus::Running as u32;
    }
    take(&mut walked, &mut walk, &mut addresses, &frames);
    walked.status = match WalkStatus::from_u8(walk.status as u8) {
        WalkStatus::Running => WalkStatus::Truncated,
        other => other,
    };
    align(entry, &walk, &mut walked);
    walked
}

/// The newest frame and the newest `CFrame` of a thread state; 0 where there is none.
fn newest<M: Memory>(mem: &M, entry: &ProcessEntry, tstate: u64) -> Result<(u64, u64), Fault> {
    let layout = &entry.layout;
    let pointer = |at: u64, offset: u16| mem.read_u64(at.wrapping_add(u64::from(offset)));
    let newest = pointer(tstate, layout.tstate_frame)?;
    let cframe = match layout.tstate_cframe {
        NONE => 0,
        offset => pointer(tstate, offset)?,
    };
    let frame = match layout.cframe_frame {
        offset if offset != NONE && newest != 0 => pointer(newest, offset)?,
        _ => newest,
    };
    Ok((frame, cframe))
}

/// Takes the frames out that a walk has stored. Returns how many.
fn take(
    walked: &mut Walked,
    walk: &mut Walk,
    addresses: &mut Vec<u64>,
    frames: &[Frame; MAX_FRAMES],
) -> u32 {
    let count = std::mem::take(&mut walk.depth);
    let addressed = addresses.drain(..).zip(frames);
    walked
        .frames
        .extend(addressed.map(|(address, frame)| WalkedFrame {
            address,
            frame: *frame,
        }));
    count
}

/// What [`walk::align_segments`] does where segments have a bound.
fn align(entry: &ProcessEntry, walk: &Walk, walked: &mut Walked) {
    if entry.layout.entry_kind != EntryKind::EveryFrame as u8
        || walked.status != WalkStatus::Complete
    {
        return;
    }
    let is_root = walk.cframe.wrapping_sub(walk.tstate) < TSTATE_CFRAME;
    if walk.cframe == 0 {
        walked.segments.pop();
        for (_, frames) in &mut walked.segments {
            *frames += 1;
        }
    } else if !is_root {
        walked
            .segments
            .push((walk.cframe, walked.frames.len() as u32 + 1));
        for (_, frames) in &mut walked.segments {
            *frames = frames.saturating_sub(1);
        }
    }
}
