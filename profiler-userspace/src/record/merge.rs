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
    /// Native functions that no rule leads through, up to the next activation of the interpreter's
    /// loop, whose own frame is among them: what shows that some may be missing.
    Skipped(Option<FrameId>),
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
        Item::Kernel(_) | Item::Skipped(_) => true,
        Item::Native(_) => std::mem::take(&mut first),
        Item::Python(_) => false,
    });
}

fn flatten(input: &Input<'_>) -> Vec<FrameId> {
    let mut frames = Vec::new();
    let mut passed = 0;
    let mut seen_native = false;
    let mut runs_frames = false;
    let mut skipped = false;
    let last_python = input
        .items
        .iter()
        .rposition(|item| matches!(item, Item::Python(_)));
    let has_python = !input.python.is_empty();
    for (index, item) in input.items.iter().enumerate() {
        match item {
            Item::Kernel(frame) => frames.push(*frame),
            Item::Skipped(marker) => {
                frames.extend(*marker);
                skipped = true;
                continue;
            }
            Item::Python(upto) => {
                let upto = (*upto).min(input.python.len());
                let run = input.python.get(passed..upto).unwrap_or_default();
                frames.extend(run.iter().copied().flatten());
                passed = passed.max(upto);
                runs_frames = !std::mem::take(&mut skipped);
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

    const LOCAL: Traits = Traits {
        interpreter: false,
        eval_loop: false,
        machinery: false,
        entry: false,
        unnamed: false,
        jit: false,
    };

    fn inlined(frames: &[(FrameId, Traits)]) -> Item {
        Item::Native(NativeItem {
            frames: frames.to_vec(),
        })
    }

    #[test]
    fn the_kernel_comes_first_whatever_is_shown() {
        let python = [Some(1), Some(2), Some(3)];
        let mut items = vec![Item::Kernel(50), Item::Kernel(51)];
        items.extend(sort());
        let shown = |show| {
            merge(Input {
                show,
                ..input(items.clone(), &python)
            })
        };
        let folded = shown(NativeFrames::Folded).frames;
        assert_eq!(folded, [50, 51, 100, 1, 2, 103, 3]);
        let all = shown(NativeFrames::All).frames;
        assert_eq!(all[..4], [50, 51, 100, 1]);
        assert_eq!(all.len(), 12);
    }

    /// The kernel's frames alone were asked for, or are all that there is.
    #[test]
    fn the_kernel_alone_stands_on_all_of_python() {
        let python = [Some(1), None, Some(3)];
        let items = vec![Item::Kernel(50), Item::Kernel(51)];
        for (show, unwind, disagreed) in [
            (NativeFrames::None, UnwindStatus::Complete, false),
            (NativeFrames::None, UnwindStatus::NotReady, false),
            (NativeFrames::Folded, UnwindStatus::NoRegisters, false),
            (NativeFrames::Folded, UnwindStatus::NotReady, false),
            // It got to the end, and passed nothing that runs them.
            (NativeFrames::Folded, UnwindStatus::Complete, true),
        ] {
            for by_count in [false, true] {
                let merged = merge(Input {
                    show,
                    unwind,
                    by_count,
                    ..input(items.clone(), &python)
                });
                let what = format!("{show:?}, {unwind:?}, {by_count}");
                assert_eq!(merged.frames, [50, 51, 1, 3], "{what}");
                assert_eq!(merged.disagreed, disagreed, "{what}");
            }
        }
        let alone = merge(input(items, &[]));
        assert_eq!(alone.frames, [50, 51]);
        assert!(!alone.disagreed);
    }

    #[test]
    fn a_disagreement_keeps_the_kernel() {
        let python = [Some(1), Some(2), Some(3), Some(4)];
        let mut items = vec![Item::Kernel(50)];
        items.extend(sort());
        let merged = merge(input(items, &python));
        assert_eq!(merged.frames, [50, 100, 1, 2, 3, 4]);
        assert!(merged.disagreed);
    }

    /// Each is shown, or not, for what it is itself.
    #[test]
    fn inlined_functions_are_shown_by_their_own_traits() {
        let python = [Some(1), Some(2)];
        let items = vec![
            inlined(&[(100, CALL), (101, C), (102, LOCAL)]),
            Item::Python(1),
            // Nothing of an activation of the loop: neither what is inlined into it.
            inlined(&[(110, C), (111, EVAL)]),
            inlined(&[(120, C), (121, CALL), (122, LOCAL)]),
            Item::Python(2),
            native(130, EVAL),
            inlined(&[(140, LOCAL), (141, START), (142, CALL)]),
        ];
        let folded = merge(input(items.clone(), &python));
        assert_eq!(folded.frames, [101, 102, 1, 120, 122, 2, 140]);
        let all = merge(Input {
            show: NativeFrames::All,
            ..input(items, &python)
        });
        let expected = [
            100, 101, 102, 1, 110, 111, 120, 121, 122, 2, 130, 140, 141, 142,
        ];
        assert_eq!(all.frames, expected);
    }

    /// What starts threads is left out at the root only.
    #[test]
    fn entry_points_between_python_are_shown() {
        let python = [Some(1), Some(2)];
        let items = vec![
            Item::Python(1),
            native(100, EVAL),
            native(101, START),
            Item::Python(2),
            native(102, EVAL),
            native(103, START),
        ];
        assert_eq!(merge(input(items, &python)).frames, [1, 101, 2]);
    }

    #[test]
    fn the_loop_inlined_into_another_function_is_counted() {
        let python = [Some(1), Some(2)];
        let items = vec![
            native(100, LOCAL),
            inlined(&[(110, EVAL), (111, C)]),
            native(120, LOCAL),
            native(130, EVAL),
        ];
        let merged = merge(Input {
            by_count: true,
            ..input(items, &python)
        });
        assert_eq!(merged.frames, [100, 1, 120, 2]);
        assert!(!merged.disagreed);
    }

    /// Three activations from the leaf on, of so many as the Python frames need.
    fn counted(unwind: UnwindStatus, walk_complete: bool, python: &[Option<FrameId>]) -> Merged {
        let items = vec![
            native(100, EVAL),
            native(101, LOCAL),
            native(102, EVAL),
            native(103, LOCAL),
            native(104, EVAL),
        ];
        merge(Input {
            unwind,
            walk_complete,
            by_count: true,
            ..input(items, python)
        })
    }

    /// What both sides have is counted from the leaf on.
    #[test]
    fn counted_activations_of_a_broken_unwind() {
        let python: Vec<_> = (1..=5).map(Some).collect();
        for unwind in [UnwindStatus::Truncated, UnwindStatus::NoRule] {
            for walk_complete in [true, false] {
                let merged = counted(unwind, walk_complete, &python);
                assert_eq!(merged.frames, [1, 101, 2, 103, 3, 4, 5]);
                assert!(!merged.disagreed);
                // As many as there are.
                let merged = counted(unwind, walk_complete, &python[..3]);
                assert_eq!(merged.frames, [1, 101, 2, 103, 3]);
                assert!(!merged.disagreed);
                // One may be the newest, and may as well be the oldest.
                let merged = counted(unwind, walk_complete, &python[..2]);
                assert_eq!(merged.frames, [1, 2]);
                assert!(merged.disagreed);
            }
        }
    }

    #[test]
    fn counted_activations_of_a_broken_walk() {
        let python: Vec<_> = (1..=5).map(Some).collect();
        // Fewer frames than activations: the root is missing, or one that has no frame.
        for count in 1..3 {
            let merged = counted(UnwindStatus::Complete, false, &python[..count]);
            assert_eq!(merged.frames, (1..=count as u32).collect::<Vec<_>>());
            assert!(merged.disagreed, "{count}");
        }
        let merged = counted(UnwindStatus::Complete, false, &python[..3]);
        assert_eq!(merged.frames, [1, 101, 2, 103, 3]);
        assert!(!merged.disagreed);
        // More frames than activations, and all activations were seen.
        let merged = counted(UnwindStatus::Complete, false, &python);
        assert_eq!(merged.frames, [1, 2, 3, 4, 5]);
        assert!(merged.disagreed);
    }

    #[test]
    fn counted_frames_that_are_not_shown_count() {
        let python = [Some(1), None, Some(3)];
        let merged = counted(UnwindStatus::Complete, true, &python);
        assert_eq!(merged.frames, [1, 101, 103, 3]);
        assert!(!merged.disagreed);
        // A thread that ran no Python yet has nothing to agree with.
        let merged = counted(UnwindStatus::Complete, true, &[]);
        assert_eq!(merged.frames, [100, 101, 102, 103, 104]);
        assert!(!merged.disagreed);
    }

    /// An activation that runs nothing yet is an activation, and says nothing else.
    #[test]
    fn places_of_no_frames() {
        let python = [Some(1)];
        let items = vec![
            Item::Python(0),
            native(100, STRIPPED),
            native(101, C),
            Item::Python(1),
            native(102, STRIPPED),
            Item::Python(1),
            native(103, STRIPPED),
        ];
        let merged = merge(input(items, &python));
        assert_eq!(merged.frames, [101, 1]);
        assert!(!merged.disagreed);
    }

    /// Two activations in one native frame.
    #[test]
    fn two_places_at_one_function() {
        let python = [Some(1), Some(2), Some(3)];
        let items = vec![
            native(100, LOCAL),
            Item::Python(1),
            Item::Python(3),
            native(101, STRIPPED),
            native(102, LOCAL),
        ];
        let merged = merge(input(items, &python));
        assert_eq!(merged.frames, [100, 1, 2, 3, 102]);
        assert!(!merged.disagreed);
    }

    /// No frame is lost to a place that is wrong.
    #[test]
    fn places_beyond_the_last_frame() {
        let python = [Some(1), Some(2), Some(3)];
        let items = vec![
            native(100, LOCAL),
            Item::Python(1),
            native(101, EVAL),
            Item::Python(7),
            native(102, EVAL),
        ];
        assert_eq!(merge(input(items, &python)).frames, [100, 1, 2, 3]);
    }

    /// Code without a rule is left for the next activation, whose own frame is not among what was
    /// unwound: what comes next called the loop, and is not the loop.
    #[test]
    fn what_called_a_loop_that_was_skipped_is_shown() {
        let python = [Some(1), Some(2)];
        let items = vec![
            native(100, LOCAL),
            Item::Skipped(Some(99)),
            Item::Python(1),
            native(101, LOCAL),
            Item::Python(2),
            native(102, EVAL),
        ];
        assert_eq!(merge(input(items, &python)).frames, [100, 99, 1, 101, 2]);
    }
}
