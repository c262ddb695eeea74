//! Rules P, R, K and I: memory.

use std::convert::Infallible;
use std::io::Cursor;

use vmstream::archive::Archive;
use vmstream::chain::{PageStore, apply, check_link};
use vmstream::frame::Kind;
use vmstream::message::{
    Encoding, Manifest, PageRun, Pages, PagesBuilder, Parent, Ram, RunKind, Switch, SwitchMode,
};
use vmstream::value::encode;
use vmstream::{Event, Map, Reader, Rule, Value, Writer};

use crate::raw::{Raw, loaded, manifested, refusal, rule};
use crate::sample;

fn run(first: u64, count: u64, kind: RunKind) -> PageRun {
    PageRun { first, count, kind }
}

/// The rule that pages of region 0 break, in the reader.
fn refused(encoding: &str, length: u64, runs: &[PageRun], data: &[u8]) -> Rule {
    let runs = runs.iter().map(|run| {
        let (kind, argument) = match run.kind {
            RunKind::Data => (0_u8, None),
            RunKind::Zero => (1, None),
            RunKind::SameAs(page) => (2, Some(page)),
            RunKind::Absent => (3, None),
        };
        let mut items = vec![Value::from(run.first), Value::from(run.count), Value::from(kind)];
        items.extend(argument.map(Value::from));
        Value::List(items)
    });
    let meta = Map::new()
        .with("region", 0_u8)
        .with("encoding", encoding)
        .with("length", length)
        .with("runs", runs.collect::<Vec<_>>());
    let payload = encode(&Value::List(vec![Value::Map(meta), Value::Bytes(data.to_vec())]));
    rule(manifested().frame(Kind::Pages, 0, &payload))
}

#[test]
fn p_1_more_data_or_runs_than_a_frame_may_have_are_refused() {
    let runs: Vec<_> = (0..32_769).map(|page| run(2 * page, 1, RunKind::Zero)).collect();

    assert_eq!(refused("raw", (4 << 20) + 4096, &[run(0, 1025, RunKind::Data)], b""), Rule::P1);
    assert_eq!(refused("raw", 0, &runs, b""), Rule::P1);
}

#[test]
fn p_2_runs_that_overlap_or_leave_their_region_are_refused() {
    let zeros = |runs: &[(u64, u64)]| {
        let runs: Vec<_> =
            runs.iter().map(|(first, count)| run(*first, *count, RunKind::Zero)).collect();
        refused("raw", 0, &runs, b"")
    };

    assert_eq!(zeros(&[(0, 2), (1, 1)]), Rule::P2);
    assert_eq!(zeros(&[(3, 1), (1, 1)]), Rule::P2);
    assert_eq!(zeros(&[(3, 0)]), Rule::P2);
    assert_eq!(zeros(&[(0, 65)]), Rule::P2);
    assert_eq!(zeros(&[(64, 1)]), Rule::P2);
    assert_eq!(zeros(&[(u64::MAX, 1)]), Rule::P2);
    assert_eq!(zeros(&[(u64::MAX, u64::MAX)]), Rule::P2);
}

#[test]
fn p_3_data_of_another_length_than_announced_are_refused() {
    let one = [run(0, 1, RunKind::Data)];
    let pages = |encoding, stored: &[u8]| {
        let pages =
            Pages::new(0, encoding, 4096, &one, stored.to_vec()).expect("the runs are good");
        pages.data().map(drop).expect_err("the data are not").rule
    };

    assert_eq!(refused("raw", 8192, &one, &[1; 8192]), Rule::P3);
    assert_eq!(refused("raw", 0, &one, b""), Rule::P3);
    assert_eq!(pages(Encoding::Raw, &[1; 4095]), Rule::P3);
    assert_eq!(pages(Encoding::Lz4, &[1; 100]), Rule::P3);
    assert_eq!(pages(Encoding::Lz4, b""), Rule::P3);
    assert_eq!(pages(Encoding::Zstd, &[1; 100]), Rule::P3);
}

#[test]
fn p_4_a_page_the_same_as_one_that_is_none_itself_is_refused() {
    let same = |page| run(10, 2, RunKind::SameAs(page));

    assert_eq!(refused("raw", 0, &[same(64)], b""), Rule::P4);
    assert_eq!(refused("raw", 0, &[same(11)], b""), Rule::P4);
    assert_eq!(
        refused("raw", 0, &[run(1, 1, RunKind::Zero), same(1)], b""),
        Rule::O5,
        "it is good"
    );
}

#[test]
fn p_5_absent_pages_without_a_parent_are_refused() {
    assert_eq!(refused("raw", 0, &[run(0, 1, RunKind::Absent)], b""), Rule::P5);
}

#[test]
fn p_6_another_encoding_is_refused() {
    assert_eq!(refused("brotli", 0, &[run(0, 1, RunKind::Zero)], b""), Rule::P6);
}

#[test]
fn a_zstandard_frame_that_wants_a_window_over_8_mib_is_refused() {
    // Magic, a descriptor that has a window, the window, one last raw block of 4096 bytes.
    let decoded = |window: u8| {
        let head = [0x28, 0xb5, 0x2f, 0xfd, 0x00, window, 0x01, 0x80, 0x00];
        let stored = [head.as_slice(), &[7; 4096]].concat();
        let runs = [run(0, 1, RunKind::Data)];
        let pages = Pages::new(0, Encoding::Zstd, 4096, &runs, stored).expect("the runs are good");
        pages.data().map(|data| data.into_owned())
    };

    assert_eq!(decoded(13 << 3), Ok(vec![7; 4096]));
    assert_eq!(decoded(14 << 3).expect_err("it is too large").rule, Rule::P3);
}

#[test]
fn r_1_ram_outside_of_its_region_is_refused() {
    let good = Ram { region: 0, offset: 0, chunk: 4096, length: 4096 };
    let with = |ram: Ram, change: &dyn Fn(&mut Vec<u8>)| {
        let mut prefix = ram.prefix();
        change(&mut prefix);
        let crc = crc32c::crc32c(&prefix);
        let payload = [prefix, vec![0; 4096]].concat();
        rule(manifested().frame_with(11, 1 | 8, &payload, |header| header.payload_crc = crc))
    };

    assert_eq!(with(good, &|_| ()), Rule::O7, "it is good, and its checksums are missing");
    assert_eq!(with(Ram { region: 2, ..good }, &|_| ()), Rule::R1);
    assert_eq!(with(Ram { offset: 64 * 4096, ..good }, &|_| ()), Rule::R1);
    assert_eq!(with(Ram { offset: 1, ..good }, &|_| ()), Rule::R1);
    assert_eq!(with(Ram { chunk: 5000, ..good }, &|_| ()), Rule::R1);
    assert_eq!(with(Ram { chunk: 2048, ..good }, &|_| ()), Rule::R1);
    assert_eq!(with(Ram { length: 8192, ..good }, &|_| ()), Rule::R1);
    assert_eq!(with(good, &|prefix| prefix[1] = 0x1b), Rule::R1);
}

fn child(digest: [u8; 32]) -> Manifest {
    Manifest { parent: Some(Parent { digest, name: None }), ..sample::manifest(0) }
}

#[test]
fn k_1_another_parent_than_named_is_refused() {
    let parent = sample::manifest(0);
    let rule =
        |child: &Manifest| check_link(&parent, &[1; 32], child).expect_err("it has another").rule;

    assert_eq!(rule(&child([2; 32])), Rule::K1);
    assert_eq!(rule(&parent), Rule::K1);
    check_link(&parent, &[1; 32], &child([1; 32])).expect("it is the parent");
}

#[test]
fn k_2_a_parent_with_other_memory_is_refused() {
    let mut other = sample::manifest(0);
    other.memory[0].bytes = 4096;

    let broken = check_link(&other, &[1; 32], &child([1; 32])).expect_err("it is another machine");

    assert_eq!(broken.rule, Rule::K2);
}

#[test]
fn i_1_a_tail_that_leads_elsewhere_is_refused() {
    let finish = loaded().finish_message(2);
    let index = vmstream::message::Index::default();
    let raw: Raw = loaded().message(Kind::Finish, &finish).message(Kind::Index, &index);
    let mut payload = vec![0x1b];
    payload.extend(7_u64.to_be_bytes());
    let stream = raw.frame(Kind::Tail, 0, &payload).out;

    assert_eq!(refusal(&stream).0, Rule::I1);
    let opened = Archive::open(Cursor::new(&stream)).expect_err("there is no index");
    assert!(matches!(opened.rule(), Some(Rule::F2 | Rule::I2)), "{opened:?}");
}

/// Memory of 16 pages, each of one number.
#[derive(Debug, PartialEq)]
struct Numbers([u8; 16]);

impl Numbers {
    fn pages(&mut self, first: u64, count: u64) -> &mut [u8] {
        let at = |page: u64| usize::try_from(page).expect("small");
        &mut self.0[at(first)..at(first + count)]
    }
}

impl PageStore for Numbers {
    type Error = Infallible;

    fn write(&mut self, _: u32, first: u64, data: &[u8]) -> Result<(), Infallible> {
        for (page, bytes) in (first..).zip(data.chunks(4096)) {
            self.pages(page, 1)[0] = bytes[0];
        }
        Ok(())
    }

    fn zero(&mut self, _: u32, first: u64, count: u64) -> Result<(), Infallible> {
        self.pages(first, count).fill(0);
        Ok(())
    }

    fn same(&mut self, _: u32, first: u64, count: u64, page: u64) -> Result<(), Infallible> {
        let number = self.pages(page, 1)[0];
        self.pages(first, count).fill(number);
        Ok(())
    }
}

#[test]
fn a_chain_is_read_by_applying_its_streams_in_order() {
    let stream = |manifest: &Manifest, fill: &dyn Fn(&mut PagesBuilder)| {
        let mut writer = Writer::new(Vec::new(), &sample::hello()).expect("a hello");
        writer.schema(&sample::schema()).expect("a schema");
        writer.manifest(manifest).expect("a manifest");
        let mut pages = PagesBuilder::new(1, 4096, Encoding::Lz4);
        fill(&mut pages);
        writer.pages(&pages.build().expect("pages")).expect("pages");
        writer.switch(&Switch { mode: SwitchMode::Stopped }).expect("a switch");
        writer.finish().expect("an end")
    };
    let bare = Manifest { devices: None, ..sample::manifest(0) };
    let (parent, digest) = stream(&bare, &|pages| {
        (0..8).for_each(|page| pages.page(page, &[5; 4096]));
    });
    let linked = Manifest { devices: None, ..child(digest) };
    let (child, _) = stream(&linked, &|pages| {
        pages.page(0, &[6; 4096]);
        pages.run(1, 2, RunKind::Absent);
        pages.page(3, &[0; 4096]);
        pages.run(14, 2, RunKind::SameAs(0));
    });
    let mut memory = Numbers([0; 16]);

    let mut digests = Vec::new();
    for stream in [&parent, &child] {
        let mut reader = Reader::new(stream.as_slice());
        while let Some(event) = reader.next_event().expect("a good stream") {
            if let Event::Pages(pages) = &event {
                apply(pages, 4096, &mut memory).expect("memory takes all");
            } else if let Event::Finish(finish) = event {
                digests.push(finish.digest);
            }
        }
    }

    check_link(&bare, &digests[0], &linked).expect("it is the parent");
    assert_eq!(memory, Numbers([6, 5, 5, 0, 5, 5, 5, 5, 0, 0, 0, 0, 0, 0, 6, 6]));
}
