//! What a VM is: validated configuration, and its lifecycle as a pure function.
