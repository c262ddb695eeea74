//! Messages: the payloads of frames of metadata.
//!
//! Each is one map (device records: a list of maps). Unknown keys are refused, since a reader that
//! passes over what it does not know may pass over what matters; keys that begin with `x-` are free.

mod device;
mod fields;
mod finish;
mod hello;
mod manifest;
mod pages;
mod ram;

pub use device::DeviceRecord;
pub(crate) use device::records_from;
pub(crate) use fields::{Fields, is_path};
pub use finish::{Finish, Index, IndexedRam, Note, Request, Switch, SwitchMode, Verdict};
pub use hello::{FEATURES, Hello, Producer, Purpose};
pub use manifest::{DeclaredDevice, Disk, Manifest, Parent, Region};
pub use pages::{Encoding, PageRun, Pages, PagesBuilder, RunKind};
pub use ram::{Checksums, RAM_PREFIX_BYTES, Ram};

use crate::broken::Broken;
use crate::value::Value;

/// What has a form as a value.
pub trait Message: Sized {
    /// The value, to be encoded.
    fn to_value(&self) -> Value;

    /// The message that a decoded value is.
    ///
    /// # Errors
    ///
    /// [`Broken`], with a rule `M-…` and the path of the key that is missing, misplaced or of another type.
    fn from_value(value: Value) -> Result<Self, Broken>;
}
