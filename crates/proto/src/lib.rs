//! Messages host to guest agent (v1, v2) and client to monitor, without I/O.
