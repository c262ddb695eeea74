//! How a structure of QEMU's stands in its stream: all of it but the values.

use std::borrow::Cow;
use std::collections::BTreeSet;

use vmstream_qemu::{Field, Framing, Kind, List, Name, Structure, Value};

/// Fields, then subsections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) name: Name,
    pub(crate) version: u32,
    pub(crate) fields: Vec<Place>,
    pub(crate) subsections: Vec<Self>,
}

/// Where one field stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
}

/// What a value takes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As many bytes as the field's kind has.
    Number,
    /// So many bytes.
    Bytes(u64),
    /// So many bytes of unknown meaning.
    Opaque(u64),
    /// The mark of a null pointer.
    Null,
    Structure(Layout),
    List(ListShape),
}

/// What a list takes up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListShape {
    pub(crate) framing: Framing,
    /// Items behind those below that are all zero, and the bytes of each.
    pub(crate) zeros: u32,
    pub(crate) zero_bytes: u32,
    /// Shapes of the items: how many of one shape follow each other.
    pub(crate) items: Vec<(u32, Shape)>,
}

impl ListShape {
    /// Items that have a shape of their own.
    pub(crate) fn shaped(&self) -> u64 {
        self.items.iter().fold(0, |sum, (count, _)| sum.saturating_add(u64::from(*count)))
    }

    /// All items.
    pub(crate) fn total(&self) -> u64 {
        self.shaped().saturating_add(u64::from(self.zeros))
    }

    /// The shape of each item in order.
    pub(crate) fn each(&self) -> impl Iterator<Item = &Shape> {
        self.items.iter().flat_map(|(count, shape)| (0..*count).map(move |_| shape))
    }
}

impl Layout {
    /// The layout of a structure; nothing for what this crate does not know.
    pub(crate) fn of(structure: &Structure) -> Option<Self> {
        let Structure { name, version, fields, subsections } = structure;
        Some(Self {
            name: name.clone(),
            version: *version,
            fields: fields.iter().map(place).collect::<Option<_>>()?,
            subsections: subsections.iter().map(Self::of).collect::<Option<_>>()?,
        })
    }

    /// The layout of a body that nothing explains.
    pub(crate) fn opaque(name: &str, version: u32, bytes: u64) -> Self {
        let place = Place { name: "bytes".into(), kind: Kind::Opaque, shape: Shape::Opaque(bytes) };
        let (fields, subsections) = (vec![place], Vec::new());
        Self { name: name.to_owned().into(), version, fields, subsections }
    }

    /// The keys of a record: see [`keys`].
    pub(crate) fn keys(&self) -> Vec<Cow<'_, str>> {
        let fields = self.fields.iter().map(|place| &*place.name);
        keys(fields, self.subsections.iter().map(|sub| &*sub.name))
    }

    /// Fields in all.
    pub(crate) fn count(&self) -> usize {
        let fields = self.fields.iter().map(|place| place.shape.count());
        let subsections = self.subsections.iter().map(Self::count);
        fields.chain(subsections).fold(1, usize::saturating_add)
    }
}

/// The keys of the fields, then of the subsections, in a record: names of their own.
///
/// Of several fields of one name, the second has `[1]` behind it. A subsection has the last part of its name.
pub(crate) fn keys<'n>(
    fields: impl Iterator<Item = &'n str>,
    subsections: impl Iterator<Item = &'n str>,
) -> Vec<Cow<'n, str>> {
    let short = |name: &'n str| name.rsplit('/').next().unwrap_or_default();
    let mut taken = BTreeSet::new();
    let mut keys = Vec::new();
    for name in fields.chain(subsections.map(short)) {
        let name = if name.is_empty() { "unnamed" } else { name };
        let again = (1u64..).map(|number| Cow::Owned(format!("{name}[{number}]")));
        let mut names = std::iter::once(Cow::Borrowed(name)).chain(again);
        let key = names.find(|key| !taken.contains(key)).unwrap_or_default();
        taken.insert(key.clone());
        keys.push(key);
    }
    keys
}

impl Shape {
    fn count(&self) -> usize {
        match self {
            Self::Number | Self::Bytes(_) | Self::Opaque(_) | Self::Null => 1,
            Self::Structure(layout) => layout.count(),
            Self::List(list) => {
                list.items.iter().fold(1, |sum, (_, shape)| sum.saturating_add(shape.count()))
            }
        }
    }
}

fn place(field: &Field) -> Option<Place> {
    let Field { name, type_name: _, kind, offset: _, length: _, value } = field;
    Some(Place { name: name.clone(), kind: *kind, shape: shape(*kind, value)? })
}

fn shape(kind: Kind, value: &Value) -> Option<Shape> {
    let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    match value {
        Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) => {
            kind.width().map(|_| Shape::Number)
        }
        Value::Bytes(bytes) => Some(Shape::Bytes(length(bytes))),
        Value::Opaque(bytes) => Some(Shape::Opaque(length(bytes))),
        Value::Null => Some(Shape::Null),
        Value::Structure(inner) => Layout::of(inner).map(Shape::Structure),
        Value::List(List { items, zeros, zero_bytes, framing }) => {
            let mut runs: Vec<(u32, Shape)> = Vec::new();
            for item in items {
                let next = shape(kind, item)?;
                match runs.last_mut() {
                    Some((count, last)) if *last == next => *count = count.saturating_add(1),
                    _ => runs.push((1, next)),
                }
            }
            let (zeros, zero_bytes, framing) = (*zeros, *zero_bytes, *framing);
            Some(Shape::List(ListShape { framing, zeros, zero_bytes, items: runs }))
        }
        _ => None,
    }
}
