//! Where a file has data and where it has holes.

use std::os::fd::BorrowedFd;

use bandsox_proto::v2::{MAX_SEGMENTS, Segment};
use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

/// The data within the first `size` bytes of `file`, as [`Entry`](bandsox_proto::v2::Entry) announces it.
///
/// Moves the file's position.
///
/// # Errors
///
/// If the file cannot be asked.
pub fn data_segments(file: &std::fs::File, size: u64) -> std::io::Result<Vec<Segment>> {
    let stat = rustix::fs::fstat(file)?;
    Ok(segments(std::os::fd::AsFd::as_fd(file), &stat, size))
}

/// The data of a file of `stat`, at most [`MAX_SEGMENTS`] pieces within `size`.
///
/// Only a file that occupies less than its length is asked for holes. A file system that cannot tell has one segment.
/// Moves the file's position.
pub(crate) fn segments(file: BorrowedFd<'_>, stat: &Stat, size: u64) -> Vec<Segment> {
    let occupied = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    if size == 0 {
        return Vec::new();
    }
    let whole = vec![Segment { offset: 0, len: size }];
    if occupied >= size { whole } else { seek(file, size).unwrap_or(whole) }
}

fn seek(file: BorrowedFd<'_>, size: u64) -> Result<Vec<Segment>, Errno> {
    let mut segments = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data from here on.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        if start >= size {
            break;
        }
        let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
        let len = end.checked_sub(start).filter(|len| *len > 0).ok_or(Errno::INVAL)?;
        segments.push(Segment { offset: start, len });
        if segments.len() >= MAX_SEGMENTS.saturating_mul(2) {
            join_closest(&mut segments, MAX_SEGMENTS);
        }
        at = end;
    }
    join_closest(&mut segments, MAX_SEGMENTS);
    Ok(segments)
}

/// Joins neighbours across the smallest holes until `limit` are left; those holes travel as zeros.
fn join_closest(segments: &mut Vec<Segment>, limit: usize) {
    let surplus = segments.len().saturating_sub(limit);
    if surplus == 0 {
        return;
    }
    let end = |segment: &Segment| segment.offset.saturating_add(segment.len);
    let mut gaps: Vec<u64> = segments
        .windows(2)
        .filter_map(|pair| match pair {
            [a, b] => Some(b.offset.saturating_sub(end(a))),
            _ => None,
        })
        .collect();
    gaps.sort_unstable();
    let widest = gaps.get(surplus.saturating_sub(1)).copied().unwrap_or(u64::MAX);
    let mut joined: Vec<Segment> = Vec::with_capacity(limit);
    for segment in segments.drain(..) {
        match joined.last_mut() {
            Some(last) if segment.offset.saturating_sub(end(last)) <= widest => {
                last.len = end(&segment).saturating_sub(last.offset);
            }
            _ => joined.push(segment),
        }
    }
    *segments = joined;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_holes_are_the_ones_given_up() {
        let mut segments: Vec<Segment> = [(0, 1), (2, 1), (100, 1), (102, 1), (300, 1)]
            .map(|(offset, len)| Segment { offset, len })
            .into();

        join_closest(&mut segments, 3);

        let expected = [(0, 3), (100, 3), (300, 1)].map(|(offset, len)| Segment { offset, len });
        assert_eq!(segments, expected);
    }
}
