//! Schemas of strangers, and records between them: what a forecast promises, holds.

use vmstream::resolve::{Forecast, forecast, resolve};
use vmstream::schema::{Criticality, Field, Schema, Type};
use vmstream::value::{decode_prefix, encode};
use vmstream::{Map, Value};

use crate::stream;

/// A writer's document, a reader's, and a record: three values.
pub fn run(bytes: &[u8]) {
    let Ok((writer, rest)) = decode_prefix(bytes) else { return };
    let Some(writer) = parsed(&writer) else { return };
    assert_eq!(forecast(&writer, &writer), Forecast::Yes, "a schema takes its own records");
    let Ok((reader, rest)) = decode_prefix(rest) else { return };
    let Some(reader) = parsed(&reader) else { return };
    let (promise, plan) = (forecast(&writer, &reader), resolve(&writer, &reader));
    assert_eq!(matches!(promise, Forecast::No(_)), plan.is_err(), "no plan where there is no way");
    let Ok((Value::Map(state), _)) = decode_prefix(rest) else { return };
    if writer.check_state(&state).is_err() {
        return;
    }
    let state = writer.strip(&state);
    assert_eq!(writer.strip(&writer.complete(&state)), state, "defaults in and out again");
    let Ok(plan) = plan else { return };
    match plan.apply(&state) {
        Ok(applied) => {
            let taken = reader.strip(&applied.state);
            reader.check_state(&taken).expect("what was taken fits the reader");
        }
        Err(findings) => {
            assert!(!findings.is_empty());
            assert_ne!(promise, Forecast::Yes, "{findings:?}");
        }
    }
}

fn parsed(document: &Value) -> Option<Schema> {
    let schema = Schema::parse(document).ok()?;
    assert_eq!(&schema.document(), document, "a document is what its schema writes");
    Some(schema)
}

/// The same schema on both sides, one that gained and lost fields, one whose types are wider, one of another kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let schema = stream::schema();
    let with = |change: &dyn Fn(&mut Vec<Field>)| {
        let mut fields = schema.root.fields().to_vec();
        change(&mut fields);
        Schema { root: vmstream::schema::Struct::new(fields), ..schema.clone() }
    };
    let gained = with(&|fields| {
        let new = Field::new("parity", Type::Bool).default(false);
        fields.push(new.critical(Criticality::Ignorable));
    });
    let lost = with(&|fields| fields.retain(|field| field.name != "name"));
    let other = Schema { name: "toy.disk".to_owned(), ..schema.clone() };
    let state = || encode(&Value::Map(stream::state()));
    let seed = |writer: &Schema, reader: &Schema, state: Vec<u8>| {
        [encode(&writer.document()), encode(&reader.document()), state].concat()
    };
    let parity = encode(&Value::Map(stream::state().with("parity", true)));
    let odd = encode(&Value::Map(Map::new().with("name", "x")));
    vec![
        seed(&schema, &schema, state()),
        seed(&gained, &schema, parity),
        seed(&schema, &gained, state()),
        seed(&schema, &lost, state()),
        seed(&schema, &other, odd),
    ]
}
