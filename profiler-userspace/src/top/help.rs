//! What the keys are.

/// Keys, and what each does.
pub(super) const KEYS: [(&str, &str); 20] = [
    ("1", "sort by %Own: time in the function itself, lately"),
    ("2", "sort by %Total: with what it calls, lately"),
    ("3", "sort by OwnTime: in the function itself, so far"),
    ("4", "sort by TotalTime: with what it calls, so far"),
    ("L", "functions, or lines"),
    ("w", "time on the CPUs, waiting, or both"),
    ("g", "only with the GIL"),
    ("t", "threads"),
    ("P", "processes"),
    ("Enter f", "a function's callers and callees; of a thread"),
    ("", "or process, its functions"),
    ("Esc", "back"),
    ("/", "filter by name or file"),
    ("p Space", "pause"),
    ("R", "begin anew"),
    ("s S", "save a flame graph, folded stacks"),
    ("+ -", "fewer pictures, more"),
    ("Arrows", "and PgUp, PgDn, Home, End: move"),
    ("? X", "this help; close it"),
    ("q", "and Control-C: quit"),
];
