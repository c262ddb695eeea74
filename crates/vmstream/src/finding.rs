//! Errors and differences as data: the same object on both sides, for people and for programs.

use std::borrow::Cow;
use std::fmt;

use crate::broken::Broken;
use crate::message::{Fields, Message};
use crate::rule::Rule;
use crate::value::{Map, Value};

/// One thing that is wrong, or differs.
///
/// Empty texts and nones are not written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// What it is, in words that do not change: `value-differs`, `missing-at-destination`, `F-3`, ….
    pub code: Cow<'static, str>,
    /// What it is about: a device's path, a field's, an attribute's.
    pub path: String,
    /// The value at the source.
    pub source: Option<Value>,
    /// The value at the destination.
    pub destination: Option<Value>,
    /// By which policy the two were compared.
    pub policy: Option<Cow<'static, str>>,
    /// When it was found: `contract`, `schema`, `device`, `frame`.
    pub phase: Cow<'static, str>,
    /// Why it is so, as far as that is known.
    pub cause: Option<String>,
    /// What the user can do.
    pub hint: Option<String>,
    /// In which frame, counted from 0.
    pub frame: Option<u64>,
    /// At which byte of the stream.
    pub offset: Option<u64>,
}

impl Finding {
    /// A finding of `code` about `path`, made in `phase`.
    #[must_use]
    pub fn new(code: &'static str, path: impl Into<String>, phase: &'static str) -> Self {
        Self { code: code.into(), path: path.into(), phase: phase.into(), ..Self::default() }
    }

    /// With both values.
    #[must_use]
    pub fn values(mut self, source: Option<Value>, destination: Option<Value>) -> Self {
        (self.source, self.destination) = (source, destination);
        self
    }

    /// With a cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// With an error and its causes as the cause, in one line.
    #[must_use]
    pub fn because_of(self, error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        self.because(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }

    /// With a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A broken input, in frame `frame`.
    #[must_use]
    pub fn broken(broken: &Broken, frame: u64) -> Self {
        Self {
            code: broken.rule.id().into(),
            path: broken.path.clone(),
            phase: "frame".into(),
            cause: Some(broken.rule.text().to_owned()),
            hint: broken.found.clone(),
            frame: Some(frame),
            offset: Some(broken.at),
            ..Self::default()
        }
    }
}

impl Message for Finding {
    fn to_value(&self) -> Value {
        let text = |map: Map, key: &str, text: &str| {
            if text.is_empty() { map } else { map.with(key, text) }
        };
        let mut map = Map::new().with("code", self.code.as_ref());
        map = text(map, "path", &self.path);
        map = text(map, "phase", &self.phase);
        map = text(map, "policy", self.policy.as_deref().unwrap_or_default());
        map = text(map, "cause", self.cause.as_deref().unwrap_or_default());
        map = text(map, "hint", self.hint.as_deref().unwrap_or_default());
        let more = [
            ("source", self.source.clone()),
            ("destination", self.destination.clone()),
            ("frame", self.frame.map(Value::from)),
            ("offset", self.offset.map(Value::from)),
        ];
        for (key, value) in more {
            if let Some(value) = value {
                map.insert(key, value);
            }
        }
        Value::Map(map)
    }

    fn from_value(value: Value) -> Result<Self, Broken> {
        let mut fields = Fields::of(value)?;
        let finding = Self {
            code: fields.text("code")?.into(),
            path: fields.maybe_text("path")?.unwrap_or_default(),
            source: fields.maybe("source"),
            destination: fields.maybe("destination"),
            policy: fields.maybe_text("policy")?.map(Cow::Owned),
            phase: fields.maybe_text("phase")?.unwrap_or_default().into(),
            cause: fields.maybe_text("cause")?,
            hint: fields.maybe_text("hint")?,
            frame: fields.maybe_uint("frame")?,
            offset: fields.maybe_uint("offset")?,
        };
        fields.done()?;
        Ok(finding)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code.escape_debug())?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path.escape_debug())?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        if let Some(frame) = self.frame {
            write!(f, " in frame {frame}")?;
        }
        match (&self.source, &self.destination) {
            (Some(source), Some(destination)) => {
                write!(
                    f,
                    ": source has {}, destination has {}",
                    Short(source),
                    Short(destination)
                )?;
            }
            (Some(source), None) => write!(f, ": source has {}", Short(source))?,
            (None, Some(destination)) => write!(f, ": destination has {}", Short(destination))?,
            (None, None) => {}
        }
        if let Some(cause) = &self.cause {
            write!(f, "; {}", Printable(cause))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " ({})", Printable(hint))?;
        }
        Ok(())
    }
}

/// Text on a line, control characters escaped.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|each| {
            if each.is_control() {
                each.escape_debug().fmt(f)
            } else {
                fmt::Write::write_char(f, each)
            }
        })
    }
}

/// A value on a line: long ones are cut, control characters escaped.
pub(crate) struct Short<'a>(pub(crate) &'a Value);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("null"),
            Value::Bool(bool) => bool.fmt(f),
            Value::Int(int) => int.fmt(f),
            Value::Bytes(bytes) => {
                bytes.iter().take(16).try_for_each(|byte| write!(f, "{byte:02x}"))?;
                if bytes.len() > 16 { write!(f, "… ({} bytes)", bytes.len()) } else { Ok(()) }
            }
            Value::Text(text) => {
                let cut: String = text.chars().take(80).collect();
                write!(f, "{cut:?}")
            }
            Value::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().take(16).enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { ", " }, Short(item))?;
                }
                f.write_str(if items.len() > 16 { ", …]" } else { "]" })
            }
            Value::Map(map) => write!(f, "a map of {} keys", map.len()),
        }
    }
}

impl Rule {
    /// The rule of an id, as a finding's code has it.
    #[must_use]
    pub fn of_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rule| rule.id() == id)
    }
}
