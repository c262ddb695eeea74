//! The page that `report` writes.

pub(crate) mod page;
