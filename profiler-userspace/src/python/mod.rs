//! CPython from outside: which version, where its structures are, what its objects say.

pub mod catalog;
pub mod code;
mod code_count;
pub mod code_pool;
pub mod debug_offsets;
pub mod eval_loop;
pub mod inspect;
pub mod layout;
pub mod locate;
pub mod objects;
mod sent_code;
pub mod short_file;
pub mod tables;
pub mod thread_names;
pub mod thread_pointers;
pub mod threads;
pub mod tstate_path;
pub mod variable_layout;
pub mod variables;
pub mod version;

pub use inspect::InspectError;
pub use inspect::Python;
pub use version::Version;
