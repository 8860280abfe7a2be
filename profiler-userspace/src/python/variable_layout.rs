//! Where variables are: offsets that only a look at the values of a frame needs. A test compares every
//! number with the DWARF of real builds (`tests/tests/layouts.rs`).

use super::layout::PythonLayout;

/// Offsets in bytes, each from the start of its structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariableLayout {
    /// `PyInterpreterState.id`.
    pub interp_id: u64,
    /// Frame: its variables, `f_localsplus`, `localsplus` from 3.11 on.
    pub frame_variables: u64,
    /// Code: `co_argcount`.
    pub code_arguments: u64,
    /// Code: `co_kwonlyargcount`.
    pub code_keyword_arguments: u64,
    /// Code: `co_flags`.
    pub code_flags: u64,
    /// Code: what the variables are called.
    pub code_names: VariableNames,
    /// `PyListObject`: the pointer to its items, behind their number.
    pub list_items: u64,
    /// Any object of variable size: how many parts it has.
    pub var_size: u64,
    /// `PyTupleObject.ob_item`.
    pub tuple_items: u64,
    /// `PyFloatObject.ob_fval`, and the value of a numpy scalar (`PyArrayScalar_VAL` in numpy's
    /// `arrayscalars.h`).
    pub scalar_value: u64,
    /// `PyCellObject.ob_ref`.
    pub cell_value: u64,
}

/// Where a code object says what its frame's variables are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariableNames {
    /// Three tuples, up to 3.10; their variables follow one another.
    Tuples {
        /// `co_varnames`.
        locals: u64,
        /// `co_cellvars`.
        cells: u64,
        /// `co_freevars`.
        free: u64,
    },
    /// `co_localsplusnames`, behind which lies `co_localspluskinds`, from 3.11 on.
    One {
        /// `co_localsplusnames`.
        names: u64,
        /// `co_localspluskinds`.
        kinds: u64,
    },
}

impl VariableLayout {
    /// Of a build with the layout `of`; `None` for a version that is not known.
    ///
    /// From `Include/cpython/code.h`, `frameobject.h` (up to 3.8 in `Include/`), `listobject.h`,
    /// `tupleobject.h`, `cellobject.h`, `Include/internal/pycore_frame.h` and `pycore_interp.h`.
    #[must_use]
    pub fn of(of: &PythonLayout) -> Option<Self> {
        let minor = of.objects.minor;
        let interp_id = match minor {
            8 => 0x10,
            9 | 10 => 0x18,
            11 => 0x30,
            12 => 0x8,
            13 | 15 => 0x1c68,
            14 => 0x1c70,
            _ => return None,
        };
        let frame_variables = match minor {
            8 | 9 => 0x168,
            10 => 0x160,
            11..=13 => 0x48,
            _ => 0x50,
        };
        let (code_arguments, code_keyword_arguments, code_flags) = match minor {
            ..=10 => (0x10, 0x18, 0x24),
            11 => (0x38, 0x40, 0x30),
            _ => (0x34, 0x3c, 0x30),
        };
        let code_names = match minor {
            ..=10 => VariableNames::Tuples {
                locals: 0x48,
                cells: 0x58,
                free: 0x50,
            },
            _ => VariableNames::One {
                names: 0x60,
                kinds: 0x68,
            },
        };
        Some(Self {
            interp_id,
            frame_variables,
            code_arguments,
            code_keyword_arguments,
            code_flags,
            code_names,
            list_items: 24,
            var_size: 16,
            // `PyTupleObject` keeps its hash from 3.14 on.
            tuple_items: if minor <= 13 { 24 } else { 32 },
            scalar_value: 16,
            cell_value: 16,
        })
    }
}
