//! Signals that are for the view.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP};
use signal_hook::{flag, low_level};

/// What came since it was last asked for.
#[derive(Debug)]
pub struct Signals {
    ends: Arc<AtomicBool>,
    stops: Arc<AtomicBool>,
    goes_on: Arc<AtomicBool>,
}

impl Signals {
    /// From now on they are heard of, and do nothing else.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listen() -> io::Result<Self> {
        let on = |signals: &[i32]| -> io::Result<Arc<AtomicBool>> {
            let came = Arc::new(AtomicBool::new(false));
            for signal in signals {
                flag::register(*signal, Arc::clone(&came))?;
            }
            Ok(came)
        };
        Ok(Self {
            ends: on(&[SIGINT, SIGTERM, SIGHUP])?,
            stops: on(&[SIGTSTP])?,
            goes_on: on(&[SIGCONT])?,
        })
    }

    /// Somebody wants it to end.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.ends.load(Ordering::Relaxed)
    }

    /// Somebody wants it to stop for a while.
    #[must_use]
    pub fn stops(&self) -> bool {
        self.stops.swap(false, Ordering::Relaxed)
    }

    /// It was stopped, and goes on: others had the terminal meanwhile.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.goes_on.swap(false, Ordering::Relaxed)
    }

    /// Stops this process until somebody says to go on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop_here(&self) -> io::Result<()> {
        low_level::emulate_default_handler(SIGTSTP)
    }
}
