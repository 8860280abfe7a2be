//! What is known of a frame at one instruction.

use profiler_common::unwind::{CfaKind, REG_RBP, REG_RSP, REGISTERS, RaKind, RbpKind, Rule};

use super::effect::Effect;

/// Bytes below `rsp` that nobody else writes (System V ABI for x86-64, 3.2.2).
const RED_ZONE: i32 = 128;
/// Bytes of a register, and of a return address.
const WORD: i32 = 8;

/// Registers that a call may change, as bits: `rax`, `rdx`, `rcx`, `rsi`, `rdi`, `r8` to `r11`.
const CALLER_SAVED: u16 = 0b0000_1111_0011_0111;

/// The registers that a rule may count from, the best first. The kernel's side knows `rsp` and
/// `rbp` in each frame, the others only in the interrupted one.
const BASES: [u8; REGISTERS] = [
    REG_RSP, REG_RBP, 3, 12, 13, 14, 15, 0, 1, 2, 4, 5, 8, 9, 10, 11,
];

/// What is known before an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Bytes from each register up to the frame address (CFA), by DWARF's numbers.
    distances: [Option<i32>; REGISTERS],
    /// `rbp` is the caller's.
    rbp_same: bool,
    /// Where the caller's `rbp` is in memory, counted from the frame address.
    rbp_saved: Option<i32>,
}

impl State {
    /// Where a function begins.
    pub(super) const ENTRY: Self = {
        let mut distances = [None; REGISTERS];
        distances[REG_RSP as usize] = Some(WORD);
        Self {
            distances,
            rbp_same: true,
            rbp_saved: None,
        }
    };

    /// Nothing.
    pub(super) const LOST: Self = Self {
        distances: [None; REGISTERS],
        rbp_same: false,
        rbp_saved: None,
    };

    /// Bytes from a register, by DWARF's number, up to the frame address.
    #[must_use]
    pub fn distance(&self, register: u8) -> Option<i32> {
        self.distances.get(usize::from(register)).copied().flatten()
    }

    /// Whether `rbp` is known to be the caller's.
    #[must_use]
    pub fn rbp_same(&self) -> bool {
        self.rbp_same
    }

    /// Where the caller's `rbp` is in memory, counted from the frame address.
    #[must_use]
    pub fn rbp_saved(&self) -> Option<i32> {
        self.rbp_saved
    }

    /// Whether another function may begin here, as if the caller had called it.
    pub(super) fn is_entry(&self) -> bool {
        self.distance(REG_RSP) == Some(WORD) && self.rbp_same
    }

    /// Whether what a `ret` takes from the stack cannot be the return address.
    pub(super) fn is_no_return(&self) -> bool {
        self.distance(REG_RSP)
            .is_some_and(|distance| distance != WORD)
    }

    /// Keeps what another way to the same instruction agrees with. Says whether that was less.
    pub(super) fn meet(&mut self, other: &Self) -> bool {
        let before = self.clone();
        for (own, other) in self.distances.iter_mut().zip(&other.distances) {
            if own != other {
                *own = None;
            }
        }
        self.rbp_same &= other.rbp_same;
        if self.rbp_saved != other.rbp_saved {
            self.rbp_saved = None;
        }
        *self != before
    }

    /// Goes past what an instruction does.
    pub(super) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Lose(registers) => self.lose(registers),
            Effect::Move { to, from, plus } => {
                let distance = self.distance(from);
                self.lose(1 << to);
                self.set(to, distance.and_then(|distance| distance.checked_sub(plus)));
            }
            Effect::Push { bytes, rbp } => {
                self.add_to_rsp(bytes.wrapping_neg());
                self.store(REG_RSP, 0, bytes);
                if rbp {
                    self.save_rbp(REG_RSP, 0);
                }
            }
            Effect::Pop { register, bytes } => {
                if register == Some(REG_RBP) && bytes == WORD {
                    self.load_rbp(REG_RSP, 0);
                } else if let Some(register) = register {
                    self.lose(1 << register);
                }
                self.add_to_rsp(bytes);
            }
            Effect::Store {
                base,
                offset,
                bytes,
            } => self.store(base, offset, bytes),
            Effect::SaveRbp { base, offset } => {
                self.store(base, offset, WORD);
                self.save_rbp(base, offset);
            }
            Effect::LoadRbp { base, offset } => self.load_rbp(base, offset),
            Effect::Call => {
                self.lose(CALLER_SAVED);
                self.forget_saved_below(0);
            }
            Effect::Forget => *self = Self::LOST,
        }
        self.forget_saved_below(RED_ZONE);
        // The return address was popped: it is nowhere, or about to be changed.
        if self
            .distance(REG_RSP)
            .is_some_and(|distance| distance < WORD)
        {
            *self = Self::LOST;
        }
    }

    /// The rule that says all this, [`Rule::NONE`] when the frame address is not known.
    pub(super) fn rule(&self) -> Rule {
        let base = BASES
            .iter()
            .find_map(|register| Some((*register, self.distance(*register)?)));
        let Some((reg, cfa_offset)) = base else {
            return Rule::NONE;
        };
        let saved = self.rbp_saved.and_then(|offset| i16::try_from(offset).ok());
        let (rbp, rbp_offset) = match saved {
            _ if self.rbp_same => (RbpKind::Same, 0),
            Some(offset) => (RbpKind::AtCfa, offset),
            None => (RbpKind::Unknown, 0),
        };
        Rule {
            cfa: CfaKind::Register as u8,
            reg,
            rbp: rbp as u8,
            ra: RaKind::AtCfa as u8,
            ra_offset: -WORD as i16,
            cfa_offset,
            rbp_offset,
            ..Rule::NONE
        }
    }

    fn set(&mut self, register: u8, distance: Option<i32>) {
        if let Some(place) = self.distances.get_mut(usize::from(register)) {
            *place = distance;
        }
    }

    /// Registers were written, given as bits.
    fn lose(&mut self, registers: u16) {
        for (number, distance) in self.distances.iter_mut().enumerate() {
            if registers & (1 << number) != 0 {
                *distance = None;
            }
        }
        if registers & (1 << REG_RBP) != 0 {
            self.rbp_same = false;
        }
    }

    fn add_to_rsp(&mut self, bytes: i32) {
        let distance = self.distance(REG_RSP);
        self.set(
            REG_RSP,
            distance.and_then(|distance| distance.checked_sub(bytes)),
        );
    }

    /// Where memory is, counted from the frame address.
    fn place(&self, base: u8, offset: i32) -> Option<i32> {
        offset.checked_sub(self.distance(base)?)
    }

    /// Memory was written. What is written through other pointers is none of what the frame keeps,
    /// or no call frame information could say where that is, either.
    fn store(&mut self, base: u8, offset: i32, bytes: i32) {
        let Some(first) = self.place(base, offset) else {
            return;
        };
        let overlaps = |place: i32| {
            first < place.saturating_add(WORD) && place < first.saturating_add(bytes.max(1))
        };
        if self.rbp_saved.is_some_and(overlaps) {
            self.rbp_saved = None;
        }
        if overlaps(-WORD) {
            *self = Self::LOST;
        }
    }

    fn save_rbp(&mut self, base: u8, offset: i32) {
        if self.rbp_same && self.rbp_saved.is_none() {
            self.rbp_saved = self.place(base, offset);
        }
    }

    fn load_rbp(&mut self, base: u8, offset: i32) {
        let place = self.place(base, offset);
        self.lose(1 << REG_RBP);
        self.rbp_same = place.is_some() && place == self.rbp_saved;
    }

    /// What lies below `rsp`, and that many bytes more, others may write.
    fn forget_saved_below(&mut self, bytes: i32) {
        if let Some(lowest) = self.place(REG_RSP, bytes.wrapping_neg())
            && self.rbp_saved.is_some_and(|saved| saved < lowest)
        {
            self.rbp_saved = None;
        }
    }
}
