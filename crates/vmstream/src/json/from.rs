//! Lines into a stream.

use std::io::{self, BufRead, Read, Write};

use serde_json::{Map as Object, Value as Json};

use super::JsonError;
use super::project::{state_from_json, unplain, value_from_json};
use crate::broken::Broken;
use crate::frame::Kind;
use crate::message::{Fields, Pages, Ram};
use crate::rule::Rule;
use crate::schema::unhex;
use crate::session::Session;
use crate::value::Value;
use crate::writer::{Compress, WriteError, Writer};

/// The longest line: a frame of pages in hexadecimal digits, and as much again.
const LINE: u64 = 32 << 20;

/// Writes the stream that JSON describes, and hands out its digest; none if it ends with an abort.
///
/// # Errors
///
/// [`JsonError`]
pub fn from_json<W: Write>(input: impl BufRead, out: W) -> Result<Option<[u8; 32]>, JsonError> {
    let mut lines = Lines { input, number: 0 };
    let hello = lines.next()?.ok_or_else(|| lines.form(Broken::new(Rule::O1)))?;
    let mut writer = lines.begin(&hello, out)?;
    while let Some(line) = lines.next()? {
        let kind = lines.kind(&line)?;
        if kind != Kind::Finish {
            lines.frame(kind, &line, &mut writer)?;
            continue;
        }
        let payload = lines.payload(&line)?;
        let follows = payload.at("follows").and_then(Value::as_u64).unwrap_or(0);
        if lines.rest()? {
            return Err(lines.form(Broken::new(Rule::F15)));
        }
        let finished = if follows == 0 { writer.finish() } else { writer.finish_with_index() };
        return finished.map(|(_, digest)| Some(digest)).map_err(|error| lines.write(error));
    }
    if writer.session().is_over() { Ok(None) } else { Err(lines.form(Broken::new(Rule::F14))) }
}

type Line = Object<String, Json>;

struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<Line>, JsonError> {
        let mut text = Vec::new();
        self.number = self.number.saturating_add(1);
        let got = self.input.by_ref().take(LINE).read_until(b'\n', &mut text)?;
        if got == 0 {
            return Ok(None);
        }
        if !text.ends_with(b"\n") && u64::try_from(got).unwrap_or(u64::MAX) >= LINE {
            return Err(self.form(Broken::new(Rule::J1).found("a line that is too long")));
        }
        match serde_json::from_slice(&text) {
            Ok(Json::Object(line)) => Ok(Some(line)),
            Ok(_) => Err(self.form(Broken::new(Rule::J1).found("no object"))),
            Err(source) => Err(JsonError::Syntax { line: self.number, source }),
        }
    }

    /// Whether frames follow that are not made anew.
    fn rest(&mut self) -> Result<bool, JsonError> {
        while let Some(line) = self.next()? {
            if !matches!(self.kind(&line)?, Kind::Index | Kind::Tail) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn begin<W: Write>(&self, line: &Line, out: W) -> Result<Writer<W>, JsonError> {
        if self.kind(line)? != Kind::Hello {
            return Err(self.form(Broken::new(Rule::O1)));
        }
        let channel = self.number(line, "channel")?;
        let channel = u16::try_from(channel).map_err(|_| self.misfit("channel"))?;
        Writer::of_value(out, channel, &self.payload(line)?).map_err(|error| self.write(error))
    }

    fn frame<W: Write>(
        &mut self,
        kind: Kind,
        line: &Line,
        writer: &mut Writer<W>,
    ) -> Result<(), JsonError> {
        let epoch = self.number(line, "epoch")?;
        writer.set_epoch(u32::try_from(epoch).map_err(|_| self.misfit("epoch"))?);
        let is_set = |word| line.get(word).and_then(Json::as_bool).unwrap_or(false);
        writer.compress(match is_set("compressed") {
            true => Compress::Metadata,
            false => Compress::Nothing,
        });
        let written = if kind == Kind::Pad {
            let length = self.number(line, "length")?;
            writer.pad(usize::try_from(length).unwrap_or(usize::MAX))
        } else if matches!(kind, Kind::Pages | Kind::Disk) {
            let pages = Pages::from_meta(self.payload(line)?, self.bytes(line, "data")?);
            let pages = pages.map_err(|broken| self.form(broken))?;
            if kind == Kind::Disk { writer.disk(&pages) } else { writer.pages(&pages) }
        } else if kind == Kind::Ram {
            return self.ram(line, writer);
        } else if kind == Kind::Checksums {
            // Made anew with the ram frame before.
            Ok(())
        } else {
            let payload = if kind == Kind::Schema {
                self.schema_payload(line)?
            } else if kind == Kind::Device {
                self.records(line, writer.session())?
            } else {
                self.payload(line)?
            };
            let packed = line.contains_key("packed").then(|| self.bytes(line, "packed"));
            writer.value(kind, is_set("provisional"), &payload, packed.transpose()?.as_deref())
        };
        written.map_err(|error| self.write(error))
    }

    fn records(&self, line: &Line, session: &Session) -> Result<Value, JsonError> {
        let items = line.get("payload").and_then(Json::as_array);
        let items = items.ok_or_else(|| self.misfit("payload"))?;
        let record = |item: &Json| {
            let state = item.get("state").ok_or_else(|| Broken::new(Rule::J1).path("state"))?;
            let id = item.get("schema").and_then(Json::as_u64);
            let schema = id.and_then(|id| session.schemas().get(&u32::try_from(id).ok()?));
            let schema = schema.ok_or_else(|| Broken::new(Rule::D2))?;
            let state = state_from_json(state, schema).map_err(|broken| broken.below("state"))?;
            let mut rest = item.as_object().cloned().unwrap_or_default();
            rest.shift_remove("state");
            let map = value_from_json(&Json::Object(rest))?.into_map();
            let map = map.map_err(|other| Broken::new(Rule::J1).found(other.noun()))?;
            Ok(Value::Map(map.with("state", state)))
        };
        let each = |(index, item)| record(item).map_err(|broken: Broken| broken.below(index));
        let records = items.iter().enumerate().map(each).collect::<Result<_, _>>();
        records.map(Value::List).map_err(|broken| self.form(broken))
    }

    fn ram<W: Write>(&mut self, line: &Line, writer: &mut Writer<W>) -> Result<(), JsonError> {
        let mut fields = Fields::of(self.payload(line)?).map_err(|broken| self.form(broken))?;
        let mut read = || {
            Ok(Ram {
                region: fields.small("region")?,
                offset: fields.uint("offset")?,
                chunk: fields.small("chunk")?,
                length: fields.uint("length")?,
            })
        };
        let ram = read().map_err(|broken| self.form(broken))?;
        let align = self.number(line, "align")?;
        let align = u32::try_from(align).ok().filter(|align| *align <= 1 << 21);
        let align = align.ok_or_else(|| self.misfit("align"))?;
        let mut data = RamLines { lines: self, piece: Vec::new(), at: 0, error: None };
        let written = writer.ram(&ram, align, &mut data);
        let (error, left) = (data.error, data.piece.len() > data.at);
        match (error, written) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => Err(self.write(error)),
            (None, Ok(())) if left => Err(self.misfit("data")),
            (None, Ok(())) => Ok(()),
        }
    }

    fn kind(&self, line: &Line) -> Result<Kind, JsonError> {
        let word = line.get("kind").and_then(Json::as_str).unwrap_or_default();
        let kind = Kind::ALL.iter().find(|kind| kind.name() == word);
        kind.copied().ok_or_else(|| self.misfit("kind"))
    }

    fn payload(&self, line: &Line) -> Result<Value, JsonError> {
        let payload = line.get("payload").ok_or_else(|| self.misfit("payload"))?;
        value_from_json(payload).map_err(|broken| self.form(broken.below("payload")))
    }

    fn schema_payload(&self, line: &Line) -> Result<Value, JsonError> {
        let payload = line.get("payload").and_then(Json::as_object);
        let mut rest = payload.ok_or_else(|| self.misfit("payload"))?.clone();
        let document = rest.shift_remove("schema").ok_or_else(|| self.misfit("schema"))?;
        let document = unplain(&document).map_err(|broken| self.form(broken))?;
        let rest = value_from_json(&Json::Object(rest)).map_err(|broken| self.form(broken))?;
        let map = rest.into_map().map_err(|_| self.misfit("payload"))?;
        Ok(Value::Map(map.with("schema", document)))
    }

    fn number(&self, line: &Line, key: &str) -> Result<u64, JsonError> {
        match line.get(key) {
            None => Ok(0),
            Some(number) => number.as_u64().ok_or_else(|| self.misfit(key)),
        }
    }

    fn bytes(&self, line: &Line, key: &str) -> Result<Vec<u8>, JsonError> {
        let text = line.get(key).and_then(Json::as_str);
        text.and_then(unhex).ok_or_else(|| self.misfit(key))
    }

    fn misfit(&self, key: &str) -> JsonError {
        self.form(Broken::new(Rule::J1).path(key))
    }

    const fn form(&self, source: Broken) -> JsonError {
        JsonError::Form { line: self.number, source }
    }

    const fn write(&self, source: WriteError) -> JsonError {
        JsonError::Write { line: self.number, source }
    }
}

/// The memory that stands on the lines after a ram frame's.
struct RamLines<'a, R> {
    lines: &'a mut Lines<R>,
    piece: Vec<u8>,
    at: usize,
    error: Option<JsonError>,
}

impl<R: BufRead> Read for RamLines<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.piece.len() {
            let line = self.lines.next();
            let piece = line.and_then(|line| {
                let line = line.ok_or_else(|| self.lines.form(Broken::new(Rule::F14)))?;
                self.lines.bytes(&line, "data")
            });
            match piece {
                Ok(piece) => (self.piece, self.at) = (piece, 0),
                Err(error) => {
                    self.error = Some(error);
                    return Ok(0);
                }
            }
        }
        let mut rest = self.piece.get(self.at..).unwrap_or_default();
        let got = rest.read(buffer)?;
        self.at = self.at.saturating_add(got);
        Ok(got)
    }
}
