//! Native code of a target: what is mapped where, the kernel's tables for it, and what it is later
//! named by.
//!
//! - [`AddressSpace`]: one state of a process's executable mappings.
//! - [`Modules`]: the files that were met, each kept open.
//! - [`Workers`]: compile tables, beside everything else.
//! - [`MapWatch`]: tells when a process maps code.
//! - [`NativeCode`]: brings them together for all processes.

mod address_space;
mod code;
mod descriptors;
mod generations;
mod look;
mod module;
mod trampoline;
mod watch;
mod workers;

pub use address_space::{AddressSpace, Area};
pub use code::{MappedCode, NativeCode, NativeStats};
pub use descriptors::allow_many;
pub(crate) use look::look;
pub use module::{Module, ModuleIndex, Modules, Source, TableState};
pub use watch::{MapWatch, Mapped, MappedFile};
pub use workers::{Built, Workers};
pub(crate) use workers::{kept_rows, rows_of};
