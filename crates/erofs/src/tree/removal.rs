//! Taking files out of the tree again: what a layer's whiteouts do to the layers below it.

use super::{InodeId, Missing, Node, ROOT, Tree, TreeError, split};

impl Tree {
    /// Takes away the name `path`, with everything below it; nothing happens if it is not there.
    ///
    /// `replaces` says of a path, as its names, whether the layer that the whiteout is in has a directory there. Where such
    /// a directory takes the place of a symbolic link, what the link points to is not what the whiteout means.
    pub fn whiteout(
        &mut self,
        path: &[u8],
        replaces: &mut dyn FnMut(&[&[u8]]) -> bool,
    ) -> Result<(), TreeError> {
        let names = split(path)?;
        if let Some((name, above)) = names.split_last()
            && let Some(directory) = self.directory_below(path, above, replaces)?
        {
            self.get_mut(directory).children.remove(*name);
        }
        Ok(())
    }

    /// Takes away everything in the directory `path`, which itself stays; nothing happens if it is none.
    pub fn clear(
        &mut self,
        path: &[u8],
        replaces: &mut dyn FnMut(&[&[u8]]) -> bool,
    ) -> Result<(), TreeError> {
        let names = split(path)?;
        if let Some(directory) = self.directory_below(path, &names, replaces)? {
            self.get_mut(directory).children.clear();
        }
        Ok(())
    }

    /// Takes away what in the root has a name that `is_meant` picks.
    pub fn sweep_root(&mut self, is_meant: impl Fn(&[u8]) -> bool) {
        self.get_mut(ROOT).children.retain(|name, _| !is_meant(name));
    }

    /// The directory that `names` lead to, if they lead to one.
    fn directory_below(
        &mut self,
        path: &[u8],
        names: &[&[u8]],
        replaces: &mut dyn FnMut(&[&[u8]]) -> bool,
    ) -> Result<Option<InodeId>, TreeError> {
        let mut here = ROOT;
        for (name, depth) in names.iter().zip(1..) {
            let Some(next) = self.get(here).children.get(*name).copied() else {
                return Ok(None);
            };
            match &self.get(next).node {
                Node::Directory => here = next,
                Node::Symlink(_) if !replaces(names.get(..depth).unwrap_or_default()) => {
                    return match self.resolve(path, names, Missing::Stop) {
                        Err(TreeError::NotADirectory { .. }) => Ok(None),
                        resolved => resolved,
                    };
                }
                Node::Symlink(_)
                | Node::File(_)
                | Node::CharDevice { .. }
                | Node::BlockDevice { .. }
                | Node::Fifo
                | Node::Socket => return Ok(None),
            }
        }
        Ok(Some(here))
    }
}
