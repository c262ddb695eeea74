//! QEMU as an engine: command line, QMP, vhost-user front of the vsock device.
