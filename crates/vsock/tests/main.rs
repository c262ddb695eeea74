//! The device with a driver in this process.

mod connections;
mod files;
mod guest;
mod hostile;
mod machines;
mod notifications;
mod streams;
mod unix_sockets;
