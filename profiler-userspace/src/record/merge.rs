//! One stack out of two: native frames, and the Python frames at the places where the unwind passed
//! what runs them.
//!
//! From 3.10 on the kernel has put a token at each such place. For 3.8 and 3.9, where each
//! activation of the interpreter's loop runs one frame, activations and frames are counted, and must
//! agree.

use profiler_common::unwind::UnwindStatus;

use super::options::NativeFrames;
use super::stacks::FrameId;

/// What the merge has to know of a native frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Code of the interpreter's own file.
    pub interpreter: bool,
    /// The interpreter's loop, by its symbol.
    pub eval_loop: bool,
    /// What the interpreter does between two functions.
    pub machinery: bool,
    /// What lies between the entry point of a thread or process and its first Python function.
    pub entry: bool,
    /// No symbol covers it.
    pub unnamed: bool,
    /// Code outside of every file.
    pub jit: bool,
}

/// One native function, with what was inlined into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeItem {
    /// From the innermost inlined function to the function itself.
    pub frames: Vec<(FrameId, Traits)>,
}

/// What a stack is made of, from the leaf on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A frame of the kernel.
    Kernel(FrameId),
    /// A native function.
    Native(NativeItem),
    /// All Python frames up to this many, counted from the leaf, that did not come before.
    Python(usize),
}

/// What is merged.
#[derive(Debug)]
pub struct Input<'a> {
    /// From the leaf on.
    pub items: Vec<Item>,
    /// The Python frames from the leaf on; `None` for one that is not shown.
    pub python: &'a [Option<FrameId>],
    /// Whether the walk got to the end.
    pub walk_complete: bool,
    /// How the unwind ended.
    pub unwind: UnwindStatus,
    /// Activations and frames must be counted: 3.8 and 3.9.
    pub by_count: bool,
    /// What to show.
    pub show: NativeFrames,
}

/// A merged stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// From the leaf to the root.
    pub frames: Vec<FrameId>,
    /// The two sides did not agree: the Python stack is whole, and of the native one the leaf.
    pub disagreed: bool,
}

/// Whether a function is an activation of the interpreter's loop, by its symbols.
fn is_activation(item: &NativeItem) -> bool {
    item.frames.iter().any(|(_, traits)| traits.eval_loop)
}

/// Puts the places of Python frames in, where there are none: one frame for each activation.
/// Returns whether they agree.
fn place_by_count(input: &mut Input<'_>) -> bool {
    let activations = input
        .items
        .iter()
        .filter(|item| matches!(item, Item::Native(native) if is_activation(native)))
        .count();
    let frames = input.python.len();
    let complete = input.unwind == UnwindStatus::Complete && input.walk_complete;
    // The newest activation may have no frame, yet or any more.
    let without_frame = match activations.checked_sub(frames) {
        Some(0) => 0,
        Some(1) if complete => 1,
        None if !complete => 0,
        _ => return false,
    };
    let items = std::mem::take(&mut input.items);
    let mut seen = 0;
    for item in items {
        if matches!(&item, Item::Native(native) if is_activation(native)) {
            seen += 1;
            if seen > without_frame {
                input.items.push(Item::Python(seen - without_frame));
            }
        }
        input.items.push(item);
    }
    true
}

/// Merges a stack.
#[must_use]
pub fn merge(mut input: Input<'_>) -> Merged {
    let mut disagreed = input.by_count && !input.python.is_empty() && !place_by_count(&mut input);
    let placed = input.items.iter().filter_map(|item| match item {
        Item::Python(frames) => Some(*frames),
        _ => None,
    });
    let placed = placed.max().unwrap_or(0);
    if placed < input.python.len() && input.unwind == UnwindStatus::Complete {
        disagreed = input.show != NativeFrames::None;
    }
    if disagreed {
        keep_leaf(&mut input.items);
    }
    if placed < input.python.len() || disagreed {
        input.items.push(Item::Python(input.python.len()));
    }
    let frames = flatten(&input);
    Merged { frames, disagreed }
}

/// Keeps of the native functions the first, and no places.
fn keep_leaf(items: &mut Vec<Item>) {
    let mut first = true;
    items.retain(|item| match item {
        Item::Kernel(_) => true,
        Item::Native(_) => std::mem::take(&mut first),
        Item::Python(_) => false,
    });
}

fn flatten(input: &Input<'_>) -> Vec<FrameId> {
    let mut frames = Vec::new();
    let mut passed = 0;
    let mut seen_native = false;
    let mut runs_frames = false;
    let last_python = input
        .items
        .iter()
        .rposition(|item| matches!(item, Item::Python(_)));
    let has_python = !input.python.is_empty();
    for (index, item) in input.items.iter().enumerate() {
        match item {
            Item::Kernel(frame) => frames.push(*frame),
            Item::Python(upto) => {
                let run = input.python.get(passed..*upto).unwrap_or_default();
                frames.extend(run.iter().copied().flatten());
                passed = passed.max(*upto);
                runs_frames = true;
                continue;
            }
            Item::Native(native) => {
                let place = Place {
                    leaf: !seen_native,
                    runs_frames,
                    below_python: has_python && last_python.is_none_or(|last| index > last),
                    has_python,
                };
                seen_native = true;
                let shown = native
                    .frames
                    .iter()
                    .filter(|(_, traits)| input.show == NativeFrames::All || place.shows(traits));
                frames.extend(shown.map(|(frame, _)| *frame));
            }
        }
        runs_frames = false;
    }
    frames
}

/// Where a native function stands.
struct Place {
    /// It is the innermost one.
    leaf: bool,
    /// It runs the Python frames before it: an activation of the interpreter's loop.
    runs_frames: bool,
    /// It is further out than all Python frames.
    below_python: bool,
    has_python: bool,
}

impl Place {
    /// Whether a function is shown where what the interpreter does by itself is not.
    fn shows(&self, traits: &Traits) -> bool {
        if !self.has_python {
            return true;
        }
        if self.runs_frames || traits.eval_loop || traits.machinery {
            return false;
        }
        if traits.interpreter && traits.unnamed {
            // An address of the interpreter says nothing but at the leaf.
            return self.leaf && !self.below_python;
        }
        !(self.below_python && traits.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVAL: Traits = Traits {
        interpreter: true,
        eval_loop: true,
        machinery: true,
        entry: false,
        unnamed: false,
        jit: false,
    };
    const CALL: Traits = Traits {
        eval_loop: false,
        ..EVAL
    };
    const C: Traits = Traits {
        interpreter: true,
        eval_loop: false,
        machinery: false,
        entry: false,
        unnamed: false,
        jit: false,
    };
    const START: Traits = Traits { entry: true, ..C };
    const STRIPPED: Traits = Traits { unnamed: true, ..C };

    fn native(frame: FrameId, traits: Traits) -> Item {
        Item::Native(NativeItem {
            frames: vec![(frame, traits)],
        })
    }

    fn input(items: Vec<Item>, python: &[Option<FrameId>]) -> Input<'_> {
        Input {
            items,
            python,
            walk_complete: true,
            unwind: UnwindStatus::Complete,
            by_count: false,
            show: NativeFrames::Folded,
        }
    }

    /// A sort whose key is a Python function: 1 runs in C code called by 2, the program is 3.
    fn sort() -> Vec<Item> {
        vec![
            native(100, C),
            Item::Python(2),
            native(101, EVAL),
            native(102, CALL),
            native(103, C),
            native(104, CALL),
            Item::Python(3),
            native(105, EVAL),
            native(106, START),
        ]
    }

    #[test]
    fn python_stands_where_it_runs() {
        let python = [Some(1), Some(2), Some(3)];
        let folded = merge(input(sort(), &python));
        assert_eq!(folded.frames, [100, 1, 2, 103, 3]);
        assert!(!folded.disagreed);
        let all = merge(Input {
            show: NativeFrames::All,
            ..input(sort(), &python)
        });
        assert_eq!(all.frames, [100, 1, 2, 101, 102, 103, 104, 3, 105, 106]);
    }

    #[test]
    fn frames_that_are_not_shown_keep_their_place() {
        let python = [Some(1), None, Some(3)];
        assert_eq!(merge(input(sort(), &python)).frames, [100, 1, 103, 3]);
    }

    #[test]
    fn counted_activations() {
        let items = || {
            vec![
                native(100, C),
                native(101, EVAL),
                native(103, C),
                native(105, EVAL),
                native(106, START),
            ]
        };
        let by_count = |python: &[Option<FrameId>]| {
            merge(Input {
                by_count: true,
                ..input(items(), python)
            })
        };
        assert_eq!(by_count(&[Some(1), Some(2)]).frames, [100, 1, 103, 2]);
        // The newest activation has no frame yet.
        assert_eq!(by_count(&[Some(2)]).frames, [100, 103, 2]);
        let too_many = by_count(&[Some(1), Some(2), Some(3)]);
        assert_eq!(too_many.frames, [100, 1, 2, 3]);
        assert!(too_many.disagreed);
        let none = by_count(&[]);
        assert!(!none.disagreed);
    }

    #[test]
    fn a_broken_unwind_keeps_all_of_python() {
        let python = [Some(1), Some(2), Some(3)];
        let mut items = sort();
        items.truncate(5);
        let merged = merge(Input {
            unwind: UnwindStatus::NoRule,
            ..input(items, &python)
        });
        assert_eq!(merged.frames, [100, 1, 2, 103, 3]);
        assert!(!merged.disagreed);
    }

    #[test]
    fn a_disagreement_keeps_python_and_the_leaf() {
        let python = [Some(1), Some(2), Some(3), Some(4)];
        let merged = merge(input(sort(), &python));
        assert_eq!(merged.frames, [100, 1, 2, 3, 4]);
        assert!(merged.disagreed);
    }

    #[test]
    fn the_loop_itself_is_no_leaf() {
        let items = vec![Item::Kernel(50), Item::Python(1), native(101, STRIPPED)];
        assert_eq!(merge(input(items, &[Some(1)])).frames, [50, 1]);
        let items = vec![
            native(100, STRIPPED),
            Item::Python(1),
            native(101, STRIPPED),
        ];
        assert_eq!(merge(input(items, &[Some(1)])).frames, [100, 1]);
    }

    #[test]
    fn threads_without_python_are_whole() {
        let items = vec![native(100, C), native(101, START)];
        assert_eq!(merge(input(items, &[])).frames, [100, 101]);
    }
}
