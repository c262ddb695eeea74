//! Tar archives for seeds, and checksums for inputs, which a fuzzer does not find by itself.

const BLOCK: usize = 512;

/// Writes the right checksum into every header of `tar`, as far as headers follow each other by their sizes.
pub(crate) fn mend(tar: &mut [u8]) {
    let mut at = 0_usize;
    while let Some(header) = tar.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<BLOCK>) {
        if header.iter().all(|byte| *byte == 0) {
            return;
        }
        seal(header);
        let size = header.get(124..136).map_or(0, octal);
        let data = size.div_ceil(BLOCK).saturating_mul(BLOCK);
        at = at.saturating_add(BLOCK).saturating_add(data);
    }
}

fn seal(header: &mut [u8; BLOCK]) {
    let (front, rest) = header.split_at_mut(148);
    let (field, back) = rest.split_at_mut(8);
    let sum: u32 = front.iter().chain(&*back).map(|byte| u32::from(*byte)).sum();
    // The field itself counts as blanks.
    let sum = format!("{:06o}\0 ", sum + 8 * u32::from(b' '));
    field.copy_from_slice(sum.as_bytes());
}

fn octal(field: &[u8]) -> usize {
    let digits = field.iter().copied().skip_while(|byte| *byte == b' ');
    let digits = digits.take_while(|byte| (b'0'..b'8').contains(byte));
    digits.fold(0, |sum, digit| sum.saturating_mul(8).saturating_add((digit - b'0').into()))
}

/// A member of a tar for a seed.
pub(crate) fn member(kind: u8, name: &str, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| {
        header.get_mut(at..at + text.len()).expect("it fits").copy_from_slice(text);
    };
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000001\0");
    put(116, b"0000002\0");
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(136, b"14000000000\0");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(329, b"0000001\0");
    put(337, b"0000003\0");
    seal(&mut header);
    let mut member = header.to_vec();
    member.extend_from_slice(data);
    member.resize(member.len().next_multiple_of(BLOCK), 0);
    member
}

/// A member whose header is in GNU's format, sparse: one extent of `data` at `offset` in a file of `size` bytes.
pub(crate) fn sparse(name: &str, offset: u64, data: &[u8], size: u64) -> Vec<u8> {
    let mut member = member(b'S', name, "", data);
    let mut put = |at: usize, text: &[u8]| {
        member.get_mut(at..at + text.len()).expect("it fits").copy_from_slice(text);
    };
    put(257, b"ustar  \0");
    put(386, format!("{offset:011o}\0").as_bytes());
    put(398, format!("{:011o}\0", data.len()).as_bytes());
    put(483, format!("{size:011o}\0").as_bytes());
    mend(&mut member);
    member
}

/// A PAX header of these records, for the member after it (`x`) or for all (`g`).
pub(crate) fn pax(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len();
        while format!("{length}{rest}").len() != length {
            length += 1;
        }
        data.extend_from_slice(format!("{length}{rest}").as_bytes());
    }
    member(kind, "pax", "", &data)
}
