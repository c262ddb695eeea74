//! What a VM is: validated configuration, and its lifecycle as a pure function.
//!
//! Every value that a person types is one of the types here before anything acts on it: parsing is
//! the only way to make one, so that a [`Vcpus`] that exists is in range wherever it turns up.
//!
//! [`Phase`] is the life of a VM. It knows no clock, no process and no file: whoever acts asks it
//! first, and writes down what it answered.

mod end;
mod engine;
mod env;
mod id;
mod image_config;
mod name;
mod phase;
mod size;

pub use end::{EngineExit, StopReason};
pub use engine::{EngineChoice, EngineChoiceError};
pub use env::{EnvVar, EnvVarError};
pub use id::{VmId, VmIdError};
pub use image_config::{Ignored, ImageConfig};
pub use name::{VmName, VmNameError, is_host_name};
pub use phase::{Command, Event, Phase, Refused, UnknownPhase};
pub use size::{DiskSizeMib, MemMib, SizeError, Vcpus};
