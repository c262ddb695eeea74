//! Typed client of a monitor's control socket and of the agent behind it.
