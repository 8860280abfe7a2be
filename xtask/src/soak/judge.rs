//! Whether a recorder takes no more of anything with time, and has counted everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Started;
use super::take::Take;

/// What the command line of a short process ends with.
const SHORT: &str = "soak.py short\"";
/// As pyscry samples when nobody says how often.
const RATE: f64 = 99.0;
/// The share of short processes that may be without a sample: a short one uses three periods of CPU time
/// or more, and of moments that are as good as random (on CPUs that it shares) none falls into three
/// periods once in e^3 = 20 times.
const WITHOUT: f64 = 0.05;
/// Of processes that ended, so many are kept apart: until then, each takes some memory.
const KEPT_APART: u32 = 4096;
/// What each of them may take, with its stacks, bytes.
const EACH: u64 = 8 << 10;
/// What memory may differ by because of when it was looked at, bytes, and of what it is.
const NOISE: u64 = 2 << 20;
const SHARE: f64 = 0.03;

/// What there is a number of.
type Count = fn(&Take) -> u64;

/// Lines of the table.
const LINES: usize = 20;

/// What it took, by time.
pub(super) fn table(takes: &[Take]) -> String {
    let mut text = format!(
        "{:>8}  {:>9}  {:>9}  {:>5}  {:>5}  {:>7}  {:>8}  {:>9}\n",
        "seconds", "memory", "maps", "maps", "fds", "threads", "CPU", "processes"
    );
    let every = takes.len().div_ceil(LINES).max(1);
    let mut before = Take::default();
    for take in takes.iter().skip(every - 1).step_by(every) {
        let passed = (take.at - before.at).as_secs_f64();
        // Writing to a string does not fail.
        let _infallible = writeln!(
            text,
            "{:8.0}  {:6.1} MB  {:6.1} MB  {:5}  {:5}  {:7}  {:6.2} %  {:9}",
            take.at.as_secs_f64(),
            take.memory as f64 / 1e6,
            take.maps_memory as f64 / 1e6,
            take.maps,
            take.descriptors,
            take.threads,
            (take.cpu - before.cpu) / passed * 100.0,
            take.started,
        );
        before = *take;
    }
    text
}

/// Compares the last quarter with the third.
pub(super) fn flat(takes: &[Take]) -> Result<()> {
    let (third, last) = quarters(takes).context("too short a time")?;
    let most = |takes: &[Take], of: Count| takes.iter().map(of).max().unwrap_or(0);
    let least = |takes: &[Take], of: Count| takes.iter().map(of).min().unwrap_or(0);
    // These come and go with the processes there are: even the fewest of the end would be more than
    // the most before if they only came.
    let counts: [(&str, Count); 3] = [
        ("descriptors", |take| take.descriptors),
        ("maps", |take| take.maps),
        ("threads", |take| take.threads),
    ];
    for (what, of) in counts {
        let (before, after) = (most(third, of), least(last, of));
        ensure!(
            after <= before,
            "{what}: {before} at most, later {after} at least"
        );
    }
    let maps = |takes: &[Take]| most(takes, |take| take.maps_memory);
    ensure!(
        maps(last) <= maps(third),
        "memory of maps: {} bytes, later {}",
        maps(third),
        maps(last)
    );
    let slope = slope(&[third, last].concat());
    let begin = third.first().map_or(0, |take| take.started);
    let end = last.last().map_or(0, |take| take.started);
    let kept = KEPT_APART.saturating_sub(begin).min(end - begin);
    let mean = slope.mean;
    let allowed = NOISE as f64 + SHARE * mean + (u64::from(kept) * EACH) as f64;
    println!(
        "memory in the second half: {:.1} MB, {:+.2} MB in it, {:.2} MB allowed ({kept} processes kept)",
        mean / 1e6,
        slope.growth / 1e6,
        allowed / 1e6
    );
    ensure!(slope.growth <= allowed, "memory grows");
    Ok(())
}

fn quarters(takes: &[Take]) -> Option<(&[Take], &[Take])> {
    let quarter = takes.len() / 4;
    let (_, second) = takes.split_at(takes.len() - 2 * quarter);
    (quarter >= 4).then(|| second.split_at(quarter))
}

/// A straight line through the memory, by least squares.
struct Slope {
    mean: f64,
    /// From the first to the last.
    growth: f64,
}

fn slope(takes: &[Take]) -> Slope {
    let count = takes.len() as f64;
    let mean = |of: fn(&Take) -> f64| takes.iter().map(of).sum::<f64>() / count;
    let at = mean(|take| take.at.as_secs_f64());
    let memory = mean(|take| take.memory as f64);
    let (mut above, mut below) = (0.0, 0.0);
    for take in takes {
        let from = take.at.as_secs_f64() - at;
        above += from * (take.memory as f64 - memory);
        below += from * from;
    }
    let ends = takes.first().zip(takes.last());
    let span = ends.map_or(0.0, |(first, last)| (last.at - first.at).as_secs_f64());
    Slope {
        mean: memory,
        growth: above / below * span,
    }
}

/// What pyscry said and wrote.
#[derive(Debug)]
pub(super) struct Said {
    /// Processes that were recorded.
    processes: u64,
    /// Processes in the profile, by number, and whether one of them is called as the short ones are;
    /// nothing where some are kept together.
    shown: Option<BTreeMap<u32, bool>>,
    /// Samples in the profile.
    total: u64,
    /// Those by the summary.
    samples: u64,
    /// Counters that the summary names.
    counters: BTreeMap<String, u64>,
}

impl Said {
    pub(super) fn of(stderr: &str, folded: &str) -> Result<Self> {
        let line = |start: &str| {
            let found = stderr.lines().find_map(|line| line.strip_prefix(start));
            found.with_context(|| format!("no line {start:?}"))
        };
        let mut total = 0;
        let mut shown: BTreeMap<u32, bool> = BTreeMap::new();
        let mut together = false;
        for line in folded.lines() {
            let (stack, weight) = line.rsplit_once(' ').context("no folded stack")?;
            total += weight.parse::<u64>()?;
            let process = stack.split(';').next().unwrap_or(stack);
            together |= process.starts_with("ended ");
            if let Some(numbered) = process.strip_prefix("process ") {
                let pid = numbered.split(':').next().unwrap_or(numbered);
                *shown.entry(pid.parse()?).or_default() |= process.contains(SHORT);
            }
        }
        let number = |text: &str| {
            let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<u64>().context("no number")
        };
        let counters = stderr.lines().filter_map(|line| {
            let (head, value) = line.split_once(" = ")?;
            let name = head.rsplit(' ').next()?;
            Some((name.to_owned(), number(value).ok()?))
        });
        Ok(Self {
            processes: number(line("Recorded ")?)?,
            shown: (!together).then_some(shown),
            total,
            samples: number(line("Samples: ")?)?,
            counters: counters.collect(),
        })
    }

    fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// Samples are those of the machine's time, and programs those that were started.
    pub(super) fn adds_up(
        &self,
        started: &Started,
        took: Duration,
        [busy, stolen]: [f64; 2],
    ) -> Result<()> {
        let cpus = std::thread::available_parallelism()?.get() as f64;
        let lost = self.counter("samples_lost") + self.counter("processes_unknown");
        let time = (self.total + lost) as f64 / RATE;
        let points_of = |time: f64| time / (took.as_secs_f64() * cpus) * 100.0;
        let (points, taken) = (points_of(time - busy), points_of(stolen));
        println!(
            "{} programs started, {} seen; the machine was busy for {busy:.1} s, \
             samples are {time:.1} s, {points:+.2} points of the machine, \
             a hypervisor took {taken:.2}; {lost} lost",
            started.programs, self.processes
        );
        ensure!(
            self.total == self.samples,
            "{} samples by the summary, {} in the profile",
            self.samples,
            self.total
        );
        ensure!(
            (-5.0..=5.0 + taken).contains(&points),
            "samples and time do not agree"
        );
        let told = self.counter("processes_unknown") + self.counter("lifecycle_lost");
        ensure!(
            self.processes + told >= started.programs,
            "{} programs started, {} seen, {told} counted as not seen",
            started.programs,
            self.processes
        );
        let Some(shown) = &self.shown else {
            return Ok(());
        };
        let of = |named: Option<bool>| {
            let pids = started.short.iter();
            pids.filter(|pid| shown.get(pid).copied() == named).count() as u64
        };
        let (otherwise, without) = (of(Some(false)), of(None));
        let unnamed = self.counter("processes_unnamed");
        println!(
            "short processes: {}, {without} without a sample, {otherwise} called otherwise, {unnamed} \
             programs counted as without a name",
            started.short.len()
        );
        ensure!(
            otherwise <= unnamed,
            "{otherwise} processes are called otherwise, {unnamed} are counted"
        );
        // What has no name may be a sample of `(ended)`.
        ensure!(
            (without.saturating_sub(unnamed) as f64) <= WITHOUT * started.short.len() as f64,
            "{without} processes without a sample"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(memory: impl Fn(u64) -> u64) -> Vec<Take> {
        let take = |at: u64| Take {
            at: Duration::from_secs(at),
            memory: memory(at),
            maps_memory: 1 << 20,
            maps: 20,
            descriptors: 40 + at % 3,
            threads: 5,
            ..Take::default()
        };
        (0..100).map(take).collect()
    }

    #[test]
    fn memory_that_grows_is_found() {
        assert!(flat(&takes(|at| (50 << 20) + (at % 7) * (1 << 18))).is_ok());
        assert!(flat(&takes(|at| (50 << 20) + at * (200 << 10))).is_err());
        assert!(flat(&takes(|at| 50 << 20 | at.min(50) << 20)).is_ok());
    }

    #[test]
    fn descriptors_that_stay_open_are_found() {
        let mut takes = takes(|_| 50 << 20);
        for take in &mut takes {
            take.descriptors = take.at.as_secs() * 2;
        }
        assert!(flat(&takes).is_err());
    }

    #[test]
    fn programs_that_were_not_seen_are_found() {
        let said = |seen: u64, named: bool, unnamed: u64| Said {
            processes: seen,
            shown: Some((1..=100).map(|pid| (pid, named || pid > 1)).collect()),
            total: 0,
            samples: 0,
            counters: BTreeMap::from([("processes_unnamed".to_owned(), unnamed)]),
        };
        let judge = |said: Said, short: u32| {
            let started = Started {
                short: (1..=short).collect(),
                programs: 120,
            };
            said.adds_up(&started, Duration::from_secs(1), [0.0; 2])
        };
        assert!(judge(said(120, true, 0), 104).is_ok());
        assert!(judge(said(119, true, 0), 104).is_err());
        assert!(judge(said(120, true, 0), 110).is_err());
        assert!(judge(said(120, false, 0), 100).is_err());
        assert!(judge(said(120, false, 1), 100).is_ok());
    }

    #[test]
    fn what_is_said_is_read() {
        let stderr = "Recorded 335 processes for 14.5 s, until SIGTERM.\n\
                      Samples: 7. Lost: 0. Truncated: 0.\n\
                      Missing: samples_lost = 3. On-CPU samples.\n";
        let said = Said::of(
            stderr,
            "process 1:\"a soak.py short\";f (a.py:1) 5\ncommand x 2\n",
        );
        let said = said.expect("a summary");
        assert_eq!((said.processes, said.total, said.samples), (335, 7, 7));
        assert_eq!(said.shown, Some(BTreeMap::from([(1, true)])));
        assert_eq!(said.counter("samples_lost"), 3);
    }
}
