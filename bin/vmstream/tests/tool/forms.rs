//! Other forms of the same machine.

use crate::bed::Bed;
use crate::sample;

#[test]
fn json_and_back_is_the_same_stream() {
    let bed = Bed::new();
    let text = bed.run(&["json", "vm"]).ok();

    let again = bed.run_with(&["from-json", "-"], &text.bytes).ok();

    assert_eq!(again.bytes, bed.read("vm"));
    bed.write("text", &text.bytes);
    bed.run(&["from-json", "text", "-o", "again"]).ok();
    assert_eq!(bed.read("again"), bed.read("vm"));
}

#[test]
fn ram_is_what_the_pages_say() {
    let bed = Bed::new();
    let page = |byte: u8| vec![byte; 4096];
    let mut low = vec![0; 64 * 4096];
    low[4096..2 * 4096].copy_from_slice(&page(7));
    low[2 * 4096..3 * 4096].copy_from_slice(&sample::noise(9, 4096));
    for same in [10, 11] {
        low[same * 4096..(same + 1) * 4096].copy_from_slice(&page(7));
    }
    let mut high = vec![0; 16 * 4096];
    high[..5 * 4096].copy_from_slice(&sample::noise(4, 5 * 4096));

    bed.run(&["ram", "vm", "--region", "low", "-o", "low"]).ok();
    bed.run(&["ram", "vm", "--region", "1", "-o", "high"]).ok();

    assert!(bed.read("low") == low && bed.read("high") == high);
    let missing = bed.run(&["ram", "vm", "--region", "rom", "-o", "rom"]).fails(1).err;
    assert!(missing.contains("no region rom; there are: low, high"), "{missing}");
    assert!(!bed.path("rom").exists());
}

#[test]
fn convert_keeps_the_machine() {
    let bed = Bed::new();

    bed.run(&["convert", "vm", "--to", "mappable", "-o", "file"]).ok();
    bed.run(&["convert", "file", "--to", "sequential", "--encoding", "zstd", "-o", "stream"]).ok();

    for form in ["file", "stream"] {
        bed.run(&["verify", form]).ok();
        assert_eq!(bed.run(&["diff", "vm", form]).ok().out, "", "{form}");
    }
    let kinds = |name| bed.run(&["inspect", name, "-o", "json"]).ok().json()["frames"].clone();
    let (file, stream) = (kinds("file"), kinds("stream"));
    assert_eq!(
        (&file["ram"]["frames"], &file["pages"], &file["tail"]["frames"]),
        (&2.into(), &serde_json::Value::Null, &1.into())
    );
    assert!(stream["ram"].is_null() && stream["pages"]["frames"].is_u64());
    let get = |name| bed.run(&["get", name, "bus/uart0"]).ok().json();
    assert_eq!(get("file"), get("vm"));
}

#[test]
fn verify_counts() {
    let bed = Bed::new();

    let people = bed.run(&["verify", "vm"]).ok().out;
    assert!(people.starts_with("whole: "), "{people}");
    let programs = bed.run_with(&["verify", "-", "-o", "json"], &bed.read("vm")).ok().json();
    assert_eq!((&programs["whole"], &programs["devices"]), (&true.into(), &1.into()));
}
