//! Builds a tree from bytes, one field after the other.

use std::borrow::Cow;

use crate::cursor::Cursor;
use crate::element::SUBSECTION;
use crate::error::{Broken, Rule};
use crate::input::len64;
use crate::tree::{Field, Framing, Kind, List, Name, Structure, Value};

/// Values in one section; the largest usual one has some 2,000.
const VALUES: u32 = 100_000;

/// What has been read of a structure, and the bytes that are left.
#[derive(Clone, Debug)]
pub(crate) struct Decoder<'a> {
    pub(crate) cursor: Cursor<'a>,
    fields: Vec<Field>,
    subsections: Vec<Structure>,
    left: u32,
}

/// A result of reading one field.
pub(crate) type Read<T = ()> = Result<T, Broken>;

impl<'a> Decoder<'a> {
    pub(crate) fn new(cursor: Cursor<'a>) -> Self {
        Self { cursor, fields: Vec::new(), subsections: Vec::new(), left: VALUES }
    }

    /// A decoder of the next `count` bytes alone.
    pub(crate) fn part(&mut self, count: u64) -> Read<Decoder<'a>> {
        let offset = self.cursor.offset();
        let bytes = self.take(count)?;
        Ok(Decoder { left: self.left, ..Decoder::new(Cursor::new(bytes, offset)) })
    }

    pub(crate) fn take(&mut self, count: u64) -> Read<&'a [u8]> {
        let count = usize::try_from(count).map_err(|_| self.cursor.broken(Rule::Length))?;
        self.cursor.take(count)
    }

    /// Everything read so far as one structure.
    pub(crate) fn finish(self, name: impl Into<Name>, version: u32) -> Structure {
        let Self { cursor: _, fields, subsections, left: _ } = self;
        Structure { name: name.into(), version, fields, subsections }
    }

    pub(crate) fn spend(&mut self, values: u64) -> Read {
        let left = u64::from(self.left).checked_sub(values);
        let left = left.ok_or_else(|| self.cursor.broken(Rule::Fields))?;
        self.left = u32::try_from(left).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Adds a field whose value began at `offset` and ends here.
    pub(crate) fn push(
        &mut self,
        (name, type_name): (impl Into<Name>, impl Into<Name>),
        kind: Kind,
        offset: u64,
        value: Value,
    ) {
        let length = self.cursor.offset().saturating_sub(offset);
        let (name, type_name) = (name.into(), type_name.into());
        self.fields.push(Field { name, type_name, kind, offset, length, value });
    }

    /// The last field, if it can take further items of its list.
    pub(crate) fn last(&mut self) -> Option<&mut Field> {
        self.fields.last_mut()
    }

    pub(crate) fn value(&mut self, kind: Kind) -> Read<Value> {
        self.spend(1)?;
        let width = kind.width().ok_or_else(|| self.cursor.broken(Rule::Decoder))?;
        Ok(kind.decode(self.cursor.take(width)?))
    }

    /// One number; its value as what it is without a sign.
    pub(crate) fn number(&mut self, name: &'static str, kind: Kind) -> Read<u64> {
        let offset = self.cursor.offset();
        let value = self.value(kind)?;
        let number = match value {
            Value::Unsigned(number) => number,
            Value::Signed(number) => number.cast_unsigned(),
            Value::Bool(bit) => u64::from(bit),
            Value::Bytes(_)
            | Value::Opaque(_)
            | Value::Null
            | Value::Structure(_)
            | Value::List(_) => 0,
        };
        self.push((name, type_name(kind)), kind, offset, value);
        Ok(number)
    }

    pub(crate) fn u8(&mut self, name: &'static str) -> Read<u64> {
        self.number(name, Kind::U8)
    }

    pub(crate) fn u16(&mut self, name: &'static str) -> Read<u64> {
        self.number(name, Kind::U16)
    }

    pub(crate) fn u32(&mut self, name: &'static str) -> Read<u64> {
        self.number(name, Kind::U32)
    }

    pub(crate) fn u64(&mut self, name: &'static str) -> Read<u64> {
        self.number(name, Kind::U64)
    }

    pub(crate) fn flag(&mut self, name: &'static str) -> Read<u64> {
        self.number(name, Kind::Bool)
    }

    pub(crate) fn bytes(&mut self, name: impl Into<Name>, count: u64) -> Read<&'a [u8]> {
        self.spend(1)?;
        let offset = self.cursor.offset();
        let bytes = self.take(count)?;
        self.push((name, "buffer"), Kind::Bytes, offset, Value::Bytes(bytes.into()));
        Ok(bytes)
    }

    /// Numbers of one kind.
    pub(crate) fn numbers(&mut self, name: &'static str, kind: Kind, count: u64) -> Read {
        let offset = self.cursor.offset();
        let items: Vec<_> = (0..count).map(|_| self.value(kind)).collect::<Read<_>>()?;
        self.push((name, type_name(kind)), kind, offset, Value::List(List::bare(items)));
        Ok(())
    }

    /// A structure that `read` reads.
    pub(crate) fn inner(
        &mut self,
        name: impl Into<Name>,
        version: u32,
        read: impl FnOnce(&mut Self) -> Read,
    ) -> Read<Structure> {
        self.spend(1)?;
        let fields = std::mem::take(&mut self.fields);
        let subsections = std::mem::take(&mut self.subsections);
        let result = read(self);
        let fields = std::mem::replace(&mut self.fields, fields);
        let subsections = std::mem::replace(&mut self.subsections, subsections);
        result?;
        Ok(Structure { name: name.into(), version, fields, subsections })
    }

    /// A field that is a structure.
    pub(crate) fn structure(
        &mut self,
        (name, vmsd): (&'static str, &'static str),
        read: impl FnOnce(&mut Self) -> Read,
    ) -> Read {
        let offset = self.cursor.offset();
        let structure = self.inner(vmsd, 1, read)?;
        self.push((name, "struct"), Kind::Structure, offset, Value::Structure(structure));
        Ok(())
    }

    /// `count` structures of `width` bytes each; those at the end that are all zero are only counted.
    pub(crate) fn structures(
        &mut self,
        (name, vmsd): (&'static str, &'static str),
        count: u32,
        width: u32,
        mut read: impl FnMut(&mut Self) -> Read,
    ) -> Read {
        let offset = self.cursor.offset();
        let total = u64::from(count).saturating_mul(u64::from(width));
        let mut part = self.part(total)?;
        let used = part.cursor.rest().iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let used = len64(used).div_ceil(u64::from(width.max(1)));
        let used = u32::try_from(used).unwrap_or(count);
        let items = (0..used).map(|_| part.inner(vmsd, 1, &mut read).map(Value::Structure));
        let items = items.collect::<Read<_>>()?;
        self.left = part.left;
        let zeros = count.saturating_sub(used);
        let list = List { items, zeros, zero_bytes: width, framing: Framing::Bare };
        self.push((name, "struct"), Kind::Structure, offset, Value::List(list));
        Ok(())
    }

    /// Structures, each with a byte before it, and a byte 0 behind the last.
    pub(crate) fn marked(
        &mut self,
        (name, vmsd): (&'static str, &'static str),
        mut read: impl FnMut(&mut Self) -> Read,
    ) -> Read {
        let offset = self.cursor.offset();
        let mut items = Vec::new();
        while self.marker()? {
            items.push(Value::Structure(self.inner(vmsd, 1, &mut read)?));
        }
        let list = List { framing: Framing::Marked, ..List::bare(items) };
        self.push((name, "qtailq"), Kind::Structure, offset, Value::List(list));
        Ok(())
    }

    /// Whether another item follows.
    pub(crate) fn marker(&mut self) -> Read<bool> {
        let at = self.cursor;
        match self.cursor.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(at.broken(Rule::DescribedMarker).found(other).want(1u8)),
        }
    }

    /// The subsections that stand here, each read by `read`, which is given its name.
    pub(crate) fn subsections(
        &mut self,
        parent: &str,
        mut read: impl FnMut(&mut Self, &str) -> Read,
    ) -> Read {
        while let Some((name, mut ahead)) = subsection_ahead(self.cursor, parent) {
            let version = ahead.be32()?;
            self.cursor = ahead;
            let name: Name = Cow::Owned(name.to_owned());
            let sub = self.inner(name.clone(), version, |inner| read(inner, &name))?;
            self.subsections.push(sub);
        }
        Ok(())
    }

    pub(crate) fn push_subsection(&mut self, structure: Structure) {
        self.subsections.push(structure);
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Read {
        if self.cursor.is_empty() { Ok(()) } else { Err(self.cursor.broken(Rule::Decoder)) }
    }
}

/// The name of the subsection of `parent` that stands here, and where its version stands.
fn subsection_ahead<'a>(mut cursor: Cursor<'a>, parent: &str) -> Option<(&'a str, Cursor<'a>)> {
    if cursor.u8().ok()? != SUBSECTION {
        return None;
    }
    let name = cursor.counted().ok()?;
    name.strip_prefix(parent)?.strip_prefix('/')?;
    Some((name, cursor))
}

/// What QEMU calls a kind.
fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::U8 => "uint8",
        Kind::U16 => "uint16",
        Kind::U32 => "uint32",
        Kind::U64 => "uint64",
        Kind::I8 => "int8",
        Kind::I16 => "int16",
        Kind::I32 => "int32",
        Kind::I64 => "int64",
        Kind::U16Le => "uint16 little-endian",
        Kind::U32Le => "uint32 little-endian",
        Kind::U64Le => "uint64 little-endian",
        Kind::Bytes => "buffer",
        Kind::Structure => "struct",
        Kind::Opaque => "opaque",
    }
}
