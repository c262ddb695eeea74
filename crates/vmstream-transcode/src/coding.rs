//! Layouts as values, for notes, and back.

use vmstream::{Value as Ours, limits};
use vmstream_qemu::{Framing, Kind};

use crate::layout::{Layout, ListShape, Place, Shape};

/// Bytes and values that one layout may make, so that a note cannot ask for more than a stream of QEMU's can hold.
const MOST_BYTES: u64 = 20 << 20;
const MOST_VALUES: u64 = 400_000;

const KINDS: [Kind; 15] = [
    Kind::Bool,
    Kind::U8,
    Kind::U16,
    Kind::U32,
    Kind::U64,
    Kind::I8,
    Kind::I16,
    Kind::I32,
    Kind::I64,
    Kind::U16Le,
    Kind::U32Le,
    Kind::U64Le,
    Kind::Bytes,
    Kind::Structure,
    Kind::Opaque,
];
const FRAMINGS: [Framing; 3] = [Framing::Bare, Framing::Marked, Framing::Counted];

fn position<T: PartialEq>(all: &[T], one: &T) -> Ours {
    let at = all.iter().position(|each| each == one).unwrap_or_default();
    Ours::from(u64::try_from(at).unwrap_or_default())
}

fn pick<T: Copy>(all: &[T], at: &Ours) -> Option<T> {
    all.get(usize::try_from(at.as_u64()?).ok()?).copied()
}

impl Layout {
    /// `[name, version, [name, kind, shape, name, kind, shape, …], [subsection, …]]`
    pub(crate) fn to_value(&self) -> Ours {
        Ours::List(self.to_items())
    }

    fn to_items(&self) -> Vec<Ours> {
        let Self { name, version, fields, subsections } = self;
        let place = |Place { name, kind, shape }: &Place| {
            [Ours::from(&**name), position(&KINDS, kind), shape.to_value()]
        };
        vec![
            Ours::from(&**name),
            Ours::from(*version),
            Ours::List(fields.iter().flat_map(place).collect()),
            Ours::List(subsections.iter().map(Self::to_value).collect()),
        ]
    }

    /// Whether a note can hold it below so many lists, each of one value: as [`Ours::fits_below`] says of its value.
    pub(crate) fn fits(&self, below: usize) -> bool {
        let (values, levels) = self.size();
        values.saturating_add(below) <= limits::VALUES
            && levels.saturating_add(below) <= limits::DEPTH
    }

    /// Values, and levels of lists, that it takes in a note.
    fn size(&self) -> (usize, usize) {
        let places = self.fields.iter().map(|place| place.shape.size());
        let places = places.map(|(values, levels)| (values.saturating_add(2), levels));
        let parts = places.chain(self.subsections.iter().map(Self::size));
        let (values, levels) = parts.fold((5, 0), both);
        (values, levels.saturating_add(2))
    }

    /// Reads it back; nothing for what is none, or makes more than a stream can hold.
    pub(crate) fn from_value(value: &Ours) -> Option<Self> {
        let layout = Self::read(value.as_list()?)?;
        let (bytes, values) = layout.weight();
        (bytes <= MOST_BYTES && values <= MOST_VALUES).then_some(layout)
    }

    fn read(items: &[Ours]) -> Option<Self> {
        let [name, version, fields, subsections] = items else { return None };
        let (places, []) = fields.as_list()?.as_chunks::<3>() else { return None };
        let subsections = subsections.as_list()?.iter().map(|sub| Self::read(sub.as_list()?));
        Some(Self {
            name: name.as_text()?.to_owned().into(),
            version: u32::try_from(version.as_u64()?).ok()?,
            fields: places.iter().map(place).collect::<Option<_>>()?,
            subsections: subsections.collect::<Option<_>>()?,
        })
    }

    /// Bytes and values of what has this layout.
    fn weight(&self) -> (u64, u64) {
        let fields = self.fields.iter().map(|place| place.shape.weight());
        fields.chain(self.subsections.iter().map(Self::weight)).fold((0, 1), add)
    }
}

/// What two neighbours take.
fn both(left: (usize, usize), right: (usize, usize)) -> (usize, usize) {
    (left.0.saturating_add(right.0), left.1.max(right.1))
}

fn add(left: (u64, u64), right: (u64, u64)) -> (u64, u64) {
    (left.0.saturating_add(right.0), left.1.saturating_add(right.1))
}

fn place([name, kind, shape]: &[Ours; 3]) -> Option<Place> {
    let name = name.as_text()?.to_owned().into();
    Some(Place { name, kind: pick(&KINDS, kind)?, shape: Shape::from_value(shape)? })
}

impl Shape {
    fn to_value(&self) -> Ours {
        let tagged = |tag: u8, value: Ours| Ours::List(vec![Ours::from(tag), value]);
        match self {
            Self::Number => Ours::Null,
            Self::Bytes(count) => Ours::from(*count),
            Self::Opaque(count) => tagged(0, Ours::from(*count)),
            Self::Null => Ours::Bool(false),
            Self::Structure(layout) => {
                let mut items = layout.to_items();
                items.insert(0, Ours::from(1_u8));
                Ours::List(items)
            }
            Self::List(ListShape { framing, zeros, zero_bytes, items }) => {
                let mut all = vec![Ours::from(2_u8), position(&FRAMINGS, framing)];
                all.extend([Ours::from(*zeros), Ours::from(*zero_bytes)]);
                for (count, shape) in items {
                    all.extend([Ours::from(*count), shape.to_value()]);
                }
                Ours::List(all)
            }
        }
    }

    fn from_value(value: &Ours) -> Option<Self> {
        let items = match value {
            Ours::Null => return Some(Self::Number),
            Ours::Bool(false) => return Some(Self::Null),
            Ours::Int(_) => return value.as_u64().map(Self::Bytes),
            Ours::List(items) => items,
            Ours::Bool(true) | Ours::Bytes(_) | Ours::Text(_) | Ours::Map(_) => return None,
        };
        let (tag, rest) = items.split_first()?;
        match (tag.as_u64()?, rest) {
            (0, [count]) => count.as_u64().map(Self::Opaque),
            (1, layout) => Layout::read(layout).map(Self::Structure),
            (2, [framing, zeros, zero_bytes, runs @ ..]) => {
                let (runs, []) = runs.as_chunks::<2>() else { return None };
                let small = |value: &Ours| u32::try_from(value.as_u64()?).ok();
                let run =
                    |[count, shape]: &[Ours; 2]| Some((small(count)?, Self::from_value(shape)?));
                Some(Self::List(ListShape {
                    framing: pick(&FRAMINGS, framing)?,
                    zeros: small(zeros)?,
                    zero_bytes: small(zero_bytes)?,
                    items: runs.iter().map(run).collect::<Option<_>>()?,
                }))
            }
            _ => None,
        }
    }

    fn size(&self) -> (usize, usize) {
        match self {
            Self::Number | Self::Bytes(_) | Self::Null => (1, 0),
            Self::Opaque(_) => (3, 1),
            Self::Structure(layout) => both(layout.size(), (1, 0)),
            Self::List(list) => {
                let runs = list.items.iter().map(|(_, shape)| both(shape.size(), (1, 0)));
                let (values, levels) = runs.fold((5, 0), both);
                (values, levels.saturating_add(1))
            }
        }
    }

    fn weight(&self) -> (u64, u64) {
        match self {
            Self::Number => (8, 1),
            Self::Bytes(count) | Self::Opaque(count) => (*count, 1),
            Self::Null => (1, 1),
            Self::Structure(layout) => layout.weight(),
            Self::List(list) => {
                let zeros = u64::from(list.zeros).saturating_mul(list.zero_bytes.into());
                list.items.iter().fold((zeros, 1), |sum, (count, shape)| {
                    let (bytes, values) = shape.weight();
                    let count = u64::from(*count);
                    add(sum, (bytes.saturating_mul(count), values.saturating_mul(count)))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(value: &Ours) -> usize {
        value.as_list().map_or(0, |items| 1 + items.iter().map(levels).max().unwrap_or(0))
    }

    #[test]
    fn what_a_layout_takes_in_a_note_is_known_without_its_value() {
        let place = |shape| Place { name: "x".into(), kind: Kind::U8, shape };
        let inner =
            |fields, subsections| Layout { name: "y".into(), version: 1, fields, subsections };
        let opaque = inner(vec![place(Shape::Opaque(3)), place(Shape::Null)], Vec::new());
        let items = vec![(2, Shape::Structure(opaque.clone())), (1, Shape::Number)];
        let list = ListShape { framing: Framing::Bare, zeros: 1, zero_bytes: 1, items };
        let fields = vec![place(Shape::List(list)), place(Shape::Bytes(7))];

        for layout in [inner(Vec::new(), Vec::new()), opaque.clone(), inner(fields, vec![opaque])] {
            let value = layout.to_value();
            assert_eq!(layout.size(), (value.count(), levels(&value)));
        }
    }
}
