//! Sizes and times of a stream of QEMU's, as ours and back: `measure FILE`.
#![expect(clippy::print_stdout, reason = "that is what it is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::io::{self, Read};
use std::ops::Range;
use std::time::{Duration, Instant};

use vmstream::frame::{HEADER_BYTES, Kind};
use vmstream::message::{Hello, Purpose, Switch, SwitchMode};
use vmstream::writer::{Compress, Finality};
use vmstream_qemu::{Event, Reader};
use vmstream_transcode::{Form, Options, from_vmstream, to_vmstream};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("which file?")?;
    let whole = std::fs::read(path)?;
    sizes(&ours(&whole)?)?;
    records(&ours(&whole)?)?;
    times(&whole, 5)?;
    for compress in [Compress::Metadata, Compress::Nothing] {
        last(&whole, compress, 31)?;
    }
    Ok(())
}

/// What a guest that stands still waits for: how long it takes from the last byte that was read to the last that is written.
fn last(theirs: &[u8], compress: Compress, runs: usize) -> Result<(), Box<dyn Error>> {
    let options = Options { compress, ..Options::default() };
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let mut source = Last { bytes: theirs, at: Instant::now() };
        let (ours, _) = to_vmstream(&mut source, Vec::with_capacity(2 * theirs.len()), &options)?;
        there.push(source.at.elapsed());
        let mut source = Last { bytes: &ours, at: Instant::now() };
        black_box(from_vmstream(&mut source, Vec::with_capacity(2 * theirs.len()), Form::Same)?);
        back.push(source.at.elapsed());
    }
    there.sort();
    back.sort();
    let middle = runs / 2;
    println!(
        "behind the last byte, {compress:?} packed: as ours {:?}, back {:?}",
        there.get(middle),
        back.get(middle),
    );
    Ok(())
}

/// Notes when the device state began to be read.
struct Last<'a> {
    bytes: &'a [u8],
    at: Instant,
}

impl Read for Last<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // State and description of a usual machine.
        if self.bytes.len() > 400 << 10 {
            self.at = Instant::now();
        }
        self.bytes.read(buffer)
    }
}

fn ours(mut theirs: &[u8]) -> Result<Vec<u8>, vmstream_transcode::Error> {
    Ok(to_vmstream(&mut theirs, Vec::new(), &Options::default())?.0)
}

fn sizes(stream: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut kinds: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut reader = vmstream::Reader::new(stream);
    let mut over = 0_u64;
    while let Some(event) = reader.next_event()? {
        let Some(frame) = reader.frame() else { continue };
        let length = usize::try_from(frame.header.length)?;
        let stored =
            if let vmstream::Event::Pages(pages) = &event { pages.stored().len() } else { 0 };
        let bytes = HEADER_BYTES + length - stored;
        over += u64::try_from(bytes)?;
        let name = Kind::of(frame.header.kind).map_or("unknown", Kind::name);
        let sums = kinds.entry(name).or_default();
        let plain = HEADER_BYTES + reader.metadata_bytes().len();
        for (sum, more) in sums.iter_mut().zip([1, bytes, plain]) {
            *sum += more;
        }
    }
    println!("{} bytes, {over} of them no pages:", stream.len());
    for (kind, [frames, bytes, plain]) in kinds {
        println!("  {kind:10} {frames:6} frames {bytes:8} bytes, {plain:8} if not compressed");
    }
    Ok(())
}

/// The records alone, behind schemas that are known: from values to bytes and back.
fn records(stream: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut reader = vmstream::Reader::new(stream);
    let (mut schemas, mut manifest, mut found) = (Vec::new(), None, Vec::new());
    while let Some(event) = reader.next_event()? {
        if let vmstream::Event::Schema(id, schema) = event {
            schemas.push((id, schema));
        } else if let vmstream::Event::Manifest(read) = event {
            manifest = Some(read);
        } else if let vmstream::Event::Devices(read) = event {
            found.extend(read);
        }
    }
    let manifest = manifest.ok_or("no manifest")?;
    let (mut there, mut back) = (Vec::new(), Vec::new());
    for _ in 0..101 {
        let hello = Hello::new("measure", "1", Purpose::State);
        let mut writer = vmstream::Writer::new(Vec::new(), &hello)?;
        for (id, schema) in &schemas {
            writer.schema_as(*id, schema)?;
        }
        writer.manifest(&manifest)?;
        writer.switch(&Switch { mode: SwitchMode::Stopped })?;
        let start = Instant::now();
        writer.devices(&found, Finality::Final)?;
        there.push(start.elapsed());
        let (written, _) = writer.finish()?;
        let mut reader = vmstream::Reader::new(&*written);
        loop {
            let start = Instant::now();
            match reader.next_event()? {
                Some(vmstream::Event::Devices(read)) => {
                    back.push(start.elapsed());
                    black_box(read);
                }
                Some(_) => {}
                None => break,
            }
        }
    }
    there.sort_unstable();
    back.sort_unstable();
    let middle = |times: &[Duration]| times.get(times.len() / 2).copied().unwrap_or_default();
    println!("{} records: encoded {:?}, decoded {:?}", found.len(), middle(&there), middle(&back));
    Ok(())
}

fn times(theirs: &[u8], runs: usize) -> Result<(), Box<dyn Error>> {
    let stream = ours(theirs)?;
    let there = median(runs, || ours(theirs).map(drop))?;
    let back = median(runs, || {
        from_vmstream(&*stream, Vec::new(), Form::Same).map(|out| drop(black_box(out)))
    })?;
    let parse = median(runs, || {
        Reader::new().read(&mut &*theirs, &mut |_: Range<u64>, event: &Event<'_>| {
            black_box(event);
            Ok(())
        })
    })?;
    let read = median(runs, || {
        let mut reader = vmstream::Reader::new(&*stream);
        while let Some(event) = reader.next_event()? {
            black_box(event);
        }
        Ok::<_, vmstream::ReadError>(())
    })?;
    println!("QEMU's {} bytes, ours {}", theirs.len(), stream.len());
    println!("  QEMU's read {parse:?}, as ours {there:?}, ours read {read:?}, back {back:?}");
    Ok(())
}

fn median<E>(runs: usize, mut work: impl FnMut() -> Result<(), E>) -> Result<Duration, E> {
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times.get(runs / 2).copied().unwrap_or_default())
}
