//! What is written is what is read, however it arrives.

use std::io::{self, Read};

use vmstream::message::Encoding;
use vmstream::{Event, Reader};

use crate::raw::read_all;
use crate::sample;

/// Gives a byte at a time, and now and then an interruption, as a pipe may.
struct Drip<'a>(&'a [u8], bool);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let one = buffer.len().min(1);
        self.0.read(&mut buffer[..one])
    }
}

#[test]
fn a_stream_reads_the_same_whole_and_byte_by_byte() {
    let stream = sample::stream();
    let events = |input: &mut dyn Read| {
        let mut reader = Reader::new(input);
        let mut events = Vec::new();
        while let Some(event) = reader.next_event().expect("a good stream") {
            events.push(event);
        }
        reader.expect_end().expect("nothing follows");
        events
    };

    let whole = events(&mut stream.as_slice());

    assert_eq!(whole, events(&mut Drip(&stream, false)));
    assert_eq!(whole.len(), 17);
}

#[test]
fn pages_come_back_in_every_encoding() {
    let stream = sample::stream();
    let mut reader = Reader::new(stream.as_slice());
    let (mut data, mut encodings) = (Vec::new(), Vec::new());

    while let Some(event) = reader.next_event().expect("a good stream") {
        if let Event::Pages(pages) = event {
            data.push(pages.data().expect("data").into_owned());
            encodings.push(pages.encoding());
        }
    }

    let want = [[7; 4096].as_slice(), &sample::noise(9, 4096)].concat();
    assert_eq!(data, [want.clone(), want.clone(), want]);
    assert_eq!(encodings, [Encoding::Raw, Encoding::Lz4, Encoding::Zstd]);
}

#[test]
fn ram_comes_back_and_lies_where_it_was_asked_to() {
    let stream = sample::stream();
    let mut reader = Reader::new(stream.as_slice());
    let mut got = Vec::new();

    while let Some(event) = reader.next_event().expect("a good stream") {
        if let Event::Ram(_) = event {
            let at = reader.frame().expect("a frame").offset + 80;
            let mut buffer = [0; 1000];
            loop {
                let count = reader.read_ram(&mut buffer).expect("ram");
                if count == 0 {
                    break;
                }
                got.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(at % 4096, 0);
        }
    }

    assert_eq!(got, sample::noise(4, 5 * 4096));
}

#[test]
fn nothing_is_read_beyond_the_end_of_a_stream() {
    let mut twice = sample::stream();
    twice.extend(sample::stream());
    let mut input = twice.as_slice();

    for _ in 0..2 {
        let mut reader = Reader::new(&mut input);
        while reader.next_event().expect("a good stream").is_some() {}
    }

    assert_eq!(read_all(input).map_err(|error| error.rule()), Err(Some(vmstream::Rule::F1)));
    assert!(input.is_empty());
}
