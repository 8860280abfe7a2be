//! `pyscry report`: any format from a recording file.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use super::args::{Format, ReportArgs};
use super::outputs::{self, Picture, Sums};
use super::record::usage;
use super::{choice, say};
use crate::journal::read::{Contents, read};
use crate::journal::view::{Choice, subject, view};
use crate::output::from_view;
use crate::output::text::one_line;
use crate::output::weights::Weights;

/// Runs the subcommand.
///
/// # Errors
/// One line that says what is wrong and, where something helps, what.
pub fn main(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let path = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("cannot open {path}"))?;
    let mut contents = read(BufReader::new(file)).with_context(|| format!("cannot read {path}"))?;
    if let Some(note) = incomplete(&contents) {
        say::message(&note);
    }
    if args.summary {
        match &contents.end {
            Some(end) => say::message(end.summary.trim_end()),
            None => bail!("{path} has no summary, since it did not come to its end"),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let default = |extension: &str| beside(&args.file, extension);
    let plan = match outputs::plan(&args.output.formats, &args.output.files, default) {
        Ok(plan) => plan,
        Err(error) => return Ok(usage(&error)),
    };
    if plan.iter().any(|(format, _)| *format == Format::Pyscry) {
        bail!("{path} is a recording already: choose another format");
    }
    let roots = match choice::report_groups(args, &contents.about.groups) {
        Ok(roots) => roots,
        Err(error) => return Ok(usage(&error)),
    };
    cut(&mut contents, args.from, args.to);
    let mut outputs = outputs::open(plan)?;
    let about = &contents.about;
    let choice = Choice {
        only_gil: args.gil,
        wakers: args.wakers,
        naming: args.output.naming.naming(),
        roots,
    };
    let weights = match (about.waits, about.rate) {
        (true, Some(rate)) if args.idle => Weights::AsSamples(rate),
        (true, _) => Weights::Microseconds,
        (false, _) => Weights::Samples,
    };
    let subtitle = match &contents.end {
        Some(end) => end.subtitle.clone(),
        None => "a recording that did not come to its end".to_owned(),
    };
    let picture = Picture {
        title: &one_line(&about.title),
        subtitle: &one_line(&subtitle),
        subject: subject(&contents),
    };
    let sums = outputs::write_sums(&mut outputs, &picture, || {
        let rooted = view(&contents, &choice);
        Sums {
            lines: weights.show(from_view::folded(&rooted)),
            kinds: from_view::kinds(&rooted),
        }
    });
    let times = outputs::write_times(&mut outputs, || {
        // Processes and threads are told apart there in their own ways.
        let choice = Choice {
            roots: Vec::new(),
            ..choice.clone()
        };
        Ok(view(&contents, &choice))
    });
    sums.and(times)?;
    let summary = contents.end.as_ref().map_or("", |end| &end.summary);
    say::message(&format!("{summary}{}", outputs::said(&outputs)));
    Ok(ExitCode::SUCCESS)
}

/// What is to be known of a recording that is not whole.
fn incomplete(contents: &Contents) -> Option<String> {
    if contents.end.is_some() {
        return None;
    }
    let cut = match contents.cut_off {
        0 => String::new(),
        bytes => format!(" {bytes} bytes at its end cannot be read."),
    };
    Some(format!(
        "This recording did not come to its end: it has what was written until then, without \
         counters, and without native frames that had no name yet.{cut}"
    ))
}

/// The recording's name with another end.
fn beside(path: &Path, extension: &str) -> std::path::PathBuf {
    path.with_extension(extension)
}

/// Leaves out what happened before and after; what goes over an end is cut there.
fn cut(contents: &mut Contents, from: Option<Duration>, to: Option<Duration>) {
    let began_ns = contents.about.began_ns;
    let moment = |time: Duration| began_ns.saturating_add(time.as_nanos() as u64);
    let from_ns = from.map_or(0, moment);
    let to_ns = to.map_or(u64::MAX, moment);
    if from.is_none() && to.is_none() {
        return;
    }
    let all = samples(contents);
    contents.events.retain_mut(|event| {
        let Some(wait) = &mut event.wait else {
            return (from_ns..to_ns).contains(&event.at_ns);
        };
        let until_ns = event.at_ns.saturating_add(wait.ns);
        let (begin, end) = (event.at_ns.max(from_ns), until_ns.min(to_ns));
        wait.ns = end.saturating_sub(begin);
        event.at_ns = begin;
        wait.ns != 0
    });
    // Of the time of a thread on the CPUs, what its samples in the window stand for; where it has
    // none at all, the part of the time.
    let inside = samples(contents);
    let last = contents.events.iter().map(|event| event.at_ns).max();
    let end_ns = match &contents.end {
        Some(end) => began_ns.saturating_add(end.duration_ns),
        None => last.unwrap_or(began_ns),
    };
    let window_ns = to_ns.min(end_ns).saturating_sub(from_ns.max(began_ns));
    let whole_ns = end_ns.saturating_sub(began_ns).max(1);
    for (number, thread) in &mut contents.threads {
        let (left, before) = match all.get(number) {
            Some(all) => (inside.get(number).copied().unwrap_or(0), *all),
            None => (window_ns, whole_ns),
        };
        thread.on_cpu_ns = thread
            .on_cpu_ns
            .map(|ns| (u128::from(ns) * u128::from(left) / u128::from(before)) as u64);
    }
}

/// How many samples each thread has.
fn samples(contents: &Contents) -> HashMap<u32, u64> {
    let mut samples: HashMap<u32, u64> = HashMap::new();
    for event in &contents.events {
        if let (None, Some(thread)) = (event.wait, event.thread) {
            *samples.entry(thread).or_default() += 1;
        }
    }
    samples
}
