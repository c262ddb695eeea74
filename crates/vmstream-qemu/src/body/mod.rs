//! The body of a device's section, read along QEMU's description of it.

use crate::cursor::Cursor;
use crate::decoder::{Decoder, Read};
use crate::description::{DescribedDevice, DescribedField, Shape};
use crate::element::SUBSECTION;
use crate::encode::NULL;
use crate::error::Rule;
use crate::input::len64;
use crate::state;
use crate::tree::{Field, Framing, Kind, List, Structure, Value};

/// Reads the body that begins at `cursor` and leaves `cursor` behind it.
pub(crate) fn described(cursor: &mut Cursor<'_>, device: &DescribedDevice) -> Read<Structure> {
    let mut decoder = Decoder::new(*cursor);
    shape(&mut decoder, &device.shape).map_err(|broken| broken.name(&*device.name))?;
    *cursor = decoder.cursor;
    Ok(decoder.finish(device.shape.name.clone(), device.shape.version))
}

fn shape(decoder: &mut Decoder<'_>, shape: &Shape) -> Read {
    for field in &shape.fields {
        one_field(decoder, field, shape)
            .map_err(|broken| broken.name(format!("{}: {}", shape.name, field.name)))?;
    }
    for sub in &shape.subsections {
        subsection(decoder, sub)?;
    }
    Ok(())
}

fn subsection(decoder: &mut Decoder<'_>, sub: &Shape) -> Read {
    let at = decoder.cursor;
    let wrong = || at.broken(Rule::DescribedSubsection).name(sub.name.as_ref());
    if decoder.cursor.u8()? != SUBSECTION || decoder.cursor.counted()? != sub.name {
        return Err(wrong());
    }
    let version = decoder.cursor.be32()?;
    if version != sub.version {
        return Err(wrong().found(version).want(sub.version));
    }
    let structure = decoder.inner(sub.name.clone(), version, |inner| shape(inner, sub))?;
    decoder.push_subsection(structure);
    Ok(())
}

fn one_field(decoder: &mut Decoder<'_>, field: &DescribedField, parent: &Shape) -> Read {
    let offset = decoder.cursor.offset();
    let kind = kind(&field.type_name);
    let count = field.array_len.unwrap_or(1);
    let is_array = field.array_len.is_some() || field.index.is_some();
    if kind == Kind::U8 && field.array_len.is_some() && field.bytes == 1 {
        decoder.spend(1)?;
        let value = Value::Bytes(decoder.take(count.into())?.into());
        decoder.push((field.name.clone(), field.type_name.clone()), kind, offset, value);
        return Ok(());
    }
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(value(decoder, field, kind, parent)?);
    }
    if joins(decoder.last(), field, is_array) {
        let end = decoder.cursor.offset();
        if let Some(last) = decoder.last() {
            extend(last, values, end);
        }
        return Ok(());
    }
    let value = match (is_array, values.pop()) {
        (false, Some(value)) => value,
        (_, last) => {
            values.extend(last);
            Value::List(List::bare(values))
        }
    };
    decoder.push((field.name.clone(), field.type_name.clone()), kind, offset, value);
    Ok(())
}

/// Whether this describes further items of the array that the last field began.
///
/// Fields of one structure that share a name are told apart in their names, so neighbours of one name are one array.
fn joins(last: Option<&mut Field>, field: &DescribedField, is_array: bool) -> bool {
    let Some(last) = last.filter(|last| last.name == field.name) else {
        return false;
    };
    let bare = matches!(&last.value, Value::List(list) if list.framing == Framing::Bare);
    bare || (is_array && last.value == Value::Null)
}

fn extend(last: &mut Field, values: Vec<Value>, end: u64) {
    if last.value == Value::Null {
        last.value = Value::List(List::bare(vec![Value::Null]));
    }
    let Value::List(list) = &mut last.value else { return };
    // The kind is that of the items that are not null.
    if list.items.iter().all(|item| *item == Value::Null)
        && values.iter().any(|item| matches!(item, Value::Structure(_)))
    {
        last.kind = Kind::Structure;
        last.type_name = "struct".into();
    }
    list.items.extend(values);
    last.length = end.saturating_sub(last.offset);
}

fn value(
    decoder: &mut Decoder<'_>,
    field: &DescribedField,
    kind: Kind,
    parent: &Shape,
) -> Read<Value> {
    let at = decoder.cursor;
    if let Some(width) = kind.width() {
        if field.bytes != len64(width) {
            return Err(at.broken(Rule::DescribedSize).found(len64(width)).want(field.bytes));
        }
        return decoder.value(kind);
    }
    let value = match &*field.type_name {
        "nullptr" => null(decoder)?,
        "struct" | "vstruct" | "tmp" => one_structure(decoder, field)?,
        "qtailq" | "qlist" => queue(decoder, field)?,
        "gtree" => tree(decoder, field)?,
        "buffer" | "unused_buffer" | "bitmap" => {
            decoder.spend(1)?;
            Value::Bytes(decoder.take(field.bytes)?.into())
        }
        other => {
            decoder.spend(1)?;
            let part = decoder.part(field.bytes)?;
            state::decode(other, &parent.name, &part)
        }
    };
    let length = decoder.cursor.offset().saturating_sub(at.offset());
    // The first item's size says nothing about further ones of a list that was described once.
    if length != field.bytes && (kind != Kind::Structure || field.array_len.is_none()) {
        return Err(at.broken(Rule::DescribedSize).found(length).want(field.bytes));
    }
    Ok(value)
}

fn null(decoder: &mut Decoder<'_>) -> Read<Value> {
    let at = decoder.cursor;
    match decoder.cursor.u8()? {
        NULL => Ok(Value::Null),
        other => Err(at.broken(Rule::DescribedMarker).found(other).want(NULL)),
    }
}

fn one_structure(decoder: &mut Decoder<'_>, field: &DescribedField) -> Read<Value> {
    let Some(inner) = field.shapes.first() else {
        return null(decoder);
    };
    if inner.name.is_empty() && inner.fields.is_empty() && field.bytes == 1 {
        return null(decoder);
    }
    structure(decoder, inner).map(Value::Structure)
}

fn structure(decoder: &mut Decoder<'_>, inner: &Shape) -> Read<Structure> {
    decoder.inner(inner.name.clone(), inner.version, |decoder| shape(decoder, inner))
}

fn queue(decoder: &mut Decoder<'_>, field: &DescribedField) -> Read<Value> {
    let mut items = Vec::new();
    for inner in &field.shapes {
        expect_marker(decoder, true)?;
        items.push(Value::Structure(structure(decoder, inner)?));
    }
    expect_marker(decoder, false)?;
    Ok(Value::List(List { framing: Framing::Marked, ..List::bare(items) }))
}

fn expect_marker(decoder: &mut Decoder<'_>, want: bool) -> Read {
    let at = decoder.cursor;
    if decoder.marker()? == want {
        return Ok(());
    }
    Err(at.broken(Rule::DescribedMarker).found(u8::from(!want)).want(u8::from(want)))
}

/// A tree's items have a key each: a number, or a structure that is described before the value's.
fn tree(decoder: &mut Decoder<'_>, field: &DescribedField) -> Read<Value> {
    let count = decoder.cursor.be32()?;
    let direct = field.shapes.len() == usize::try_from(count).unwrap_or(usize::MAX);
    let mut shapes = field.shapes.iter();
    let mut items = Vec::new();
    for _ in 0..count {
        expect_marker(decoder, true)?;
        let item = decoder.inner("", 0, |decoder| {
            let offset = decoder.cursor.offset();
            if direct {
                decoder.u64("key")?;
            } else {
                let key = structure(decoder, next_shape(&mut shapes, decoder.cursor)?)?;
                decoder.push(("key", "struct"), Kind::Structure, offset, Value::Structure(key));
            }
            let offset = decoder.cursor.offset();
            let value = structure(decoder, next_shape(&mut shapes, decoder.cursor)?)?;
            decoder.push(("value", "struct"), Kind::Structure, offset, Value::Structure(value));
            Ok(())
        })?;
        items.push(Value::Structure(item));
    }
    expect_marker(decoder, false)?;
    Ok(Value::List(List { framing: Framing::Counted, ..List::bare(items) }))
}

fn next_shape<'s>(shapes: &mut std::slice::Iter<'s, Shape>, at: Cursor<'_>) -> Read<&'s Shape> {
    shapes.next().ok_or_else(|| at.broken(Rule::DescribedMarker))
}

/// Source: QEMU, `migration/vmstate-types.c`; "int64 equal" is its name for an unsigned one.
fn kind(type_name: &str) -> Kind {
    match type_name {
        "bool" => Kind::Bool,
        "int8" => Kind::I8,
        "int16" => Kind::I16,
        "int32" | "int32 equal" | "int32 le" | "fd" => Kind::I32,
        "int64" | "timer" => Kind::I64,
        "uint8" | "uint8 equal" => Kind::U8,
        "uint16" | "uint16 equal" => Kind::U16,
        "uint32" | "uint32 equal" => Kind::U32,
        "uint64" | "int64 equal" | "CPU_Double_U" => Kind::U64,
        "buffer" | "unused_buffer" | "bitmap" => Kind::Bytes,
        _ => Kind::Structure,
    }
}

#[cfg(test)]
mod tests;
