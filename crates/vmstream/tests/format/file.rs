//! Streams in files.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

use vmstream::archive::{Archive, Sparse};
use vmstream::message::{DeviceRecord, Purpose, Ram, Region, Switch, SwitchMode};
use vmstream::{Rule, Writer};

use crate::sample;

/// Counts what is read.
struct Counted<R>(R, u64);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let got = self.0.read(buffer)?;
        self.1 += got as u64;
        Ok(got)
    }
}

impl<R: Seek> Seek for Counted<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn i_2_the_index_says_what_a_scan_finds() {
    let stream = sample::stream();

    let mut indexed = Archive::open(Cursor::new(&stream)).expect("a file");
    let scanned = Archive::scan(Cursor::new(&stream)).expect("a file");

    assert_eq!(indexed.index(), scanned.index());
    assert_eq!(indexed.manifest(), scanned.manifest());
    assert_eq!(indexed.index().pages.len(), 1);
    indexed.verify_index().expect("the index is right");
}

#[test]
fn i_2_holds_whatever_order_the_paths_of_devices_have() {
    let hello = vmstream::message::Hello::new("toy", "1", Purpose::State);
    let mut writer = Writer::new(Vec::new(), &hello).expect("a hello");
    writer.schema(&sample::schema()).expect("a schema");
    let manifest = vmstream::message::Manifest { devices: None, ..sample::manifest(0) };
    writer.manifest(&manifest).expect("a manifest");
    writer.switch(&Switch { mode: SwitchMode::Stopped }).expect("a switch");
    // By their letters the longer one comes first, as keys of a map the shorter one.
    let paths = ["a/long", "b"].map(str::to_owned);
    let records = paths.map(|path| DeviceRecord { path, ..sample::record(0) });
    writer.devices(&records, vmstream::writer::Finality::Final).expect("records");
    let (stream, _) = writer.finish_with_index().expect("an end");

    let mut archive = Archive::open(Cursor::new(&stream)).expect("a file");

    archive.verify_index().expect("the index is right");
    let scanned = Archive::scan(Cursor::new(&stream)).expect("a file");
    assert_eq!(archive.index(), scanned.index());
}

#[test]
fn a_device_is_found_by_its_path() {
    let mut archive = Archive::open(Cursor::new(sample::stream())).expect("a file");

    let record = archive.device("bus/uart0").expect("a record").expect("it is there");

    assert_eq!(record, sample::record(0));
    assert_eq!(archive.device("bus/uart1").expect("a look"), None);
}

#[test]
fn one_field_of_a_large_file_costs_few_reads_and_zeros_cost_no_space() {
    let mut file = tempfile::tempfile().expect("a file");
    let length = 128_u64 << 20;
    let mut manifest = sample::manifest(0);
    manifest.memory =
        vec![Region { name: "m".to_owned(), kind: "ram".to_owned(), bytes: length, gpa: None }];
    let hello = vmstream::message::Hello::new("toy", "1", Purpose::State);
    let out = Sparse::new(file.try_clone().expect("a file"));
    let mut writer = Writer::new(out, &hello).expect("a hello");
    writer.schema(&sample::schema()).expect("a schema");
    writer.manifest(&manifest).expect("a manifest");
    let ram = Ram { region: 0, offset: 0, chunk: 2 << 20, length };
    let mut zeros = std::io::repeat(0);
    writer.ram(&ram, 2 << 20, &mut zeros).expect("ram");
    writer.switch(&Switch { mode: SwitchMode::Stopped }).expect("a switch");
    let last = vmstream::writer::Finality::Final;
    writer.devices(&[sample::record(0)], last).expect("a record");
    writer.finish_with_index().expect("an end").0.finish().expect("a length");

    file.rewind().expect("a seek");
    let meta = file.metadata().expect("metadata");
    let mut archive = Archive::open(Counted(&file, 0)).expect("a file");
    let ram = archive.index().ram[0];
    let record = archive.device("bus/uart0").expect("a record");

    assert!(record.is_some());
    assert_eq!(ram.data % (2 << 20), 0);
    assert!(meta.len() > length && meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
    let read = archive.into_inner().1;
    assert!(read < 1 << 20, "{read} bytes were read");
}

#[test]
fn r_2_a_chunk_that_changed_is_refused_and_others_are_not() {
    let mut stream = sample::stream();
    let ram = Archive::open(Cursor::new(&stream)).expect("a file").index().ram[0];
    stream[usize::try_from(ram.data).expect("small") + 9000] ^= 1;
    let mut archive = Archive::open(Cursor::new(&stream)).expect("a file");
    let sums = archive.checksums(&ram).expect("checksums");
    let mut got = Vec::new();

    let first = archive.verify_chunk(&ram, &sums, 0, |piece| got.extend_from_slice(piece));
    let second = archive.verify_chunk(&ram, &sums, 1, |_| ());

    first.expect("the first chunk did not change");
    assert_eq!(got, sample::noise(4, 5 * 4096)[..8192]);
    assert_eq!(second.expect_err("the second did").rule(), Some(Rule::R2));
    assert_eq!(crate::raw::read_all(stream.as_slice()).unwrap_err().rule(), Some(Rule::R2));
}

#[test]
fn what_sparse_wrote_is_what_it_was_given() {
    let pieces: [&[u8]; 5] = [&[1; 100], &[0; 10_000], &[2; 3], &[0; 5000], &[3; 8200]];
    let mut file: File = tempfile::tempfile().expect("a file");
    let mut sparse = Sparse::new(file.try_clone().expect("a file"));

    pieces.iter().for_each(|piece| sparse.write_all(piece).expect("a file takes it"));
    sparse.write_all(&[0; 4097]).expect("a file takes it");
    sparse.finish().expect("a length");

    let mut got = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut got)).expect("the file");
    assert_eq!(got, [pieces.concat(), vec![0; 4097]].concat());
}
