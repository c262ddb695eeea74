//! Many streams over a serial line: against a peer that sends anything, and between two honest ends of a bad line.

mod hostile;
mod line;

/// First byte: what follows. 0: what a hostile peer sends; 1: what happens on a line between honest ends.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    match mode % 2 {
        0 => hostile::run(rest),
        _ => line::run(rest),
    }
}

/// A conversation of each.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let hostile = hostile::seeds().into_iter().map(|seed| [&[0], seed.as_slice()].concat());
    let line = line::seeds().into_iter().map(|seed| [&[1], seed.as_slice()].concat());
    hostile.chain(line).collect()
}
