//! Rules O: which frame may come when.

use vmstream::frame::{Kind, PROVISIONAL};
use vmstream::message::{
    Checksums, Encoding, Hello, Message, PageRun, Pages, Purpose, Ram, RunKind, Switch, SwitchMode,
    Verdict,
};
use vmstream::value::encode;
use vmstream::{Finding, Map, Rule, Value};

use crate::raw::{
    Raw, described, greeted, loaded, manifested, read_all, refusal, rule, schema_value, switched,
};
use crate::sample;

fn zeros() -> Vec<u8> {
    let run = PageRun { first: 0, count: 1, kind: RunKind::Zero };
    Pages::new(0, Encoding::Raw, 0, &[run], Vec::new()).expect("pages").payload()
}

fn verdict() -> Verdict {
    Verdict { accepted: true, findings: Vec::new() }
}

fn of_purpose(purpose: Purpose) -> Raw {
    Raw::new().message(Kind::Hello, &Hello::new("toy", "1", purpose))
}

const STOPPED: Switch = Switch { mode: SwitchMode::Stopped };

#[test]
fn o_1_a_stream_begins_with_hello_and_has_no_other() {
    assert_eq!(rule(Raw::new().frame(Kind::Pad, 0, b"")), Rule::O1);
    assert_eq!(rule(Raw::new().frame_with(200, 0, b"", |_| ())), Rule::O1);
    assert_eq!(rule(greeted().message(Kind::Hello, &sample::hello())), Rule::O1);
}

#[test]
fn o_2_an_id_used_twice_is_refused() {
    let raw = described().value(Kind::Schema, &schema_value(0, &sample::schema()));

    assert_eq!(rule(raw), Rule::O2);
}

#[test]
fn o_3_what_the_manifest_describes_does_not_come_before_it() {
    assert_eq!(rule(manifested().message(Kind::Manifest, &sample::manifest(0))), Rule::O3);
    assert_eq!(rule(described().frame(Kind::Pages, 0, &zeros())), Rule::O3);
    assert_eq!(rule(described().records(PROVISIONAL, &[sample::record(0)])), Rule::O3);
    assert_eq!(rule(described().epoch(1).message(Kind::Switch, &STOPPED)), Rule::O3);
    assert_eq!(rule(of_purpose(Purpose::Contract)), Rule::O3);
}

#[test]
fn o_4_a_frame_of_another_purpose_is_refused() {
    let request = encode(&Value::List(Vec::new()));
    let contract = of_purpose(Purpose::Contract)
        .value(Kind::Schema, &schema_value(0, &sample::schema()))
        .message(Kind::Manifest, &sample::manifest(0));

    assert_eq!(rule(greeted().frame(Kind::Request, 0, &request)), Rule::O4);
    assert_eq!(rule(contract.frame(Kind::Pages, 0, &zeros())), Rule::O4);
    assert_eq!(rule(of_purpose(Purpose::Answer).message(Kind::Switch, &STOPPED)), Rule::O4);
    let answer = of_purpose(Purpose::Answer).frame(Kind::Request, 0, &request).finish().out;
    read_all(answer.as_slice()).expect("an answer may ask for pages");
}

#[test]
fn o_5_switch_comes_once_and_begins_the_last_epoch() {
    assert_eq!(rule(manifested()), Rule::O5, "state without switch");
    assert_eq!(rule(manifested().message(Kind::Switch, &STOPPED)), Rule::O5, "the same epoch");
    assert_eq!(rule(switched().message(Kind::Switch, &STOPPED)), Rule::O5, "twice");
    assert_eq!(rule(loaded().epoch(2).frame(Kind::Pad, 0, b"")), Rule::O5, "an epoch more");
    assert_eq!(rule(Raw::new().epoch(1).message(Kind::Hello, &sample::hello())), Rule::O5);
}

#[test]
fn o_6_final_records_before_switch_and_provisional_ones_after_are_refused() {
    assert_eq!(rule(manifested().records(0, &[sample::record(0)])), Rule::O6);
    assert_eq!(rule(switched().records(PROVISIONAL, &[sample::record(0)])), Rule::O6);
}

#[test]
fn o_7_ram_without_its_checksums_is_refused() {
    let ram = Ram { region: 0, offset: 0, chunk: 4096, length: 4096 };
    let payload = [ram.prefix(), vec![0; 4096]].concat();
    let prefix = crc32c::crc32c(&ram.prefix());
    let crc32c = vec![crc32c::crc32c(&[0; 4096])];
    let with_ram =
        || manifested().frame_with(11, 1 | 8, &payload, |header| header.payload_crc = prefix);
    let sums = Checksums { region: 0, offset: 0, chunk: 4096, crc32c };
    let other = Checksums { offset: 4096, ..sums.clone() };

    assert_eq!(rule(with_ram().frame(Kind::Pad, 0, b"")), Rule::O7);
    assert_eq!(rule(with_ram().message(Kind::Checksums, &other)), Rule::O7);
    assert_eq!(rule(manifested().message(Kind::Checksums, &sums)), Rule::O7);
    assert_eq!(rule(with_ram().message(Kind::Checksums, &sums)), Rule::O5, "as far as it goes");
}

#[test]
fn o_8_after_finish_come_index_and_tail_or_nothing() {
    let early = loaded().value(Kind::Index, &Value::map());
    let finish = loaded().finish_message(2);
    let wrong = loaded().message(Kind::Finish, &finish).frame(Kind::Pad, 0, b"");

    assert_eq!(rule(early), Rule::O8);
    assert_eq!(refusal(&wrong.out).0, Rule::O8);
}

#[test]
fn o_9_a_late_schema_needs_to_be_announced() {
    let value = schema_value(1, &sample::schema());
    let mut hello = sample::hello();
    hello.needs.push("late-schemas".to_owned());
    let announced = Raw::new()
        .message(Kind::Hello, &hello)
        .value(Kind::Schema, &schema_value(0, &sample::schema()))
        .message(Kind::Manifest, &sample::manifest(0))
        .value(Kind::Schema, &value)
        .epoch(1)
        .message(Kind::Switch, &STOPPED)
        .records(0, &[sample::record(0)])
        .finish();

    assert_eq!(rule(manifested().value(Kind::Schema, &value)), Rule::O9);
    read_all(announced.out.as_slice()).expect("it was announced");
}

#[test]
fn o_10_a_verdict_in_the_wrong_place_is_refused() {
    let twice = manifested().message(Kind::Verdict, &verdict()).message(Kind::Verdict, &verdict());

    assert_eq!(rule(described().message(Kind::Verdict, &verdict())), Rule::O10);
    assert_eq!(rule(switched().message(Kind::Verdict, &verdict())), Rule::O10);
    assert_eq!(rule(twice), Rule::O10);
}

#[test]
fn o_11_a_reader_stops_at_an_abort() {
    let why = Finding::new("no-space", "", "pages").because("the destination is full");
    let aborted = greeted().message(Kind::Abort, &why);
    let more = aborted.clone().frame(Kind::Pad, 0, b"");

    read_all(aborted.out.as_slice()).expect("an abort is an end");
    assert_eq!(refusal(&more.out).0, Rule::F15, "nothing is read after it");
    let mut writer = vmstream::Writer::new(Vec::new(), &sample::hello()).expect("a hello");
    writer.abort(&why).expect("an abort");
    match writer.pad(0) {
        Err(vmstream::WriteError::Broken { broken, .. }) => assert_eq!(broken.rule, Rule::O11),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        why.to_value(),
        Value::Map(
            Map::new()
                .with("code", "no-space")
                .with("phase", "pages")
                .with("cause", "the destination is full")
        )
    );
}
