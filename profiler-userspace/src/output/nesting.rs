//! Spans as frames that open and close, each within the one below it: a frame that is in several
//! stacks, one behind the other, stays open.

use profiler_common::cause::Cause;

use super::timeline::Span;
use super::view::View;

/// A frame that opens, or closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// When, nanoseconds since the recording began. Never earlier than the edge before.
    pub(crate) at_ns: u64,
    /// It opens; else it closes.
    pub(crate) opens: bool,
    /// The frame.
    pub(crate) open: Open,
}

/// A frame that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Index of the frame.
    pub(crate) frame: u32,
    /// Of the leaf of a wait: why, and in which system call.
    pub(crate) wait: Option<(Cause, Option<&'static str>)>,
}

/// Calls `each` for every edge, by time. A frame that opens with an empty stack is none: such a
/// span is a gap.
///
/// # Errors
/// Those of `each`.
pub(crate) fn edges<E>(
    view: &View,
    spans: &[Span],
    mut each: impl FnMut(Edge) -> Result<(), E>,
) -> Result<(), E> {
    let mut open: Vec<Open> = Vec::new();
    let close = |open: &mut Vec<Open>, to: usize, at_ns: u64, each: &mut dyn FnMut(Edge) -> _| {
        while open.len() > to {
            let Some(last) = open.pop() else { break };
            each(Edge {
                at_ns,
                opens: false,
                open: last,
            })?;
        }
        Ok(())
    };
    let mut end_ns = 0;
    for span in spans {
        let stack = view
            .stacks
            .get(span.stack as usize)
            .map_or(&[][..], Vec::as_slice);
        let wanted = |depth: usize| Open {
            frame: stack[depth],
            wait: span
                .cause
                .filter(|_| depth + 1 == stack.len())
                .map(|cause| (cause, span.syscall)),
        };
        let kept = if span.begin_ns == end_ns {
            let same = (0..stack.len().min(open.len())).take_while(|&at| open[at] == wanted(at));
            same.count()
        } else {
            0
        };
        close(&mut open, kept, end_ns, &mut each)?;
        for depth in kept..stack.len() {
            let opened = wanted(depth);
            each(Edge {
                at_ns: span.begin_ns,
                opens: true,
                open: opened,
            })?;
            open.push(opened);
        }
        end_ns = span.end_ns;
    }
    close(&mut open, 0, end_ns, &mut each)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::sample;
    use crate::output::timeline::Timeline;

    #[test]
    fn every_frame_closes_after_those_above_it() {
        let view = sample::view();
        for spans in Timeline::of(&view).threads {
            let mut open = Vec::new();
            let mut last = 0;
            let mut leaf_ns = 0;
            let walked: Result<(), ()> = edges(&view, &spans, |edge| {
                assert!(edge.at_ns >= last);
                if !open.is_empty() {
                    leaf_ns += edge.at_ns - last;
                }
                last = edge.at_ns;
                if edge.opens {
                    open.push(edge.open);
                } else {
                    assert_eq!(open.pop(), Some(edge.open));
                }
                Ok(())
            });
            assert_eq!(walked, Ok(()));
            assert!(open.is_empty());
            assert_eq!(leaf_ns, spans.iter().map(Span::ns).sum::<u64>());
        }
    }
}
