//! What the unwind rows of ELF files come to, and how long they take:
//! `cargo run --release --example unwind_rows -- FILE...`

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use profiler_common::unwind::Rule;
use pyscry::elf::ElfImage;
use pyscry::unwind::{Disk, Table, compile};

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("pyscry-rows-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let outcome = measure(&Disk::new(&directory));
    std::fs::remove_dir_all(&directory)?;
    outcome
}

fn measure(disk: &Disk) -> Result<()> {
    println!("   rows functions analyzed unsupported rules  table bytes  compile  pack  load (ms)");
    let mut all = [Duration::ZERO; 3];
    for path in std::env::args_os().skip(1) {
        let path = Path::new(&path);
        let began = Instant::now();
        let image = ElfImage::open(path)?;
        let elf = image.parse()?;
        let rows = compile(&elf).with_context(|| path.display().to_string())?;
        let compiled = began.elapsed();

        let began = Instant::now();
        let mut numbers: HashMap<Rule, u16> = HashMap::new();
        let table = Table::pack(&rows.rows, |rule| {
            let next = u16::try_from(numbers.len() + 1).ok()?;
            Some(*numbers.entry(*rule).or_insert(next))
        })?;
        let packed = began.elapsed();

        let id = elf.build_id().unwrap_or(b"no build id");
        disk.store(id, &rows)?;
        let began = Instant::now();
        let found = disk.load(id);
        let loaded = began.elapsed();
        anyhow::ensure!(found.as_ref() == Some(&rows), "not what was stored");

        let stats = rows.stats;
        println!(
            "{:7} {:9} {:8} {:11} {:5} {:12}  {:7.1} {:5.1} {:5.1}  {}",
            stats.rows,
            stats.functions,
            stats.analyzed,
            stats.unsupported,
            numbers.len(),
            4 * table.words.len(),
            milliseconds(compiled),
            milliseconds(packed),
            milliseconds(loaded),
            path.display(),
        );
        for (sum, time) in all.iter_mut().zip([compiled, packed, loaded]) {
            *sum += time;
        }
    }
    let [compiled, packed, loaded] = all.map(milliseconds);
    println!("{:59} {compiled:7.1} {packed:5.1} {loaded:5.1}", "");
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
