//! The keyboard, and sizes of the screen.
//!
//! On a thread of its own: when a terminal hangs up, crossterm (0.29) reads its end for ever, and
//! whoever waits for that hears of no signal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};

/// How long it is read after nobody wants it any more: what is typed then is for others.
const PATIENCE: Duration = Duration::from_millis(50);

/// Hears keys until this is dropped.
#[derive(Debug)]
pub struct Keys {
    from: Receiver<io::Result<Event>>,
    done: Arc<AtomicBool>,
}

impl Keys {
    /// Begins to hear.
    ///
    /// # Errors
    /// The kernel's, when there is no thread to be had.
    pub fn listen() -> io::Result<Self> {
        let (to, from) = mpsc::channel();
        let done = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&done);
        let listen = move || {
            while !heard.load(Ordering::Relaxed) {
                let event = match event::poll(PATIENCE) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(error) => Err(error),
                };
                let is_last = event.is_err();
                if to.send(event).is_err() || is_last {
                    break;
                }
            }
        };
        thread::Builder::new()
            .name("keyboard".to_owned())
            .spawn(listen)?;
        Ok(Self { from, done })
    }

    /// The next event, if one comes in time.
    ///
    /// # Errors
    /// The terminal's.
    pub fn next(&self, timeout: Duration) -> io::Result<Option<Event>> {
        match self.from.recv_timeout(timeout) {
            Ok(event) => event.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
    }
}
