//! What changed in a page, as runs of bytes that stayed and bytes that did not.
//!
//! Source: QEMU, `docs/devel/migration/` on XBZRLE; `migration/xbzrle.c`.

use crate::cursor::Cursor;
use crate::error::{Broken, Rule};
use crate::input::len64;

/// Brings `page`, as it was when it was last sent, up to date.
///
/// # Errors
///
/// When the difference is no such encoding, or reaches beyond the page. The page is then half changed.
pub fn apply_xbzrle(page: &mut [u8], difference: &[u8]) -> Result<(), Broken> {
    let mut cursor = Cursor::new(difference, 0);
    let mut at = 0usize;
    while !cursor.is_empty() {
        at = at.saturating_add(run(&mut cursor)?);
        let changed = run(&mut cursor)?;
        let data = cursor.take(changed)?;
        let end = at.saturating_add(changed);
        let broken = cursor.broken(Rule::RamOffset).found(len64(end)).want(len64(page.len()));
        page.get_mut(at..end).ok_or(broken)?.copy_from_slice(data);
        at = end;
    }
    Ok(())
}

/// A length in one or two bytes, seven bits each, the lower first.
fn run(cursor: &mut Cursor<'_>) -> Result<usize, Broken> {
    let low = cursor.u8()?;
    if low & 0x80 == 0 {
        return Ok(low.into());
    }
    let at = *cursor;
    let high = cursor.u8()?;
    if high & 0x80 != 0 {
        return Err(at.broken(Rule::Length).found(high));
    }
    Ok(usize::from(low & 0x7f) | usize::from(high) << 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_stayed_and_runs_that_did_not_make_the_page() {
        let mut page = [0u8; 300];
        apply_xbzrle(&mut page, &[2, 1, 9, 0x80 | 100, 1, 2, 7, 8]).expect("valid");

        assert_eq!((page[2], page[231], page[232]), (9, 7, 8));
    }

    #[test]
    fn what_reaches_beyond_the_page_is_refused() {
        let broken = apply_xbzrle(&mut [0; 4], &[3, 2, 1, 1]).expect_err("too long");

        assert_eq!(broken.rule, Rule::RamOffset);
        assert!(apply_xbzrle(&mut [0; 4], &[0x80]).is_err());
    }
}
