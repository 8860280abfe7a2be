//! The binary under test on a terminal of its own, and what that shows.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::run::{PATIENCE, command, send};

/// A run on a terminal, which is killed when this is dropped.
#[derive(Debug)]
pub struct Screen {
    child: Child,
    terminal: OwnedFd,
    /// Our own end of the other side: the terminal keeps its state as long as somebody has it.
    side: Option<OwnedFd>,
    keyboard: File,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
    before: Modes,
    hung_up: Arc<AtomicBool>,
}

/// What a terminal does with what is typed and written: `struct termios`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes([u32; 4]);

struct Seen {
    parser: vt100::Parser,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parser.screen().contents())
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Left {
    /// Exit code; 128 and the signal's number when it was killed.
    pub code: i32,
    /// What the terminal shows.
    pub text: String,
    /// It shows the screen that was there before.
    pub is_normal_screen: bool,
    /// Its cursor is there.
    pub has_cursor: bool,
    /// Its modes are as they were.
    pub modes_are_as_before: bool,
}

impl Left {
    /// The terminal is as it was found.
    pub fn is_restored(&self) {
        let restored = self.is_normal_screen && self.has_cursor && self.modes_are_as_before;
        assert!(restored, "{self:?}");
    }
}

fn check(result: libc::c_int, doing: &str) {
    let error = std::io::Error::last_os_error();
    assert_ne!(result, -1, "{doing}: {error}");
}

fn size(columns: u16, rows: u16) -> libc::winsize {
    libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

fn modes(terminal: &OwnedFd) -> Modes {
    // SAFETY: a plain structure of numbers.
    let mut found: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: a descriptor of ours, and room for the answer.
    let result = unsafe { libc::tcgetattr(terminal.as_raw_fd(), &mut found) };
    check(result, "tcgetattr");
    Modes([found.c_iflag, found.c_oflag, found.c_cflag, found.c_lflag])
}

impl Screen {
    /// Runs it on a terminal of that size, in a directory.
    ///
    /// # Panics
    /// When there is no terminal to be had.
    #[must_use]
    pub fn start(args: &[&str], columns: u16, rows: u16, directory: &Path) -> Self {
        Self::run(command(args), columns, rows, directory)
    }

    /// Runs a command likewise.
    ///
    /// # Panics
    /// As there.
    #[must_use]
    pub fn run(mut command: Command, columns: u16, rows: u16, directory: &Path) -> Self {
        let (mut terminal, mut side) = (0, 0);
        let size = size(columns, rows);
        // SAFETY: room for two descriptors; the others may be null.
        let result = unsafe {
            libc::openpty(
                &mut terminal,
                &mut side,
                std::ptr::null_mut(),
                std::ptr::null(),
                &size,
            )
        };
        check(result, "openpty");
        // SAFETY: just opened, and nobody else's.
        let (terminal, side) =
            unsafe { (OwnedFd::from_raw_fd(terminal), OwnedFd::from_raw_fd(side)) };
        for end in [&terminal, &side] {
            // SAFETY: descriptors of ours: they are not for programs that are started.
            check(
                unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) },
                "fcntl",
            );
        }
        let before = modes(&side);
        let stdio = || Stdio::from(side.try_clone().expect("a descriptor"));
        command
            .current_dir(directory)
            .env("TERM", "xterm-256color")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio());
        // SAFETY: two system calls, which are allowed between fork and exec.
        unsafe {
            command.pre_exec(|| {
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            })
        };
        let child = command.spawn().expect("pyscry runs");
        let seen = Arc::new(Mutex::new(Seen {
            parser: vt100::Parser::new(rows, columns, 0),
        }));
        let mut output = File::from(terminal.try_clone().expect("a descriptor"));
        let keyboard = File::from(terminal.try_clone().expect("a descriptor"));
        let written = Arc::clone(&seen);
        let hung_up = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&hung_up);
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            // It fails when nobody has the other side any more.
            while let Ok(count @ 1..) = output.read(&mut piece) {
                let mut seen = written.lock().expect("what was seen");
                seen.parser.process(&piece[..count]);
                if stops.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        Self {
            child,
            terminal,
            side: Some(side),
            keyboard,
            seen,
            reader: Some(reader),
            before,
            hung_up,
        }
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the terminal shows.
    #[must_use]
    pub fn text(&self) -> String {
        let seen = self.seen.lock().expect("what was seen");
        seen.parser.screen().contents()
    }

    /// Its lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let text = self.text();
        text.lines()
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    /// Types.
    ///
    /// # Panics
    /// When nobody reads.
    pub fn press(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .expect("the terminal reads");
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        let mut seen = self.seen.lock().expect("what was seen");
        seen.parser.screen_mut().set_size(rows, columns);
        let size = size(columns, rows);
        // SAFETY: a descriptor of ours, and a structure that is read.
        let result = unsafe { libc::ioctl(self.terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        check(result, "TIOCSWINSZ");
    }

    /// Hangs up: nobody has the terminal's other end any more. Waits for the end, and returns the exit
    /// code.
    ///
    /// # Panics
    /// When it goes on.
    #[must_use]
    pub fn hang_up(mut self) -> i32 {
        drop(self.side.take());
        self.hung_up.store(true, Ordering::Relaxed);
        // The reader has the terminal as long as something is drawn: it ends after the next picture.
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the screen");
        }
        let null = || File::open("/dev/null").expect("it is always there");
        self.keyboard = null();
        self.terminal = null().into();
        let status = self.wait();
        status.code().expect("it ends by itself")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        send(self.pid(), signal);
    }

    /// The modes of the terminal.
    #[must_use]
    pub fn modes(&self) -> Modes {
        modes(&self.terminal)
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Panics
    /// When it never is.
    pub fn until(&mut self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let lines = self.lines();
            if wanted(&lines) {
                return lines;
            }
            if let Some(status) = self.child.try_wait().expect("our own child") {
                panic!("{what}: it ended with {status}: {}", self.text());
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: never: {lines:#?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the screen has a text.
    ///
    /// # Panics
    /// When it never has.
    pub fn until_it_says(&mut self, text: &str) -> Vec<String> {
        self.until(text, |lines| lines.iter().any(|line| line.contains(text)))
    }

    /// Waits until the process has stopped.
    ///
    /// # Panics
    /// When it never does.
    pub fn until_stopped(&self) {
        let begin = Instant::now();
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
            let stat = stat.expect("it runs");
            let state = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next());
            state.expect("a state")
        };
        while state() != 'T' {
            assert!(begin.elapsed() < PATIENCE, "it does not stop");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "it hangs: {}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn end(mut self) -> Left {
        let status = self.wait();
        let after = self.modes();
        // All that was written is read before the end is.
        drop(self.side.take());
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the screen");
        }
        let seen = self.seen.lock().expect("what was seen");
        let screen = seen.parser.screen();
        Left {
            code: status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            text: screen.contents(),
            is_normal_screen: !screen.alternate_screen(),
            has_cursor: !screen.hide_cursor(),
            modes_are_as_before: after == self.before,
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
