//! From a record and its layout back to QEMU's structure.

use std::borrow::Cow;

use vmstream::{Map, Value as Ours};
use vmstream_qemu::{Field, Kind, List, Structure, Value};

use crate::layout::{Layout, ListShape, Shape};

/// A value that has no place in QEMU's stream: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Misfit {
    /// The field, from the record's root, keys joined by `/`.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl Misfit {
    fn new(why: &'static str) -> Self {
        Self { path: String::new(), why }
    }

    fn below(mut self, key: &str) -> Self {
        let rest = std::mem::take(&mut self.path);
        self.path = if rest.is_empty() { key.to_owned() } else { format!("{key}/{rest}") };
        self
    }
}

/// The structure whose values are in `map`; what it lacks is zero.
pub(crate) fn structure(layout: &Layout, map: Option<&Map>) -> Result<Structure, Misfit> {
    let keys = layout.keys();
    let of = |key: &str| map.and_then(|map| map.get(key));
    if let Some(map) = map
        && let Some((key, _)) = map.iter().find(|(key, _)| !keys.iter().any(|known| known == key))
    {
        return Err(Misfit::new("QEMU's stream had no such field").below(key));
    }
    let mut names = keys.iter();
    let mut fields = Vec::with_capacity(layout.fields.len());
    for place in &layout.fields {
        let key = names.next().map_or("", |key| &**key);
        let value = value(place.kind, &place.shape, of(key)).map_err(|misfit| misfit.below(key))?;
        fields.push(Field {
            name: place.name.clone(),
            type_name: Cow::Borrowed(""),
            kind: place.kind,
            offset: 0,
            length: 0,
            value,
        });
    }
    let mut subsections = Vec::with_capacity(layout.subsections.len());
    for sub in &layout.subsections {
        let key = names.next().map_or("", |key| &**key);
        let inner = inner_map(of(key)).map_err(|misfit| misfit.below(key))?;
        subsections.push(structure(sub, inner).map_err(|misfit| misfit.below(key))?);
    }
    let (name, version) = (layout.name.clone(), layout.version);
    Ok(Structure { name, version, fields, subsections })
}

fn inner_map(value: Option<&Ours>) -> Result<Option<&Map>, Misfit> {
    match value {
        None | Some(Ours::Null) => Ok(None),
        Some(value) => value.as_map().map(Some).ok_or_else(|| Misfit::new("it is no map")),
    }
}

fn value(kind: Kind, shape: &Shape, value: Option<&Ours>) -> Result<Value, Misfit> {
    match shape {
        Shape::Number => number(kind, value),
        Shape::Bytes(count) => bytes(*count, value).map(Value::Bytes),
        Shape::Opaque(count) => bytes(*count, value).map(Value::Opaque),
        Shape::Null => match value {
            None | Some(Ours::Null) => Ok(Value::Null),
            Some(_) => Err(Misfit::new("it was null, and nothing says what else it can be")),
        },
        Shape::Structure(layout) => structure(layout, inner_map(value)?).map(Value::Structure),
        Shape::List(shape) => list(kind, shape, value).map(Value::List),
    }
}

fn number(kind: Kind, value: Option<&Ours>) -> Result<Value, Misfit> {
    let signed = matches!(kind, Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64);
    let number = match value {
        None if kind == Kind::Bool => return Ok(Value::Bool(false)),
        None => 0,
        Some(Ours::Bool(bit)) => return Ok(Value::Bool(*bit)),
        Some(Ours::Int(number)) => *number,
        Some(_) => return Err(Misfit::new("it is no number")),
    };
    let value = if signed {
        i64::try_from(number).ok().map(Value::Signed)
    } else {
        u64::try_from(number).ok().map(Value::Unsigned)
    };
    value.ok_or_else(|| Misfit::new("it does not fit"))
}

fn bytes(count: u64, value: Option<&Ours>) -> Result<Vec<u8>, Misfit> {
    let given = match value {
        None => &[][..],
        Some(Ours::Bytes(bytes)) => bytes,
        Some(_) => return Err(Misfit::new("it is no byte string")),
    };
    let count = usize::try_from(count).map_err(|_| Misfit::new("it is too long"))?;
    if given.len() > count {
        return Err(Misfit::new("it is longer than its place"));
    }
    let mut bytes = Vec::with_capacity(count.min(given.len().max(1 << 20)));
    bytes.extend_from_slice(given);
    bytes.resize(count, 0);
    Ok(bytes)
}

fn list(kind: Kind, shape: &ListShape, value: Option<&Ours>) -> Result<List, Misfit> {
    let given = match value {
        None => &[][..],
        Some(Ours::List(items)) => items,
        Some(_) => return Err(Misfit::new("it is no list")),
    };
    let (total, shaped) = (shape.total(), shape.shaped());
    let used = u64::try_from(given.len()).unwrap_or(u64::MAX);
    if used > total {
        return Err(Misfit::new("it is longer than its place"));
    }
    let last = shape.items.last().map(|(_, shape)| shape);
    if used > shaped && last.is_none() {
        return Err(Misfit::new("all of it was zero, and nothing says what it is made of"));
    }
    let count = usize::try_from(used.max(shaped)).map_err(|_| Misfit::new("it is too long"))?;
    let shapes = shape.each().chain(last.into_iter().cycle()).take(count);
    let mut items = Vec::new();
    for (index, item) in shapes.enumerate() {
        let item = self::value(kind, item, given.get(index));
        items.push(item.map_err(|misfit| misfit.below(&index.to_string()))?);
    }
    let zeros = u32::try_from(total.saturating_sub(used.max(shaped))).unwrap_or(u32::MAX);
    Ok(List { items, zeros, zero_bytes: shape.zero_bytes, framing: shape.framing })
}
