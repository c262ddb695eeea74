//! Lists whose length the peer chose.

use minicbor::Decode;
use minicbor::decode::{Decoder, Error};

/// Decodes an array of at most `MAX` items.
///
/// A one-byte item costs the sender one byte and us the size of `T`; the bound keeps that product small.
pub(crate) fn at_most<'b, C, T: Decode<'b, C>, const MAX: usize>(
    d: &mut Decoder<'b>,
    ctx: &mut C,
) -> Result<Vec<T>, Error> {
    let position = d.position();
    let mut items = Vec::new();
    for item in d.array_iter_with(ctx)? {
        if items.len() >= MAX {
            return Err(Error::message("list has too many items").at(position));
        }
        items.push(item?);
    }
    Ok(items)
}
