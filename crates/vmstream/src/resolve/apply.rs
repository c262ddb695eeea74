//! A record through a plan.

use super::convert::{Convert, Null};
use super::{Fields, Plan, Step, join};
use crate::finding::Finding;
use crate::value::{Map, Value};

/// A record as the reader wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Every field of the reader's schema.
    pub state: Map,
    /// Paths of fields that were there and that the reader does not know.
    pub dropped: Vec<String>,
    /// Paths of fields that the writer does not know.
    pub defaulted: Vec<String>,
}

impl Plan {
    /// Makes of a record what the reader wants: renamed, dropped, filled in, checked.
    ///
    /// The record must fit the writer's schema, as one from a [`crate::Reader`] does. An absent field takes the *writer's* default.
    ///
    /// # Errors
    ///
    /// Every field that cannot be taken. Codes: `unknown-critical-field`, `not-taken`.
    pub fn apply(&self, state: &Map) -> Result<Applied, Vec<Finding>> {
        let mut outcome = Outcome::default();
        outcome.applied.state = self.root.apply(state, "", &mut outcome);
        if outcome.refusals.is_empty() { Ok(outcome.applied) } else { Err(outcome.refusals) }
    }
}

#[derive(Default)]
struct Outcome {
    applied: Applied,
    refusals: Vec<Finding>,
}

impl Outcome {
    fn refuse(&mut self, code: &'static str, path: &str, value: &Value, why: String) -> Value {
        let finding = Finding::new(code, path, "device").values(Some(value.clone()), None);
        self.refusals.push(finding.because(why));
        Value::Null
    }
}

impl Fields {
    fn apply(&self, state: &Map, path: &str, outcome: &mut Outcome) -> Map {
        let mut taken = Map::new();
        for step in &self.0 {
            match step {
                Step::Take { from, to, default, convert } => {
                    let value = state.get(from).or(default.as_ref());
                    if let Some(value) = value {
                        let value = convert.apply(value, &join(path, from), outcome);
                        taken.insert(to.clone(), value);
                    }
                }
                Step::Drop { from } => {
                    if state.get(from).is_some() {
                        outcome.applied.dropped.push(join(path, from));
                    }
                }
                Step::Refuse { from, default } => {
                    let value = state.get(from).filter(|value| Some(*value) != default.as_ref());
                    if let Some(value) = value {
                        let why = "the reader does not know this field".to_owned();
                        outcome.refuse("unknown-critical-field", &join(path, from), value, why);
                    }
                }
                Step::Fill { to, value } => {
                    outcome.applied.defaulted.push(join(path, to));
                    taken.insert(to.clone(), value.clone());
                }
            }
        }
        taken
    }
}

impl Convert {
    fn apply(&self, value: &Value, path: &str, outcome: &mut Outcome) -> Value {
        match (self, value) {
            (Self::Same, value) => value.clone(),
            (Self::Check(kind), value) => match kind.check_value(value) {
                Ok(()) => value.clone(),
                Err(broken) => outcome.refuse("not-taken", path, value, broken.to_string()),
            },
            (Self::Struct(fields), Value::Map(map)) => Value::Map(fields.apply(map, path, outcome)),
            (Self::List(item, min, max), Value::List(items)) => {
                let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
                if !(min..=max).contains(&&count) {
                    let why = format!("{count} items; the reader takes {min} to {max}");
                    return outcome.refuse("not-taken", path, value, why);
                }
                let each = |(index, value): (usize, &Value)| {
                    item.apply(value, &join(path, &index.to_string()), outcome)
                };
                Value::List(items.iter().enumerate().map(each).collect())
            }
            (Self::Optional(_, Null::Taken), Value::Null) => Value::Null,
            (Self::Optional(inner, _), value) if *value != Value::Null => {
                inner.apply(value, path, outcome)
            }
            (_, value) => {
                let why = "the reader's type is another".to_owned();
                outcome.refuse("not-taken", path, value, why)
            }
        }
    }
}
