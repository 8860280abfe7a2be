//! What an instruction does, as far as it matters to where the frame is.

use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic,
    OpAccess, OpKind, Register,
};
use profiler_common::unwind::{REG_RBP, REG_RSP};

/// DWARF's numbers of the registers in the order of iced's, which is that of their encoding.
const DWARF: [u8; 16] = [
    0, 2, 1, 3, REG_RSP, REG_RBP, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15,
];

/// `rax`, `rcx` and `r11` as bits: what a system call changes.
const SYSTEM_CALL: u16 = 1 << 0 | 1 << 2 | 1 << 11;

/// One thing that an instruction does. Registers have DWARF's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Registers, given as bits, get values that are not known.
    Lose(u16),
    /// A register becomes another one, or the same, plus a number.
    Move { to: u8, from: u8, plus: i32 },
    /// Something goes onto the stack; `rbp` when that is `rbp`.
    Push { bytes: i32, rbp: bool },
    /// Something comes from the stack, to a register or elsewhere.
    Pop { register: Option<u8>, bytes: i32 },
    /// Memory at `base + offset` is written.
    Store { base: u8, offset: i32, bytes: i32 },
    /// `rbp` is written there.
    SaveRbp { base: u8, offset: i32 },
    /// `rbp` is read from there.
    LoadRbp { base: u8, offset: i32 },
    /// A function is called that keeps to the ABI.
    Call,
    /// Nothing is known any more.
    Forget,
}

/// Where execution goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// To the next instruction.
    Next,
    /// To an address.
    Jump(u64),
    /// To an address, or to the next instruction.
    Branch(u64),
    /// To a function, which returns or not; `None` when a pointer says where it is.
    Call(Option<u64>),
    /// To the caller.
    Return,
    /// To another function, or nowhere.
    End,
    /// To where a register, or a table, says.
    Anywhere,
    /// This is no code.
    Invalid,
}

/// Where execution goes from an instruction.
pub(super) fn flow(instruction: &Instruction) -> Flow {
    let near = match instruction.op0_kind() {
        OpKind::NearBranch64 => Some(instruction.near_branch_target()),
        _ => None,
    };
    if instruction.is_invalid() {
        return Flow::Invalid;
    }
    match instruction.flow_control() {
        FlowControl::Next if instruction.mnemonic() == Mnemonic::Hlt => Flow::End,
        FlowControl::Next => Flow::Next,
        FlowControl::UnconditionalBranch => near.map_or(Flow::Invalid, Flow::Jump),
        FlowControl::ConditionalBranch => near.map_or(Flow::Invalid, Flow::Branch),
        FlowControl::XbeginXabortXend => near.map_or(Flow::Next, Flow::Branch),
        // A table would be read with an index.
        FlowControl::IndirectBranch if instruction.is_ip_rel_memory_operand() => Flow::End,
        FlowControl::IndirectBranch => Flow::Anywhere,
        FlowControl::Return => Flow::Return,
        FlowControl::Call if is_system_call(instruction) => Flow::Next,
        FlowControl::Call => near.map_or(Flow::Invalid, |target| Flow::Call(Some(target))),
        FlowControl::IndirectCall => Flow::Call(None),
        FlowControl::Interrupt if instruction.mnemonic() == Mnemonic::Int => Flow::Next,
        FlowControl::Interrupt | FlowControl::Exception => Flow::End,
    }
}

/// Tells what instructions do.
pub(super) struct Effects {
    factory: InstructionInfoFactory,
}

impl Effects {
    pub(super) fn new() -> Self {
        Self {
            factory: InstructionInfoFactory::new(),
        }
    }

    /// What an instruction does, where it does not leave the function.
    pub(super) fn of(&mut self, instruction: &Instruction, mut does: impl FnMut(Effect)) {
        if only_vectors(instruction) {
            if instruction.op0_kind() == OpKind::Memory {
                store(instruction).map(does);
            }
            return;
        }
        match known(instruction) {
            Some(effects) => effects.into_iter().flatten().for_each(does),
            None => self.others(instruction, &mut does),
        }
    }

    /// What an instruction writes.
    fn others(&mut self, instruction: &Instruction, does: &mut impl FnMut(Effect)) {
        let bytes = match instruction.is_stack_instruction() {
            true => instruction.stack_pointer_increment(),
            false => 0,
        };
        if bytes < 0 {
            let bytes = bytes.saturating_neg();
            does(Effect::Push { bytes, rbp: false });
        } else if bytes > 0 {
            let register = None;
            does(Effect::Pop { register, bytes });
        }
        let info = self
            .factory
            .info_options(instruction, InstructionInfoOptions::NO_MEMORY_USAGE);
        let mut written = 0;
        for used in info.used_registers() {
            if is_write(used.access())
                && let Some(register) = general(used.register().full_register())
                && (register != REG_RSP || bytes == 0)
            {
                written |= 1 << register;
            }
        }
        if instruction.op0_kind() == OpKind::Memory
            && is_write(info.op0_access())
            && let Some(store) = store(instruction)
        {
            does(store);
        }
        if written != 0 {
            does(Effect::Lose(written));
        }
    }
}

/// Whether an instruction writes no general register, as most of a kernel's do. It has to be told
/// fast: such code is long.
fn only_vectors(instruction: &Instruction) -> bool {
    let vector = match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().is_vector_register(),
        OpKind::Memory => {
            instruction.op1_kind() == OpKind::Register
                && instruction.op1_register().is_vector_register()
        }
        _ => false,
    };
    // These put an index into `ecx`.
    vector
        && !matches!(
            instruction.mnemonic(),
            Mnemonic::Pcmpestri | Mnemonic::Pcmpistri | Mnemonic::Vpcmpestri | Mnemonic::Vpcmpistri
        )
}

/// What the instructions do that frames are made with; `None` for others.
fn known(instruction: &Instruction) -> Option<[Option<Effect>; 3]> {
    let first = operand(instruction, 0);
    let second = operand(instruction, 1);
    let one = |effect| Some([Some(effect), None, None]);
    match instruction.mnemonic() {
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Nop | Mnemonic::Endbr64 => Some([None; 3]),
        Mnemonic::Push => one(Effect::Push {
            bytes: instruction.stack_pointer_increment().saturating_neg(),
            rbp: first == Some(REG_RBP),
        }),
        Mnemonic::Pop => {
            let register = match instruction.op0_kind() {
                OpKind::Register => general(instruction.op0_register().full_register()),
                _ => None,
            };
            let bytes = instruction.stack_pointer_increment();
            // The address counts from where `rsp` is then.
            let store = match instruction.op0_kind() {
                OpKind::Memory => store(instruction),
                _ => None,
            };
            let lost = (register == Some(REG_RSP)).then_some(Effect::Lose(1 << REG_RSP));
            Some([Some(Effect::Pop { register, bytes }), store, lost])
        }
        Mnemonic::Mov => {
            let memory = memory(instruction);
            match (first, second, memory) {
                (Some(to), Some(from), _) => one(Effect::Move { to, from, plus: 0 }),
                (Some(REG_RBP), None, Some((base, offset))) => {
                    one(Effect::LoadRbp { base, offset })
                }
                (None, Some(REG_RBP), Some((base, offset))) => {
                    one(Effect::SaveRbp { base, offset })
                }
                _ => None,
            }
        }
        Mnemonic::Lea => {
            let (from, plus) = memory(instruction)?;
            one(Effect::Move {
                to: first?,
                from,
                plus,
            })
        }
        Mnemonic::Add => one(add(first?, immediate(instruction)?)),
        Mnemonic::Sub => one(add(first?, immediate(instruction)?.checked_neg()?)),
        Mnemonic::Leave if instruction.code() == Code::Leaveq => Some([
            Some(Effect::Move {
                to: REG_RSP,
                from: REG_RBP,
                plus: 0,
            }),
            Some(Effect::Pop {
                register: Some(REG_RBP),
                bytes: 8,
            }),
            None,
        ]),
        Mnemonic::Enter
            if instruction.code() == Code::Enterq_imm16_imm8
                && instruction.immediate8_2nd() == 0 =>
        {
            Some([
                Some(Effect::Push {
                    bytes: 8,
                    rbp: true,
                }),
                Some(Effect::Move {
                    to: REG_RBP,
                    from: REG_RSP,
                    plus: 0,
                }),
                Some(add(REG_RSP, -i32::from(instruction.immediate16()))),
            ])
        }
        Mnemonic::Leave | Mnemonic::Enter => one(Effect::Forget),
        _ if is_system_call(instruction) || instruction.mnemonic() == Mnemonic::Int => {
            one(Effect::Lose(SYSTEM_CALL))
        }
        _ => None,
    }
}

fn add(register: u8, plus: i32) -> Effect {
    Effect::Move {
        to: register,
        from: register,
        plus,
    }
}

fn is_system_call(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Syscall
}

fn is_write(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

/// DWARF's number of a general register with all its 64 bits.
fn general(register: Register) -> Option<u8> {
    if !register.is_gpr64() {
        return None;
    }
    DWARF.get(register.number()).copied()
}

/// An operand that is a general register with all its 64 bits.
fn operand(instruction: &Instruction, number: u32) -> Option<u8> {
    if number >= instruction.op_count() || instruction.op_kind(number) != OpKind::Register {
        return None;
    }
    general(instruction.op_register(number))
}

/// An operand in memory that is at a number behind a register.
fn memory(instruction: &Instruction) -> Option<(u8, i32)> {
    if instruction.memory_index() != Register::None
        || matches!(instruction.memory_segment(), Register::FS | Register::GS)
    {
        return None;
    }
    let base = general(instruction.memory_base())?;
    let offset = i32::try_from(instruction.memory_displacement64() as i64).ok()?;
    Some((base, offset))
}

/// The second operand, a number.
fn immediate(instruction: &Instruction) -> Option<i32> {
    let number = instruction.try_immediate(1).ok()?;
    i32::try_from(number as i64).ok()
}

/// That the first operand is written, which is in memory.
fn store(instruction: &Instruction) -> Option<Effect> {
    let (base, offset) = memory(instruction)?;
    Some(Effect::Store {
        base,
        offset,
        bytes: instruction.memory_size().size() as i32,
    })
}
