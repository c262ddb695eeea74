//! QEMU's migration stream: the main channel, and multifd channels.
//!
//! Ranges tile what is read, and what was read is written as it was; held memory is bounded by the reader itself. Devices that are
//! read from a file's end are the same, and those that come ahead of their events are the stream's own bytes.

mod ahead;
mod devices;

use std::io;
use std::ops::Range;

use vmstream_qemu::{ChannelEvent, Event, RamRecord, Reader, Writer, apply_xbzrle, read_channel};

/// First byte: what follows. 0: a stream; 1: a multifd channel; 2: a page's difference. A third of it: in how large pieces a stream comes.
pub fn run(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else { return };
    match mode % 3 {
        0 => {
            stream(rest);
            devices::check(rest);
            ahead::check(rest, 1 + 24 * usize::from(mode / 3));
        }
        1 => channel(rest),
        _ => {
            apply_xbzrle(&mut [0; 4096], rest).ok();
        }
    }
}

fn stream(bytes: &[u8]) {
    let mut writer = Writer::new(Vec::new());
    let (mut end, mut has_holes) = (0, false);
    let mut take = |range: Range<u64>, event: &Event<'_>| -> io::Result<()> {
        assert_eq!(range.start, end, "{event:?} begins where the one before it ended");
        end = range.end;
        if let Event::Ram(RamRecord::MappedZeros { bytes, .. } | RamRecord::Gap { bytes }) = event {
            has_holes |= *bytes > 0;
        }
        writer.event(event).expect("what was read can be written");
        Ok(())
    };
    let all = Reader::new().read(&mut &*bytes, &mut take).is_ok();
    let written = writer.into_inner();
    assert_eq!(u64::try_from(written.len()).ok(), Some(end));
    assert!(has_holes || bytes.starts_with(&written), "written as it was read");
    assert!(!all || written.len() == bytes.len(), "to the last byte");
}

fn channel(bytes: &[u8]) {
    let mut end = 0;
    let mut take = |range: Range<u64>, event: &ChannelEvent<'_>| -> io::Result<()> {
        assert_eq!(range.start, end, "{event:?} begins where the one before it ended");
        end = range.end;
        if let ChannelEvent::Page(_, data) = event {
            assert_eq!(data.len(), 4096);
        }
        Ok(())
    };
    if read_channel(&mut &*bytes, 4096, &mut take).is_ok() {
        assert_eq!(u64::try_from(bytes.len()).ok(), Some(end));
    }
}

/// Memory of two pages, a device with and without a description, a package; a channel of each method. Then memory of two sections,
/// with a description, which is what devices are found behind: as it is, in larger pieces, and with an end of memory in a page. Last a device that holds beginnings of many descriptions.
pub fn seeds() -> Vec<Vec<u8>> {
    let devices = [beginning(), device(), vec![0]].concat();
    let description = br#"{"page_size": 4096, "devices": [{"name": "d", "instance_id": 0, "vmsd_name": "d", "version": 1, "fields": [{"name": "a", "type": "uint16", "size": 2}, {"name": "q", "type": "qtailq", "vmsd_name": "p", "version": 1, "fields": [{"name": "b", "array_len": 2, "type": "uint8", "size": 1}], "size": 4}], "subsections": [{"vmsd_name": "d/s", "version": 1, "fields": [{"name": "n", "type": "nullptr", "size": 1}]}]}]}"#;
    let length = u32::try_from(description.len()).expect("short").to_be_bytes();
    let described = [&devices[..], &[6], &length, description].concat();
    let package = device();
    let length = u32::try_from(package.len()).expect("short").to_be_bytes();
    let tail = [b"\x7e\0\0\0\x02", &described[beginning().len()..]].concat();
    let part = |body: &[u8]| {
        [&beginning()[..], b"\x03\0\0\0\x02", body, &0x10u64.to_be_bytes(), &tail].concat()
    };
    let seam = [&0x10u64.to_be_bytes()[..], &tail[..5 + device().len()]].concat();
    let [plain, page] = [part(&[]), part(&page(&seam))];
    let decoys = decoys();
    let sections = [(0, &plain), (12, &plain), (252, &page), (0, &decoys)];
    let packaged = [&beginning()[..], b"\x08\0\x07\0\x04", &length, &package, &[0]].concat();
    let streams = [devices, described, packaged].map(|stream| [vec![0], stream].concat());
    let channels = [0, 2, 4].map(|flags| [vec![1], multifd(flags)].concat());
    let sections = sections.map(|(mode, stream)| [&[mode], &stream[..]].concat());
    let difference = [vec![2, 1, 2, 3, 4, 0x81, 1, 1, 9]];
    streams.into_iter().chain(channels).chain(difference).chain(sections).collect()
}

/// Memory, and a device whose state looks like beginnings of descriptions, as its own does.
fn decoys() -> Vec<u8> {
    let body = b"\0\x06\0\0\0\x02{\0\x06\0\x01\0\0{".repeat(50);
    let description = br#"{"devices": [{"name": "e", "instance_id": 0, "vmsd_name": "e", "version": 1, "fields": [{"name": "a", "type": "buffer", "size": 700}]}]}"#;
    let length = u32::try_from(description.len()).expect("short").to_be_bytes();
    let (head, end) = (b"\x04\0\0\0\x03\x01e\0\0\0\0\0\0\0\x01", b"\x7e\0\0\0\x03\0\x06");
    [&beginning()[..], head, &body, end, &length, description].concat()
}

/// A record of the block's second page, which holds these bytes.
fn page(bytes: &[u8]) -> Vec<u8> {
    let mut record = 0x1028u64.to_be_bytes().to_vec();
    record.extend(bytes);
    record.resize(8 + 4096, 0);
    record
}

fn beginning() -> Vec<u8> {
    let capabilities = b"\x05\x1aconfiguration/capabilities\0\0\0\x01\0\0\0\x01\x0fx-ignore-shared";
    let head = b"QEVM\0\0\0\x03\x07\0\0\0\x02pc";
    let mut bytes = [&head[..], capabilities, b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04"].concat();
    bytes.extend(0x2004u64.to_be_bytes());
    bytes.extend(b"\x02pc");
    bytes.extend(0x2000u64.to_be_bytes());
    bytes.extend(0u64.to_be_bytes());
    bytes.extend(0x0002u64.to_be_bytes());
    bytes.extend(b"\x02pc\0");
    bytes.extend(0x1060u64.to_be_bytes());
    bytes.extend(b"\x01\0\x04\x01\x02\x03\x04");
    bytes.extend(0x10u64.to_be_bytes());
    bytes.extend(b"\x7e\0\0\0\x02");
    bytes
}

fn device() -> Vec<u8> {
    b"\x04\0\0\0\x03\x01d\0\0\0\0\0\0\0\x01\0\x07\x01\x08\x09\0\x05\x03d/s\0\0\0\x010\x7e\0\0\0\x03"
        .to_vec()
}

/// An opening and a packet of one zero page.
fn multifd(flags: u32) -> Vec<u8> {
    let magic = b"\x11\x22\x33\x44\0\0\0\x01";
    let mut bytes = magic.to_vec();
    bytes.resize(64, 0);
    bytes.extend(magic);
    bytes.extend(flags.to_be_bytes());
    for number in [2u32, 0, 0, 0, 0, 1] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.resize(64 + 320, 0);
    bytes.extend([0; 16]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_among_the_seeds_is_whole() {
        let seeds = seeds();
        let streams = seeds.iter().filter(|seed| seed[0] % 3 == 0).map(|seed| &seed[1..]);
        let all =
            streams.map(|stream| devices::told(|sink| Reader::new().read(&mut &*stream, sink)));
        let ends: Vec<_> = all.map(|(_, read)| format!("{read:?}")).collect();
        assert_eq!(ends, ["Ok(())"; 7]);
    }
}
