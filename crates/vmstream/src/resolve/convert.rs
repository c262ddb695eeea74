//! One type against another.

use super::{Fields, Outcome, join, resolve_fields};
use crate::finding::Finding;
use crate::schema::{Int, Type};

/// What becomes of a value.
#[derive(Clone, Debug)]
pub(super) enum Convert {
    /// It is taken as it is.
    Same,
    /// It is taken if it fits the reader's type.
    Check(Type),
    /// Its fields are taken.
    Struct(Fields),
    /// Its items are taken, if their number fits.
    List(Box<Self>, u64, u64),
    /// It is taken unless it is null, or null is taken as it is.
    Optional(Box<Self>, Null),
    /// It cannot be taken.
    Never,
}

/// Whether the reader's type has null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Null {
    Taken,
    Refused,
}

pub(super) fn resolve_type(
    writer: &Type,
    reader: &Type,
    path: &str,
    outcome: &mut Outcome,
) -> Convert {
    let narrower = |outcome: &mut Outcome, code, why: String| {
        outcome.only_while(code, path, None, why);
        Convert::Check(reader.clone())
    };
    match (writer, reader) {
        (Type::Bool, Type::Bool) => Convert::Same,
        (Type::Int(mine), Type::Int(theirs)) => match fit_int(mine, theirs) {
            Fit::All => Convert::Same,
            Fit::Some(why) => narrower(outcome, "only-while-in-range", why),
            Fit::None => differs(writer, reader, path, outcome),
        },
        (Type::Bytes(min, max), Type::Bytes(least, most)) if (least > min) || (max > most) => {
            let why = format!("the reader takes {least} to {most} bytes");
            narrower(outcome, "only-while-in-range", why)
        }
        (Type::Text(max), Type::Text(most)) if max > most => {
            narrower(outcome, "only-while-in-range", format!("the reader takes {most} characters"))
        }
        (Type::Enum(mine), Type::Enum(theirs)) => {
            let unknown: Vec<_> = mine.iter().filter(|symbol| !theirs.contains(symbol)).collect();
            match () {
                () if unknown.is_empty() => Convert::Same,
                () if unknown.len() == mine.len() => differs(writer, reader, path, outcome),
                () => {
                    let why = format!("the reader does not know {unknown:?}");
                    narrower(outcome, "only-while-known", why)
                }
            }
        }
        (Type::Bytes(..), Type::Bytes(..)) | (Type::Text(_), Type::Text(_)) => Convert::Same,
        (Type::Struct(mine), Type::Struct(theirs)) => {
            Convert::Struct(resolve_fields(mine, theirs, path, outcome))
        }
        (Type::List(mine, min, max), Type::List(theirs, least, most)) => {
            let item = inside(mine, theirs, &join(path, "*"), *min == 0 && *least == 0, outcome);
            if least > min || max > most {
                let why = format!("the reader takes {least} to {most} items");
                outcome.only_while("only-while-in-range", path, None, why);
            }
            Convert::List(Box::new(item), *least, *most)
        }
        (Type::Optional(mine), Type::Optional(theirs)) => {
            Convert::Optional(Box::new(inside(mine, theirs, path, true, outcome)), Null::Taken)
        }
        (Type::Optional(mine), theirs) => {
            outcome.only_while("only-while-known", path, None, "null is not taken".to_owned());
            let inner = resolve_type(mine, theirs, path, outcome);
            Convert::Optional(Box::new(inner), Null::Refused)
        }
        (mine, Type::Optional(theirs)) => resolve_type(mine, theirs, path, outcome),
        _ => differs(writer, reader, path, outcome),
    }
}

/// What may be absent as a whole: if it cannot be taken, records without it still can.
fn inside(mine: &Type, theirs: &Type, path: &str, absent: bool, outcome: &mut Outcome) -> Convert {
    let mut below = Outcome::default();
    let convert = resolve_type(mine, theirs, path, &mut below);
    if below.refusals.is_empty() || !absent {
        outcome.refusals.extend(below.refusals);
        outcome.conditions.extend(below.conditions);
        return convert;
    }
    let why: Vec<_> = below.refusals.iter().map(ToString::to_string).collect();
    outcome.only_while("only-while-empty", path, None, why.join("; "));
    Convert::Never
}

fn differs(writer: &Type, reader: &Type, path: &str, outcome: &mut Outcome) -> Convert {
    let values = (writer.word().into(), reader.word().into());
    let finding = Finding::new("type-differs", path, "schema");
    outcome.refuse(finding.values(Some(values.0), Some(values.1)));
    Convert::Never
}

/// How many values of one type another takes.
enum Fit {
    All,
    Some(String),
    None,
}

fn fit_int(mine: &Int, theirs: &Int) -> Fit {
    let moved = |(name, bit): &(String, u8)| {
        theirs.flags.iter().any(|(other, at)| (name == other) != (bit == at))
    };
    if mine.max < theirs.min || mine.min > theirs.max || mine.flags.iter().any(moved) {
        return Fit::None;
    }
    if theirs.min > mine.min || theirs.max < mine.max {
        return Fit::Some(format!("the reader takes {} to {}", theirs.min, theirs.max));
    }
    let over = if mine.flags.is_empty() { mine.max } else { mine.mask() } & !theirs.mask();
    if theirs.flags.is_empty() || over == 0 {
        return Fit::All;
    }
    Fit::Some(format!("the reader knows the bits {:#x} only", theirs.mask()))
}
