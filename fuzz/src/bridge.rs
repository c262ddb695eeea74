//! The other side of a migration: its offer, its reply, its answers.

use std::io;

use vmstream_bridge::fuzzing::{deliver, offer, regions, reply, samples};
use vmstream_qemu::{Answer, read_answers};

use crate::stream;

/// First byte: what follows. 0: an offer; 1: a reply; 2: answers; 3 to 5: the same, whose checksums are to be mended.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    let mut rest = rest.to_vec();
    if mode % 6 > 2 {
        stream::mend(&mut rest);
    }
    match mode % 3 {
        0 => {
            if let Ok(answered) = offer(&rest) {
                reply(&answered).expect("an answer is one for who asked");
            }
        }
        1 => {
            reply(&rest).ok();
        }
        _ => answers(&rest),
    }
}

/// Whatever is answered, QEMU is told what it understands, and asked for pages that there are.
fn answers(mut said: &[u8]) {
    let (told, _) = deliver(&mut said);
    let mut told = &*told;
    while !told.is_empty() {
        let taken = read_answers(&mut told, &mut |answer| {
            if let Answer::RequestPages { block, offset, bytes } = answer {
                let block = block.ok_or(io::ErrorKind::InvalidData)?;
                let there = regions().into_iter().find(|(name, _)| *name == &*block);
                let (_, size) = there.ok_or(io::ErrorKind::InvalidData)?;
                assert!(offset.checked_add(bytes.into()).is_some_and(|end| end <= size));
            }
            Ok(())
        });
        taken.expect("QEMU understands it");
    }
}

/// What both sides write, whole and cut.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let samples = samples().expect("all of it is valid");
    let cut = samples.each_ref().map(|sample| sample[..sample.len() / 2].to_vec());
    let modes = samples.into_iter().chain(cut).zip(0_u8..);
    modes.map(|(sample, mode)| [vec![mode], sample].concat()).collect()
}
