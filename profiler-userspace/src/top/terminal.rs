//! The terminal: taken for the view, and given back as it was, whatever happens.

use std::io::{self, Stdout, Write, stdout};
use std::mem::ManuallyDrop;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{execute, queue};
use ratatui::layout::Rect;

/// Whether the terminal is ours. There is one, and a panic of any thread gives it back.
static IS_OURS: AtomicBool = AtomicBool::new(false);
static HOOK: Once = Once::new();

/// A terminal that is ours until this is dropped.
#[derive(Debug)]
pub struct Terminal {
    /// What is drawn on. Never dropped: it would say that it cannot show the cursor of a terminal that
    /// hung up, to that terminal, and panic since it cannot say so either. It holds memory only.
    pub screen: ManuallyDrop<ratatui::Terminal<CrosstermBackend<Stdout>>>,
}

impl Terminal {
    /// Takes it.
    ///
    /// # Errors
    /// The terminal's, which has been given back then.
    pub fn take() -> io::Result<Self> {
        HOOK.call_once(|| {
            let tell = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                // First: what is said on the other screen is gone with it.
                give_back();
                tell(info);
            }));
        });
        begin().inspect_err(|_| give_back())?;
        let screen =
            ratatui::Terminal::new(CrosstermBackend::new(stdout())).inspect_err(|_| give_back())?;
        Ok(Self {
            screen: ManuallyDrop::new(screen),
        })
    }

    /// Whether it is still ours: a thread that panics gives it back.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        IS_OURS.load(Ordering::SeqCst)
    }

    /// Gives it back for a while.
    pub fn lend(&mut self) {
        give_back();
    }

    /// Takes it again, whatever others did to it meanwhile.
    ///
    /// # Errors
    /// The terminal's.
    pub fn take_again(&mut self) -> io::Result<()> {
        // Others may have left it as they found it, raw: what was there before is known.
        give_back();
        begin().inspect_err(|_| give_back())?;
        self.draw_anew()
    }

    /// The next picture is drawn whole. Asks the terminal nothing: some do not answer.
    ///
    /// # Errors
    /// The terminal's.
    pub fn draw_anew(&mut self) -> io::Result<()> {
        let size = self.screen.size()?;
        self.screen.resize(Rect::new(0, 0, size.width, size.height))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

fn begin() -> io::Result<()> {
    IS_OURS.store(true, Ordering::SeqCst);
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide)
}

fn give_back() {
    if !IS_OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    // One that hung up needs nothing.
    let mut out = stdout();
    let _hung_up = queue!(out, LeaveAlternateScreen, Show);
    let _hung_up = out.flush();
    let _hung_up = disable_raw_mode();
}
