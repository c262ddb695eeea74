//! A writer's schema against a reader's: what becomes of each field, and whether the record can be taken at all.
//!
//! Pure functions. Nothing here has seen a record until [`Plan::apply`] is given one; so the answer can be had before
//! anything is sent.

mod apply;
mod convert;

use crate::finding::{Finding, Short};
use crate::schema::{Criticality, Field, Schema, Struct};
use crate::value::Value;

pub use apply::Applied;
use convert::Convert;

/// Whether records of a writer's schema can be taken by a reader's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forecast {
    /// All of them.
    Yes,
    /// Those of which all this holds.
    OnlyWhile(Vec<Finding>),
    /// None, for these reasons.
    No(Vec<Finding>),
}

/// What becomes of each field of a record.
#[derive(Clone, Debug)]
pub struct Plan {
    root: Fields,
    conditions: Vec<Finding>,
}

/// Resolves a writer's schema against a reader's.
///
/// # Errors
///
/// Every reason for which no record can be taken. Codes: `kind-differs`, `version-differs`, `unknown-required-field`,
/// `missing-field`, `type-differs`, `unit-differs`.
pub fn resolve(writer: &Schema, reader: &Schema) -> Result<Plan, Vec<Finding>> {
    let mut outcome = Outcome::default();
    if writer.name != reader.name {
        let values = (Some(writer.name.as_str().into()), Some(reader.name.as_str().into()));
        outcome.refuse(Finding::new("kind-differs", "", "schema").values(values.0, values.1));
    } else if writer.version != reader.version {
        let values = (Some(writer.version.into()), Some(reader.version.into()));
        outcome.refuse(
            Finding::new("version-differs", writer.name.as_str(), "schema")
                .values(values.0, values.1)
                .because("the meaning of the record changed between the versions"),
        );
    }
    let root = resolve_fields(&writer.root, &reader.root, "", &mut outcome);
    if outcome.refusals.is_empty() {
        Ok(Plan { root, conditions: outcome.conditions })
    } else {
        Err(outcome.refusals)
    }
}

/// What is to be expected of records of a writer's schema, before there are any.
///
/// The codes of conditions: `only-while-default`, `only-while-in-range`, `only-while-known`, `only-while-empty`.
#[must_use]
pub fn forecast(writer: &Schema, reader: &Schema) -> Forecast {
    match resolve(writer, reader) {
        Ok(plan) if plan.conditions.is_empty() => Forecast::Yes,
        Ok(plan) => Forecast::OnlyWhile(plan.conditions),
        Err(refusals) => Forecast::No(refusals),
    }
}

impl Plan {
    /// What must hold of a record for it to be taken.
    #[must_use]
    pub fn conditions(&self) -> &[Finding] {
        &self.conditions
    }
}

/// Reasons and conditions, as they are found.
#[derive(Debug, Default)]
struct Outcome {
    refusals: Vec<Finding>,
    conditions: Vec<Finding>,
}

impl Outcome {
    fn refuse(&mut self, finding: Finding) {
        self.refusals.push(finding);
    }

    fn only_while(&mut self, code: &'static str, path: &str, value: Option<Value>, why: String) {
        let finding = Finding::new(code, path, "schema").values(value, None).because(why);
        self.conditions.push(finding);
    }
}

/// What becomes of the fields of a struct.
#[derive(Clone, Debug)]
struct Fields(Vec<Step>);

/// What becomes of one field.
#[derive(Clone, Debug)]
enum Step {
    /// The reader has it, perhaps by another name.
    Take { from: String, to: String, default: Option<Value>, convert: Convert },
    /// The reader does not know it, and need not.
    Drop { from: String },
    /// The reader does not know it, and would have to if it were there.
    Refuse { from: String, default: Option<Value> },
    /// The writer does not know it.
    Fill { to: String, value: Value },
}

fn resolve_fields(writer: &Struct, reader: &Struct, path: &str, outcome: &mut Outcome) -> Fields {
    let mut steps = Vec::new();
    for mine in writer.fields() {
        let below = join(path, &mine.name);
        match reader.fields().iter().find(|theirs| same(mine, theirs)) {
            Some(theirs) => {
                if mine.unit != theirs.unit {
                    let units = (mine.unit.as_str().into(), theirs.unit.as_str().into());
                    let finding = Finding::new("unit-differs", below.as_str(), "schema");
                    outcome.refuse(finding.values(Some(units.0), Some(units.1)));
                }
                steps.push(Step::Take {
                    from: mine.name.clone(),
                    to: theirs.name.clone(),
                    default: mine.default.clone(),
                    convert: convert::resolve_type(&mine.kind, &theirs.kind, &below, outcome),
                });
            }
            None => steps.push(unknown(mine, &below, outcome)),
        }
    }
    let unheard = |theirs: &&Field| !writer.fields().iter().any(|mine| same(mine, theirs));
    for theirs in reader.fields().iter().filter(unheard) {
        match &theirs.default {
            Some(value) => {
                steps.push(Step::Fill { to: theirs.name.clone(), value: value.clone() });
            }
            None => outcome.refuse(
                Finding::new("missing-field", join(path, &theirs.name), "schema")
                    .because("the writer does not know it, and it has no default"),
            ),
        }
    }
    Fields(steps)
}

/// A field that the reader does not know.
fn unknown(mine: &Field, path: &str, outcome: &mut Outcome) -> Step {
    match (mine.critical, &mine.default) {
        (Criticality::Ignorable, _) => Step::Drop { from: mine.name.clone() },
        (Criticality::Critical, Some(default)) => {
            let why = format!("the reader does not know it; it must be {}", Short(default));
            outcome.only_while("only-while-default", path, Some(default.clone()), why);
            Step::Refuse { from: mine.name.clone(), default: mine.default.clone() }
        }
        // A critical field without default is in every record.
        (Criticality::Critical, None) | (Criticality::Required, _) => {
            outcome.refuse(
                Finding::new("unknown-required-field", path, "schema")
                    .because("the reader does not know it and must not load without it"),
            );
            Step::Refuse { from: mine.name.clone(), default: None }
        }
    }
}

/// Whether two fields are one, under this name or an earlier one.
fn same(mine: &Field, theirs: &Field) -> bool {
    mine.name == theirs.name
        || theirs.aliases.contains(&mine.name)
        || mine.aliases.contains(&theirs.name)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
