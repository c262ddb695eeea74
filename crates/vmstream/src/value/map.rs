//! Maps in canonical order.

use std::cmp::Ordering;

use super::Value;

/// Values by name, kept in the order of their encoded keys: shorter keys first, then by bytes.
///
/// Source: RFC 8949, 4.2.1; the length is in the head of a key, so it decides first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Map(Vec<(String, Value)>);

impl Map {
    /// A map without keys.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// How many keys there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.find(key).ok().and_then(|index| self.0.get(index)).map(|(_, value)| value)
    }

    /// The value of `key`, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        let index = self.find(key).ok()?;
        self.0.get_mut(index).map(|(_, value)| value)
    }

    /// Puts a value in, and hands out what was there.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.find(&key) {
            Ok(index) => self.0.get_mut(index).map(|slot| std::mem::replace(&mut slot.1, value)),
            Err(index) => {
                self.0.insert(index, (key, value));
                None
            }
        }
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.find(key).ok().map(|index| self.0.remove(index).1)
    }

    /// The same map with one more value: for building one in an expression.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// Keys and values, in canonical order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Appends what a decoder read, if it belongs at the end.
    pub(super) fn push_last(&mut self, key: String, value: Value) {
        self.0.push((key, value));
    }

    /// A map that can take `keys` keys without growing.
    pub(super) fn with_capacity(keys: usize) -> Self {
        Self(Vec::with_capacity(keys))
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        // Maps are mostly made in order.
        if self.0.last().is_none_or(|(last, _)| order(last, key) == Ordering::Less) {
            return Err(self.0.len());
        }
        self.0.binary_search_by(|(have, _)| order(have, key))
    }
}

/// The canonical order of two keys.
pub(crate) fn order(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

impl IntoIterator for Map {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(String, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Self {
        let mut map = Self::new();
        for (key, value) in pairs {
            map.insert(key, value);
        }
        map
    }
}
