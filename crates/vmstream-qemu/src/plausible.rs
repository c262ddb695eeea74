//! Where a body ends of which nothing is known but the footer behind it.

use memchr::memmem;

use crate::cursor::Cursor;
use crate::description::DescribedDevice;
use crate::element::{COMMAND, DESCRIPTION, END, FOOTER, FULL, LAST, PART, START};

/// Bytes before the first footer of that section behind which the stream can go on.
///
/// `next` is what must begin there, if that is known.
pub(crate) fn body_length(
    bytes: &[u8],
    section_id: u32,
    next: Option<&DescribedDevice>,
) -> Option<usize> {
    let mut footer = vec![FOOTER];
    footer.extend_from_slice(&section_id.to_be_bytes());
    memmem::find_iter(bytes, &footer).find(|at| {
        let behind = at.saturating_add(footer.len());
        goes_on(bytes.get(behind..).unwrap_or_default(), next)
    })
}

fn goes_on(bytes: &[u8], next: Option<&DescribedDevice>) -> bool {
    let mut cursor = Cursor::new(bytes, 0);
    match cursor.u8() {
        Err(_) => true,
        Ok(END) => {
            cursor.is_empty() || cursor.peek() == Some(DESCRIPTION) || all_zero(cursor.rest())
        }
        Ok(START | FULL) => begins(cursor, next).unwrap_or(false),
        Ok(PART | LAST) => next.is_none() && cursor.be32().is_ok_and(|id| id < MOST_ID),
        Ok(COMMAND) => {
            next.is_none() && cursor.be16().is_ok_and(|number| (1..=11).contains(&number))
        }
        Ok(_) => false,
    }
}

/// Section numbers count up from 0.
const MOST_ID: u32 = 1 << 20;

fn begins(mut cursor: Cursor<'_>, next: Option<&DescribedDevice>) -> Option<bool> {
    let section_id = cursor.be32().ok()?;
    let name = cursor.counted().ok()?;
    let instance_id = cursor.be32().ok()?;
    let version = cursor.be32().ok()?;
    if let Some(next) = next {
        return Some(*name == *next.name && instance_id == next.instance_id);
    }
    let printable = !name.is_empty() && name.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    Some(printable && section_id < MOST_ID && version < MOST_ID)
}

fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
