//! What other threads ask of the device.

use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use super::link::Link;
use super::{Device, Farewell, Listener};
use crate::attachment::{AttachError, Attachment, Driver, Positions, QueueKind};
use crate::connection::{Phase, Waiting};
use crate::handle::ListenError;
use crate::mailbox::{Command, OnConnect};
use crate::poller::Token;
use crate::table::ConnectionId;

/// Whether the device goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    GoOn,
    Stop,
}

impl Device {
    /// Does what it is told. Replies whose receivers have given up are dropped.
    pub(crate) fn obey(&mut self, command: Command) -> Verdict {
        match command {
            Command::Attach(attachment, reply) => {
                reply.send(self.attach(*attachment)).ok();
            }
            Command::Detach(reply) => {
                reply.send(self.detach()).ok();
            }
            Command::SetMemory(memory, reply) => {
                self.set_memory(memory);
                reply.send(()).ok();
            }
            Command::SetCall(queue, call) => {
                if let Some(link) = &mut self.link {
                    match queue {
                        QueueKind::Rx => link.rx.set_call(call),
                        QueueKind::Tx => link.tx.set_call(call),
                    }
                }
            }
            Command::Connect { ticket, guest_port, reply } => {
                let waiting = Waiting::Caller { ticket, reply };
                self.request(guest_port, waiting, None).ok();
            }
            Command::CancelConnect { ticket } => self.cancel(ticket),
            Command::Listen { ticket, port, on_connect, reply } => {
                reply.send(self.listen(ticket, port, on_connect)).ok();
            }
            Command::Unlisten { ticket } => {
                self.listeners.retain(|_, listener| listener.ticket != ticket);
                self.unix.remove(ticket);
            }
            Command::ServeUnix { ticket, server, reply } => {
                reply.send(self.unix.add(ticket, server, &self.poller)).ok();
            }
            Command::Send { id, bytes, loans } => self.send_file(id, bytes, loans),
            Command::Receive { id, bytes, loans } => self.receive_file(id, bytes, loans),
            Command::Repay { id, bytes } => {
                let mut link = self.link.take();
                self.repaid(link.as_mut(), id, bytes);
                self.link = link;
            }
            Command::Reset { id } => self.reset(id),
            Command::CloseAll(reply) => {
                self.close_all();
                reply.send(()).ok();
            }
            Command::Stop => return Verdict::Stop,
        }
        Verdict::GoOn
    }

    fn attach(&mut self, attachment: Attachment) -> Result<(), AttachError> {
        self.detach();
        if attachment.driver == Driver::Fresh {
            self.close_all();
            self.resets.clear();
        }
        let link = Link::new(attachment);
        for (queue, ring, token) in
            [(QueueKind::Rx, &link.rx, Token::RxKick), (QueueKind::Tx, &link.tx, Token::TxKick)]
        {
            let watched = ring.kick().map_or(Ok(()), |kick| self.poller.add(kick, token));
            if let Err(source) = watched {
                self.stop_watching(&link);
                return Err(AttachError::Kick { queue, source });
            }
        }
        self.link = Some(link);
        Ok(())
    }

    /// Lets go of the guest's memory and queues.
    pub(super) fn detach(&mut self) -> Option<Positions> {
        let mut link = self.link.take()?;
        self.recall(&mut link);
        self.stop_watching(&link);
        Some(link.close(&self.mailbox.counters))
    }

    /// Explicitly, since whoever set the queues up has duplicates of their descriptors.
    fn stop_watching(&self, link: &Link) {
        for kick in [&link.rx, &link.tx].into_iter().filter_map(|ring| ring.kick()) {
            self.poller.remove(kick);
        }
    }

    fn set_memory(&mut self, memory: Arc<GuestMemoryMmap>) {
        if let Some(link) = &mut self.link {
            link.memory = memory;
        }
    }

    fn listen(&mut self, ticket: u64, port: u32, on_connect: OnConnect) -> Result<(), ListenError> {
        if self.listeners.contains_key(&port) {
            return Err(ListenError::InUse { port });
        }
        self.listeners.insert(port, Listener { ticket, on_connect });
        Ok(())
    }

    /// A caller waits no longer for the guest's answer.
    fn cancel(&mut self, ticket: u64) {
        for id in self.table.ids() {
            let Some(connection) = self.table.get_mut(id) else { continue };
            let is_it = |waiting: &Waiting| match waiting {
                Waiting::Caller { ticket: theirs, .. } => *theirs == ticket,
                Waiting::Client(_) => false,
            };
            if matches!(&connection.phase, Phase::Requested(waiting) if is_it(waiting)) {
                self.end(id, Farewell::Reset);
            }
        }
    }

    fn reset(&mut self, id: ConnectionId) {
        let mut link = self.link.take();
        self.drop_arrived(link.as_mut(), id);
        self.link = link;
        if let Some(connection) = self.table.get_mut(id) {
            connection.backlog.take();
            let flushing = matches!(connection.phase, Phase::Flushing);
            self.end(id, if flushing { Farewell::Silent } else { Farewell::Reset });
        }
    }

    /// Ends all connections but those that the guest has not heard of yet.
    fn close_all(&mut self) {
        for id in self.table.ids() {
            let Some(connection) = self.table.get_mut(id) else { continue };
            if !matches!(connection.phase, Phase::Flushing) && !connection.owed.request {
                self.end(id, Farewell::Reset);
            }
        }
    }
}
