//! The format by programs that are not ours.

use vmstream::frame::Kind;

use crate::python::python;
use crate::raw::{manifested, switched};
use crate::sample;

#[test]
fn a_generic_decoder_reads_a_whole_stream_and_every_field_of_it() {
    let (content, said) = python(&sample::stream());

    assert!(content, "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with("fifo \"00abff\"")).count(), 2);
    for field in ["irq masked true", "irq vector 33", "serial \"none\"", "armed null", "lines []"] {
        assert!(said.contains(&format!("bus/uart0 {field}\n")), "{said}");
    }
    for kind in ["hello", "schema", "manifest", "pages", "disk", "ram", "checksums", "tail"] {
        assert!(said.contains(&format!(" {kind} ")), "{said}");
    }
}

#[test]
fn a_validator_of_json_schema_refuses_what_we_refuse() {
    let mut record = sample::record(0);
    record.state.insert("divisor", 65_536_u32);

    let (content, said) = python(&switched().records(0, &[record]).out);

    assert!(!content && said.contains("65536 is greater than the maximum of 65535"), "{said}");
    let (content, said) = python(&manifested().frame(Kind::Pad, 0, b"").out);
    assert!(content, "{said}");
}
