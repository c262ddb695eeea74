//! The virtio-vsock device model: packets, connections, credit, endpoints.
