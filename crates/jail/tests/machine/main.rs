//! Real machines in the jail: QEMU boots Debian's kernel, and everything that can end it does.

mod confined;
mod guest;
mod hotplug;
mod inside;
mod lifecycle;
mod ordinary_user;
mod owner;
