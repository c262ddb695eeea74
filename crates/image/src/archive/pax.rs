//! PAX extended headers: `<length> <key>=<value>\n`, where the length counts the whole record.
//!
//! Source: POSIX.1-2017, `pax`, "pax Extended Header". Values may hold any byte, newlines too.

use bandsox_erofs::Timestamp;

/// What extended headers said; later records win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timestamp>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// The `GNU.sparse.*` records of formats 0.0, 0.1 and 1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// `GNU.sparse.realsize` (1.0) or `GNU.sparse.size` (0.x).
    pub(super) real_size: Option<u64>,
    /// Offsets and lengths in turn, from `GNU.sparse.map` or from the repeated records of 0.0.
    pub(super) map: Vec<u64>,
}

/// A record that is not in the format; the key is empty if not even that could be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) key: String,
}

impl Records {
    /// Reads all records of one extended header on top of what is known.
    pub(super) fn absorb(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        // Some writers pad with NULs.
        while bytes.first().is_some_and(|byte| *byte != 0) {
            let (key, value, rest) = split_record(bytes).ok_or(Malformed { key: String::new() })?;
            self.set(key, value)
                .ok_or_else(|| Malformed { key: String::from_utf8_lossy(key).into_owned() })?;
            bytes = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.linkpath = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.mtime = Some(timestamp(value)?),
            b"GNU.sparse.major" => self.sparse.major = Some(number(value)?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(number(value)?),
            b"GNU.sparse.name" => self.sparse.name = Some(value.to_vec()),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => {
                self.sparse.real_size = Some(number(value)?)
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.map.push(number(value)?),
            b"GNU.sparse.map" => {
                self.sparse.map =
                    value.split(|byte| *byte == b',').map(number).collect::<Option<_>>()?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

/// Key, value and what follows the first record.
fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(number(bytes.get(..space)?)?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals.checked_add(1)?..)?, rest))
}

/// A decimal number without sign.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.starts_with('+') { None } else { text.parse().ok() }
}

/// Seconds with any number of decimals, of which nine count; before 1970 with a minus.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0u32, |sum, digit| {
        sum.saturating_mul(10).saturating_add(u32::from(digit.saturating_sub(b'0')))
    });
    if whole.starts_with('-') && nanos > 0 {
        return Some(Timestamp {
            seconds: seconds.checked_sub(1)?,
            nanos: 1_000_000_000u32.saturating_sub(nanos),
        });
    }
    Some(Timestamp { seconds, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = body.len();
        while length.to_string().len() + body.len() != length {
            length = length.to_string().len() + body.len();
        }
        [length.to_string().as_bytes(), &body].concat()
    }

    #[test]
    fn values_with_newlines_and_nuls_arrive_whole() {
        let mut records = Records::default();
        let bytes = [
            record("SCHILY.xattr.security.capability", b"\x01\n\0\n=\n"),
            record("path", b"a\nb c"),
            record("mtime", b"1700000000.123456789"),
        ];

        records.absorb(&bytes.concat()).expect("well formed");

        assert_eq!(records.path.as_deref(), Some(&b"a\nb c"[..]));
        assert_eq!(records.mtime, Some(Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 }));
        assert_eq!(records.xattrs, [(b"security.capability".to_vec(), b"\x01\n\0\n=\n".to_vec())]);
    }

    #[test]
    fn times_before_1970_count_their_nanoseconds_forwards() {
        assert_eq!(timestamp(b"-1.25"), Some(Timestamp { seconds: -2, nanos: 750_000_000 }));
        assert_eq!(timestamp(b"-3"), Some(Timestamp { seconds: -3, nanos: 0 }));
        assert_eq!(timestamp(b"1.x"), None);
    }

    #[test]
    fn records_that_lie_about_their_length_are_refused() {
        let refused = Malformed { key: String::new() };

        for bytes in
            [&b"99 path=x\n"[..], b"5 path=x\n", b"path=x\n", b"9 pathxx\n", b"-9 path=x\n"]
        {
            assert_eq!(Records::default().absorb(bytes), Err(refused.clone()), "{bytes:?}");
        }
        let refused = Records::default().absorb(&record("size", b"-1")).expect_err("negative");
        assert_eq!(refused.key, "size");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            // Only that it returns counts here.
            drop(Records::default().absorb(&bytes));
        }

        #[test]
        fn what_is_written_is_read(value: Vec<u8>) {
            let mut records = Records::default();
            records.absorb(&record("linkpath", &value)).expect("well formed");
            proptest::prop_assert_eq!(records.linkpath, Some(value));
        }
    }
}
