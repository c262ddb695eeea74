//! Memory that came through several channels.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::json;
use vmstream_qemu::{ChannelEvent, Event, RamRecord, Reader, read_channel};

use crate::bed::{self, Bed, Machine, Pair, Qemu, loads};
use crate::stream::Contents;

/// When it was sent, where it goes, what it is.
type Sent = (u32, String, u64, Vec<u8>);

/// Pages of the main channel, by how often it was synchronised before.
fn of_main(bytes: &[u8]) -> (Vec<Sent>, BTreeMap<String, usize>) {
    let (mut sent, mut blocks, mut round) = (Vec::new(), Vec::new(), 0);
    // Machine types up to 8.0 synchronise at the end of each section, newer ones where they say so.
    let mut every_end = true;
    Reader::new()
        .read(&mut &*bytes, &mut |_: Range<u64>, event: &Event<'_>| {
            match event {
                Event::Ram(RamRecord::Block(head)) => {
                    let bytes = usize::try_from(head.bytes).expect("a length");
                    blocks.push((head.name.to_string(), bytes));
                }
                Event::Ram(RamRecord::MultifdFlush) => {
                    every_end = false;
                    round += 1;
                }
                Event::Ram(RamRecord::End) if every_end => round += 1,
                Event::Ram(RamRecord::Fill { page, byte }) => {
                    let block = &blocks[page.block as usize].0;
                    sent.push((round, block.clone(), page.offset, vec![*byte; 4096]));
                }
                Event::Ram(RamRecord::Data { page, data }) => {
                    let block = &blocks[page.block as usize].0;
                    sent.push((round, block.clone(), page.offset, data.to_vec()));
                }
                _ => {}
            }
            Ok(())
        })
        .expect("the main channel is valid");
    (sent, blocks.into_iter().collect())
}

fn of_channel(bytes: &[u8]) -> Vec<Sent> {
    let (mut sent, mut end) = (Vec::new(), 0);
    read_channel(&mut &*bytes, 4096, &mut |range: Range<u64>, event: &ChannelEvent<'_>| {
        assert_eq!(range.start, end, "{event:?} begins where the one before it ended");
        end = range.end;
        match event {
            ChannelEvent::Page(page, data) => {
                sent.push((page.round, page.block.to_owned(), page.offset, data.to_vec()));
            }
            ChannelEvent::Zero(page) => {
                sent.push((page.round, page.block.to_owned(), page.offset, vec![0; 4096]));
            }
            _ => {}
        }
        Ok(())
    })
    .expect("the channel is valid");
    assert_eq!(end, bytes.len() as u64);
    sent
}

fn multifd_of(qemu: &Qemu, machine: Machine, compression: &str) {
    let dir = bed::directory();
    let mut pair = Pair::new(qemu, machine, dir.path());
    pair.capability("multifd");
    let parameters = json!({ "multifd-channels": 2, "multifd-compression": compression });
    pair.source.qmp.ask("migrate-set-parameters", parameters.clone());
    pair.destination.qmp.ask("migrate-set-parameters", parameters);
    pair.listen();

    pair.source.migrate(&pair.uri);
    pair.destination.wait_status("running");
    let channels = pair.tee.channels();
    let (others, main): (Vec<_>, Vec<_>) =
        channels.iter().partition(|bytes| bytes.starts_with(&[0x11, 0x22, 0x33, 0x44]));
    let (mut sent, blocks) = of_main(main[0]);
    for channel in &others {
        sent.extend(of_channel(channel));
    }
    sent.sort_by_key(|(round, ..)| *round);
    let mut memory: BTreeMap<_, _> =
        blocks.iter().map(|(name, bytes)| (name.clone(), vec![0; *bytes])).collect();
    for (_, block, offset, data) in &sent {
        let block = memory.get_mut(block).expect("a known block");
        let offset = usize::try_from(*offset).expect("an offset");
        block[offset..offset + 4096].copy_from_slice(data);
    }
    let largest = memory.values().max_by_key(|bytes| bytes.len()).expect("a block");
    let contents = Contents::of(&Reader::new(), &mut main[0].as_slice()).expect("valid");
    eprintln!(
        "{} {machine:?} multifd {compression}: main {} bytes, others {:?}, {} pages, {:?}, {:?}",
        qemu.version,
        main[0].len(),
        others.iter().map(|bytes| bytes.len()).collect::<Vec<_>>(),
        sent.len(),
        contents.share,
        contents.records,
    );

    assert_eq!((main.len(), others.len()), (1, 2));
    assert!(*largest == pair.source.memory(), "the guest's memory came through");
    assert!(contents.written == *main[0]);
    assert_eq!(contents.share.opaque, 0);

    let tick = pair.source.tick().expect("it has counted");
    drop(pair);
    let in_order: Vec<_> =
        contents.blocks.iter().map(|(name, _)| (name.clone(), memory[name].clone())).collect();
    loads(qemu, machine, (dir.path(), "composed"), &contents.composed(&in_order), &tick);
}

#[test]
fn multifd_of_7_2() {
    multifd_of(&Bed::get().old, Machine::Pc, "none");
}

#[test]
fn multifd_of_10_0() {
    multifd_of(&Bed::get().new, Machine::Pc, "none");
}

#[test]
fn multifd_with_zlib_of_10_0() {
    multifd_of(&Bed::get().new, Machine::Microvm, "zlib");
}

#[test]
fn multifd_with_zstd_of_10_0() {
    multifd_of(&Bed::get().new, Machine::Microvm, "zstd");
}
