//! Logs that stay bounded, and reading along.

use std::fs;
use std::io::Write;
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bandsox_store::log::{Followed, LogFollower, LogLimits, LogWriter};
use proptest::prelude::*;

fn limits(file_bytes: u64, kept: u32) -> LogLimits {
    LogLimits { file_bytes: NonZeroU64::new(file_bytes).expect("not zero"), kept }
}

/// All that there is to read now, and whether something was missed.
fn drain(follower: &mut LogFollower, chunk: usize) -> (Vec<u8>, bool) {
    let (mut all, mut missed) = (Vec::new(), false);
    let mut buffer = vec![0; chunk];
    loop {
        match follower.read(&mut buffer).expect("readable") {
            Followed::Bytes(count) => all.extend_from_slice(&buffer[..count]),
            Followed::Gap => missed = true,
            Followed::UpToDate => return (all, missed),
        }
    }
}

fn total_bytes(dir: &Path) -> u64 {
    fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").metadata().expect("it is there").len())
        .sum()
}

#[test]
fn a_flood_stays_within_its_bound_and_the_end_of_it_is_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("console.log");
    let mut log = LogWriter::open(&path, limits(1000, 3)).expect("a log");
    let flood: Vec<u8> = (0..100_000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();

    log.write_all(&flood).expect("room on the disk");

    assert!(total_bytes(dir.path()) <= 4000);
    let (kept, _) = drain(&mut LogFollower::from_start(&path), 100);
    assert!(kept.len() >= 3000 && flood.ends_with(&kept));
    let mode = fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_log_goes_on_where_the_last_writer_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("console.log");
    for text in ["one\n", "two\n"] {
        let mut log = LogWriter::open(&path, limits(6, 2)).expect("a log");
        log.write_all(text.as_bytes()).expect("room on the disk");
    }

    assert_eq!(
        fs::read_to_string(dir.path().join("console.log.1")).ok().as_deref(),
        Some("one\ntw")
    );
    assert_eq!(fs::read_to_string(&path).ok().as_deref(), Some("o\n"));
}

#[test]
fn narrower_limits_drop_what_wider_ones_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("console.log");
    LogWriter::open(&path, limits(10, 9))
        .and_then(|mut log| log.write_all(&[b'x'; 95]))
        .expect("room on the disk");
    assert!(dir.path().join("console.log.9").exists());

    LogWriter::open(&path, limits(10, 1)).expect("a log");

    assert!(total_bytes(dir.path()) <= 20);
}

#[test]
fn a_rotation_that_finds_no_room_loses_nothing_that_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("console.log");
    let mut log = LogWriter::open(&path, limits(4, 2)).expect("a log");
    log.write_all(b"aaaabbbbcccc").expect("room on the disk");
    // A directory of the new file's name: it cannot be made, whoever asks.
    let blocker = dir.path().join("console.log.fresh");
    fs::create_dir(&blocker).expect("made");

    for _ in 0..5 {
        log.write_all(b"d").expect_err("no new file can be made");
    }
    fs::remove_dir(blocker).expect("it is there");
    log.write_all(b"d").expect("room again");

    let (all, _) = drain(&mut LogFollower::from_start(&path), 64);
    assert_eq!(all, b"bbbbccccd");
}

#[test]
fn a_follower_waits_for_a_log_that_is_not_there_yet() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("console.log");
    let mut follower = LogFollower::from_start(&path);
    assert_eq!(drain(&mut follower, 8), (Vec::new(), false));

    let mut log = LogWriter::open(&path, LogLimits::default()).expect("a log");
    log.write_all(b"boot").expect("room on the disk");

    assert_eq!(drain(&mut follower, 8), (b"boot".to_vec(), false));
    assert_eq!(drain(&mut follower, 8), (Vec::new(), false));
}

#[test]
fn a_follower_that_is_left_behind_is_told_so_and_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("console.log");
    let mut log = LogWriter::open(&path, limits(4, 1)).expect("a log");
    log.write_all(b"aaaa").expect("room on the disk");
    let mut follower = LogFollower::from_start(&path);
    assert_eq!(drain(&mut follower, 8).0, b"aaaa");

    log.write_all(b"bbbbccccdddd").expect("room on the disk");

    assert_eq!(drain(&mut follower, 8), (b"ccccdddd".to_vec(), true));
}

#[test]
fn a_log_that_was_deleted_and_begun_again_is_followed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("console.log");
    LogWriter::open(&path, limits(64, 1))
        .and_then(|mut log| log.write_all(b"old"))
        .expect("room on the disk");
    let mut follower = LogFollower::from_start(&path);
    assert_eq!(drain(&mut follower, 8).0, b"old");

    fs::remove_file(&path).expect("it is there");
    assert_eq!(drain(&mut follower, 8).0, b"");
    LogWriter::open(&path, limits(64, 1))
        .and_then(|mut log| log.write_all(b"new"))
        .expect("room on the disk");

    assert_eq!(drain(&mut follower, 8).0, b"new");
}

#[test]
fn a_follower_beside_a_running_writer_gets_every_byte_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("console.log");
    // Enough files that the reader is never left behind.
    let mut log = LogWriter::open(&path, limits(1024, 900)).expect("a log");
    let text: Vec<u8> = (0..20_000_u32).flat_map(|n| format!("{n} ").into_bytes()).collect();

    let mut read = Vec::new();
    std::thread::scope(|threads| {
        let writer = threads.spawn(|| {
            for piece in text.chunks(37) {
                log.write_all(piece).expect("room on the disk");
            }
        });
        let mut follower = LogFollower::from_start(&path);
        loop {
            let over = writer.is_finished();
            let (more, missed) = drain(&mut follower, 61);
            assert!(!missed);
            read.extend(more);
            if over {
                break;
            }
        }
    });

    assert!(read == text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reading_along_often_enough_misses_nothing(
        pieces in proptest::collection::vec((1_usize..30, any::<bool>()), 1..60),
        file_bytes in 32_u64..160,
        chunk in 1_usize..40,
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("console.log");
        let mut log = LogWriter::open(&path, limits(file_bytes, 999)).expect("a log");
        let mut follower = LogFollower::from_start(&path);
        let (mut written, mut read) = (Vec::new(), Vec::new());

        for (position, (length, look)) in pieces.into_iter().enumerate() {
            let byte = u8::try_from(position).expect("few pieces");
            log.write_all(&vec![byte; length]).expect("room on the disk");
            written.extend(vec![byte; length]);
            if look {
                read.extend(drain(&mut follower, chunk).0);
                prop_assert_eq!(&read, &written);
            }
        }
        read.extend(drain(&mut follower, chunk).0);

        prop_assert_eq!(read, written);
    }
}
