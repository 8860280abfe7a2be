//! The unwind over synthetic targets: tables against naive searches, every kind of rule, every way
//! to end, the places of Python frames, and garbage.

#![allow(clippy::unwrap_used, reason = "what a test built is there")]

#[path = "../support/mod.rs"]
mod support;

mod anchor;
mod ends;
mod garbage;
mod registers;
mod rules;
mod segments;
mod tables;
