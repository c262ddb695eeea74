//! One VM: lifecycle driver, agent links, control socket.
