//! `hello`: who writes, in which version, needing what.

use super::{Fields, Message};
use crate::broken::Broken;
use crate::rule::Rule;
use crate::value::{Map, Value};

/// Features that this reader knows. A stream that needs another one is refused (M-3).
pub const FEATURES: &[&str] = &["late-schemas"];

/// What a stream is for: it decides which frames may come (O-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A machine's state, to be loaded.
    State,
    /// A manifest and schemas only: what a machine is, for a comparison.
    Contract,
    /// What the destination says to the source.
    Answer,
}

impl Purpose {
    /// The word in the stream.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Contract => "contract",
            Self::Answer => "answer",
        }
    }
}

/// The program that writes a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    /// Its name.
    pub name: String,
    /// Its version, as it writes it itself.
    pub version: String,
}

/// The first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who writes.
    pub producer: Producer,
    /// When, in seconds since 1970 in UTC; a writer that must be reproducible leaves it out.
    pub created: Option<u64>,
    /// Features that a reader must know.
    pub needs: Vec<String>,
    /// What for.
    pub purpose: Purpose,
}

impl Hello {
    /// A hello of a program, for a purpose, that needs nothing.
    #[must_use]
    pub fn new(name: &str, version: &str, purpose: Purpose) -> Self {
        let producer = Producer { name: name.to_owned(), version: version.to_owned() };
        Self { producer, created: None, needs: Vec::new(), purpose }
    }

    /// Whether a feature is needed.
    #[must_use]
    pub fn needs(&self, feature: &str) -> bool {
        self.needs.iter().any(|need| need == feature)
    }
}

impl Message for Hello {
    fn to_value(&self) -> Value {
        let Self { producer: Producer { name, version }, created, needs, purpose } = self;
        let producer = Map::new().with("name", name.as_str()).with("version", version.as_str());
        let needs: Vec<_> = needs.iter().map(|need| Value::from(need.as_str())).collect();
        let mut map = Map::new()
            .with("format", "vmstream")
            .with("version", 1_u8)
            .with("producer", producer)
            .with("needs", needs)
            .with("purpose", purpose.word());
        if let Some(created) = created {
            map.insert("created", *created);
        }
        Value::Map(map)
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let (format, version) = (fields.text("format")?, fields.uint("version")?);
        if format != "vmstream" || version != 1 {
            return Err(Broken::new(Rule::M2).found(format_args!("{format} {version}")));
        }
        let mut producer = Fields::of(fields.value("producer")?)?;
        let hello = Self {
            producer: Producer { name: producer.text("name")?, version: producer.text("version")? },
            created: fields.maybe_uint("created")?,
            needs: fields.list("needs", text)?,
            purpose: purpose(&fields.text("purpose")?)?,
        };
        producer.done().map_err(|broken| broken.below("producer"))?;
        fields.done()?;
        match hello.needs.iter().find(|need| !FEATURES.contains(&need.as_str())) {
            None => Ok(hello),
            Some(need) => Err(Broken::new(Rule::M3).path("needs").found(need)),
        }
    }
}

fn purpose(word: &str) -> Result<Purpose, Broken> {
    let all = [Purpose::State, Purpose::Contract, Purpose::Answer];
    let known = all.into_iter().find(|purpose| purpose.word() == word);
    known.ok_or_else(|| Broken::new(Rule::M1).path("purpose").found(word))
}

fn text(value: Value) -> Result<String, Broken> {
    value.into_text().map_err(|other| Broken::new(Rule::M1).found(other.noun()))
}
