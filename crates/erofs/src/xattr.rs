//! Extended attributes as they lie behind an inode.

/// One attribute. Its name is split the way the disk has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    prefix: u8,
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// An attribute that the format cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XattrError {
    /// Name or value is longer than a file system may have.
    #[error("extended attribute {name:?}: {bytes} bytes are more than a file system holds")]
    TooLong {
        /// The attribute.
        name: String,
        /// Length of its name or value.
        bytes: usize,
    },
    /// All of one file's attributes together.
    #[error("{bytes} bytes of extended attributes on one file are more than a file system holds")]
    TooMany {
        /// How many bytes they would take.
        bytes: usize,
    },
}

impl Xattr {
    /// The attribute, or `None` if its name is of a kind that EROFS has no number for (`system.` other than ACLs, and
    /// what only one file system knows).
    pub fn new(full_name: &[u8], value: &[u8]) -> Result<Option<Self>, XattrError> {
        let found = PREFIXES.iter().find_map(|(prefix, number)| {
            full_name.strip_prefix(*prefix).map(|name| (*number, name))
        });
        let Some((prefix, name)) = found else {
            return Ok(None);
        };
        // An ACL's name is all prefix, every other one has something behind it.
        if name.is_empty() != matches!(prefix, ACL_ACCESS | ACL_DEFAULT) {
            return Ok(None);
        }
        if name.len() > 255 || value.len() > u16::MAX.into() {
            let name = String::from_utf8_lossy(full_name).into_owned();
            return Err(XattrError::TooLong { name, bytes: value.len().max(full_name.len()) });
        }
        Ok(Some(Self { prefix, name: name.into(), value: value.into() }))
    }

    /// Bytes of name and value.
    pub(crate) fn len(&self) -> usize {
        self.name.len().saturating_add(self.value.len())
    }
}

/// What follows an inode: header and entries. Empty without attributes.
pub(super) fn encode(xattrs: &[Xattr]) -> Vec<u8> {
    if xattrs.is_empty() {
        return Vec::new();
    }
    // Name filter, count of shared attributes, reserved: all unused.
    let mut bytes = vec![0; HEADER];
    for Xattr { prefix, name, value } in xattrs {
        let name_length = u8::try_from(name.len()).expect("`Xattr::new` has bounded it");
        let value_length = u16::try_from(value.len()).expect("`Xattr::new` has bounded it");
        bytes.extend([name_length, *prefix]);
        bytes.extend(value_length.to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// `i_xattr_icount` for `bytes` of encoded attributes.
pub(super) fn count(bytes: usize) -> Result<u16, XattrError> {
    match bytes.checked_sub(HEADER) {
        None => Ok(0),
        Some(entries) => u16::try_from((entries / 4).saturating_add(1))
            .map_err(|_| XattrError::TooMany { bytes }),
    }
}

const HEADER: usize = 12;
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", ACL_ACCESS),
    (b"system.posix_acl_default", ACL_DEFAULT),
    (b"trusted.", 4),
    (b"security.", 6),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_padded_and_counted_in_words() {
        let xattr = Xattr::new(b"user.ab", b"xyz").expect("fits").expect("a known prefix");

        let bytes = encode(&[xattr]);

        assert_eq!(&bytes[12..], &[2, 1, 3, 0, b'a', b'b', b'x', b'y', b'z', 0, 0, 0]);
        assert_eq!(count(bytes.len()), Ok(4));
        assert_eq!(count(0), Ok(0));
    }

    #[test]
    fn unknown_kinds_are_passed_over_and_long_ones_refused() {
        assert_eq!(Xattr::new(b"system.nfs4_acl", b""), Ok(None));
        assert_eq!(Xattr::new(b"user.", b""), Ok(None));
        assert_eq!(Xattr::new(b"system.posix_acl_access_x", b""), Ok(None));
        assert!(Xattr::new(b"system.posix_acl_access", b"acl").expect("fits").is_some());
        let refused = Xattr::new(b"user.a", &vec![0; 65_536]).expect_err("one too many");
        let said = "extended attribute \"user.a\": 65536 bytes are more than a file system holds";
        assert_eq!(refused.to_string(), said);
        assert_eq!(count(300_000), Err(XattrError::TooMany { bytes: 300_000 }));
    }
}
