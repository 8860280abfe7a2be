//! Folded stacks of a view: what `raw` and `flamegraph` are made from.

use std::collections::BTreeMap;

use super::flamegraph::Subject;
use super::text::clean;
use super::view::{FrameKind, View};

/// Folded lines: frames from the root to the leaf, joined by `;`, and a weight: samples where the
/// recording is of samples alone, else nanoseconds.
#[must_use]
pub fn folded(view: &View) -> BTreeMap<String, u64> {
    let samples = view.about.subject == Subject::OnCpu;
    let mut weights: BTreeMap<u32, u64> = BTreeMap::new();
    for event in &view.events {
        *weights.entry(event.stack).or_default() += if samples { 1 } else { event.ns };
    }
    let frames: Vec<String> = view
        .frames
        .iter()
        .map(|frame| clean(&frame.text()))
        .collect();
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for (stack, weight) in weights {
        let stack = view
            .stacks
            .get(stack as usize)
            .map_or(&[][..], Vec::as_slice);
        let stack = stack.iter().filter_map(|frame| frames.get(*frame as usize));
        let parts: Vec<&str> = stack.map(String::as_str).collect();
        *lines.entry(parts.join(";")).or_default() += weight;
    }
    lines.retain(|_, weight| *weight != 0);
    lines
}

/// What the frames of [`folded`] lines are, by their text.
#[must_use]
pub fn kinds(view: &View) -> BTreeMap<String, FrameKind> {
    let frames = view.frames.iter();
    frames
        .map(|frame| (clean(&frame.text()), frame.kind))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;

    #[test]
    fn weights_are_nanoseconds_or_samples() {
        let mut view = sample::view();
        let lines = folded(&view);
        let waits = "<module> (app.py:1);work (app.py:10);[gil]";
        assert_eq!(lines[waits] / 1000, 200_001);
        let all: u64 = view.events.iter().map(|event| event.ns).sum();
        assert_eq!(lines.values().sum::<u64>(), all);

        view.about.subject = Subject::OnCpu;
        view.events.retain(|event| event.cause.is_none());
        assert_eq!(
            folded(&view).values().sum::<u64>(),
            view.events.len() as u64
        );
    }

    #[test]
    fn every_frame_of_a_line_has_a_kind() {
        let view = sample::view();
        let kinds = kinds(&view);
        for line in folded(&view).keys() {
            for frame in line.split(';') {
                assert!(kinds.contains_key(frame), "{frame}");
            }
        }
    }
}
