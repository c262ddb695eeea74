//! A section of QEMU's as a record.

use vmstream::limits;
use vmstream::message::DeviceRecord;
use vmstream::schema::{Field, Schema, Struct, Type};
use vmstream::value::encode as encode_ours;
use vmstream::{Map, Value as Ours};
use vmstream_qemu::{SectionHead, Structure, encode};

use crate::layout::Layout;
use crate::{back, state};

/// Fields of all schemas of one stream; what is beyond stays opaque. A field takes some ten values of a schema.
const FIELDS: usize = 20_000;
/// Bytes of one record, well below those of a frame.
const RECORD_BYTES: usize = 512 << 10;
/// Lists and maps of a payload that a record, its schema or its layout stands in.
const LEVELS: usize = 3;

/// A part of a body: the record that has it, its schema and its layout.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) record: DeviceRecord,
    pub(crate) schema: Schema,
    pub(crate) layout: Layout,
}

/// Makes records of bodies.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    fields: usize,
    /// Paths that were given away.
    paths: std::collections::BTreeSet<String>,
}

impl Devices {
    /// The record of a structure; of its bytes, where a record cannot say it all.
    pub(crate) fn structure(&mut self, head: &SectionHead, structure: &Structure) -> Vec<Part> {
        if let Some(part) = self.explained(head, structure) {
            return vec![part];
        }
        // What the reader made always fits.
        let bytes = encode(structure).unwrap_or_default();
        self.bytes(head, &bytes)
    }

    fn explained(&mut self, head: &SectionHead, structure: &Structure) -> Option<Part> {
        let layout = Layout::of(structure)?;
        let fields = self.fields.checked_add(layout.count()).filter(|fields| *fields < FIELDS)?;
        let (root, map) = state::record(structure)?;
        let again = back::structure(&layout, Some(&map)).ok()?;
        if encode(&again).ok()? != encode(structure).ok()? {
            return None;
        }
        let (name, version) = match &*structure.name {
            "" => (head.name.rsplit('/').next().unwrap_or_default(), head.version),
            name => (name, structure.version),
        };
        let kind = path_of(&format!("{name}@{version}"))?;
        let schema = state::schema(&kind, version, root);
        let state = Ours::Map(map);
        let fits = layout.fits(LEVELS)
            && schema.document_fits(LEVELS)
            && state.fits_below(LEVELS)
            && encode_ours(&state).len() < RECORD_BYTES;
        if !fits || schema.check().is_err() {
            return None;
        }
        let state = state.into_map().ok()?;
        self.fields = fields;
        let record = DeviceRecord { path: self.path(head, 0), kind, schema: 0, state };
        Some(Part { record, schema, layout })
    }

    /// Records of a body as it stands: one, or several if it is long.
    pub(crate) fn bytes(&mut self, head: &SectionHead, bytes: &[u8]) -> Vec<Part> {
        let name = head.name.rsplit('/').next().unwrap_or_default();
        let kind = path_of(&format!("{name}@{}/opaque", head.version));
        let kind = kind.unwrap_or_else(|| "opaque".to_owned());
        let most = u64::try_from(RECORD_BYTES).unwrap_or(u64::MAX);
        let field = Field::new("bytes", Type::Bytes(0, most)).default(Ours::Bytes(Vec::new()));
        let schema = state::schema(&kind, head.version, Struct::new(vec![field]));
        let pieces: Vec<_> =
            if bytes.is_empty() { vec![bytes] } else { bytes.chunks(RECORD_BYTES).collect() };
        let part = |(number, piece): (usize, &[u8])| {
            let used = piece.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            let used = piece.get(..used).unwrap_or_default().to_vec();
            let mut state = Map::new();
            if !used.is_empty() {
                state.insert("bytes", Ours::Bytes(used));
            }
            let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
            let record = DeviceRecord {
                path: self.path(head, number),
                kind: kind.clone(),
                schema: 0,
                state,
            };
            let layout = Layout::opaque(name, head.version, length);
            Part { record, schema: schema.clone(), layout }
        };
        pieces.into_iter().enumerate().map(part).collect()
    }

    /// QEMU's name of the section, with its instance if that is not 0: a path that no other record has.
    fn path(&mut self, head: &SectionHead, part: usize) -> String {
        let mut name = head.name.to_string();
        if head.instance_id != 0 {
            name = format!("{name}@{}", head.instance_id);
        }
        if part != 0 {
            name = format!("{name}/part-{part}");
        }
        let path = path_of(&name).filter(|path| !self.paths.contains(path));
        let path = path.unwrap_or_else(|| format!("section-{}/part-{part}", head.section_id));
        self.paths.insert(path.clone());
        path
    }
}

/// A name as a path: what a path cannot have is `%` and two digits. Nothing if it is too long for one.
fn path_of(name: &str) -> Option<String> {
    let byte = |byte: u8| match byte {
        b'!'..=b'~' if byte != b'%' => char::from(byte).to_string(),
        other => format!("%{other:02x}"),
    };
    let part = |part: &str| -> String {
        if part.is_empty() { "%".to_owned() } else { part.bytes().map(byte).collect() }
    };
    let path = name.split('/').map(part).collect::<Vec<_>>().join("/");
    (path.len() <= limits::PATH).then_some(path)
}
