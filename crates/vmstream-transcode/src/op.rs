//! What a note says: what stood in QEMU's stream besides pages and state, in order.

use vmstream::Value as Ours;
use vmstream_qemu::{BlockHead, MappedHead, SectionHead, SectionKind};

use crate::layout::Layout;

/// The name of the notes.
pub(crate) const NOTE: &str = "qemu";

/// A step on the way back to QEMU's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Header,
    /// The configuration: its layout and its values.
    Configuration(Layout, Ours),
    /// What begins a section; further parts have no name.
    Section(SectionHead),
    /// All blocks together.
    Total(u64),
    Block(BlockHead),
    RamEnd,
    Flush,
    Footer(u32),
    Command(u16, Vec<u8>),
    PackageEnd,
    End,
    /// QEMU's description; in pieces if it is long.
    Description(Vec<u8>),
    Trailing(Vec<u8>),
    /// Part of a body that no record has.
    Body(Vec<u8>),
    /// The next layout, numbered from 0.
    Layout(Layout),
    /// The body that the record of that path has, in a layout.
    Device(u32, String),
    /// What is odd about the next frame of pages.
    Odd(Odd),
    /// Memory did not stand between its sections' heads: there are no bytes to come back to.
    Elsewhere,
    /// Pages were differences, or came through other channels: there are no bytes to come back to either.
    Rewritten,
}

/// Pages of one frame that are not written as one would expect, by their number in the frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Odd {
    /// These name their block though the page before was of it, or do not though it was not.
    pub(crate) named: Vec<u64>,
    /// These are zero and stood there in full.
    pub(crate) full: Vec<u64>,
}

const SECTIONS: [SectionKind; 4] =
    [SectionKind::Start, SectionKind::Part, SectionKind::End, SectionKind::Full];

impl Op {
    /// About how many bytes it takes in a note.
    pub(crate) const fn bytes(&self) -> usize {
        const HEAD: usize = 64;
        if let Self::Description(data)
        | Self::Trailing(data)
        | Self::Body(data)
        | Self::Command(_, data) = self
        {
            data.len().saturating_add(HEAD)
        } else {
            HEAD
        }
    }

    pub(crate) fn to_value(&self) -> Ours {
        let bytes = |bytes: &[u8]| Ours::Bytes(bytes.to_vec());
        let number = |number: u64| Ours::from(number);
        let (tag, rest): (u8, Vec<Ours>) = match self {
            Self::Header => (0, vec![]),
            Self::Configuration(layout, values) => (1, vec![layout.to_value(), values.clone()]),
            Self::Section(head) => (2, section(head)),
            Self::Total(total) => (3, vec![number(*total)]),
            Self::Block(head) => (4, block(head)),
            Self::RamEnd => (5, vec![]),
            Self::Flush => (6, vec![]),
            Self::Footer(id) => (7, vec![number(u64::from(*id))]),
            Self::Command(code, data) => (8, vec![number(u64::from(*code)), bytes(data)]),
            Self::PackageEnd => (9, vec![]),
            Self::End => (10, vec![]),
            Self::Description(json) => (11, vec![bytes(json)]),
            Self::Trailing(data) => (12, vec![bytes(data)]),
            Self::Body(data) => (13, vec![bytes(data)]),
            Self::Layout(layout) => (14, vec![layout.to_value()]),
            Self::Device(layout, path) => {
                (15, vec![number(u64::from(*layout)), Ours::from(path.as_str())])
            }
            Self::Odd(Odd { named, full }) => (16, vec![numbers(named), numbers(full)]),
            Self::Elsewhere => (17, vec![]),
            Self::Rewritten => (18, vec![]),
        };
        let mut items = vec![Ours::from(tag)];
        items.extend(rest);
        Ours::List(items)
    }

    pub(crate) fn from_value(value: &Ours) -> Option<Self> {
        let (tag, rest) = value.as_list()?.split_first()?;
        let bytes = |value: &Ours| value.as_bytes().map(<[u8]>::to_vec);
        Some(match (tag.as_u64()?, rest) {
            (0, []) => Self::Header,
            (1, [layout, values]) => {
                Self::Configuration(Layout::from_value(layout)?, values.clone())
            }
            (2, rest) => Self::Section(section_from(rest)?),
            (3, [total]) => Self::Total(total.as_u64()?),
            (4, rest) => Self::Block(block_from(rest)?),
            (5, []) => Self::RamEnd,
            (6, []) => Self::Flush,
            (7, [id]) => Self::Footer(small(id)?),
            (8, [code, data]) => Self::Command(u16::try_from(code.as_u64()?).ok()?, bytes(data)?),
            (9, []) => Self::PackageEnd,
            (10, []) => Self::End,
            (11, [json]) => Self::Description(bytes(json)?),
            (12, [data]) => Self::Trailing(bytes(data)?),
            (13, [data]) => Self::Body(bytes(data)?),
            (14, [layout]) => Self::Layout(Layout::from_value(layout)?),
            (15, [layout, path]) => Self::Device(small(layout)?, path.as_text()?.to_owned()),
            (16, [named, full]) => {
                Self::Odd(Odd { named: numbers_from(named)?, full: numbers_from(full)? })
            }
            (17, []) => Self::Elsewhere,
            (18, []) => Self::Rewritten,
            _ => return None,
        })
    }
}

fn small(value: &Ours) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn numbers(all: &[u64]) -> Ours {
    Ours::List(all.iter().map(|number| Ours::from(*number)).collect())
}

fn numbers_from(value: &Ours) -> Option<Vec<u64>> {
    value.as_list()?.iter().map(Ours::as_u64).collect()
}

fn section(head: &SectionHead) -> Vec<Ours> {
    let SectionHead { kind, section_id, name, instance_id, version } = head;
    let tag = SECTIONS.iter().position(|each| each == kind).unwrap_or_default();
    let tag = u64::try_from(tag).unwrap_or_default();
    let mut items = vec![Ours::from(tag), Ours::from(*section_id)];
    if matches!(kind, SectionKind::Start | SectionKind::Full) {
        items.extend([Ours::from(&**name), Ours::from(*instance_id), Ours::from(*version)]);
    }
    items
}

fn section_from(items: &[Ours]) -> Option<SectionHead> {
    let kind = items.first()?.as_u64()?;
    let kind = *SECTIONS.get(usize::try_from(kind).ok()?)?;
    let section_id = small(items.get(1)?)?;
    let (name, instance_id, version) = match items.get(2..)? {
        [] => ("", 0, 0),
        [name, instance, version] => (name.as_text()?, small(instance)?, small(version)?),
        _ => return None,
    };
    Some(SectionHead { kind, section_id, name: name.into(), instance_id, version })
}

fn block(head: &BlockHead) -> Vec<Ours> {
    let BlockHead { name, bytes, page_bytes, gpa, mapped } = head;
    let maybe = |number: &Option<u64>| number.map_or(Ours::Null, Ours::from);
    let mapped = mapped.map_or(Ours::Null, |mapped| {
        let MappedHead { version, page_bytes, bitmap_offset, pages_offset } = mapped;
        numbers(&[u64::from(version), page_bytes, bitmap_offset, pages_offset])
    });
    vec![Ours::from(&**name), Ours::from(*bytes), maybe(page_bytes), maybe(gpa), mapped]
}

fn block_from(items: &[Ours]) -> Option<BlockHead> {
    let [name, bytes, page_bytes, gpa, mapped] = items else { return None };
    let maybe = |value: &Ours| {
        if *value == Ours::Null { Some(None) } else { value.as_u64().map(Some) }
    };
    let mapped = if *mapped == Ours::Null {
        None
    } else {
        let numbers = <[u64; 4]>::try_from(numbers_from(mapped)?).ok()?;
        let [version, page_bytes, bitmap_offset, pages_offset] = numbers;
        let version = u32::try_from(version).ok()?;
        Some(MappedHead { version, page_bytes, bitmap_offset, pages_offset })
    };
    Some(BlockHead {
        name: name.as_text()?.into(),
        bytes: bytes.as_u64()?,
        page_bytes: maybe(page_bytes)?,
        gpa: maybe(gpa)?,
        mapped,
    })
}
