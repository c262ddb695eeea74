//! Finding a value in the tree by its path.
//!
//! A path is names with `/` between them: fields, or subsections by the last part of their name. An item of a list is
//! its number in brackets: `virtio/queues[0]/last_avail_idx`, `virtio/64bit_features/guest_features`.

use crate::tree::{Field, List, Structure, Value};

impl Value {
    /// The number, if it is one without a sign.
    #[must_use]
    pub fn as_unsigned(&self) -> Option<u64> {
        if let Self::Unsigned(number) = self { Some(*number) } else { None }
    }

    /// The bytes, known or opaque.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Self::Bytes(bytes) | Self::Opaque(bytes) = self { Some(bytes) } else { None }
    }

    /// The structure.
    #[must_use]
    pub fn as_structure(&self) -> Option<&Structure> {
        if let Self::Structure(structure) = self { Some(structure) } else { None }
    }

    /// The list.
    #[must_use]
    pub fn as_list(&self) -> Option<&List> {
        if let Self::List(list) = self { Some(list) } else { None }
    }
}

impl Structure {
    /// The value at that path, and the field that it, or the list that it is in, belongs to.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<(&Field, &Value)> {
        let (first, rest) = split(path);
        let found = self.fields.iter().find_map(|field| {
            let value = match index_of(first, &field.name)? {
                None => &field.value,
                Some(index) => field.value.as_list()?.items.get(index)?,
            };
            Some((field, value))
        });
        match (found, rest) {
            (Some(found), None) => Some(found),
            (Some((_, value)), Some(rest)) => value.as_structure()?.find(rest),
            (None, rest) => self.subsection(first)?.find(rest?),
        }
    }

    /// The value at that path, to be changed. [`encode`](crate::encode()) refuses what does not fit its place.
    #[must_use]
    pub fn find_mut(&mut self, path: &str) -> Option<&mut Value> {
        let (first, rest) = split(path);
        let at = self.fields.iter().position(|field| index_of(first, &field.name).is_some());
        let Some(field) = at.and_then(|at| self.fields.get_mut(at)) else {
            let short =
                |sub: &&mut Self| sub.name == first || sub.name.rsplit('/').next() == Some(first);
            return self.subsections.iter_mut().find(short)?.find_mut(rest?);
        };
        let value = match (index_of(first, &field.name)?, &mut field.value) {
            (None, value) => value,
            (Some(index), Value::List(list)) => list.items.get_mut(index)?,
            (Some(_), _) => return None,
        };
        match (rest, value) {
            (None, value) => Some(value),
            (Some(rest), Value::Structure(inner)) => inner.find_mut(rest),
            (Some(_), _) => None,
        }
    }
}

fn split(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(first, rest)| (first, Some(rest)))
}

/// Whether `part` means the field called `name`, and which of its items if it says one.
///
/// Names of fields may end in brackets themselves.
fn index_of(part: &str, name: &str) -> Option<Option<usize>> {
    let behind = part.strip_prefix(name)?;
    if behind.is_empty() {
        return Some(None);
    }
    behind.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(Some)
}
