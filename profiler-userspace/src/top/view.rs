//! Drives the view: what comes of the recording, of the keyboard and of signals becomes a picture.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use ratatui::crossterm::event::Event;

use super::draw;
use super::gather::Control;
use super::keys::Keys;
use super::model::{Effect, Model, Save, Setup};
use super::reading::Reading;
use super::save::save;
use super::signals::Signals;
use super::terminal::Terminal;
use crate::record::Stopped;

/// How long a key is waited for before it is looked whether anything else came.
const PATIENCE: Duration = Duration::from_millis(50);

/// The view failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {source}")]
pub struct ViewError {
    doing: &'static str,
    source: io::Error,
}

fn system(doing: &'static str) -> impl Fn(io::Error) -> ViewError {
    move |source| ViewError { doing, source }
}

/// Shows a recording until somebody has seen enough. Returns the files that were saved.
///
/// # Errors
/// [`ViewError`]. The terminal has been given back.
pub fn show(
    setup: Setup,
    readings: &Receiver<Reading>,
    control: &Control,
    path: impl Fn(&str) -> PathBuf,
) -> Result<Vec<PathBuf>, ViewError> {
    // An error before the recording has begun is told where everything else is.
    let Ok(first) = readings.recv() else {
        return Ok(Vec::new());
    };
    let mut view = View {
        model: Model::new(setup),
        signals: Signals::listen().map_err(system("cannot listen to signals"))?,
        terminal: Terminal::take().map_err(system("cannot take the terminal"))?,
        keys: Keys::listen().map_err(system("cannot start a thread"))?,
        saved: Vec::new(),
    };
    let mut goes_on = view.take(first);
    let mut changed = true;
    while goes_on && !view.signals.ends() {
        let shown = view.step(&mut changed);
        match shown.and_then(|()| view.hear(control, &path, &mut changed)) {
            Ok(more) => goes_on = more,
            // A terminal that hung up cannot be written to, and nobody waits for it.
            Err(_) if view.signals.ends() => break,
            Err(error) => return Err(system("the terminal failed")(error)),
        }
        goes_on &= view.catch_up(readings, &mut changed);
    }
    Ok(view.saved)
}

struct View {
    model: Model,
    signals: Signals,
    terminal: Terminal,
    keys: Keys,
    saved: Vec<PathBuf>,
}

impl View {
    /// Takes what came of the recording. Returns whether there is anything to be shown.
    fn take(&mut self, reading: Reading) -> bool {
        let over = reading.over;
        self.model.take(reading);
        !matches!(over, Some(Stopped::Interrupted | Stopped::Terminated))
    }

    fn catch_up(&mut self, readings: &Receiver<Reading>, changed: &mut bool) -> bool {
        loop {
            match readings.try_recv() {
                Ok(reading) => {
                    *changed = true;
                    if !self.take(reading) {
                        return false;
                    }
                }
                Err(TryRecvError::Empty) => return true,
                // It failed, or is over and everything of it is known.
                Err(TryRecvError::Disconnected) => return self.model.is_over(),
            }
        }
    }

    fn step(&mut self, changed: &mut bool) -> io::Result<()> {
        if self.signals.goes_on() {
            self.terminal.take_again()?;
            *changed = true;
        }
        if self.signals.stops() {
            self.suspend()?;
            *changed = true;
        }
        if *changed && self.terminal.is_ours() {
            let size = self.terminal.screen.size()?;
            self.model.set_page(draw::page(&self.model, size.height));
            let model = &self.model;
            self.terminal
                .screen
                .draw(|frame| draw::draw(frame, model))?;
            *changed = false;
        }
        Ok(())
    }

    /// Waits for a key for a while. Returns false when somebody has seen enough.
    fn hear(
        &mut self,
        control: &Control,
        path: impl Fn(&str) -> PathBuf,
        changed: &mut bool,
    ) -> io::Result<bool> {
        let Some(event) = self.keys.next(PATIENCE)? else {
            return Ok(true);
        };
        let effect = match event {
            Event::Key(key) => self.model.key(key),
            Event::Resize(..) => Effect::None,
            _ => return Ok(true),
        };
        *changed = true;
        match effect {
            Effect::None => {}
            Effect::Quit => return Ok(false),
            Effect::Suspend => self.suspend()?,
            Effect::Redraw => self.terminal.draw_anew()?,
            Effect::Save(what) => self.save(what, path),
            Effect::Delay(delay) => control.set_delay(delay),
        }
        Ok(true)
    }

    fn suspend(&mut self) -> io::Result<()> {
        self.terminal.lend();
        self.signals.stop_here()?;
        let _it_is_now = self.signals.goes_on();
        self.terminal.take_again()
    }

    fn save(&mut self, what: Save, path: impl Fn(&str) -> PathBuf) {
        self.model.message = Some(match save(&self.model, what, |extension| path(extension)) {
            Ok(path) => {
                let message = format!("Saved {}.", path.display());
                self.saved.push(path);
                message
            }
            Err(error) => format!("Not saved: {error}"),
        });
    }
}
