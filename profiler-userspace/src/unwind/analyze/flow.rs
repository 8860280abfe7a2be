//! What is known at each instruction of a function: what all the ways to it agree on.

use super::code::{Code, Distrust, Does, Step};
use super::state::State;

/// What is known in a function.
#[derive(Debug)]
pub(super) struct Known {
    code: Code,
    /// What is known at each leader.
    states: Vec<Option<State>>,
    /// Where each leader's steps begin in `code.steps`.
    first: Vec<usize>,
}

impl Known {
    /// Follows the code from its start, and from `unknown`, places that are come to nobody knows
    /// how. That ends: of the 18 things that may be known at a leader, each time that it is come
    /// to again there is one less.
    pub(super) fn new(code: Code, unknown: &[u32]) -> Self {
        let first = code
            .leaders
            .iter()
            .map(|leader| code.steps.partition_point(|step| step.at < *leader))
            .collect();
        let mut known = Self {
            states: vec![None; code.leaders.len()],
            first,
            code,
        };
        let mut open = Vec::new();
        known.come(0, &State::ENTRY, &mut open);
        for place in unknown {
            known.come(*place, &State::LOST, &mut open);
        }
        for place in std::mem::take(&mut known.code.called) {
            known.come(place, &State::LOST, &mut open);
        }
        while let Some(leader) = open.pop() {
            known.follow(leader, &mut open);
        }
        known
    }

    /// Execution comes to a place with what is known before. Where that is news, what follows it
    /// is still to be looked at.
    fn come(&mut self, place: u32, state: &State, open: &mut Vec<usize>) {
        let Ok(leader) = self.code.leaders.binary_search(&place) else {
            return;
        };
        let is_news = match self.states.get_mut(leader) {
            Some(Some(known)) => known.meet(state),
            Some(unknown) => {
                *unknown = Some(state.clone());
                true
            }
            None => false,
        };
        if is_news {
            open.push(leader);
        }
    }

    /// Follows a leader's instructions.
    fn follow(&mut self, leader: usize, open: &mut Vec<usize>) {
        let Some(mut state) = self.states.get(leader).cloned().flatten() else {
            return;
        };
        let (mut at, behind) = self.steps(leader);
        while at < behind
            && let Some(step) = self.code.steps.get(at).copied()
        {
            match step.does {
                Does::Effect(effect) => state.apply(effect),
                Does::Go { to, always } => {
                    self.come(to, &state, open);
                    if always {
                        return;
                    }
                }
                Does::Leave { always: false, .. } => {}
                Does::Leave { .. } | Does::Return | Does::Stop => return,
            }
            at += 1;
        }
        if let Some(next) = self.code.leaders.get(leader + 1).copied() {
            self.come(next, &state, open);
        }
    }

    /// The range of a leader's steps.
    fn steps(&self, leader: usize) -> (usize, usize) {
        let at = |leader: usize| self.first.get(leader).copied();
        let all = self.code.steps.len();
        (at(leader).unwrap_or(all), at(leader + 1).unwrap_or(all))
    }

    /// Tells what is known from which place on, in order; of two at one place the later one counts.
    /// Returns where execution leaves the function otherwise than to begin another one as if its
    /// caller had called it, and where that is called which is not known to be a function.
    pub(super) fn tell(
        &self,
        mut each: impl FnMut(u32, Option<&State>),
    ) -> Result<Vec<u64>, Distrust> {
        let mut exits = self.code.called_elsewhere.clone();
        for (number, (leader, state)) in self.code.leaders.iter().zip(&self.states).enumerate() {
            let mut state = state.clone();
            each(*leader, state.as_ref());
            let (first, behind) = self.steps(number);
            for step in self.code.steps.get(first..behind).unwrap_or_default() {
                tell_step(step, &mut state, &mut exits)?;
                match step.does {
                    Does::Go { always: false, .. } | Does::Leave { always: false, .. } => {}
                    _ => each(step.end, state.as_ref()),
                }
            }
        }
        Ok(exits)
    }
}

/// Goes past a step; behind what does not go on nothing is known.
fn tell_step(step: &Step, state: &mut Option<State>, exits: &mut Vec<u64>) -> Result<(), Distrust> {
    let Some(known) = state else {
        return Ok(());
    };
    match step.does {
        Does::Effect(effect) => known.apply(effect),
        Does::Leave { to, always } => {
            if !known.is_entry() {
                exits.push(to);
            }
            if always {
                *state = None;
            }
        }
        Does::Return if known.is_no_return() => return Err(Distrust::NoReturn),
        Does::Go { always: false, .. } => {}
        Does::Go { .. } | Does::Return | Does::Stop => *state = None,
    }
    Ok(())
}
