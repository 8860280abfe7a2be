//! The variables of a frame: what they are called, which are arguments, and what they hold.

use std::collections::BTreeMap;

use profiler_common::mem::Memory;

use super::layout::PythonLayout;
use super::objects::{self, ObjectError};
use super::variable_layout::{VariableLayout, VariableNames};

/// Variables of a frame at most.
const MOST: u64 = 1 << 14;
/// Characters of a name at most.
const NAME_CHARS_MAX: usize = 1024;
/// `CO_VARARGS` (`Include/cpython/code.h`).
const VARARGS: u32 = 4;
/// `CO_VARKEYWORDS`.
const VARKEYWORDS: u32 = 8;
/// `CO_FAST_HIDDEN` (`Include/internal/pycore_code.h`, 3.12 on): a variable of an inlined
/// comprehension.
const HIDDEN: u8 = 0x10;
/// `CO_FAST_CELL` and `CO_FAST_FREE`, 3.11 on.
const IN_CELL: u8 = 0xc0;
/// What a value on the frame is tagged with from 3.14 on (`_PyStackRef`); objects are aligned.
const TAG: u64 = 3;

/// One variable that holds a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Address of its value.
    pub address: u64,
    /// It is an argument.
    pub is_argument: bool,
    /// Its value, as it is shown.
    pub repr: String,
}

/// One place on the frame.
struct Slot {
    name: String,
    /// Which argument it is.
    argument: Option<usize>,
    in_cell: bool,
    /// It is not the program's.
    hidden: bool,
}

/// Reads the variables of the frame at `frame`, which runs the code at `code`. Values are written in
/// some `max_repr` characters. Arguments come first, in their order.
///
/// # Errors
/// Where frame or code cannot be read, or hold what they cannot.
pub fn of_frame<M: Memory>(
    mem: &M,
    layout: &PythonLayout,
    variables: &VariableLayout,
    frame: u64,
    code: u64,
    max_repr: usize,
) -> Result<Vec<Variable>, ObjectError> {
    let objects = &layout.objects;
    let mut found = Vec::new();
    let mut arguments = BTreeMap::new();
    let first = frame.wrapping_add(variables.frame_variables);
    for (index, slot) in (0u64..).zip(slots(mem, layout, variables, code)?) {
        let mut address = mem.read_u64(first.wrapping_add(8 * index))? & !TAG;
        if slot.in_cell && address != 0 && objects::is_cell(mem, objects, address) {
            address = mem.read_u64(address.wrapping_add(variables.cell_value))?;
        }
        if address == 0 || slot.hidden {
            continue;
        }
        let variable = Variable {
            repr: objects::repr(mem, objects, variables, address, max_repr),
            name: slot.name,
            address,
            is_argument: slot.argument.is_some(),
        };
        match slot.argument {
            Some(argument) => {
                arguments.insert(argument, variable);
            }
            None => found.push(variable),
        }
    }
    Ok(arguments.into_values().chain(found).collect())
}

fn slots<M: Memory>(
    mem: &M,
    layout: &PythonLayout,
    variables: &VariableLayout,
    code: u64,
) -> Result<Vec<Slot>, ObjectError> {
    let int = |offset: u64| mem.read_u32(code.wrapping_add(offset));
    let flags = int(variables.code_flags)?;
    let arguments = u64::from(int(variables.code_arguments)?)
        + u64::from(int(variables.code_keyword_arguments)?)
        + u64::from(flags & VARARGS != 0)
        + u64::from(flags & VARKEYWORDS != 0);
    let arguments = arguments as usize;
    let names = |offset: u64| -> Result<Vec<String>, ObjectError> {
        let tuple = mem.read_u64(code.wrapping_add(offset))?;
        let items = objects::read_tuple(mem, &layout.objects, variables, tuple, MOST)?;
        let name = |item: u64| objects::read_str(mem, &layout.objects, item, NAME_CHARS_MAX);
        items.into_iter().map(name).collect()
    };
    match variables.code_names {
        VariableNames::Tuples {
            locals,
            cells,
            free,
        } => {
            let locals = names(locals)?;
            // An argument that a nested function uses is in a cell of the same name.
            let in_cells: Vec<_> = names(cells)?.into_iter().chain(names(free)?).collect();
            let in_cells = in_cells.into_iter().map(|name| Slot {
                argument: locals.iter().take(arguments).position(|of| *of == name),
                name,
                in_cell: true,
                hidden: false,
            });
            let in_cells: Vec<_> = in_cells.collect();
            let plain = locals
                .iter()
                .cloned()
                .enumerate()
                .map(|(index, name)| Slot {
                    name,
                    argument: (index < arguments).then_some(index),
                    in_cell: false,
                    hidden: false,
                });
            Ok(plain.chain(in_cells).collect())
        }
        VariableNames::One {
            names: all,
            kinds: kinds_at,
        } => {
            let kinds = mem.read_u64(code.wrapping_add(kinds_at))?;
            let kinds = objects::read_bytes(mem, &layout.objects, kinds, MOST as usize)?;
            let all = names(all)?.into_iter().enumerate();
            let slots = all.map(|(index, name)| {
                let kind = kinds.get(index).copied().unwrap_or(0);
                Slot {
                    name,
                    argument: (index < arguments).then_some(index),
                    in_cell: kind & IN_CELL != 0,
                    hidden: kind & HIDDEN != 0,
                }
            });
            Ok(slots.collect())
        }
    }
}
