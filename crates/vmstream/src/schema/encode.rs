//! The canonical bytes of a schema's document, without the document.
//!
//! ```text
//!   Schema --entries--> its document's keys, map by map --encoded--> the bytes that the document's value has
//! ```

use super::document::{
    Entries, Entry, bits, entries, field_entries, null_entries, required, type_entries,
};
use super::{Schema, Struct, Type};
use crate::limits;
use crate::value::{INT_MAX, INT_MIN, Value, push_head, push_int, push_text};

/// A document's bytes, and what decides whether a payload can hold it.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// Values, as [`Value::count`] counts them.
    pub(crate) values: usize,
    /// Levels of lists and maps.
    levels: usize,
    level: usize,
    /// Whether some map has too many keys, or some integer is out of range.
    is_over: bool,
}

impl Schema {
    /// The canonical encoding of [`Schema::document`].
    pub(crate) fn encoded(&self) -> Encoded {
        let mut out = Encoded::default();
        out.entries(entries(self));
        out
    }

    /// Whether a payload can hold the document below so many lists and maps, each of one value.
    #[must_use]
    pub fn document_fits(&self, below: usize) -> bool {
        self.encoded().fits(below, below)
    }
}

impl Encoded {
    /// Whether a payload can hold the document besides `values` others, below `levels` lists and maps: as [`Value::fits`].
    pub(crate) fn fits(&self, levels: usize, values: usize) -> bool {
        !self.is_over
            && self.levels.saturating_add(levels) <= limits::DEPTH
            && self.values.saturating_add(values) <= limits::VALUES
    }

    fn map(&mut self, keys: usize, write: impl FnOnce(&mut Self)) {
        self.is_over |= keys > limits::KEYS;
        self.open(5, keys, write);
    }

    fn list(&mut self, items: usize, write: impl FnOnce(&mut Self)) {
        self.open(4, items, write);
    }

    fn open(&mut self, major: u8, count: usize, write: impl FnOnce(&mut Self)) {
        self.values = self.values.saturating_add(1);
        push_head(&mut self.bytes, major, u64::try_from(count).unwrap_or(u64::MAX));
        self.level = self.level.saturating_add(1);
        self.levels = self.levels.max(self.level);
        write(self);
        self.level = self.level.saturating_sub(1);
    }

    fn key(&mut self, key: &str) {
        push_text(&mut self.bytes, key);
    }

    fn text(&mut self, text: &str) {
        self.values = self.values.saturating_add(1);
        push_text(&mut self.bytes, text);
    }

    fn int(&mut self, int: i128) {
        self.values = self.values.saturating_add(1);
        self.is_over |= !(INT_MIN..=INT_MAX).contains(&int);
        push_int(&mut self.bytes, int);
    }

    fn simple(&mut self, byte: u8) {
        self.values = self.values.saturating_add(1);
        self.bytes.push(byte);
    }

    fn entries(&mut self, all: Entries<'_>) {
        self.map(all.len(), |out| {
            for (key, entry) in all {
                out.key(key);
                out.entry(entry);
            }
        });
    }

    fn entry(&mut self, entry: Entry<'_>) {
        match entry {
            Entry::Text(text) => self.text(&text),
            Entry::Texts(all) => {
                self.list(all.len(), |out| all.iter().for_each(|each| out.text(each)));
            }
            Entry::Int(int) => self.int(int),
            Entry::False => self.simple(0xf4),
            Entry::Properties(fields) => self.properties(fields),
            Entry::Required(fields) => {
                let count = required(fields).count();
                self.list(count, |out| required(fields).for_each(|name| out.text(name)));
            }
            Entry::Type(kind) => self.entries(type_entries(kind)),
            Entry::OrNull(kind) => self.either(kind),
            Entry::Flags(flags) => self.literal(&bits(flags)),
            Entry::Literal(value) => self.literal(value),
        }
    }

    fn either(&mut self, kind: &Type) {
        self.list(2, |out| {
            out.entries(type_entries(kind));
            out.entries(null_entries());
        });
    }

    /// Fields stand in canonical order; of several of one name, which [`Schema::check`] refuses, a map has the last.
    fn properties(&mut self, fields: &Struct) {
        let fields = fields.fields();
        let next = fields.iter().skip(1).map(|next| &next.name).map(Some).chain([None]);
        let last = fields.iter().zip(next).filter(|(field, next)| Some(&field.name) != *next);
        self.map(last.clone().count(), |out| {
            for (field, _) in last {
                out.key(&field.name);
                out.entries(field_entries(field));
            }
        });
    }

    fn literal(&mut self, value: &Value) {
        match value {
            Value::Null => self.simple(0xf6),
            Value::Bool(bool) => self.simple(if *bool { 0xf5 } else { 0xf4 }),
            Value::Int(int) => self.int(*int),
            Value::Bytes(bytes) => self.text(&super::hex(bytes)),
            Value::Text(text) => self.text(text),
            Value::List(items) => {
                self.list(items.len(), |out| items.iter().for_each(|item| out.literal(item)));
            }
            Value::Map(map) => self.map(map.len(), |out| {
                for (key, value) in map.iter() {
                    out.key(key);
                    out.literal(value);
                }
            }),
        }
    }
}
