//! Memory that came through several channels.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use vmstream_transcode::{Error, Form, Options, from_vmstream, to_vmstream};

use crate::bed::{self, Bed, Machine, Pair, Qemu, loads};

/// The main channel, and the others.
fn captured(
    qemu: &Qemu,
    machine: Machine,
    compression: &str,
    dir: &Path,
) -> (Vec<u8>, Vec<Vec<u8>>, (u64, String)) {
    let mut pair = Pair::new(qemu, machine, dir);
    pair.capability("multifd");
    let parameters = json!({ "multifd-channels": 3, "multifd-compression": compression });
    pair.source.qmp.ask("migrate-set-parameters", parameters.clone());
    pair.destination.qmp.ask("migrate-set-parameters", parameters);
    pair.listen();
    // Slow enough for several rounds.
    pair.source.qmp.ask("migrate-set-parameters", json!({ "max-bandwidth": 60_000_000 }));
    pair.source.migrate(&pair.uri);
    pair.destination.wait_status("running");
    let channels = pair.tee.channels();
    let (others, mut main): (Vec<_>, Vec<_>) =
        channels.into_iter().partition(|bytes| bytes.starts_with(&[0x11, 0x22, 0x33, 0x44]));
    assert_eq!((main.len(), others.len()), (1, 3));
    (main.remove(0), others, pair.source.tick().expect("it has counted"))
}

fn files(dir: &Path, channels: &[Vec<u8>]) -> Vec<Arc<File>> {
    let file = |(number, bytes): (usize, &Vec<u8>)| {
        let path = dir.join(format!("channel-{number}"));
        fs::write(&path, bytes).expect("a file");
        Arc::new(File::open(path).expect("a file"))
    };
    channels.iter().enumerate().map(file).collect()
}

fn transcoded(main: &[u8], dir: &Path, channels: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
    let options = Options { channels: files(dir, channels), ..Options::default() };
    to_vmstream(&mut &*main, Vec::new(), &options).map(|(ours, _)| ours)
}

fn set_of(qemu: &Qemu, machine: Machine, compression: &str) {
    let dir = bed::directory();
    let (main, mut channels, tick) = captured(qemu, machine, compression, dir.path());

    let ours = transcoded(&main, dir.path(), &channels).expect("valid");
    let same = from_vmstream(&*ours, Vec::new(), Form::Same);
    assert!(matches!(same, Err(Error::Moved { .. })), "there is no one stream that it was");
    let composed = from_vmstream(&*ours, Vec::new(), Form::Precopy).expect("it can be written");
    loads(qemu, machine, (dir.path(), "composed"), &composed, &tick);

    channels.reverse();
    assert!(transcoded(&main, dir.path(), &channels).is_ok(), "their order means nothing");
    let refused = |channels: &[Vec<u8>]| {
        transcoded(&main, dir.path(), channels).expect_err("refused").to_string()
    };
    for left_out in 0..3 {
        let mut some = channels.clone();
        some.remove(left_out);
        let told = refused(&some);
        assert!(told.starts_with("T-2: "), "without {left_out}: {told}");
    }
    assert!(refused(&[]).contains("channels"), "{}", refused(&[]));
    let twice = [channels[0].clone(), channels[1].clone(), channels[1].clone()];
    assert!(refused(&twice).ends_with("is there twice"), "{}", refused(&twice));
    let mut other = channels.clone();
    other[1][8] ^= 1;
    assert!(refused(&other).ends_with("of another machine"), "{}", refused(&other));
    let mut cut = channels.clone();
    let length = cut[1].len();
    cut[1].truncate(length / 2);
    assert!(refused(&cut).contains("channel file 2"), "{}", refused(&cut));
}

#[test]
fn a_multifd_set_of_7_2() {
    set_of(&Bed::get().old, Machine::Pc, "none");
}

#[test]
fn a_multifd_set_of_10_0() {
    set_of(&Bed::get().new, Machine::Q35, "none");
}

#[test]
fn a_multifd_set_with_zlib_of_10_0() {
    set_of(&Bed::get().new, Machine::Pc, "zlib");
}

#[test]
fn a_multifd_set_with_zstd_of_10_0() {
    set_of(&Bed::get().new, Machine::Microvm, "zstd");
}
