//! The project's own commands: `cargo xtask --help`.

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod debian;
mod demo;
mod ebpf;
mod made_once;
mod numpy;
mod pip;
mod pythons;
mod readers;
mod run;
mod soak;
mod test;
mod tools;
mod vm;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build pyscry, get the privileges it needs, and run it with the arguments given.
    Run(run::Args),
    /// Record a bundled example service on- and off-CPU, and say where the two pictures are.
    Demo(demo::Args),
    /// Run every test; brings up the interpreters that the tests need.
    Test(test::Args),
    /// Rebuild the committed BPF object.
    Ebpf(ebpf::Args),
    /// Boot kernels in QEMU, load every program there and profile a Python of that guest.
    Vm(vm::Args),
    /// Record for a long time while programs come and go: nothing may grow.
    Soak(soak::Args),
    /// Measure cost and truth, side by side with py-spy.
    Bench(bench::Args),
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Run(args) => run::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Test(args) => test::main(&args),
        Command::Ebpf(args) => ebpf::main(&args),
        Command::Vm(args) => vm::main(&args),
        Command::Soak(args) => soak::main(&args),
        Command::Bench(args) => bench::main(&args),
    }
}
