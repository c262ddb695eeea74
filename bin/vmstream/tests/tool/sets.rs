//! QEMU's streams whose pages do not come as they are: through channels of their own, or as differences.

use std::ops::Range;

use vmstream_qemu::{Event, Page, RamRecord, Reader, Writer};

use crate::bed::Bed;

/// A stream of QEMU's again, with `change` writing what it likes in the place of each event.
fn rewritten(bytes: &[u8], mut change: impl FnMut(&Event<'_>, &mut Writer<Vec<u8>>)) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut sink = |_: Range<u64>, event: &Event<'_>| {
        change(event, &mut writer);
        Ok(())
    };
    Reader::new().read(&mut &*bytes, &mut sink).expect("valid");
    writer.into_inner()
}

/// A channel with packets of one page each, as QEMU writes them, and one that ends a round.
fn channel(number: u8, channels: u64, pages: &[(String, u64, Vec<u8>)]) -> Vec<u8> {
    let mut out = [0x1122_3344_u32.to_be_bytes(), 1_u32.to_be_bytes()].concat();
    out.extend([7; 16]);
    out.push(number);
    out.extend([0; 39]);
    let count = u64::try_from(pages.len()).expect("few");
    let empty = (String::new(), 0, Vec::new());
    for (nth, (block, offset, data)) in (0..=count).zip(pages.iter().chain([&empty])) {
        let last = u32::from(nth == count);
        out.extend([0x1122_3344_u32, 1, last, 1, 1 - last].map(u32::to_be_bytes).concat());
        out.extend(u32::try_from(data.len()).expect("a page").to_be_bytes());
        out.extend((nth * channels + u64::from(number)).to_be_bytes());
        out.extend([0; 4 + 28]);
        out.extend(block.as_bytes());
        out.resize(out.len() + 256 - block.len(), 0);
        out.extend(offset.to_be_bytes());
        out.extend(data);
    }
    out
}

/// The stream as a set: its main channel in `main`, and its pages in `c0` and `c1`, by turns.
fn set(bed: &Bed) {
    let bytes = crate::qemu::capture(bed, "100_microvm_S");
    let (mut blocks, mut pages) = (Vec::new(), [Vec::new(), Vec::new()]);
    let mut sent = 0;
    let main = rewritten(&bytes, |event, writer| {
        if let Event::Ram(RamRecord::Block(head)) = event {
            blocks.push(head.name.to_string());
        }
        if let Event::Ram(RamRecord::Data { page, data }) = event {
            let block = blocks[page.block as usize].clone();
            pages[sent % 2].push((block, page.offset, data.to_vec()));
            sent += 1;
        } else if let Event::Ram(RamRecord::Fill { page, byte }) = event {
            // The page before it may have gone another way.
            let page = Page { named: true, ..*page };
            let record = RamRecord::Fill { page, byte: *byte };
            writer.event(&Event::Ram(record)).expect("it can be written");
        } else {
            writer.event(event).expect("it can be written");
        }
    });
    assert!(sent > 10);
    bed.write("main", &main);
    bed.write("c0", &channel(0, 2, &pages[0]));
    bed.write("c1", &channel(1, 2, &pages[1]));
}

const SET: [&str; 4] = ["--channel", "c0", "--channel", "c1"];

#[test]
fn every_command_takes_a_set_of_channels() {
    let bed = Bed::new();
    set(&bed);
    let whole = "100_microvm_S.mig";

    let words = ["convert", "main", "--to", "sequential", "-o", "ours"];
    bed.run(&[&words[..], &SET].concat()).ok();
    assert_eq!(bed.run(&["diff", whole, "ours"]).ok().out, "");
    assert_eq!(bed.run(&[&["diff", "main", whole][..], &SET].concat()).ok().out, "");
    let others = SET.map(|word| if word == "--channel" { "--other-channel" } else { word });
    assert_eq!(bed.run(&[&["diff", whole, "main"][..], &others].concat()).ok().out, "");
    bed.run(&["convert", "ours", "--to", "qemu-precopy", "-o", "precopy"]).ok();
    assert_eq!(bed.run(&["diff", whole, "precopy"]).ok().out, "");
    let told = bed.run(&["convert", "ours", "--to", "qemu", "-o", "same"]).fails(2).err;
    assert!(told.contains("came through other channels"), "{told}");
    for command in [
        &["inspect", "main"][..],
        &["tree", "main"],
        &["get", "main", "cpu.env.eip"],
        &["json", "main"],
        &["schema", "main"],
        &["verify", "main"],
        &["ram", "main", "--region", "pc.bios", "-o", "bios"],
        &["report", "main", "-o", "page"],
        &["convert", "main", "--to", "mappable", "-o", "file"],
        &["convert", "main", "--to", "incremental", "--parent", "ours", "-o", "inc"],
    ] {
        bed.run(&[command, &SET].concat()).ok();
        let told = bed.run(command);
        // State alone is in the main channel.
        let state = ["tree", "get", "schema"].contains(&command[0]);
        let code = if state { 0 } else { 2 };
        assert_eq!(told.code, Some(code), "{command:?} without its channels: {}", told.err);
        assert!(bed.run(&[command[0], "--help"]).ok().out.contains("--channel"), "{command:?}");
    }
}

#[test]
fn a_set_that_is_not_whole_is_refused() {
    let bed = Bed::new();
    set(&bed);
    let refused = |channels: &[&str]| {
        let mut words = vec!["verify", "main"];
        for channel in channels {
            words.extend(["--channel", channel]);
        }
        bed.run(&words).fails(2).err
    };

    assert!(refused(&["c0"]).contains("T-2: "), "{}", refused(&["c0"]));
    assert!(refused(&["c1"]).contains("channel 0 is missing"), "{}", refused(&["c1"]));
    assert!(refused(&["c0", "c1", "c1"]).contains("channel 1 is there twice"));
    let told = refused(&["c0", "vm"]);
    assert!(told.contains("channel file 2") && told.contains("Q-50"), "{told}");
    bed.run(&["verify", "main", "--channel", "nothing"]).fails(2);
}

/// A real stream with a difference behind its first page with data; and that page.
fn with_difference(bytes: &[u8], encoding: u8, difference: &[u8]) -> (Vec<u8>, Page) {
    let mut first = None;
    let changed = rewritten(bytes, |event, writer| {
        writer.event(event).expect("it can be written");
        if let Event::Ram(RamRecord::Data { page, .. }) = event
            && first.is_none()
        {
            first = Some(*page);
            let page = Page { named: false, ..*page };
            let record = RamRecord::Xbzrle { page, encoding, data: difference };
            writer.event(&Event::Ram(record)).expect("it can be written");
        }
    });
    (changed, first.expect("a page"))
}

#[test]
fn pages_as_differences_are_read_from_a_file_and_refused_from_a_pipe() {
    let bed = Bed::new();
    let bytes = crate::qemu::capture(&bed, "100_microvm_S");
    // Byte 5 becomes 0xa5.
    let (changed, page) = with_difference(&bytes, 1, &[5, 1, 0xa5]);
    bed.write("changed", &changed);

    bed.run(&["verify", "changed"]).ok();
    let told = bed.run(&["diff", "100_microvm_S.mig", "changed"]).fails(1).out;
    let page = page.offset / 4096;
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.ends_with(&format!("pages {page}-{page}, 1\n")), "{told}");
    let told = bed.run_with(&["verify", "-"], &changed).fails(2).err;
    assert!(told.contains("T-1: ") && told.lines().count() == 1, "{told}");
    assert_eq!(bed.run(&["get", "changed", "cpu.env.eip"]).ok().out, "65520\n");
}

#[test]
fn differences_that_are_none_are_refused() {
    let bed = Bed::new();
    let bytes = crate::qemu::capture(&bed, "100_microvm_S");
    let beyond = [0xff, 0x1f, 2, 1, 1];
    for (encoding, difference, rule) in
        [(1, &beyond[..], "Q-22"), (1, &[0x80, 0x80], "Q-7"), (2, &[5, 1, 1], "is not known")]
    {
        bed.write("changed", &with_difference(&bytes, encoding, difference).0);
        let told = bed.run(&["verify", "changed"]).fails(2).err;
        assert!(told.contains(rule), "{difference:x?}: {told}");
    }
}
