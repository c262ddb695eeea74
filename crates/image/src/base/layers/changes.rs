//! What one layer changes, gathered from its archive and then applied at once.
//!
//! A layer's markers remove what lower layers have and nothing of their own layer, wherever in the archive they stand. So
//! members wait until the archive has ended; then the markers are obeyed, and only then the members added, in their order.

use std::collections::HashSet;
use std::io::Read;

use bandsox_erofs::{Builder, InodeId, Node, Tree, TreeError, components, held_bytes};

use super::super::add::{AddError, shown};
use super::super::limits::Limits;
use super::super::tar::{self, Addition, TarError};
use super::error::LayerError;
use super::whiteout::{BadName, Meaning, is_bookkeeping, meaning};
use crate::archive::Archive;

/// The changes of one layer.
#[derive(Debug, Default)]
pub(super) struct Changes {
    removals: Vec<Removal>,
    additions: Vec<(Vec<u8>, Addition)>,
    /// What is held in memory here.
    members: u64,
    bytes: u64,
}

#[derive(Debug)]
enum Removal {
    File(Vec<u8>),
    Content(Vec<u8>),
}

impl Changes {
    /// Reads a layer's archive, decompressed, to the archive's end, which need not be the end of `input`. The content of
    /// files goes into the image.
    pub(super) fn read(
        builder: &mut Builder,
        input: impl Read,
        limits: &Limits,
    ) -> Result<Self, LayerError> {
        let mut archive = Archive::new(input, limits.source_bytes);
        let mut changes = Self::default();
        while let Some(member) = tar::next(&mut archive).map_err(LayerError::Tar)? {
            let name = shown(&member.path);
            let add = |source| LayerError::Tar(TarError::Add { member: name.clone(), source });
            match meaning(&member.path).map_err(|bad| refusal(bad, &member.path))? {
                Meaning::Removes(path) => changes.removals.push(Removal::File(path)),
                Meaning::Empties(path) => changes.removals.push(Removal::Content(path)),
                Meaning::Adds => {
                    let addition = tar::store(builder, member, &mut archive).map_err(add)?;
                    changes.additions.push(addition);
                }
            }
            changes.charge(limits).map_err(|error| add(error.into()))?;
        }
        Ok(changes)
    }

    /// Counts the last member against the limits.
    fn charge(&mut self, limits: &Limits) -> Result<(), TreeError> {
        let removal = self.removals.last().map_or(0, |removal| removal.path().len());
        let addition = self.additions.last().map_or(0, |(path, addition)| {
            let held = match addition {
                Addition::Node(attributes, node) => held_bytes(attributes, node),
                Addition::HardLink(target) => target.len(),
            };
            path.len().saturating_add(held)
        });
        self.members = self.members.saturating_add(1);
        self.bytes = self.bytes.saturating_add(removal.max(addition) as u64);
        if self.members > limits.entries {
            return Err(TreeError::TooMany { limit: limits.entries });
        }
        if self.bytes > limits.metadata_bytes {
            return Err(TreeError::TooMuchMetadata { limit: limits.metadata_bytes });
        }
        Ok(())
    }

    /// Changes `tree`, which the layers below have made.
    pub(super) fn apply(self, tree: &mut Tree) -> Result<(), LayerError> {
        let Self { removals, additions, members: _, bytes: _ } = self;
        let gone = targets(tree, &additions);
        let mut directories = Directories { additions: &additions, found: None };
        for removal in &removals {
            let mut replaces = |names: &[&[u8]]| directories.contains(names);
            match removal {
                Removal::File(path) => tree.whiteout(path, &mut replaces),
                Removal::Content(path) => tree.clear(path, &mut replaces),
            }
            .map_err(|error| refused(removal.path(), error))?;
        }
        let has_bookkeeping = additions.iter().any(|(path, _)| is_bookkeeping(path));
        let mut gone = gone.into_iter();
        for (path, addition) in additions {
            let gone = gone.next().flatten();
            match addition {
                Addition::HardLink(target) => tree.hard_link(&path, &target, gone),
                Addition::Node(attributes, node) => {
                    tree.insert(&path, attributes, node).map(|_| ())
                }
            }
            .map_err(|error| refused(&path, error))?;
        }
        if has_bookkeeping {
            tree.sweep_root(is_bookkeeping);
        }
        Ok(())
    }
}

impl Removal {
    fn path(&self) -> &[u8] {
        match self {
            Self::File(path) | Self::Content(path) => path,
        }
    }
}

/// What the layer's hard links name below, before anything changes: a file may be linked and its old name removed, or the way
/// to it replaced, in one layer. In the additions' order; `None` for what is no link.
fn targets(tree: &mut Tree, additions: &[(Vec<u8>, Addition)]) -> Vec<Option<InodeId>> {
    let target = |(_, addition): &(Vec<u8>, Addition)| match addition {
        // A target that cannot be looked up is reported when the link is made.
        Addition::HardLink(target) => tree.find(target).ok().flatten(),
        Addition::Node(..) => None,
    };
    additions.iter().map(target).collect()
}

/// The directories that a layer itself has, sought for only when a marker's path leads through a symbolic link.
struct Directories<'a> {
    additions: &'a [(Vec<u8>, Addition)],
    found: Option<HashSet<Vec<u8>>>,
}

impl Directories<'_> {
    fn contains(&mut self, names: &[&[u8]]) -> bool {
        let additions = self.additions;
        let found = self.found.get_or_insert_with(|| {
            let directories = additions
                .iter()
                .filter(|(_, addition)| matches!(addition, Addition::Node(_, Node::Directory)));
            directories.map(|(path, _)| joined(components(path))).collect()
        });
        found.contains(&joined(names.iter().copied()))
    }
}

fn joined<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    names.collect::<Vec<_>>().join(&b'/')
}

fn refusal(bad: BadName, path: &[u8]) -> LayerError {
    match bad {
        BadName::NamesNothing => LayerError::EmptyWhiteout { member: shown(path) },
        BadName::Directory => LayerError::ReservedName { member: shown(path) },
    }
}

fn refused(path: &[u8], error: TreeError) -> LayerError {
    LayerError::Tar(TarError::Add { member: shown(path), source: AddError::Tree(error) })
}

#[cfg(test)]
mod tests;
