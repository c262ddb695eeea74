//! Taking a map apart, key by key, until nothing is left.

use crate::broken::Broken;
use crate::limits;
use crate::rule::Rule;
use crate::value::{Map, Value};

/// The keys of a message that have not been taken yet.
pub(crate) struct Fields(Map);

impl Fields {
    pub(crate) fn of(value: Value) -> Result<Self, Broken> {
        let map = value.into_map();
        map.map(Self).map_err(|other| Broken::new(Rule::M1).found(other.noun()))
    }

    pub(crate) fn maybe(&mut self, key: &str) -> Option<Value> {
        self.0.remove(key)
    }

    pub(crate) fn value(&mut self, key: &str) -> Result<Value, Broken> {
        self.maybe(key).ok_or_else(|| misfit(key, "missing"))
    }

    pub(crate) fn maybe_text(&mut self, key: &str) -> Result<Option<String>, Broken> {
        let text = self.maybe(key).map(Value::into_text).transpose();
        text.map_err(|other| misfit(key, other.noun()))
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<String, Broken> {
        self.maybe_text(key)?.ok_or_else(|| misfit(key, "missing"))
    }

    /// Text that is a path; see [`is_path`].
    pub(crate) fn path(&mut self, key: &str) -> Result<String, Broken> {
        let text = self.text(key)?;
        if is_path(&text) { Ok(text) } else { Err(Broken::new(Rule::M6).path(key).found(text)) }
    }

    pub(crate) fn maybe_uint(&mut self, key: &str) -> Result<Option<u64>, Broken> {
        match self.maybe(key) {
            None => Ok(None),
            Some(value) => value.as_u64().map(Some).ok_or_else(|| misfit(key, value.noun())),
        }
    }

    pub(crate) fn uint(&mut self, key: &str) -> Result<u64, Broken> {
        self.maybe_uint(key)?.ok_or_else(|| misfit(key, "missing"))
    }

    pub(crate) fn small(&mut self, key: &str) -> Result<u32, Broken> {
        u32::try_from(self.uint(key)?).map_err(|_| misfit(key, "over 32 bits"))
    }

    pub(crate) fn maybe_bool(&mut self, key: &str) -> Result<Option<bool>, Broken> {
        match self.maybe(key) {
            None => Ok(None),
            Some(value) => value.as_bool().map(Some).ok_or_else(|| misfit(key, value.noun())),
        }
    }

    pub(crate) fn bool(&mut self, key: &str) -> Result<bool, Broken> {
        self.maybe_bool(key)?.ok_or_else(|| misfit(key, "missing"))
    }

    pub(crate) fn digest(&mut self, key: &str) -> Result<[u8; 32], Broken> {
        let value = self.value(key)?;
        let digest = value.as_bytes().and_then(|bytes| bytes.try_into().ok());
        digest.ok_or_else(|| misfit(key, "not 32 bytes"))
    }

    pub(crate) fn maybe_list(&mut self, key: &str) -> Result<Option<Vec<Value>>, Broken> {
        let items = self.maybe(key).map(Value::into_list).transpose();
        items.map_err(|other| misfit(key, other.noun()))
    }

    /// A list of things; each is read by `item`.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        item: impl Fn(Value) -> Result<T, Broken>,
    ) -> Result<Vec<T>, Broken> {
        let items = self.maybe_list(key)?.ok_or_else(|| misfit(key, "missing"))?;
        each(key, items, item)
    }

    /// A list that may be absent.
    pub(crate) fn optional_list<T>(
        &mut self,
        key: &str,
        item: impl Fn(Value) -> Result<T, Broken>,
    ) -> Result<Option<Vec<T>>, Broken> {
        self.maybe_list(key)?.map(|items| each(key, items, item)).transpose()
    }

    /// Refuses what has not been taken.
    pub(crate) fn done(self) -> Result<(), Broken> {
        match self.0.iter().find(|(key, _)| !key.starts_with("x-")) {
            None => Ok(()),
            Some((key, _)) => Err(misfit(key, "unknown key")),
        }
    }
}

fn each<T>(
    key: &str,
    items: Vec<Value>,
    item: impl Fn(Value) -> Result<T, Broken>,
) -> Result<Vec<T>, Broken> {
    let read = |(index, value)| item(value).map_err(|broken| broken.below(index).below(key));
    items.into_iter().enumerate().map(read).collect()
}

fn misfit(key: &str, found: &str) -> Broken {
    Broken::new(Rule::M1).path(key).found(found)
}

/// Whether a text is a path (rule M-6).
pub(crate) fn is_path(path: &str) -> bool {
    (1..=limits::PATH).contains(&path.len())
        && path.split('/').all(|part| !part.is_empty())
        && path.bytes().all(|byte| (0x21..0x7f).contains(&byte))
}
