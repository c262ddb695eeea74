//! Whether records fit their schema, and schemas themselves.

use std::collections::BTreeSet;

use super::{Int, Schema, Struct, Type};
use crate::broken::Broken;
use crate::rule::Rule;
use crate::value::{Map, Value};

impl Schema {
    /// Checks a record as it was sent: types, ranges, nothing unknown, nothing missing, nothing at its default.
    ///
    /// # Errors
    ///
    /// [`Rule::D1`] or [`Rule::D3`], with the field's path.
    pub fn check_state(&self, state: &Map) -> Result<(), Broken> {
        self.root.check_state(state)
    }

    /// Checks the schema itself: defaults that fit, names that are distinct, ranges that are not empty.
    ///
    /// # Errors
    ///
    /// [`Rule::S1`], [`Rule::S2`] or [`Rule::S4`].
    pub fn check(&self) -> Result<(), Broken> {
        if self.name.is_empty() || !crate::message::is_path(&self.name) {
            return Err(Broken::new(Rule::S1).path("title").found(&self.name));
        }
        self.root.check()
    }
}

impl Struct {
    fn check_state(&self, state: &Map) -> Result<(), Broken> {
        for (name, value) in state.iter() {
            let field = self.field(name);
            let field = field.ok_or_else(|| misfit("a field that the schema lacks").path(name))?;
            field.kind.check_value(value).map_err(|broken| broken.below(name))?;
            if field.default.as_ref() == Some(value) {
                return Err(Broken::new(Rule::D3).path(name));
            }
        }
        let absent = |name: &str| state.get(name).is_none();
        match self.fields().iter().find(|field| field.default.is_none() && absent(&field.name)) {
            None => Ok(()),
            Some(field) => Err(misfit("missing, and without default").path(&field.name)),
        }
    }

    fn check(&self) -> Result<(), Broken> {
        let mut names = BTreeSet::new();
        for field in self.fields() {
            let all = std::iter::once(&field.name).chain(&field.aliases);
            for name in all {
                if name.is_empty() || !names.insert(name) {
                    return Err(Broken::new(Rule::S4).path(name));
                }
            }
            field.kind.check().map_err(|broken| broken.below(&field.name))?;
            if let Some(default) = &field.default {
                let fits = field.kind.check_value(default);
                fits.map_err(|b| Broken { rule: Rule::S2, ..b }.below(&field.name))?;
            }
        }
        Ok(())
    }
}

impl Type {
    /// Checks a value.
    ///
    /// # Errors
    ///
    /// [`Rule::D1`] or [`Rule::D3`].
    pub fn check_value(&self, value: &Value) -> Result<(), Broken> {
        let length = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        match (self, value) {
            (Self::Bool, Value::Bool(_)) | (Self::Optional(_), Value::Null) => Ok(()),
            (Self::Int(int), Value::Int(value)) => int.check_value(*value),
            (Self::Bytes(min, max), Value::Bytes(bytes)) => {
                within(length(bytes.len()), *min, *max, "bytes")
            }
            (Self::Text(max), Value::Text(text)) => {
                within(length(text.chars().count()), 0, *max, "characters")
            }
            (Self::Enum(symbols), Value::Text(text)) => {
                let known = symbols.contains(text);
                if known { Ok(()) } else { Err(misfit(text)) }
            }
            (Self::List(item, min, max), Value::List(items)) => {
                within(length(items.len()), *min, *max, "items")?;
                let mut items = items.iter().enumerate();
                items.try_for_each(|(index, value)| {
                    item.check_value(value).map_err(|broken| broken.below(index))
                })
            }
            (Self::Struct(fields), Value::Map(map)) => fields.check_state(map),
            (Self::Optional(inner), value) => inner.check_value(value),
            _ => Err(misfit(value.noun())),
        }
    }

    fn check(&self) -> Result<(), Broken> {
        let nonempty = |good: bool| {
            if good { Ok(()) } else { Err(Broken::new(Rule::S1).found("an empty range")) }
        };
        match self {
            Self::Bool | Self::Text(_) => Ok(()),
            Self::Int(int) => int.check(),
            // A document counts their digits, two for each.
            Self::Bytes(min, max) => nonempty(min <= max && *max <= u64::MAX / 2),
            Self::Enum(symbols) => {
                let distinct: BTreeSet<_> = symbols.iter().collect();
                nonempty(!symbols.is_empty())?;
                let all = distinct.len() == symbols.len();
                if all { Ok(()) } else { Err(Broken::new(Rule::S4).found("a symbol twice")) }
            }
            Self::List(item, min, max) => nonempty(min <= max).and_then(|()| item.check()),
            Self::Struct(fields) => fields.check(),
            // Null within null would have two meanings and one form.
            Self::Optional(inner) if matches!(**inner, Self::Optional(_)) => {
                Err(Broken::new(Rule::S1).found("optional of optional"))
            }
            Self::Optional(inner) => inner.check(),
        }
    }
}

impl Int {
    fn check_value(&self, value: i128) -> Result<(), Broken> {
        if !(self.min..=self.max).contains(&value) {
            return Err(misfit(format_args!("{value} is not in {}..={}", self.min, self.max)));
        }
        let unknown = if self.flags.is_empty() { 0 } else { value & !self.mask() };
        if unknown == 0 { Ok(()) } else { Err(misfit(format_args!("unknown bits {unknown:#x}"))) }
    }

    fn check(&self) -> Result<(), Broken> {
        if ![8, 16, 32, 64].contains(&self.bits) {
            return Err(Broken::new(Rule::S1).found(self.word()));
        }
        let (least, greatest) = Self::natural(self.bits, self.signed);
        if self.min < least || self.max > greatest || self.min > self.max {
            let found = format!("{} in {}..={}", self.word(), self.min, self.max);
            return Err(Broken::new(Rule::S1).found(found));
        }
        let numbers: BTreeSet<_> = self.flags.iter().map(|(_, bit)| bit).collect();
        let wide = self.flags.iter().any(|(_, bit)| *bit >= self.bits);
        if numbers.len() != self.flags.len() || wide || (self.signed && !self.flags.is_empty()) {
            return Err(Broken::new(Rule::S4).found("bits"));
        }
        Ok(())
    }
}

fn within(count: u64, min: u64, max: u64, what: &str) -> Result<(), Broken> {
    if (min..=max).contains(&count) {
        return Ok(());
    }
    Err(misfit(format_args!("{count} {what}; want {min} to {max}")))
}

fn misfit(found: impl std::fmt::Display) -> Broken {
    Broken::new(Rule::D1).found(found)
}
