//! QEMU's requests, one method each.

use std::fs::File;
use std::io;

use bandsox_vsock::{Attachment, Driver, Handle, Positions, QueueKind};
use rustix::fs::OFlags;
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::front::{FrontEvent, OnEvent};
use super::memory::MemoryTable;
use super::vring::{Rings, VringSetup};

/// Queues that QEMU hands over: receive and transmit. It keeps the event queue to itself.
const QUEUES: usize = 2;

/// Bit of the feature word.
const fn bit(number: u32) -> u64 {
    1 << number
}

/// What the device can do.
const FEATURES: u64 = bit(VIRTIO_F_VERSION_1)
    | bit(VIRTIO_RING_F_EVENT_IDX)
    | bit(VIRTIO_RING_F_INDIRECT_DESC)
    | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// State of one connection with QEMU.
pub(super) struct Requests {
    device: Handle,
    guest_cid: u32,
    on_event: OnEvent,
    features: u64,
    memory: Option<MemoryTable>,
    vrings: [VringSetup; QUEUES],
    is_attached: bool,
    /// Where the queues stood when they were last stopped.
    stopped_at: Option<Positions>,
}

impl Requests {
    pub(super) fn new(device: Handle, guest_cid: u32, on_event: OnEvent) -> Self {
        Self {
            device,
            guest_cid,
            on_event,
            features: 0,
            memory: None,
            vrings: Default::default(),
            is_attached: false,
            stopped_at: None,
        }
    }

    /// The connection is over.
    pub(super) fn end(&mut self, event: FrontEvent) {
        self.stop();
        self.device.close_all();
        (self.on_event)(event);
    }

    fn vring(&mut self, index: impl Into<u32>) -> Result<&mut VringSetup> {
        let index = usize::try_from(index.into()).map_err(|_| Error::InvalidParam)?;
        self.vrings.get_mut(index).ok_or(Error::InvalidParam)
    }

    /// Gives the device its guest, if all is there.
    fn start_if_ready(&mut self) -> Result<()> {
        if self.is_attached || !self.vrings.iter().all(VringSetup::is_ready) {
            return Ok(());
        }
        let memory = self.memory.as_ref().ok_or(Error::InvalidParam)?;
        let event_idx = self.features & bit(VIRTIO_RING_F_EVENT_IDX) != 0;
        let [rx, tx] = &self.vrings;
        let bases = Positions { rx: rx.base, tx: tx.base };
        let attachment = Attachment {
            guest_cid: self.guest_cid,
            memory: memory.guest.clone(),
            rx: rx.build(memory, event_idx).ok_or(Error::InvalidParam)?,
            tx: tx.build(memory, event_idx).ok_or(Error::InvalidParam)?,
            // A driver that starts anew begins at zero; a machine that goes on, where it stood.
            driver: if self.stopped_at == Some(bases) { Driver::Resumed } else { Driver::Fresh },
        };
        self.device.attach(attachment).map_err(failed)?;
        self.is_attached = true;
        (self.on_event)(FrontEvent::Attached);
        Ok(())
    }

    /// Takes the guest away from the device.
    fn stop(&mut self) {
        if !std::mem::take(&mut self.is_attached) {
            return;
        }
        if let Some(positions) = self.device.detach() {
            let [rx, tx] = &mut self.vrings;
            (rx.base, tx.base) = (positions.rx, positions.tx);
            self.stopped_at = Some(positions);
        }
        (self.on_event)(FrontEvent::Detached);
    }
}

/// An error of ours as the protocol's.
fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::ReqHandlerError(io::Error::other(error))
}

/// A request that belongs to a feature that was not offered.
fn not_offered<T>() -> Result<T> {
    Err(Error::InvalidOperation("the feature was not offered"))
}

/// An eventfd that this process writes to must not make it wait.
fn without_waiting(file: Option<File>) -> Result<Option<File>> {
    if let Some(file) = &file {
        let flags = rustix::fs::fcntl_getfl(file).map_err(failed)?;
        rustix::fs::fcntl_setfl(file, flags | OFlags::NONBLOCK).map_err(failed)?;
    }
    Ok(file)
}

impl VhostUserBackendReqHandlerMut for Requests {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.stop();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.stop();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(FEATURES)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !FEATURES != 0 {
            return Err(Error::FeatureMismatch);
        }
        self.features = features;
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            // Without the protocol's own features there is no request that enables a queue.
            for vring in &mut self.vrings {
                vring.enabled = true;
            }
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy_listening: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let table = MemoryTable::map(regions, files).map_err(failed)?;
        if self.is_attached {
            self.device.set_memory(table.guest.clone());
        }
        self.memory = Some(table);
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        if self.vring(index)?.set_entries(num) { Ok(()) } else { Err(Error::InvalidParam) }
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        self.vring(index)?.rings = Some(Rings { descriptors: descriptor, available, used });
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.vring(index)?.base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.stop();
        let vring = self.vring(index)?;
        // The queue is stopped until its kick descriptor is set again.
        vring.kick = None;
        vring.call = None;
        Ok(VhostUserVringState::new(index, u32::from(vring.base)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let file = without_waiting(file)?;
        if self.is_attached {
            // The device watches the old one: it is taken off and put on again.
            self.stop();
        }
        self.vring(index)?.kick = Some(file.map(Into::into));
        self.start_if_ready()
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let call = without_waiting(file)?.map(std::os::fd::OwnedFd::from);
        let queue = if index == 0 { QueueKind::Rx } else { QueueKind::Tx };
        let is_attached = self.is_attached;
        let vring = self.vring(index)?;
        if is_attached {
            let duplicate = call.as_ref().map(|call| call.try_clone()).transpose();
            let duplicate = duplicate.map_err(failed)?;
            vring.call = call;
            self.device.set_call(queue, duplicate);
        } else {
            vring.call = call;
        }
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _file: Option<File>) -> Result<()> {
        self.vring(index).map(|_| ())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::CONFIG)
    }

    fn set_protocol_features(&mut self, _features: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        not_offered()
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.vring(index)?.enabled = enable;
        if enable {
            self.start_if_ready()
        } else {
            self.stop();
            Ok(())
        }
    }

    /// The configuration space is the guest's address: 8 bytes, little-endian.
    ///
    /// Source: VIRTIO 1.2, section 5.10.4.
    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> Result<Vec<u8>> {
        let config = u64::from(self.guest_cid).to_le_bytes();
        let start = usize::try_from(offset).map_err(|_| Error::InvalidParam)?;
        let size = usize::try_from(size).map_err(|_| Error::InvalidParam)?;
        let end = start.checked_add(size).ok_or(Error::InvalidParam)?;
        config.get(start..end).map(<[u8]>::to_vec).ok_or(Error::InvalidParam)
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(Error::InvalidOperation("the configuration is read-only"))
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        not_offered()
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        not_offered()
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        not_offered()
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        not_offered()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        not_offered()
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        not_offered()
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        not_offered()
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        not_offered()
    }

    fn check_device_state(&mut self) -> Result<()> {
        not_offered()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        not_offered()
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        not_offered()
    }
}
