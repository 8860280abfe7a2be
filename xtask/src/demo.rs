//! `cargo xtask demo`: four pictures of a bundled example service.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use crate::bench::python::Python;
use crate::run;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Interpreter of the service [default: python3].
    #[arg(long)]
    python: Option<PathBuf>,
    /// Seconds of each of the four recordings.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Directory of the pictures.
    #[arg(long, default_value = ".")]
    output_dir: PathBuf,
}

pub(crate) fn main(args: &Args) -> Result<()> {
    let python = Python::find(args.python.as_deref())?;
    let dir = std::path::absolute(&args.output_dir)
        .with_context(|| format!("no such directory: {}", args.output_dir.display()))?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let pyscry = run::build()?;
    let service = Service::start(&python)?;
    let on_cpu = dir.join("demo-on-cpu.svg");
    let off_cpu = dir.join("demo-off-cpu.svg");
    let wall = dir.join("demo-wall.svg");
    let native = dir.join("demo-native.svg");
    for (picture, options) in [
        (&on_cpu, &[][..]),
        (&off_cpu, &["--off-cpu"][..]),
        (&wall, &["--wall"][..]),
        (&native, &["--native"][..]),
    ] {
        let mut command = run::as_root(&pyscry)?;
        command
            .args(["record", "--pid"])
            .arg(service.0.id().to_string())
            .arg("--duration")
            .arg(args.seconds.to_string())
            .arg("--output")
            .arg(picture)
            .args(options);
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => bail!("pyscry ended with {status}"),
            Err(error) => bail!("{}", run::cannot_start(&command, &error)),
        }
    }
    println!("\nOpen in a browser:");
    println!("  where the CPU time goes  {}", on_cpu.display());
    println!("  where the threads wait   {}", off_cpu.display());
    println!("  all of the time          {}", wall.display());
    println!("  with native code         {}", native.display());
    println!(
        "In the second and third, price_of waits for a lock: refresh_prices holds it while it \
         sleeps in ask_supplier."
    );
    Ok(())
}

/// The service; it ends when this is dropped.
struct Service(Child);

impl Service {
    /// Starts it, and waits until it answers.
    fn start(python: &Python) -> Result<Self> {
        let mut child = python
            .program("service.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", python.exe.display()))?;
        let stdout = child.stdout.take();
        let service = Self(child);
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout)
                .read_line(&mut line)
                .context("cannot read what the service says")?;
        }
        if line.trim() != "ready" {
            bail!("the service did not start with Python {}", python.version);
        }
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The end of its standard input is what it ends at, with the second process.
        drop(self.0.stdin.take());
        let _reaped = self.0.wait();
    }
}
