//! JSON of strangers as a stream: what is made of it, a reader takes, and its JSON makes it again.

use vmstream::Reader;
use vmstream::json::{from_json, to_json};
use vmstream::writer::Compress;

use crate::stream;

/// The text.
pub fn run(bytes: &[u8]) {
    let mut made = Vec::new();
    let Ok(digest) = from_json(bytes, &mut made) else { return };
    let mut reader = Reader::new(made.as_slice());
    while reader.next_event().expect("what was written can be read").is_some() {}
    reader.expect_end().expect("nothing follows");
    let mut text = Vec::new();
    to_json(made.as_slice(), &mut text).expect("what is read has a form");
    let mut again = Vec::new();
    let same = from_json(text.as_slice(), &mut again).expect("and comes back");
    assert!(again == made && same == digest, "as the same bytes");
}

/// Streams as JSON, one that is edited.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let text = |compress, with_index| {
        let mut text = Vec::new();
        to_json(stream::stream(compress, with_index).as_slice(), &mut text).expect("a form");
        text
    };
    let plain = text(Compress::Nothing, true);
    let edited = String::from_utf8(plain.clone()).expect("text");
    let edited = edited.replace("\"vector\":33", "\"vector\":34").replace("\"on\"", "\"off\"");
    vec![plain, text(Compress::Metadata, false), edited.into_bytes()]
}
