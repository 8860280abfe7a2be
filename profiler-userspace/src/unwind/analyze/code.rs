//! The instructions of a function that execution reaches.

use iced_x86::{Decoder, DecoderOptions, Instruction};

use super::effect::{Effect, Effects, Flow, flow};

/// Why a function is not analyzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distrust {
    /// An instruction begins within another.
    Overlap,
    /// A register or a table says where execution goes on, perhaps within the function.
    Anywhere,
    /// It goes on where no function is known, from where it may come back.
    Elsewhere,
    /// It does not return to where it was called from.
    NoReturn,
    /// All the instructions were looked at that a file may have.
    TooLong,
}

/// One of the things that an instruction does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// Where the instruction begins, in the function.
    pub(super) at: u32,
    /// Where it ends.
    pub(super) end: u32,
    pub(super) does: Does,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    Effect(Effect),
    /// Goes to a place in the function; unless `always`, or to the next instruction.
    Go {
        to: u32,
        always: bool,
    },
    /// Goes to another function; unless `always`, or to the next instruction.
    Leave {
        to: u64,
        always: bool,
    },
    /// Goes to the caller.
    Return,
    /// Goes nowhere that matters.
    Stop,
}

/// What a function consists of. Places in it are counted from its start.
#[derive(Debug, Default)]
pub(super) struct Code {
    /// In the order of their places. Instructions that do not matter have none.
    pub(super) steps: Vec<Step>,
    /// Where execution comes to from elsewhere than the instruction before, in order.
    pub(super) leaders: Vec<u32>,
    /// Where calls go within it.
    pub(super) called: Vec<u32>,
    /// Where calls go that are known to begin no function.
    pub(super) called_elsewhere: Vec<u64>,
}

/// What a byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Byte {
    Unknown,
    /// An instruction's first.
    First,
    /// Another one of an instruction.
    Inside,
}

/// Reads functions.
pub(super) struct Reader<'a> {
    /// Whether an address is where a function begins, one that keeps to the ABI.
    pub(super) is_function: &'a dyn Fn(u64) -> bool,
    /// Instructions that may still be read.
    pub(super) left: usize,
}

impl Reader<'_> {
    /// Reads what is reached from `roots`, places in a function at `start`, and from where calls
    /// go within it.
    pub(super) fn read(
        &mut self,
        start: u64,
        bytes: &[u8],
        roots: &[u32],
    ) -> Result<Code, Distrust> {
        let mut reading = Reading {
            reader: self,
            start,
            bytes,
            decoder: Decoder::with_ip(64, bytes, start, DecoderOptions::NONE),
            effects: Effects::new(),
            seen: vec![Byte::Unknown; bytes.len()],
            open: roots.to_vec(),
            code: Code::default(),
        };
        reading.code.leaders.extend_from_slice(roots);
        while let Some(place) = reading.open.pop() {
            reading.run(place)?;
        }
        let mut code = reading.code;
        code.steps.sort_by_key(|step| step.at);
        code.leaders.sort_unstable();
        code.leaders.dedup();
        Ok(code)
    }
}

/// A function that is being read.
struct Reading<'a, 'b> {
    reader: &'a mut Reader<'b>,
    start: u64,
    bytes: &'a [u8],
    decoder: Decoder<'a>,
    effects: Effects,
    seen: Vec<Byte>,
    /// Places that are still to be read from.
    open: Vec<u32>,
    code: Code,
}

impl Reading<'_, '_> {
    /// Reads instructions that follow each other, until one does not go on with the next, or until
    /// what was read before.
    fn run(&mut self, place: u32) -> Result<(), Distrust> {
        let mut at = place as usize;
        let mut instruction = Instruction::default();
        let mut called = false;
        loop {
            match self.seen.get(at) {
                Some(Byte::Unknown) => {}
                Some(Byte::First) => return Ok(()),
                Some(Byte::Inside) => return Err(Distrust::Overlap),
                // The last thing that a function does may be a call that does not return.
                None if called => {
                    self.step(at, at, Does::Stop);
                    return Ok(());
                }
                None => return self.go(self.start.wrapping_add(at as u64), true, at, at),
            }
            self.reader.left = self.reader.left.checked_sub(1).ok_or(Distrust::TooLong)?;
            // A place in the bytes is one that can be set.
            let _set = self.decoder.set_position(at);
            self.decoder.set_ip(self.start.wrapping_add(at as u64));
            self.decoder.decode_out(&mut instruction);
            let end = at + instruction.len();
            let flow = flow(&instruction);
            if flow == Flow::Invalid {
                self.step(at, at, Does::Stop);
                return Ok(());
            }
            self.mark(at, end)?;
            // The callee puts `rsp` back where it was before a call.
            if matches!(flow, Flow::Next | Flow::Branch(_)) {
                self.effects(&instruction, at, end);
            }
            match flow {
                Flow::Next => {}
                Flow::Jump(target) => return self.go(target, true, at, end),
                Flow::Branch(target) => self.go(target, false, at, end)?,
                Flow::Call(target) => self.call(target, at, end),
                Flow::Anywhere => return Err(Distrust::Anywhere),
                Flow::Return => {
                    self.step(at, end, Does::Return);
                    return Ok(());
                }
                Flow::End | Flow::Invalid => {
                    self.step(at, end, Does::Stop);
                    return Ok(());
                }
            }
            called = matches!(flow, Flow::Call(_));
            at = end;
        }
    }

    fn effects(&mut self, instruction: &Instruction, at: usize, end: usize) {
        let steps = &mut self.code.steps;
        self.effects.of(instruction, |effect| {
            steps.push(Step {
                at: at as u32,
                end: end as u32,
                does: Does::Effect(effect),
            });
        });
    }

    fn step(&mut self, at: usize, end: usize, does: Does) {
        self.code.steps.push(Step {
            at: at as u32,
            end: end as u32,
            does,
        });
    }

    /// A place in the function.
    fn within(&self, address: u64) -> Option<u32> {
        let place = address.checked_sub(self.start)?;
        (place < self.bytes.len() as u64).then_some(place as u32)
    }

    /// Execution goes to an address, here or elsewhere.
    fn go(&mut self, target: u64, always: bool, at: usize, end: usize) -> Result<(), Distrust> {
        let does = match self.within(target) {
            Some(to) => {
                self.open.push(to);
                self.code.leaders.push(to);
                Does::Go { to, always }
            }
            None if (self.reader.is_function)(target) => Does::Leave { to: target, always },
            None => return Err(Distrust::Elsewhere),
        };
        self.step(at, end, does);
        Ok(())
    }

    /// A call. Whoever jumps into the midst of code with a return address of its own is trusted
    /// with nothing.
    fn call(&mut self, target: Option<u64>, at: usize, end: usize) {
        let mut effect = Effect::Call;
        if let Some(target) = target {
            match self.within(target) {
                Some(0) => {}
                Some(place) => {
                    effect = Effect::Forget;
                    self.code.called.push(place);
                    self.code.leaders.push(place);
                    self.open.push(place);
                }
                None if (self.reader.is_function)(target) => {}
                None => {
                    effect = Effect::Forget;
                    self.code.called_elsewhere.push(target);
                }
            }
        }
        self.step(at, end, Does::Effect(effect));
    }

    /// Marks an instruction's bytes.
    fn mark(&mut self, at: usize, end: usize) -> Result<(), Distrust> {
        let bytes = self.seen.get_mut(at..end).unwrap_or_default();
        if bytes.iter().any(|byte| *byte != Byte::Unknown) {
            return Err(Distrust::Overlap);
        }
        bytes.fill(Byte::Inside);
        if let Some(first) = bytes.first_mut() {
            *first = Byte::First;
        }
        Ok(())
    }
}
