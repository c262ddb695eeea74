//! The body of a section `dirty-bitmap`: where it ends, which only its own grammar tells.
//!
//! Source: QEMU, `migration/block-dirty-bitmap.c`.

use crate::error::{Broken, ReadError, Rule};
use crate::input::{Input, len64};
use crate::reader::STATE_BYTES;

const EOS: u32 = 0x01;
const ZEROES: u32 = 0x02;
const BITMAP_NAME: u32 = 0x04;
const DEVICE_NAME: u32 = 0x08;
const START: u32 = 0x10;
const BITS: u32 = 0x40;
const EXTRA_FLAGS: u32 = 0x80;

/// The body's bytes, up to and with its end mark.
pub(crate) fn body(input: &mut Input<'_>) -> Result<Vec<u8>, ReadError> {
    let start = input.offset();
    let mut bytes = Vec::new();
    loop {
        let flags = flags(input, &mut bytes)?;
        if flags & DEVICE_NAME != 0 {
            name(input, &mut bytes)?;
        }
        if flags & BITMAP_NAME != 0 {
            name(input, &mut bytes)?;
        }
        if flags & START != 0 {
            // Granularity and the bitmap's own flags.
            copy(input, &mut bytes, 5)?;
        }
        if flags & BITS != 0 {
            // The first sector and how many.
            copy(input, &mut bytes, 12)?;
            if flags & ZEROES == 0 {
                let length = input.peek_be64()?;
                copy(input, &mut bytes, 8)?;
                copy(input, &mut bytes, length)?;
            }
        }
        if len64(bytes.len()) > STATE_BYTES {
            return Err(Broken::at(start, Rule::Length).want(STATE_BYTES).into());
        }
        if flags & EOS != 0 {
            return Ok(bytes);
        }
    }
}

/// One byte; its highest bit would announce more, which no QEMU writes.
fn flags(input: &mut Input<'_>, bytes: &mut Vec<u8>) -> Result<u32, ReadError> {
    let start = input.offset();
    let flags = u32::from(input.peek_u8()?);
    if flags & EXTRA_FLAGS != 0 {
        return Err(Broken::at(start, Rule::Decoder).found(flags).into());
    }
    copy(input, bytes, 1)?;
    Ok(flags)
}

fn name(input: &mut Input<'_>, bytes: &mut Vec<u8>) -> Result<(), ReadError> {
    let length = input.peek_u8()?;
    copy(input, bytes, u64::from(length).saturating_add(1))
}

fn copy(input: &mut Input<'_>, bytes: &mut Vec<u8>, count: u64) -> Result<(), ReadError> {
    bytes.extend(input.vec(count, STATE_BYTES)?);
    Ok(())
}
