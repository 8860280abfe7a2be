//! Readings for tests.

use std::time::Duration;

use profiler_common::cause::Cause;

use super::model::{Model, Setup};
use super::reading::{Cell, Counts, ProcessName, Reading};
use super::rows::Counted;
use crate::record::frame::FrameText;

/// Milliseconds, in nanoseconds.
pub(super) const MS: u64 = 1_000_000;

pub(super) fn python(name: &str, line: u32) -> FrameText {
    FrameText::Python {
        name: name.into(),
        file: "/srv/app/th.py".into(),
        short_file: "th.py".into(),
        line: Some(line),
        first_line: 1,
    }
}

pub(super) fn setup() -> Setup {
    Setup {
        subject: "process 12".to_owned(),
        many: false,
        counted: Counted::OnCpu,
        has_waits: true,
        only_gil: false,
        full_paths: false,
        delay: Duration::from_secs(1),
    }
}

fn cell(tid: u32, stack: u32, waits: Option<Cause>) -> Cell {
    Cell {
        thread: (1, tid),
        stack,
        waits,
        holds_gil: waits.is_none(),
    }
}

/// What `main` calls, a second of it: `busy` is 600 ms in line 3 and 150 ms in line 4, `other` is
/// 250 ms on the CPU; a second thread waits in `idle`, 100 ms of that for the lock. `busy` calls
/// itself in line 4.
pub(super) fn changes() -> Vec<(Cell, u64)> {
    vec![
        (cell(12, 0, None), 600 * MS),
        (cell(12, 1, None), 150 * MS),
        (cell(12, 2, None), 250 * MS),
        (cell(13, 3, Some(Cause::Sleep)), 900 * MS),
        (cell(13, 3, Some(Cause::Gil)), 100 * MS),
    ]
}

/// The first second.
pub(super) fn first() -> Reading {
    Reading {
        interval: Duration::from_secs(1),
        frames: vec![
            python("main", 1),
            python("busy", 3),
            python("busy", 4),
            python("other", 7),
            python("idle", 9),
        ],
        stacks: [&[0, 1][..], &[0, 2, 2], &[0, 3], &[4]]
            .map(Into::into)
            .to_vec(),
        changes: changes(),
        threads: vec![((1, 12), "MainThread".to_owned())],
        processes: vec![(
            1,
            ProcessName {
                pid: 12,
                command: "python th.py --with some --arguments that are long".to_owned(),
                version: Some("3.11.7".to_owned()),
            },
        )],
        counts: Counts {
            samples: 99,
            waits: Some(7),
            lost: 0,
            threads: 2,
            processes: 1,
            locks: 1,
        },
        on_cpu: vec![((1, 12), 1000 * MS)],
        over: None,
    }
}

/// One more, in which `main` itself ran for half of it.
pub(super) fn second() -> Reading {
    Reading {
        interval: Duration::from_secs(1),
        stacks: vec![[0][..].into()],
        changes: vec![(cell(12, 4, None), 500 * MS)],
        counts: first().counts,
        on_cpu: vec![((1, 12), 500 * MS)],
        ..Reading::default()
    }
}

/// A model that has seen the first second.
pub(super) fn model() -> Model {
    let mut model = Model::new(setup());
    model.set_page(10);
    model.take(first());
    model
}
