//! Runs a kernel in QEMU and reads its console.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::emulator::Emulator;

/// Lines of the console that are shown when something failed.
const TAIL: usize = 40;

/// The console, each line with its time since the start.
#[derive(Debug)]
pub(crate) struct Run {
    /// What was said, and when.
    pub(crate) lines: Vec<(Duration, String)>,
    /// From start to end.
    pub(crate) total: Duration,
}

impl Run {
    /// The last lines.
    pub(crate) fn tail(&self) -> String {
        let from = self.lines.len().saturating_sub(TAIL);
        let lines: Vec<_> = self.lines[from..]
            .iter()
            .map(|(_, line)| format!("    {line}"))
            .collect();
        lines.join("\n")
    }
}

/// Boots, and waits for the end: at most `limit`.
pub(crate) fn run(
    emulator: &Emulator,
    vmlinuz: &Path,
    initramfs: &Path,
    limit: Duration,
    verbose: bool,
) -> Result<Run> {
    let start = Instant::now();
    let mut child = start_qemu(emulator, vmlinuz, initramfs)?;
    let console = child.stdout.take().context("QEMU has no output")?;
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line)
                .trim_end_matches('\r')
                .to_owned();
            if sender.send((start.elapsed(), line)).is_err() {
                break;
            }
        }
    });

    let mut run = Run {
        lines: Vec::new(),
        total: Duration::ZERO,
    };
    let ended = loop {
        match receiver.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok((time, line)) => {
                if verbose {
                    eprintln!("{:7.2}  {line}", time.as_secs_f64());
                }
                run.lines.push((time, line));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => break false,
            Err(mpsc::RecvTimeoutError::Disconnected) => break true,
        }
    };
    if !ended {
        child.kill().context("cannot end QEMU")?;
    }
    let status = child.wait().context("QEMU's end was missed")?;
    // It ends with the other end of its pipe.
    let _ = reader.join();
    run.total = start.elapsed();
    if !ended {
        bail!(
            "hangs: ended after {} s. The end of the console:\n{}",
            limit.as_secs(),
            run.tail()
        );
    }
    if !status.success() {
        bail!(
            "QEMU ended with {status}. The end of the console:\n{}",
            run.tail()
        );
    }
    Ok(run)
}

fn start_qemu(emulator: &Emulator, vmlinuz: &Path, initramfs: &Path) -> Result<Child> {
    emulator
        .command()
        .args(["-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"])
        // Without rdrand, a kernel takes seconds to gather the random numbers that a Python needs.
        // With cx16, kernels from 6.x on use cmpxchg16b to allocate memory, of which QEMU 7.2
        // spoils the flags now and then on a busy host: the guest oopses in kmalloc.
        .args(["-cpu", "qemu64,+rdrand,-cx16"])
        .args([
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ])
        .args(["-append", "console=ttyS0 quiet panic=-1 mitigations=off"])
        .arg("-kernel")
        .arg(vmlinuz)
        .arg("-initrd")
        .arg(initramfs)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run qemu-system-x86_64")
}
