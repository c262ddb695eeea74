//! Records: what a structure of QEMU's holds, and the schema that says what it may hold.
//!
//! Zero is the default of everything. Lists and bytes end at the last item that is not zero; what is behind is zero.

use vmstream::schema::{Field as SchemaField, Schema, Struct, Type};
use vmstream::{Map, Value as Ours};
use vmstream_qemu::{Field, Kind, List, Structure, Value};

use crate::layout;

/// What a structure holds, without what is zero, and the fields that it may hold.
///
/// Nothing where items of one list are too different for one type.
pub(crate) fn record(structure: &Structure) -> Option<(Struct, Map)> {
    let names = structure.fields.iter().map(|field| &*field.name);
    let keys = layout::keys(names, structure.subsections.iter().map(|sub| &*sub.name));
    let mut keys = keys.iter();
    let (mut fields, mut map) = (Vec::with_capacity(keys.len()), Map::new());
    for field in &structure.fields {
        let key = keys.next()?;
        let (kind, value) = typed(field.kind, &field.value)?;
        fields.push(with_source(SchemaField::new(key, kind), field));
        if !is_zero(&value) {
            map.insert(&**key, value);
        }
    }
    for sub in &structure.subsections {
        let key = keys.next()?;
        let (inner, value) = record(sub)?;
        let mut field = SchemaField::new(key, Type::Optional(Box::new(Type::Struct(inner))));
        field.default = Some(Ours::Null);
        field.source = format!("subsection {} version {}", sub.name, sub.version);
        fields.push(field);
        map.insert(&**key, value);
    }
    Some((Struct::new(fields), map))
}

/// The schema of a kind of record.
pub(crate) fn schema(kind: &str, version: u32, root: Struct) -> Schema {
    let description = "lists and bytes are zero behind their end".to_owned();
    let source = "QEMU's description of its state".to_owned();
    Schema { name: kind.to_owned(), version, description, source, root }
}

fn with_source(mut field: SchemaField, from: &Field) -> SchemaField {
    field.default = Some(zero(&field.kind));
    if !is_plain(&from.type_name) {
        field.source = from.type_name.to_string();
    }
    field
}

/// Whether a schema's own type says as much as QEMU's name of it.
fn is_plain(type_name: &str) -> bool {
    let number = type_name.strip_prefix('u').unwrap_or(type_name);
    let number = ["int8", "int16", "int32", "int64"].contains(&number);
    number || ["bool", "buffer", "struct", ""].contains(&type_name)
}

/// The zero of a type.
fn zero(kind: &Type) -> Ours {
    match kind {
        Type::Bool => Ours::Bool(false),
        Type::Int(_) => Ours::Int(0),
        Type::Bytes(..) => Ours::Bytes(Vec::new()),
        Type::Text(_) | Type::Enum(_) => Ours::Text(String::new()),
        Type::List(..) => Ours::List(Vec::new()),
        Type::Struct(_) => Ours::map(),
        Type::Optional(_) => Ours::Null,
    }
}

/// Whether a value is nothing but zeros.
fn is_zero(value: &Ours) -> bool {
    match value {
        Ours::Null | Ours::Bool(false) | Ours::Int(0) => true,
        Ours::Bool(true) | Ours::Int(_) => false,
        Ours::Bytes(bytes) => bytes.is_empty(),
        Ours::Text(text) => text.is_empty(),
        Ours::List(items) => items.is_empty(),
        Ours::Map(map) => map.is_empty(),
    }
}

fn typed(kind: Kind, value: &Value) -> Option<(Type, Ours)> {
    Some(match value {
        Value::Bool(bit) => (Type::Bool, Ours::Bool(*bit)),
        Value::Unsigned(number) => (number_type(kind)?, Ours::from(*number)),
        Value::Signed(number) => (number_type(kind)?, Ours::from(*number)),
        Value::Bytes(bytes) | Value::Opaque(bytes) => {
            let most = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            let used = bytes.get(..used).unwrap_or_default();
            (Type::Bytes(0, most), Ours::Bytes(used.to_vec()))
        }
        Value::Null => (Type::Optional(Box::new(Type::Struct(Struct::default()))), Ours::Null),
        Value::Structure(inner) => {
            let (inner, map) = record(inner)?;
            (Type::Struct(inner), Ours::Map(map))
        }
        Value::List(list) => typed_list(kind, list)?,
        _ => return None,
    })
}

fn typed_list(kind: Kind, list: &List) -> Option<(Type, Ours)> {
    let mut item_type: Option<Type> = None;
    let mut items = Vec::with_capacity(list.items.len());
    for item in &list.items {
        let (next, value) = typed(kind, item)?;
        item_type = Some(match item_type {
            None => next,
            Some(known) if known == next => known,
            Some(known) => joined(known, next)?,
        });
        items.push(value);
    }
    while items.last().is_some_and(is_zero) {
        items.pop();
    }
    let most = u64::try_from(list.items.len()).ok()?.saturating_add(list.zeros.into());
    let empty = || number_type(kind).unwrap_or_else(|| Type::Struct(Struct::default()));
    let item_type = item_type.unwrap_or_else(empty);
    Some((Type::List(Box::new(item_type), 0, most), Ours::List(items)))
}

fn number_type(kind: Kind) -> Option<Type> {
    let bits = u8::try_from(kind.width()?.checked_mul(8)?).ok()?;
    let signed = matches!(kind, Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64);
    Some(if signed { Type::int(bits) } else { Type::uint(bits) })
}

/// The type that has the values of both.
fn joined(left: Type, right: Type) -> Option<Type> {
    Some(match (left, right) {
        (left, right) if left == right => left,
        (Type::Bytes(_, left), Type::Bytes(_, right)) => Type::Bytes(0, left.max(right)),
        (Type::List(left, _, most), Type::List(right, _, other)) => {
            Type::List(Box::new(joined(*left, *right)?), 0, most.max(other))
        }
        (Type::Struct(left), Type::Struct(right)) => Type::Struct(joined_structs(&left, &right)?),
        (Type::Optional(left), Type::Optional(right)) => {
            Type::Optional(Box::new(joined(*left, *right)?))
        }
        (Type::Optional(inner), other) | (other, Type::Optional(inner)) => {
            Type::Optional(Box::new(joined(*inner, other)?))
        }
        _ => return None,
    })
}

fn joined_structs(left: &Struct, right: &Struct) -> Option<Struct> {
    let mut fields = Vec::with_capacity(left.fields().len());
    for field in left.fields() {
        let mut field = field.clone();
        if let Some(other) = right.field(&field.name) {
            field.kind = joined(field.kind, other.kind.clone())?;
            field.default = Some(zero(&field.kind));
        }
        fields.push(field);
    }
    let new = right.fields().iter().filter(|field| left.field(&field.name).is_none());
    fields.extend(new.cloned());
    Some(Struct::new(fields))
}
