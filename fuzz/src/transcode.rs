//! QEMU's streams as ours, and ours as QEMU's.
//!
//! What is read of QEMU's comes back to the byte, also when its devices are given ahead; what anybody wrote as ours ends in
//! bytes or in an error.

use std::io::{self, Write};

use vmstream::writer::Compress;
use vmstream_transcode::{Error, Form, Options, from_vmstream, to_vmstream};

use crate::qemu;
use crate::stream::mend;

/// Bytes behind which nobody takes more: a run of zeros is long when it is written out.
const MOST: usize = 1 << 20;

/// First byte: what follows. 0: a stream of QEMU's; 1: one of ours, whose checksums are mended.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    if mode % 2 == 0 {
        there_and_back(rest);
    } else {
        let mut stream = rest.to_vec();
        mend(&mut stream);
        for form in [Form::Same, Form::Precopy] {
            from_vmstream(&*stream, Limited(Vec::new()), form).ok();
        }
    }
}

fn there_and_back(bytes: &[u8]) {
    for ahead in [false, true] {
        let options = Options { ahead: ahead.then(std::sync::Arc::default), ..Options::default() };
        let Ok((ours, _)) = to_vmstream(&mut &*bytes, Vec::new(), &options) else { return };
        match from_vmstream(&*ours, Vec::new(), Form::Same) {
            Ok(back) => assert!(back == bytes, "ahead {ahead}: the same bytes"),
            // Of differences and of channels of their own, pages are all that is left.
            Err(Error::Moved { .. }) => {}
            Err(error) => panic!("ahead {ahead}: it does not come back: {error:?}"),
        }
    }
}

/// Takes so much, and no more.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() > MOST {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The streams of `qemu` with a whole page where these have a difference, and what they are as ours, with devices ahead and
/// without.
pub fn seeds() -> Vec<Vec<u8>> {
    let difference = [&0x1060_u64.to_be_bytes()[..], b"\x01\0\x04\x01\x02\x03\x04"].concat();
    let page = [&0x1028_u64.to_be_bytes()[..], &[7; 4096]].concat();
    let whole = |seed: Vec<u8>| {
        let at = seed.windows(difference.len()).position(|bytes| bytes == difference)?;
        Some([&seed[..at], &page, &seed[at + difference.len()..]].concat())
    };
    let streams = qemu::seeds().into_iter().filter(|seed| seed.first() == Some(&0));
    let streams: Vec<_> = streams.filter_map(whole).collect();
    let ours = |seed: &Vec<u8>, ahead: bool| {
        let ahead = ahead.then(std::sync::Arc::default);
        let options = Options { ahead, compress: Compress::Nothing, ..Options::default() };
        let ours = to_vmstream(&mut &seed[1..], Vec::new(), &options).ok()?.0;
        Some([vec![1], ours].concat())
    };
    let converted = streams.iter().flat_map(|seed| [ours(seed, false), ours(seed, true)]);
    let converted: Vec<_> = converted.flatten().collect();
    // A description that is empty.
    let empty = b"\0QEVM\0\0\0\x03\0\x06\0\0\0\0".to_vec();
    streams.into_iter().chain(converted).chain([empty]).collect()
}
