//! Logs that stay bounded whatever is printed, and reading along.

mod follower;
mod writer;

pub use follower::{Followed, LogFollower};
pub use writer::{LogLimits, LogWriter};
