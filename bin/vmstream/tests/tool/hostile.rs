//! Inputs that are broken, and command lines that are wrong.

use crate::bed::Bed;

/// Every command that reads a stream.
const READERS: &[&[&str]] = &[
    &["inspect"],
    &["tree"],
    &["get", "bus/uart0"],
    &["json"],
    &["schema"],
    &["ram", "--region=low", "--output=out"],
    &["diff", "vm"],
    &["verify"],
    &["report", "--output=out"],
    &["convert", "--to=mappable", "--output=out"],
    &["convert", "--to=sequential", "--output=out"],
    &["convert", "--to=incremental", "--parent=vm", "--output=out"],
];

fn words<'a>(command: &[&'a str], file: &'a str) -> Vec<&'a str> {
    let mut words = vec![command[0], file];
    words.extend(&command[1..]);
    words
}

#[test]
fn a_broken_stream_is_explained_by_frame_byte_and_rule() {
    let bed = Bed::new();
    let mut bytes = bed.read("vm");
    bytes[60] ^= 1;
    bed.write("broken", &bytes);

    let told = bed.run(&["verify", "broken"]).fails(2).err;
    assert_eq!(told, "error: broken: frame 0, byte 54: F-5: a payload matches its CRC-32C\n");
    let finding = bed.run(&["verify", "broken", "-o", "json"]).fails(2).json();
    assert_eq!(
        (&finding["finding"]["code"], &finding["finding"]["offset"]),
        (&"F-5".into(), &54.into())
    );
    for command in READERS {
        let ran = bed.run(&words(command, "broken")).fails(2);
        assert!(
            ran.err.contains("byte 54: F-5") || ran.err.contains("byte 3: F-5"),
            "{command:?}: {}",
            ran.err
        );
        assert!(!bed.path("out").exists(), "{command:?}");
    }
}

#[test]
fn no_cut_and_no_flipped_bit_passes_or_panics() {
    let bed = Bed::new();
    let whole = bed.read("vm");
    let step = whole.len() / 12;
    for at in (0..whole.len()).step_by(step) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        // What a pad holds is nobody's business.
        let verified = bed.run_with(&["verify", "-"], &flipped);
        assert!(verified.code == Some(2), "{at}: {}{}", verified.out, verified.err);
        for command in READERS {
            let cut = bed.run_with(&words(command, "-"), &whole[..at]);
            assert_eq!(cut.code, Some(2), "{command:?} at {at}: {}", cut.err);
        }
    }
}

#[test]
fn what_is_no_stream_is_refused() {
    let bed = Bed::new();
    for input in [&b""[..], b"text", b"QEVM\0\0\0\x03", &[0xd9, 0xd9, 0xf7]] {
        for command in READERS {
            let ran = bed.run_with(&words(command, "-"), input);
            assert!(matches!(ran.code, Some(1 | 2)), "{command:?}: {}{}", ran.out, ran.err);
        }
    }
    bed.run_with(&["from-json", "-"], b"{\"kind\":\"hello\"}\n").fails(2);
    bed.run(&["inspect", "nothing"]).fails(2);
}

#[test]
fn a_wrong_command_line_is_64() {
    let bed = Bed::new();
    bed.run(&["inspect"]).fails(64);
    bed.run(&["fly"]).fails(64);
    bed.run(&["ram", "vm"]).fails(64);
    bed.run(&["--help"]).ok();
    bed.run(&["--version"]).ok();
    for command in READERS {
        assert!(bed.run(&[command[0], "--help"]).ok().out.contains("Example"), "{command:?}");
    }
}

#[test]
fn an_endless_region_of_zeros_takes_no_time() {
    let bed = Bed::new();
    let huge = 1_u64 << 42;
    let text = bed.run(&["json", "vm"]).ok().out;
    let edited = text.replace("\"bytes\":262144", &format!("\"bytes\":{huge}"));
    let zeros = format!("[10,2,2,1],[12,{},1]", (huge >> 12) - 12);
    let edited = edited.replace("[10,2,2,1]", &zeros);
    assert_ne!(edited, text);
    bed.run_with(&["from-json", "-", "-o", "huge"], edited.as_bytes()).ok();

    bed.run(&["verify", "huge"]).ok();
    bed.run(&["ram", "huge", "--region", "low", "-o", "low"]).ok();
    let told = bed.run(&["diff", "huge", "vm"]).fails(1).err;
    assert!(told.contains("pages to compare"), "{told}");
}
