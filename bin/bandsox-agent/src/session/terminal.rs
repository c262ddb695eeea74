//! A pseudo-terminal for a command.

use std::os::fd::OwnedFd;

use bandsox_proto::v2::WindowSize;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

/// Both ends: ours, and the command's.
pub(crate) struct Terminal {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

impl Terminal {
    pub(crate) fn open(size: WindowSize) -> rustix::io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        resize(&master, size)?;
        Ok(Self { master, slave })
    }
}

/// Tells the terminal, and thereby its foreground processes, its size.
pub(crate) fn resize(master: &OwnedFd, size: WindowSize) -> rustix::io::Result<()> {
    let WindowSize { rows, cols } = size;
    tcsetwinsize(master, Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 })
}

/// The character that a reader of this terminal takes for the end.
pub(crate) fn end_of_file(master: &OwnedFd) -> u8 {
    tcgetattr(master).map_or(4, |settings| settings.special_codes[SpecialCodeIndex::VEOF])
}
