//! What the running kernel is and can do.

pub mod btf;
pub mod offsets;
pub mod stolen;

pub use offsets::KernelOffsets;
pub use offsets::SwitchForm;
