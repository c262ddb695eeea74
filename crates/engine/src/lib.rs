//! The Engine trait and what engines share: RAM, disks, events.
