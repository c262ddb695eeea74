//! The local side of a transfer: where things go, and how they get there whole.

mod landing;
mod target;

pub use landing::{Landing, LandingError};
pub use target::{Destination, TargetError};
