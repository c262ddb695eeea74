//! What all threads of the agent share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use crate::children::Children;
use crate::session::Sessions;
use crate::shutdown::Order;

/// Most connections at once; each has a thread. One more is closed at once.
pub(crate) const MAX_CONNECTIONS: usize = 256;

/// The agent. One of it, behind an `Arc`.
pub(crate) struct Agent {
    /// Processes that a session waits for.
    pub(crate) children: Children,
    /// Commands that run or ran.
    pub(crate) sessions: Sessions,
    /// The guest is going down; no command is started any more.
    pub(crate) stopping: AtomicBool,
    /// Speak protocol v1 only.
    pub(crate) v1_only: bool,
    /// Orders to the thread that takes the guest down; without one (in tests) they are refused.
    pub(crate) shutdown: Option<Sender<Order>>,
    /// Requests to listen on another vsock port.
    pub(crate) ports: Option<crate::vsock::Port>,
    connections: AtomicUsize,
}

impl Agent {
    pub(crate) fn new(
        children: Children,
        shutdown: Option<Sender<Order>>,
        ports: Option<crate::vsock::Port>,
        v1_only: bool,
    ) -> Self {
        Self {
            children,
            sessions: Sessions::default(),
            stopping: AtomicBool::new(false),
            v1_only,
            shutdown,
            ports,
            connections: AtomicUsize::new(0),
        }
    }

    /// Counts a connection in; `None` if there are too many.
    pub(crate) fn admit(self: &std::sync::Arc<Self>) -> Option<Admission> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let admission = Admission { agent: std::sync::Arc::clone(self) };
        (before < MAX_CONNECTIONS).then_some(admission)
    }
}

/// A connection that is counted; dropped, it is counted out.
pub(crate) struct Admission {
    agent: std::sync::Arc<Agent>,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.agent.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
