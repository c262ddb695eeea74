//! A terminal with somebody at it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::deadline::eventually;

/// A program with a pseudo-terminal as its controlling one.
#[derive(Debug)]
pub struct Terminal {
    keyboard: File,
    child: Child,
    screen: Arc<Mutex<Vec<u8>>>,
    watcher: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Starts a program in a terminal of this size.
    ///
    /// # Panics
    ///
    /// When there is no terminal to be had, or no such program.
    pub fn run<A: AsRef<OsStr>>(
        (rows, columns): (u16, u16),
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a free one");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("ours");
        let name = ptsname(&ours, Vec::new()).expect("it has one");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(&name, flags, Mode::empty()).expect("unlocked");
        let shared = || theirs.try_clone().expect("a descriptor more");
        resize(&ours, rows, columns);
        // Its own session, with its standard input for a controlling terminal.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program).args(args).env("TERM", "xterm");
        command.stdin(shared()).stdout(shared()).stderr(theirs);
        let child = command.spawn().expect("setsid is part of every Debian");
        drop(command);
        let keyboard = File::from(ours);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let watched = keyboard.try_clone().expect("a descriptor more");
        let watcher = watch(watched, Arc::clone(&screen));
        Self { keyboard, child, screen, watcher: Some(watcher) }
    }

    /// Types.
    ///
    /// # Panics
    ///
    /// When the terminal is gone.
    pub fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).expect("somebody listens");
    }

    /// Gives it another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.keyboard, rows, columns);
    }

    /// Waits until this has been shown.
    ///
    /// # Panics
    ///
    /// When it never is.
    pub fn shows(&self, text: &str) {
        eventually(&format!("{text:?} is shown"), || self.screen().contains(text).then_some(()));
    }

    /// All that has been shown.
    #[must_use]
    pub fn screen(&self) -> String {
        let shown = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&shown).replace('\r', "")
    }

    /// Waits for the program's end; how it ended and all that was shown.
    ///
    /// # Panics
    ///
    /// When it never ends.
    pub fn end(mut self) -> (ExitStatus, String) {
        let child = &mut self.child;
        let status = eventually("the program ends", || child.try_wait().expect("our child"));
        // What it wrote last may not have been read yet.
        if let Some(watcher) = self.watcher.take() {
            eventually("nobody writes any more", || watcher.is_finished().then_some(()));
        }
        (status, self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail where it has ended, as it mostly has.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a terminal has a size");
}

fn watch(mut from: File, screen: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        // Reading fails once nobody has the other side open any more.
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut shown = screen.lock().unwrap_or_else(PoisonError::into_inner);
            shown.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
    })
}
