//! Reading a log while it is written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::writer::{aged, oldest_age};

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
        loop {
            let Some(file) = &mut self.file else {
                self.file = self.oldest()?;
                if self.file.is_none() {
                    return Ok(Followed::UpToDate);
                }
                continue;
            };
            let read = file.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(Followed::Bytes(read));
            }
            match self.next(buffer)? {
                Next::Is(followed) => return Ok(followed),
                Next::Opened(file) => self.file = Some(file),
                Next::Unsettled => {}
            }
        }
    }

    /// The present file is read to its end: what comes next depends on where the writer has moved it.
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<Next> {
        let Some(file) = &mut self.file else { return Ok(Next::Is(Followed::UpToDate)) };
        let ours = identity(file)?;
        let before = age_of(&self.path, ours)?;
        if before == Some(0) {
            return Ok(Next::Is(Followed::UpToDate));
        }
        // It was moved aside, so that nothing more will be written to it; but something may have
        // been between our last read and the move.
        let read = file.read(buffer)?;
        if read > 0 {
            return Ok(Next::Is(Followed::Bytes(read)));
        }
        let Some(age) = before else {
            self.file = self.oldest()?;
            return Ok(Next::Is(Followed::Gap));
        };
        file_after(&self.path, ours, age)
    }

    fn oldest(&self) -> io::Result<Option<File>> {
        let highest = oldest_age(&self.path)?;
        for age in (0..=highest).rev() {
            match File::open(aged(&self.path, age)) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// What follows a file that was read to its end.
#[derive(Debug)]
enum Next {
    /// Nothing to look further for.
    Is(Followed),
    /// The file that was written after it.
    Opened(File),
    /// The files were moved while we looked.
    Unsettled,
}

/// The file that was written after the one that was found at `age`.
fn file_after(path: &Path, ours: (u64, u64), age: u32) -> io::Result<Next> {
    let newer = match File::open(aged(path, age.saturating_sub(1))) {
        Ok(newer) => newer,
        // The writer is between two steps of a rotation.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Next::Is(Followed::UpToDate));
        }
        Err(error) => return Err(error),
    };
    // Had the files been moved on between finding ours and opening the one after it, the one opened
    // would be another.
    let still = age_of(path, ours)? == Some(age);
    Ok(if still { Next::Opened(newer) } else { Next::Unsettled })
}

/// How many rotations ago a file was the one being written; nothing if it was deleted since.
fn age_of(path: &Path, file: (u64, u64)) -> io::Result<Option<u32>> {
    // Files only grow older: one that is moved on while we look is met at its new age, which may be
    // one that did not exist when we began.
    for age in 0..=oldest_age(path)?.saturating_add(1) {
        match aged(path, age).symlink_metadata() {
            Ok(about) if (about.dev(), about.ino()) == file => return Ok(Some(age)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let about = file.metadata()?;
    Ok((about.dev(), about.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_between_two_looks_does_not_skip_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("console.log");
        for age in 0..3 {
            std::fs::write(aged(&path, age), age.to_string()).expect("written");
        }
        let ours = identity(&File::open(aged(&path, 2)).expect("it is there")).expect("readable");

        let moved_on = file_after(&path, ours, 1).expect("readable");
        let settled = file_after(&path, ours, 2).expect("readable");

        assert!(matches!(moved_on, Next::Unsettled), "{moved_on:?}");
        assert!(matches!(settled, Next::Opened(_)), "{settled:?}");
    }
}
