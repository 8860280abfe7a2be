use super::super::examples::{MS, first, model, second, setup};
use super::*;
use crate::record::Stopped;

fn press(model: &mut Model, code: KeyCode) -> Effect {
    model.key(KeyEvent::from(code))
}

fn typed(model: &mut Model, keys: &str) {
    for key in keys.chars() {
        assert_eq!(press(model, KeyCode::Char(key)), Effect::None, "{key}");
    }
}

/// Labels, own and total time so far in milliseconds.
fn table(model: &Model) -> Vec<(String, u64, u64)> {
    let rows = model.rows().iter();
    rows.map(|row| (row.label.text(), row.own.all / MS, row.total.all / MS))
        .collect()
}

fn labels(model: &Model) -> Vec<String> {
    table(model)
        .into_iter()
        .map(|(label, _, _)| label)
        .collect()
}

#[test]
fn own_and_total_time() {
    let mut model = model();
    let of = |label: &str, own, total| (label.to_owned(), own, total);
    let first = [
        of("busy (th.py)", 750, 750),
        of("other (th.py)", 250, 250),
        of("main (th.py)", 0, 1000),
    ];
    assert_eq!(table(&model), first);
    model.take(second());
    assert_eq!(
        table(&model),
        [
            first[0].clone(),
            of("main (th.py)", 500, 1500),
            first[1].clone()
        ]
    );
    // Of the last second only.
    let main = &model.rows()[1];
    assert_eq!((main.own.last / MS, main.total.last / MS), (500, 500));
    let load = model.store.load();
    assert!((load.active - 0.5).abs() < 1e-9, "{load:?}");
    typed(&mut model, "R");
    assert_eq!(table(&model), []);
}

#[test]
fn sorting() {
    let mut model = model();
    model.take(second());
    for (key, expected) in [
        ('1', ["main", "busy", "other"]),
        ('2', ["main", "busy", "other"]),
        ('3', ["busy", "main", "other"]),
        ('4', ["main", "busy", "other"]),
    ] {
        typed(&mut model, &key.to_string());
        let expected = expected.map(|name| format!("{name} (th.py)"));
        assert_eq!(labels(&model), expected, "{key}");
    }
}

#[test]
fn lines_waits_and_the_lock() {
    let mut model = model();
    typed(&mut model, "l");
    assert_eq!(labels(&model)[..2], ["busy (th.py:3)", "other (th.py:7)"]);
    typed(&mut model, "lw");
    assert_eq!(table(&model), [("idle (th.py)".to_owned(), 1000, 1000)]);
    typed(&mut model, "w");
    assert_eq!(model.rows().len(), 4);
    typed(&mut model, "g");
    assert_eq!(model.rows().len(), 3);
    typed(&mut model, "gw");
    assert_eq!(model.choice.counted, Counted::OnCpu);
    let mut without = Model::new(Setup {
        has_waits: false,
        ..setup()
    });
    typed(&mut without, "w");
    assert_eq!(without.choice.counted, Counted::OnCpu);
    assert!(
        without
            .message
            .is_some_and(|message| message.contains("--idle"))
    );
}

#[test]
fn filter() {
    let mut model = model();
    typed(&mut model, "/BUSy");
    assert_eq!(labels(&model), ["busy (th.py)"]);
    // Keys are letters meanwhile.
    typed(&mut model, "q");
    assert_eq!(labels(&model), [""; 0]);
    press(&mut model, KeyCode::Backspace);
    press(&mut model, KeyCode::Enter);
    assert_eq!((labels(&model).len(), model.typing), (1, false));
    press(&mut model, KeyCode::Esc);
    assert_eq!(labels(&model).len(), 3);
    typed(&mut model, "/x");
    press(&mut model, KeyCode::Esc);
    assert_eq!((labels(&model).len(), model.typing), (3, false));
}

#[test]
fn a_pause_loses_nothing() {
    let mut model = model();
    let before = table(&model);
    typed(&mut model, "p");
    for _ in 0..3 {
        model.take(second());
    }
    assert_eq!(table(&model), before);
    assert!(model.held.len() <= 2);
    typed(&mut model, "4");
    assert_eq!(table(&model)[0].2, 1000);
    typed(&mut model, " ");
    assert_eq!(table(&model)[0], ("main (th.py)".to_owned(), 1500, 2500));
    assert_eq!(model.rows()[0].own.last / MS, 500);
}

#[test]
fn threads_processes_and_back() {
    let mut model = model();
    typed(&mut model, "t");
    assert_eq!(labels(&model), ["12 MainThread", "13"]);
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.choice.scope, Scope::Thread((1, 13)));
    typed(&mut model, "w");
    assert_eq!(labels(&model), ["idle (th.py)"]);
    press(&mut model, KeyCode::Esc);
    assert_eq!(
        (&model.table, model.choice.scope),
        (&Table::Threads, Scope::All)
    );
    typed(&mut model, "P");
    assert_eq!(model.rows().len(), 1);
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.choice.scope, Scope::Process(1));
    typed(&mut model, "t");
    assert_eq!(model.choice.scope, Scope::All);
    typed(&mut model, "t");
    assert_eq!(model.table, Table::Functions);
}

#[test]
fn the_cursor_stays_with_its_row_and_in_sight() {
    let mut model = model();
    model.set_page(2);
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Down);
    assert_eq!((model.cursor, model.first), (Some(1), 0));
    model.take(second());
    // `other` went down by one.
    assert_eq!((model.cursor, model.first), (Some(2), 1));
    assert_eq!(model.visible().len(), 2);
    press(&mut model, KeyCode::Home);
    assert_eq!((model.cursor, model.first), (Some(0), 0));
    press(&mut model, KeyCode::PageDown);
    assert_eq!(model.cursor, Some(2));
    press(&mut model, KeyCode::PageUp);
    press(&mut model, KeyCode::End);
    assert_eq!((model.cursor, model.first), (Some(2), 1));
    model.set_page(10);
    assert_eq!(model.first, 0);
    typed(&mut model, "/busy");
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.cursor, Some(0));
}

#[test]
fn one_function_is_followed() {
    let mut model = model();
    press(&mut model, KeyCode::Enter);
    assert_eq!(labels(&model), ["main (th.py)"]);
    assert_eq!(
        model.rows()[0].id,
        RowId::Caller(super::super::rows::function_of(
            &super::super::examples::python("main", 1),
            false
        ))
    );
    assert_eq!(
        (model.around.0.all / MS, model.around.1.all / MS),
        (750, 750)
    );
    typed(&mut model, "f");
    assert_eq!(labels(&model), ["busy (th.py)", "other (th.py)"]);
    press(&mut model, KeyCode::Backspace);
    press(&mut model, KeyCode::Esc);
    assert_eq!(model.table, Table::Functions);
}

#[test]
fn the_filter_is_for_where_it_was_typed() {
    let mut model = model();
    typed(&mut model, "/other");
    press(&mut model, KeyCode::Enter);
    press(&mut model, KeyCode::Enter);
    assert_eq!(labels(&model), ["main (th.py)"]);
    press(&mut model, KeyCode::Esc);
    assert_eq!(labels(&model), ["other (th.py)"]);
    // Escape and a key at once.
    model.key(KeyEvent::new(KeyCode::Char('4'), KeyModifiers::ALT));
    assert_eq!((labels(&model).len(), model.sort), (3, Column::TotalTime));
}

#[test]
fn what_others_have_to_do() {
    let mut model = model();
    let control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    assert_eq!(model.key(control('c')), Effect::Quit);
    assert_eq!(model.key(control('z')), Effect::Suspend);
    assert_eq!(model.key(control('l')), Effect::Redraw);
    assert_eq!(press(&mut model, KeyCode::Char('q')), Effect::Quit);
    for (key, ms) in [('+', 2000), ('-', 1000), ('-', 500)] {
        let delay = Effect::Delay(Duration::from_millis(ms));
        assert_eq!(press(&mut model, KeyCode::Char(key)), delay);
    }
    assert_eq!(
        press(&mut model, KeyCode::Char('s')),
        Effect::Save(Save::Flamegraph)
    );
    assert_eq!(
        press(&mut model, KeyCode::Char('S')),
        Effect::Save(Save::Folded)
    );
    typed(&mut model, "/");
    assert_eq!(model.key(control('c')), Effect::Quit);
}

#[test]
fn the_end_counts_with_what_was_before() {
    let mut model = model();
    model.take(Reading {
        interval: Duration::from_millis(1),
        over: Some(Stopped::TargetExited),
        ..Reading::default()
    });
    assert!(model.is_over());
    assert_eq!(model.rows()[0].own.last / MS, 750);
    let mut paused = super::super::examples::model();
    typed(&mut paused, "p");
    paused.take(Reading {
        over: Some(Stopped::TargetExited),
        ..first()
    });
    assert!(paused.is_over());
}
