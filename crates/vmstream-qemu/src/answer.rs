//! What a destination says back on the return path.
//!
//! Source: QEMU, `migration/migration.c`, `source_return_path_thread`, `migrate_send_rp_message`.

use std::io::{self, Read, Write};

use crate::cursor::Cursor;
use crate::encode::put_counted;
use crate::error::{Broken, ReadError, Rule};
use crate::input::{Input, len64};
use crate::writer::WriteError;

/// Bits of one block that are read: those of 512 GiB.
const BITMAP_BYTES: u64 = 16 << 20;

/// What stands behind a bitmap.
const BITMAP_END: u64 = 0x0123_4567_89ab_cdef;

/// A message of the return path.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The destination is done; 0 is success. Nothing follows.
    Shut(u32),
    /// The number of a [`crate::Command::PING`].
    Pong(u32),
    /// Pages are wanted at once.
    RequestPages {
        /// Their block, or the block of the request before.
        block: Option<Box<str>>,
        /// Where in the block they begin.
        offset: u64,
        /// How much is wanted.
        bytes: u32,
    },
    /// Which pages of a block arrived.
    ReceivedBitmap {
        /// The block.
        block: Box<str>,
        /// A bit a page, the lowest first, in whole words.
        bits: Vec<u8>,
    },
    /// An interrupted postcopy can go on.
    ResumeAck(u32),
    /// The destination is ready for the source to stop.
    SwitchoverAck,
}

/// Reads messages until the destination shuts the path, or the source of bytes ends between two.
///
/// # Errors
///
/// When a message is unknown or malformed; when `source` fails; when `take` refuses one.
pub fn read_answers(
    source: &mut dyn Read,
    take: &mut dyn FnMut(Answer) -> io::Result<()>,
) -> Result<(), ReadError> {
    let mut input = Input::new(source, 0);
    while !input.at_end()? {
        let start = input.offset();
        let kind = input.be16()?;
        let length = input.be16()?;
        let data = input.vec(length.into(), u64::from(u16::MAX))?;
        let broken = || Broken::at(start, Rule::Answer).found(kind);
        let mut answer = parse(kind, &data).ok_or_else(broken)?;
        if let Answer::ReceivedBitmap { block: _, bits } = &mut answer {
            let bytes = input.be64()?;
            *bits = input.vec(bytes, BITMAP_BYTES)?;
            let at = input.offset();
            let end = input.be64()?;
            if end != BITMAP_END {
                return Err(Broken::at(at, Rule::Answer).found(end).want(BITMAP_END).into());
            }
        }
        let last = matches!(answer, Answer::Shut(_));
        take(answer).map_err(|source| ReadError::Sink { offset: start, source })?;
        if last {
            break;
        }
    }
    Ok(())
}

fn parse(kind: u16, data: &[u8]) -> Option<Answer> {
    let mut cursor = Cursor::new(data, 0);
    let answer = match kind {
        1 => Answer::Shut(cursor.be32().ok()?),
        2 => Answer::Pong(cursor.be32().ok()?),
        3 | 4 => {
            let (high, low) = (cursor.be32().ok()?, cursor.be32().ok()?);
            let offset = u64::from(high) << 32 | u64::from(low);
            let bytes = cursor.be32().ok()?;
            let block = if kind == 3 { Some(cursor.counted().ok()?.into()) } else { None };
            Answer::RequestPages { block, offset, bytes }
        }
        5 => Answer::ReceivedBitmap { block: cursor.counted().ok()?.into(), bits: Vec::new() },
        6 => Answer::ResumeAck(cursor.be32().ok()?),
        7 => Answer::SwitchoverAck,
        _ => return None,
    };
    cursor.is_empty().then_some(answer)
}

/// Writes one message.
///
/// # Errors
///
/// When `out` fails, or a block's name is longer than the format has room for.
pub fn write_answer(out: &mut dyn Write, answer: &Answer) -> Result<(), WriteError> {
    let (mut data, mut behind) = (Vec::new(), Vec::new());
    let kind: u16 = match answer {
        Answer::Shut(_) => 1,
        Answer::Pong(_) => 2,
        Answer::RequestPages { block: Some(_), .. } => 3,
        Answer::RequestPages { block: None, .. } => 4,
        Answer::ReceivedBitmap { .. } => 5,
        Answer::ResumeAck(_) => 6,
        Answer::SwitchoverAck => 7,
    };
    match answer {
        Answer::Shut(number) | Answer::Pong(number) | Answer::ResumeAck(number) => {
            data.extend(number.to_be_bytes());
        }
        Answer::RequestPages { block, offset, bytes } => {
            data.extend(offset.to_be_bytes());
            data.extend(bytes.to_be_bytes());
            block.iter().try_for_each(|block| put_counted(block, &mut data))?;
        }
        Answer::ReceivedBitmap { block, bits } => {
            put_counted(block, &mut data)?;
            behind.extend(len64(bits.len()).to_be_bytes());
            behind.extend_from_slice(bits);
            behind.extend(BITMAP_END.to_be_bytes());
        }
        Answer::SwitchoverAck => {}
    }
    // No message has more than a block's name and 12 bytes.
    let length = u16::try_from(data.len()).unwrap_or(u16::MAX);
    let bytes = [&kind.to_be_bytes()[..], &length.to_be_bytes(), &data, &behind].concat();
    out.write_all(&bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        let answers = [
            Answer::Pong(7),
            Answer::RequestPages { block: Some("pc.ram".into()), offset: 1 << 40, bytes: 4096 },
            Answer::RequestPages { block: None, offset: 8192, bytes: 4096 },
            Answer::ReceivedBitmap { block: "pc.ram".into(), bits: vec![1; 16] },
            Answer::ResumeAck(1),
            Answer::SwitchoverAck,
            Answer::Shut(0),
        ];
        let mut bytes = Vec::new();
        answers.iter().for_each(|answer| write_answer(&mut bytes, answer).expect("it fits"));
        let mut read = Vec::new();
        read_answers(&mut bytes.as_slice(), &mut |answer| {
            read.push(answer);
            Ok(())
        })
        .expect("valid");

        assert_eq!(read, answers);
    }

    #[test]
    fn an_unknown_message_is_refused() {
        let refused = read_answers(&mut &[0, 9, 0, 0][..], &mut |_| Ok(()));

        assert!(matches!(refused, Err(ReadError::Broken(broken)) if broken.rule == Rule::Answer));
    }
}
