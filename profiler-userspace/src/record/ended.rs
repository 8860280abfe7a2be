//! What is kept of processes that have ended: as much as can be shown of each, and of so many that a
//! recording of any length stays within bounds. The others are kept together, by command line.

use std::collections::{BTreeMap, HashMap};

use super::collector::Collector;
use super::names::ThreadNames;
use super::processes::{Known, ProcessId, Processes};

/// Processes that have ended and are kept apart, at most; when there are twice as many, those with
/// the least weight are put together.
const MOST_APART: usize = 2048;

/// Processes that have ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    apart: Vec<ProcessId>,
    /// Those that are kept together, by command line.
    together: HashMap<String, ProcessId>,
}

impl Ended {
    /// A process has ended, or executes another program, and nothing more comes of it.
    pub(super) fn add(
        &mut self,
        id: ProcessId,
        processes: &mut Processes,
        collector: &mut Collector,
        names: &mut ThreadNames,
    ) {
        if collector.settle(id) {
            self.apart.push(id);
        } else {
            collector.forget(id);
            processes.free(id);
        }
        if self.apart.len() >= 2 * MOST_APART {
            self.put_together(processes, collector, names);
        }
    }

    fn put_together(
        &mut self,
        processes: &mut Processes,
        collector: &mut Collector,
        names: &mut ThreadNames,
    ) {
        let weight = |id: &ProcessId| std::cmp::Reverse(collector.profile.total_of(*id));
        self.apart.sort_by_cached_key(weight);
        let mut moves = BTreeMap::new();
        for id in self.apart.drain(MOST_APART..) {
            let Some(known) = processes.known(id).cloned() else {
                continue;
            };
            let command = known.identity.command.clone();
            let to = match self.together.get(&command) {
                Some(to) => *to,
                None => {
                    let to = processes.put_together(known);
                    self.together.insert(command, to);
                    to
                }
            };
            moves.insert(id, to);
        }
        collector.profile.put_together(&moves);
        collector.stacks.put_together(&moves);
        collector.accounts.put_together(&moves);
        names.forget(|process| moves.contains_key(&process));
        // Only now: a number that is used again must not be one that is moved away.
        for id in moves.into_keys() {
            collector.forget(id);
            processes.free(id);
        }
    }
}

impl Known {
    /// Several processes that have ended, instead of one of them.
    pub(super) fn together(mut self) -> Self {
        self.identity.pid = 0;
        self.identity.inner_pid = None;
        self.running = false;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::identity::Identity;
    use crate::record::collector::Keep;
    use crate::record::processes::Role;
    use crate::record::profile::{Doing, Key, Unit};
    use crate::record::target::Target;

    #[test]
    fn many_that_ended_are_kept_together_and_nothing_is_lost() {
        let mut processes = Processes::default();
        let mut collector = Collector::new(Keep {
            unit: Unit::Samples,
            threads: false,
            waits: false,
            wakers: false,
            names: false,
            follows: false,
        });
        let mut names = ThreadNames::default();
        let mut ended = Ended::default();
        let all = 5 * MOST_APART as u32;
        for pid in 1..=all {
            let identity = Identity {
                command: format!("job {}", pid % 3),
                ..Identity::unknown(pid)
            };
            let id = processes.add(identity, Target::new(pid, 1), Role::Found);
            // Every tenth was never sampled, every hundredth most.
            let samples = match pid {
                pid if pid % 10 == 0 && pid % 100 != 0 => 0,
                pid if pid % 100 == 0 => 50,
                _ => 1,
            };
            for _ in 0..samples {
                collector.profile.sample(Key {
                    process: id,
                    tid: 0,
                    stack: 1000 + u64::from(pid),
                    doing: Doing::OnCpu,
                    holds_gil: false,
                });
            }
            processes.forget(pid);
            ended.add(id, &mut processes, &mut collector, &mut names);
        }
        assert_eq!(
            collector.profile.total(),
            u64::from(all) * 9 / 10 + u64::from(all) / 100 * 50
        );
        assert_eq!(processes.count(), u64::from(all));
        let kept: Vec<_> = processes.all().collect();
        assert!(kept.len() < 2 * MOST_APART + 3, "{}", kept.len());
        let of = |pid: u32| kept.iter().find(|(_, known)| known.identity.pid == pid);
        let (most, _) = of(100).expect("the one with most weight is itself");
        assert_eq!(collector.profile.total_of(*most), 50);
        let together = kept.iter().filter(|(_, known)| known.identity.pid == 0);
        let mut names: Vec<_> = together
            .map(|(_, known)| known.identity.command.clone())
            .collect();
        names.sort();
        assert_eq!(names, ["job 0", "job 1", "job 2"]);
    }
}
