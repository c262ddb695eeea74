//! Real machines in the jail: QEMU boots Debian's kernel, and everything that can end it does.

mod guest;
mod inside;
mod lifecycle;
