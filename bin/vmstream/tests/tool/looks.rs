//! Looking into a stream.

use std::path::Path;

use serde_json::json;

use crate::bed::Bed;

#[test]
fn inspect_says_what_it_is_and_where_the_bytes_are() {
    let bed = Bed::new();

    let people = bed.run(&["inspect", "vm"]).ok().out;
    for part in ["state, by toy 1.0", "bus/uart0", "toy.uart", "low", "0x100000000", "pages"] {
        assert!(people.contains(part), "{part}: {people}");
    }
    let programs = bed.run(&["inspect", "vm", "-o", "json"]).ok().json();
    assert_eq!(programs["producer"], json!({"name": "toy", "version": "1.0"}));
    assert_eq!(programs["frames"]["pages"]["frames"], 3);
    assert_eq!(
        programs["memory"][0]["pages"],
        json!({"data": 6, "zero": 3, "same": 6, "absent": 0})
    );
    assert_eq!(programs["devices"][0]["path"], "bus/uart0");
    let piped = bed.run_with(&["inspect", "-", "-o", "json"], &bed.read("vm")).ok().json();
    assert_eq!(piped, programs);
}

#[test]
fn tree_shows_every_field_and_those_at_their_defaults() {
    let bed = Bed::new();

    let tree = bed.run(&["tree", "vm"]).ok().out;
    assert!(tree.starts_with("bus/uart0 (toy.uart)\n"), "{tree}");
    assert!(tree.contains("\n  irq\n    masked = true\n    vector = 33\n"), "{tree}");
    assert!(tree.contains("\n  serial = \"none\"\n"), "a default: {tree}");
    assert_eq!(
        bed.run(&["tree", "vm", "bus", "-o", "json"]).ok().json()["bus/uart0"]["divisor"],
        3
    );
    bed.run(&["tree", "vm", "nothing"]).fails(1);
}

#[test]
fn get_prints_one_field_from_a_file_and_from_a_pipe() {
    let bed = Bed::new();
    let cases = [
        ("bus/uart0.irq.vector", "33\n"),
        ("bus/uart0.fifo", "00abff\n"),
        ("bus/uart0.armed", "null\n"),
        ("machine#vcpus", "2\n"),
        ("cpu#features[1]", ""),
    ];

    for (path, printed) in cases {
        let (file, pipe) =
            (bed.run(&["get", "vm", path]), bed.run_with(&["get", "-", path], &bed.read("vm")));
        assert_eq!((file.out.as_str(), pipe.out.as_str()), (printed, printed), "{path}");
        assert_eq!(
            (file.code, pipe.code),
            if printed.is_empty() { (Some(1), Some(1)) } else { (Some(0), Some(0)) }
        );
    }
    assert_eq!(bed.run(&["get", "vm", "bus/uart0.mode", "-o", "json"]).ok().out, "\"on\"\n");
    let missing = bed.run(&["get", "vm", "bus/uart9"]).fails(1).err;
    assert_eq!(missing, "error: vm: there is no bus/uart9; `vmstream tree` shows all fields\n");
}

#[test]
fn schema_lists_and_prints() {
    let bed = Bed::new();

    assert!(bed.run(&["schema", "vm"]).ok().out.contains("toy.uart"));
    let document = bed.run(&["schema", "vm", "toy.uart"]).ok().json();
    assert_eq!(document["title"], "toy.uart");
    assert_eq!(document["properties"]["divisor"]["x-unit"], "ticks");
    assert_eq!(bed.run(&["schema", "vm", "-o", "json"]).ok().json()[0], document);
    bed.run(&["schema", "vm", "toy.disk"]).fails(1);
}

#[test]
fn diff_names_fields_with_both_values_and_pages_by_ranges() {
    let bed = Bed::new();
    let text = bed.run(&["json", "vm"]).ok().out;
    let edited = text.replace("\"divisor\":3", "\"divisor\":4");
    // The first line of memory holds two pages.
    let (before, after) = edited.split_once("{\"data\":\"").expect("memory");
    let (held, after) = after.split_once('"').expect("its end");
    let changed = format!("{before}{{\"data\":\"{}\"{after}", "5a".repeat(held.len() / 2));
    bed.run_with(&["from-json", "-", "-o", "other"], changed.as_bytes()).ok();

    assert_eq!(bed.run(&["diff", "vm", "vm"]).ok().out, "");
    let people = bed.run(&["diff", "vm", "other"]).fails(1).out;
    assert_eq!(people, "bus/uart0.divisor: 3 -> 4\nmemory high: pages 0-1, 2\n");
    let programs = bed.run(&["diff", "vm", "other", "-o", "json"]).fails(1).json();
    assert_eq!(programs["fields"], json!([{"path": "bus/uart0.divisor", "a": 3, "b": 4}]));
    assert_eq!(programs["pages"], json!([{"region": "high", "first": 0, "count": 2}]));
}

#[test]
fn report_is_one_page_with_all_of_it() {
    let bed = Bed::new();
    let text = bed.run(&["json", "vm"]).ok().out.replace("\"serial\":\"none\"", "");
    let edited = text.replace("\"mode\":\"on\"", "\"mode\":\"off\",\"serial\":\"</script>\"");
    bed.run_with(&["from-json", "-", "-o", "other"], edited.as_bytes()).ok();
    bed.run(&["report", "vm", "other", "-o", "page.html"]).ok();

    let page = String::from_utf8(bed.read("page.html")).expect("text");
    let data = page.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next());
    let data: serde_json::Value = serde_json::from_str(data.expect("data")).expect("JSON");
    assert_eq!(data["title"], "vm");
    assert_eq!(data["other"], "other");
    assert_eq!(data["parts"][0]["state"]["irq"]["vector"], 33);
    assert_eq!(data["differences"][0]["path"], "bus/uart0.mode");
    assert_eq!(data["memory"][0]["cells"].as_str().map(str::len), Some(64));
    assert!(!page.contains("http://") && !page.contains("https://"), "it needs nothing else");
    assert!(Path::new(&bed.path("page.html")).is_file());
}
