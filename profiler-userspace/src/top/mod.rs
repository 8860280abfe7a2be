//! A live view of a recording: which functions take the time now, and which did so far.
//!
//! [`gather`] looks at the recording on its thread and sends what changed, a [`reading`], to the view
//! on the main thread. There, [`store`] adds it up, [`rows`] makes tables of it, [`model`] is what is
//! shown and what each key does to that, [`draw`] puts it on a screen, [`save`] into a file.
//! [`terminal`] has the screen and gives it back, whatever happens; [`keys`] hears what is typed,
//! [`signals`] what else happens; [`view`] drives.

pub mod draw;
#[cfg(test)]
mod examples;
pub mod gather;
mod help;
pub mod keys;
pub mod label;
pub mod model;
pub mod reading;
pub mod rows;
pub mod save;
pub mod signals;
pub mod store;
pub mod terminal;
pub mod view;
