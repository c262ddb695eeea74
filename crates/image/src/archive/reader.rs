//! Framing: header, extension headers, data, padding.

use std::io::{self, Read};

use bandsox_erofs::Timestamp;
use tar::{EntryType, GnuExtSparseHeader, Header};

use super::member::{Kind, Member};
use super::pax::{self, Records};
use super::sparse::{BadMap, MapBuilder};

/// Why an archive could not be read. Offsets are bytes from the start of the decompressed archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The input failed, or its compressed stream is damaged.
    #[error("could not read the archive at byte {offset}")]
    Io {
        /// How far the reader had got.
        offset: u64,
        /// What the operating system or the decompressor said.
        source: io::Error,
    },
    /// The archive stops in the middle of a member.
    #[error("the archive is cut short at byte {offset}")]
    Truncated {
        /// Where it ends.
        offset: u64,
    },
    /// A header whose checksum or whose field is wrong.
    #[error("member at byte {offset} has a damaged header: {field}")]
    Header {
        /// Where the header starts.
        offset: u64,
        /// Which field.
        field: &'static str,
    },
    /// A PAX record that is not in the format.
    #[error("extended header at byte {offset} is damaged near {key:?}")]
    Pax {
        /// Where its member starts.
        offset: u64,
        /// The record's key, empty if not even that could be read.
        key: String,
    },
    /// A kind of member that means nothing outside the tar that wrote it.
    #[error("member at byte {offset} is of kind {kind:?}, which cannot be stored")]
    Unsupported {
        /// Where the header starts.
        offset: u64,
        /// The type flag.
        kind: char,
    },
    /// More than the given bound.
    #[error("member at byte {offset}: {what} of {got} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// Where the header starts.
        offset: u64,
        /// What is too large.
        what: &'static str,
        /// How large it is.
        got: u64,
        /// How large it may be.
        limit: u64,
    },
}

/// A tar archive, read front to back.
///
/// `next_member` yields a member; its stored bytes can then be read from the archive itself (`Read`), and what is not read is
/// skipped by the following `next_member`.
pub struct Archive<R> {
    input: R,
    offset: u64,
    limit: u64,
    /// Stored bytes of the current member that were not read yet.
    left: u64,
    /// Padding after them.
    padding: u64,
    global: Records,
}

/// Extension headers seen before a member.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: Option<Records>,
}

impl<R: Read> Archive<R> {
    /// Reads `input`, which is decompressed already, up to `limit` bytes in all.
    #[must_use]
    pub fn new(input: R, limit: u64) -> Self {
        Self { input, offset: 0, limit, left: 0, padding: 0, global: Records::default() }
    }

    /// The next member, or `None` at the end of the archive.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; nothing more can be read then.
    pub fn next_member(&mut self) -> Result<Option<Member>, ReadError> {
        let mut extensions = Extensions::default();
        loop {
            self.skip_rest()?;
            let (start, limit) = (self.offset, self.limit);
            if start > limit {
                return Err(ReadError::TooLarge {
                    offset: start,
                    what: "archive",
                    got: start,
                    limit,
                });
            }
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            let kind = header.entry_type();
            if !is_extension(kind) {
                if kind.as_byte() == b'V' {
                    self.begin_data(self.header_size(&header, start)?, start)?;
                    continue;
                }
                return self.member(&header, extensions, start).map(Some);
            }
            let size = self.header_size(&header, start)?;
            let bytes = self.read_extension(size, start)?;
            self.absorb(kind, bytes, &mut extensions, start)?;
        }
    }

    fn absorb(
        &mut self,
        kind: EntryType,
        bytes: Vec<u8>,
        to: &mut Extensions,
        start: u64,
    ) -> Result<(), ReadError> {
        let malformed = |error: pax::Malformed| ReadError::Pax { offset: start, key: error.key };
        if kind.is_gnu_longname() {
            to.long_name = Some(until_nul(bytes));
        } else if kind.is_gnu_longlink() {
            to.long_link = Some(until_nul(bytes));
        } else if kind.is_pax_global_extensions() {
            self.global.absorb(&bytes).map_err(malformed)?;
        } else {
            let records = to.records.get_or_insert_with(|| self.global.clone());
            records.absorb(&bytes).map_err(malformed)?;
        }
        Ok(())
    }

    /// Puts header and extensions together, and leaves the archive at the member's data.
    fn member(
        &mut self,
        header: &Header,
        extensions: Extensions,
        start: u64,
    ) -> Result<Member, ReadError> {
        let Extensions { long_name, long_link, records } = extensions;
        let records = records.unwrap_or_else(|| self.global.clone());
        let field = |field| move |_| ReadError::Header { offset: start, field };
        let id = |value: u64, name| {
            u32::try_from(value).map_err(|_| ReadError::Header { offset: start, field: name })
        };

        let old = header.as_old();
        let uid = || number(&old.uid, header.uid()).map_err(field("uid"));
        let gid = || number(&old.gid, header.gid()).map_err(field("gid"));
        let (uid, gid) = (records.uid.map_or_else(uid, Ok)?, records.gid.map_or_else(gid, Ok)?);
        let mode = number(&old.mode, header.mode()).map_err(field("mode"))? & 0o7777;
        let path = long_name
            .or_else(|| records.sparse.name.clone())
            .or_else(|| records.path.clone())
            .unwrap_or_else(|| header.path_bytes().into_owned());
        let link = long_link
            .or_else(|| records.linkpath.clone())
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
            .unwrap_or_default();
        let mtime = match records.mtime {
            Some(mtime) => mtime,
            None => Timestamp {
                seconds: number(&old.mtime, header.mtime()).map_err(field("mtime"))?.cast_signed(),
                nanos: 0,
            },
        };
        let is_directory_name = path.ends_with(b"/");
        let (kind, size) = self.kind(header, &records, link, is_directory_name, start)?;
        Ok(Member {
            path,
            kind,
            mode: u16::try_from(mode)
                .map_err(|_| ReadError::Header { offset: start, field: "mode" })?,
            uid: id(uid, "uid")?,
            gid: id(gid, "gid")?,
            mtime,
            size,
            xattrs: records.xattrs,
        })
    }

    fn kind(
        &mut self,
        header: &Header,
        records: &Records,
        link: Vec<u8>,
        is_directory_name: bool,
        start: u64,
    ) -> Result<(Kind, u64), ReadError> {
        let device = |get: fn(&Header) -> io::Result<Option<u32>>, field| match get(header) {
            Ok(number) => Ok(number.unwrap_or(0)),
            Err(_) => Err(ReadError::Header { offset: start, field }),
        };
        // Only files have data: like the other readers of container layers, the size of anything else is ignored.
        let kind = match header.entry_type().as_byte() {
            b'0' | 0 | b'7' if is_directory_name => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => {
                let (extents, size) = self.file(header, records, start)?;
                return Ok((Kind::File { extents }, size));
            }
            b'1' => Kind::HardLink { target: link },
            b'2' => Kind::Symlink { target: link },
            b'3' | b'4' => {
                let major = device(Header::device_major, "device major")?;
                let minor = device(Header::device_minor, "device minor")?;
                if header.entry_type().as_byte() == b'3' {
                    Kind::CharDevice { major, minor }
                } else {
                    Kind::BlockDevice { major, minor }
                }
            }
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(ReadError::Unsupported { offset: start, kind: other.into() }),
        };
        Ok((kind, 0))
    }

    /// Extents and length of a regular file, sparse or not.
    fn file(
        &mut self,
        header: &Header,
        records: &Records,
        start: u64,
    ) -> Result<(Vec<(u64, u64)>, u64), ReadError> {
        let stored = records.size.map_or_else(|| self.header_size(header, start), Ok)?;
        let bad_map = |BadMap| ReadError::Header { offset: start, field: "sparse map" };
        let mut map = MapBuilder::default();
        if header.entry_type().is_gnu_sparse() {
            let gnu = header.as_gnu().ok_or_else(|| bad_map(BadMap))?;
            let size = gnu.real_size().map_err(|_| bad_map(BadMap))?;
            map.add_gnu(&gnu.sparse).map_err(bad_map)?;
            let mut extended = gnu.is_extended();
            while extended {
                let mut more = GnuExtSparseHeader::new();
                self.read_exact_counted(more.as_mut_bytes())?;
                map.add_gnu(more.sparse()).map_err(bad_map)?;
                extended = more.is_extended();
            }
            self.begin_data(stored, start)?;
            return Ok((map.finish(size, stored).map_err(bad_map)?, size));
        }
        self.begin_data(stored, start)?;
        let sparse = &records.sparse;
        if sparse.major == Some(1) {
            let size = sparse.real_size.ok_or_else(|| bad_map(BadMap))?;
            self.read_data_map(&mut map, start)?;
            return Ok((map.finish(size, self.left).map_err(bad_map)?, size));
        }
        if !sparse.map.is_empty() {
            let size = sparse.real_size.ok_or_else(|| bad_map(BadMap))?;
            let (pairs, rest) = sparse.map.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(bad_map(BadMap));
            }
            for [offset, length] in pairs {
                map.add(*offset, *length).map_err(bad_map)?;
            }
            return Ok((map.finish(size, stored).map_err(bad_map)?, size));
        }
        Ok((if stored == 0 { Vec::new() } else { vec![(0, stored)] }, stored))
    }

    /// The map of PAX sparse format 1.0: decimal lines at the start of the data, padded to 512 bytes.
    fn read_data_map(&mut self, map: &mut MapBuilder, start: u64) -> Result<(), ReadError> {
        let bad = || ReadError::Header { offset: start, field: "sparse map" };
        let mut block = Vec::new();
        let mut line = |archive: &mut Self| loop {
            if let Some(end) = block.iter().position(|byte| *byte == b'\n') {
                let number = pax::number(block.get(..end).unwrap_or_default());
                block.drain(..=end);
                return number.ok_or_else(bad);
            }
            if block.len() > 512 {
                return Err(bad());
            }
            let mut more = [0; 512];
            archive.read_exact(&mut more).map_err(|_| bad())?;
            block.extend_from_slice(&more);
        };
        let count = line(self)?;
        for _ in 0..count {
            let (offset, length) = (line(self)?, line(self)?);
            map.add(offset, length).map_err(|BadMap| bad())?;
        }
        Ok(())
    }

    fn header_size(&self, header: &Header, start: u64) -> Result<u64, ReadError> {
        let size = number(&header.as_old().size, header.entry_size());
        size.map_err(|_| ReadError::Header { offset: start, field: "size" })
    }

    /// From here on `size` bytes of data follow.
    fn begin_data(&mut self, size: u64, start: u64) -> Result<(), ReadError> {
        let limit = self.limit.saturating_sub(self.offset);
        if size > limit {
            return Err(ReadError::TooLarge { offset: start, what: "data", got: size, limit });
        }
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK;
        Ok(())
    }

    fn read_extension(&mut self, size: u64, start: u64) -> Result<Vec<u8>, ReadError> {
        if size > MAX_EXTENSION {
            return Err(ReadError::TooLarge {
                offset: start,
                what: "extended header",
                got: size,
                limit: MAX_EXTENSION,
            });
        }
        self.begin_data(size, start)?;
        let mut bytes = Vec::new();
        let offset = self.offset;
        self.read_to_end(&mut bytes).map_err(|source| ReadError::Io { offset, source })?;
        if self.left > 0 { Err(ReadError::Truncated { offset: self.offset }) } else { Ok(bytes) }
    }

    /// Passes over data and padding that nobody read. The padding of a last member may be missing: `umoci insert` leaves it
    /// out, and the trailer with it.
    fn skip_rest(&mut self) -> Result<(), ReadError> {
        let mut buffer = [0; 16 << 10];
        let padding = self.padding;
        let mut left = self.left.saturating_add(padding);
        self.left = 0;
        self.padding = 0;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let got = self.read_counted(buffer.get_mut(..want).unwrap_or_default())?;
            if got == 0 && left <= padding {
                return Ok(());
            }
            if got == 0 {
                return Err(ReadError::Truncated { offset: self.offset });
            }
            left = left.saturating_sub(got as u64);
        }
        Ok(())
    }

    /// A header with a right checksum; `None` at the end, which is a block of zeros or the end of the input.
    fn read_header(&mut self) -> Result<Option<Header>, ReadError> {
        let mut header = Header::new_old();
        let offset = self.offset;
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while filled < bytes.len() {
            let got = self.read_counted(bytes.get_mut(filled..).unwrap_or_default())?;
            match (got, filled) {
                (0, 0) => return Ok(None),
                (0, _) => return Err(ReadError::Truncated { offset: self.offset }),
                (got, _) => filled = filled.saturating_add(got),
            }
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if !is_header(header.as_bytes()) {
            return Err(ReadError::Header { offset, field: "checksum" });
        }
        Ok(Some(header))
    }

    fn read_exact_counted(&mut self, mut buffer: &mut [u8]) -> Result<(), ReadError> {
        while !buffer.is_empty() {
            let got = self.read_counted(buffer)?;
            if got == 0 {
                return Err(ReadError::Truncated { offset: self.offset });
            }
            buffer = buffer.get_mut(got..).unwrap_or_default();
        }
        Ok(())
    }

    fn read_counted(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            match self.input.read(buffer) {
                Ok(got) => {
                    self.offset = self.offset.saturating_add(got as u64);
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Io { offset: self.offset, source }),
            }
        }
    }
}

/// The stored bytes of the current member; an archive that ends inside them is an error.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let got = self.input.read(buffer.get_mut(..want).unwrap_or_default())?;
        if got == 0 && want > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive is cut short"));
        }
        self.left = self.left.saturating_sub(got as u64);
        self.offset = self.offset.saturating_add(got as u64);
        Ok(got)
    }
}

/// Whether `block` is a tar header: its checksum is right, signed or unsigned, and it is not all zeros.
pub(crate) fn is_header(block: &[u8; 512]) -> bool {
    let Ok(want) = Header::from_byte_slice(block).cksum() else {
        return false;
    };
    let summed = || {
        block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte })
    };
    let unsigned: u32 = summed().map(u32::from).sum();
    let signed: i32 = summed().map(|byte| i32::from(byte.cast_signed())).sum();
    block.iter().any(|byte| *byte != 0)
        && (want == unsigned || i64::from(want) == i64::from(signed))
}

fn is_extension(kind: EntryType) -> bool {
    kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_local_extensions()
        || kind.is_pax_global_extensions()
}

/// A header's number. One that was left empty is 0, as other readers have it.
fn number<T: Default>(field: &[u8], parsed: io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| [0, b' '].contains(byte)) { Ok(T::default()) } else { parsed }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

const BLOCK: u64 = 512;
/// Bound on one extended header: xattr values are at most 64 KiB each, paths far less.
const MAX_EXTENSION: u64 = 4 << 20;

#[cfg(test)]
mod tests;
