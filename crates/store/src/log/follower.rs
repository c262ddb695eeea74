//! Reading a log while it is written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::writer::aged;

/// Reads a log from its oldest byte on, across rotations, and then what is added to it.
///
/// Does not wait: [`Followed::UpToDate`] means that there is nothing now, and the caller decides
/// whether and how long to wait before asking again.
#[derive(Debug)]
pub struct LogFollower {
    path: PathBuf,
    /// The file being read; none before the first read or while there is no log.
    file: Option<File>,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// So many bytes.
    Bytes(usize),
    /// Bytes were dropped by rotation before they were read; the next read goes on after them.
    Gap,
    /// Nothing that was not read before.
    UpToDate,
}

impl LogFollower {
    /// Follows the log at `path`, which need not be there yet, from its oldest byte.
    #[must_use]
    pub fn from_start(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None }
    }

    /// Reads what comes next.
    ///
    /// # Errors
    ///
    /// If a file of the log cannot be read.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Followed> {
        let Some(file) = &mut self.file else {
            self.file = self.oldest()?;
            return if self.file.is_some() { self.read(buffer) } else { Ok(Followed::UpToDate) };
        };
        let read = file.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(Followed::Bytes(read));
        }
        self.next_file(buffer)
    }

    /// The present file is read to its end: whether that is the end of the log depends on where the
    /// writer has moved it.
    fn next_file(&mut self, buffer: &mut [u8]) -> io::Result<Followed> {
        let Some(file) = &mut self.file else { return Ok(Followed::UpToDate) };
        let ours = identity(file)?;
        let age = self.age_of(ours)?;
        if age == Some(0) {
            return Ok(Followed::UpToDate);
        }
        // It was moved aside: nothing more will be written to it, but something may have been
        // between our last read and the move.
        let Some(file) = &mut self.file else { return Ok(Followed::UpToDate) };
        let read = file.read(buffer)?;
        if read > 0 {
            return Ok(Followed::Bytes(read));
        }
        match age {
            Some(age) => {
                let newer = aged(&self.path, age.saturating_sub(1));
                match File::open(newer) {
                    Ok(next) if identity(&next)? != ours => self.file = Some(next),
                    // The writer is between two steps of a rotation.
                    Ok(_) => return Ok(Followed::UpToDate),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Ok(Followed::UpToDate);
                    }
                    Err(error) => return Err(error),
                }
                self.read(buffer)
            }
            None => {
                self.file = self.oldest()?;
                Ok(Followed::Gap)
            }
        }
    }

    fn oldest(&self) -> io::Result<Option<File>> {
        let mut age = self.ages()?;
        loop {
            match File::open(aged(&self.path, age)) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && age > 0 => age -= 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn age_of(&self, file: (u64, u64)) -> io::Result<Option<u32>> {
        for age in 0..=self.ages()? {
            match aged(&self.path, age).symlink_metadata() {
                Ok(about) if (about.dev(), about.ino()) == file => return Ok(Some(age)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The highest age that any file of the log has.
    fn ages(&self) -> io::Result<u32> {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(0);
        };
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let mut highest = 0;
        for entry in entries {
            let found = entry?.file_name();
            let age = found.to_str().and_then(|text| {
                text.strip_prefix(name.to_str()?)?.strip_prefix('.')?.parse().ok()
            });
            highest = highest.max(age.unwrap_or(0)).min(MAX_AGE);
        }
        Ok(highest)
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let about = file.metadata()?;
    Ok((about.dev(), about.ino()))
}

/// Beyond what any writer keeps; a file that somebody named so is none of ours.
const MAX_AGE: u32 = 1000;
