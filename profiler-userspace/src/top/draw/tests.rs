use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};
use unicode_width::UnicodeWidthStr;

use super::super::examples::{self, first, model, setup};
use super::super::model::Model;
use super::*;
use crate::record::Stopped;

/// The lines of a screen, without spaces at their ends.
fn screen(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
    model.set_page(page(model, height));
    terminal.draw(|frame| draw(frame, model)).expect("drawn");
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width.max(1)));
    lines
        .map(|line| {
            let text: String = line.iter().map(|cell| cell.symbol()).collect();
            text.trim_end().to_owned()
        })
        .collect()
}

fn press(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            key => KeyCode::Char(key),
        };
        model.key(KeyEvent::from(code));
    }
}

#[test]
fn as_py_spy_draws_it_at_80_columns() {
    assert_eq!(
        screen(&mut model(), 80, 11),
        [
            "Collecting samples from 'python th.py --with some --arguments…' (python v3.11.7)",
            "Total Samples 99, Waits 7",
            "GIL: 100.00%, Active: 100.00%, Threads: 2, Waiting for GIL: 10.00%",
            "Time on the CPUs",
            "  %Own   %Total  OwnTime  TotalTime  Function (filename)",
            " 75.00%  75.00%    0.75s     0.75s   busy (th.py)",
            " 25.00%  25.00%    0.25s     0.25s   other (th.py)",
            "  0.00% 100.00%    0.00s     1.00s   main (th.py)",
            "",
            "",
            "Press Control-C to quit, or ? for help.",
        ]
    );
}

#[test]
fn at_60_columns() {
    let mut model = model();
    press(&mut model, "L");
    assert_eq!(
        screen(&mut model, 60, 11),
        [
            "Collecting samples from 'python th.py --w…' (python v3.11.7)",
            "Total Samples 99, Waits 7",
            "GIL: 100.00%, Active: 100.00%, Threads: 2",
            "Time on the CPUs",
            "  %Own   %Total  OwnTime  TotalTime  Function (filename:lin…",
            " 60.00%  60.00%    0.60s     0.60s   busy (th.py:3)",
            " 25.00%  25.00%    0.25s     0.25s   other (th.py:7)",
            " 15.00%  15.00%    0.15s     0.15s   busy (th.py:4)",
            "  0.00% 100.00%    0.00s     1.00s   main (th.py:1)",
            "",
            "Press Control-C to quit, or ? for help.",
        ]
    );
}

#[test]
fn wide_and_narrow() {
    let wide = screen(&mut model(), 120, 11);
    assert!(
        wide[0].contains("that are long' (python v3.11.7)"),
        "{wide:?}"
    );
    let narrow = screen(&mut model(), 40, 11);
    assert_eq!(narrow[4], "  %Own   OwnTime   Function (filename)");
    assert_eq!(narrow[5], " 75.00%    0.75s   busy (th.py)");
    let mut model = model();
    assert_eq!(
        screen(&mut model, 20, 8),
        [
            "GIL: 100.00%",
            " OwnTime   Function…",
            "   0.75s   busy",
            "   0.25s   other",
            "   0.00s   main",
            "",
            "",
            "Press Control-C to …",
        ]
    );
    press(&mut model, "2");
    assert_eq!(screen(&mut model, 20, 8)[2], "100.00%   main");
}

#[test]
fn any_size() {
    let mut model = model();
    for keys in ["", "?", "?t", "tP", "P\n", "/x\n"] {
        press(&mut model, keys);
        for width in 0..90 {
            for height in 0..12 {
                for line in screen(&mut model, width, height) {
                    assert!(line.width() <= usize::from(width), "{line:?}");
                }
            }
        }
    }
    assert_eq!(screen(&mut examples::model(), 60, 1), [row_of_busy()]);
}

fn row_of_busy() -> String {
    " 75.00%  75.00%    0.75s     0.75s   busy (th.py)".to_owned()
}

#[test]
fn threads_and_processes() {
    let mut model = model();
    press(&mut model, "t");
    let threads = screen(&mut model, 80, 11);
    assert_eq!(threads[3], "All time");
    assert_eq!(threads[4], "  %CPU    %Wait  CPUTime   WaitTime  Thread");
    assert_eq!(
        threads[5],
        "100.00%   0.00%    1.00s     0.00s   12 MainThread"
    );
    assert_eq!(threads[6], "  0.00% 100.00%    0.00s     1.00s   13");
    press(&mut model, "P");
    let processes = screen(&mut model, 60, 11);
    assert_eq!(
        processes[5],
        "100.00% 100.00%    1.00s     1.00s   12 python th.py --with…"
    );
}

#[test]
fn one_function() {
    let mut model = model();
    press(&mut model, "\n");
    let around = screen(&mut model, 80, 11);
    assert_eq!(
        around[3],
        "busy (th.py): 0.75s own, 0.75s in all, Time on the CPUs"
    );
    assert_eq!(
        around[4],
        "  %Own   %Total  OwnTime  TotalTime  From and to"
    );
    assert_eq!(
        around[5],
        "         75.00%              0.75s   from main (th.py)"
    );
    press(&mut model, "\n");
    let around = screen(&mut model, 80, 11);
    assert_eq!(
        around[3],
        "main (th.py): 0.00s own, 1.00s in all, Time on the CPUs"
    );
    assert_eq!(
        around[5],
        "         75.00%              0.75s   to   busy (th.py)"
    );
    assert_eq!(
        around[6],
        "         25.00%              0.25s   to   other (th.py)"
    );
}

#[test]
fn what_is_said_at_the_bottom() {
    let mut model = model();
    let foot = |model: &mut Model| screen(model, 80, 11).pop().expect("a line");
    press(&mut model, "/bus");
    assert_eq!(foot(&mut model), "/bus_");
    press(&mut model, "\n");
    let filtered = screen(&mut model, 80, 11);
    assert_eq!(filtered[3], "Time on the CPUs, only 'bus'");
    assert_eq!(
        (filtered[5].as_str(), filtered[6].as_str()),
        (row_of_busy().as_str(), "")
    );
    press(&mut model, "p");
    assert_eq!(foot(&mut model), "Paused: press p to go on, or ? for help.");
    press(&mut model, "p");
    let mut last = first();
    last.over = Some(Stopped::TargetExited);
    model.take(last);
    assert_eq!(foot(&mut model), "process 12 ended. Press q to quit.");
    let mut many = Model::new(super::super::model::Setup {
        many: true,
        subject: "all processes".to_owned(),
        ..setup()
    });
    many.take(first());
    let lines = screen(&mut many, 80, 11);
    assert_eq!(lines[0], "Collecting samples from all processes");
    assert!(lines[2].contains("Threads: 2, Processes 1"), "{lines:?}");
}

#[test]
fn numbers() {
    let shares = [0.0, 0.12345, 1.0, 9.99, 12.0, 999.0];
    let expected = ["0.00%", "12.35%", "100.00%", "999.00%", "1200%", "99900%"];
    assert_eq!(shares.map(percent), expected);
    let times = [
        0,
        4_000_000,
        59_990_000_000,
        9_999_000_000_000,
        99_999_000_000_000,
    ];
    let expected = ["0.00s", "0.00s", "59.99s", "9999.00s", "99999s"];
    assert_eq!(times.map(seconds), expected);
}
