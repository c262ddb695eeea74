//! How much of a body is understood.

use std::ops::AddAssign;

use crate::input::len64;
use crate::tree::{Field, Structure, Value};

/// Bytes of a body by how much is known of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Numbers, flags, markers and what else has a meaning of its own.
    pub named: u64,
    /// Buffers that have a name and a length.
    pub buffers: u64,
    /// Bytes of unknown meaning.
    pub opaque: u64,
}

impl Share {
    /// All bytes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.named.saturating_add(self.buffers).saturating_add(self.opaque)
    }
}

impl AddAssign for Share {
    fn add_assign(&mut self, other: Self) {
        self.named = self.named.saturating_add(other.named);
        self.buffers = self.buffers.saturating_add(other.buffers);
        self.opaque = self.opaque.saturating_add(other.opaque);
    }
}

/// The shares of a structure's bytes, subsections' names included.
#[must_use]
pub fn share(structure: &Structure) -> Share {
    let mut sum = Share::default();
    for field in &structure.fields {
        sum += of_field(field);
    }
    for sub in &structure.subsections {
        // The kind's byte, the name's length and the version stand before a subsection.
        sum.named = sum.named.saturating_add(len64(sub.name.len()).saturating_add(6));
        sum += share(sub);
    }
    sum
}

fn of_field(field: &Field) -> Share {
    let (mut buffers, mut opaque) = (0, 0);
    count(&field.value, &mut buffers, &mut opaque);
    Share { named: field.length.saturating_sub(buffers).saturating_sub(opaque), buffers, opaque }
}

fn count(value: &Value, buffers: &mut u64, opaque: &mut u64) {
    match value {
        Value::Bytes(bytes) => *buffers = buffers.saturating_add(len64(bytes.len())),
        Value::Opaque(bytes) => *opaque = opaque.saturating_add(len64(bytes.len())),
        Value::Structure(structure) => {
            let inner = share(structure);
            *buffers = buffers.saturating_add(inner.buffers);
            *opaque = opaque.saturating_add(inner.opaque);
        }
        Value::List(list) => list.items.iter().for_each(|item| count(item, buffers, opaque)),
        Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) | Value::Null => {}
    }
}
