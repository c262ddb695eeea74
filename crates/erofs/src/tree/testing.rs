//! What tests, here and in the crates above, look at a tree with.

use super::{FileData, Inode, Node, ROOT, Tree};

/// All files, sorted, each as a line: `/dir/ 755`, `/file 644 content`, `/link -> target`.
#[must_use]
pub fn listing(tree: &Tree) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![(String::new(), ROOT)];
    while let Some((path, id)) = pending.pop() {
        let Inode { attributes, node, children } = tree.get(id);
        let mode = attributes.mode;
        found.push(match node {
            Node::Directory => format!("{path}/ {mode:o}"),
            Node::Symlink(target) => format!("{path} -> {}", String::from_utf8_lossy(target)),
            Node::File(FileData::Inline(bytes)) => {
                format!("{path} {mode:o} {}", String::from_utf8_lossy(bytes))
            }
            Node::File(_)
            | Node::CharDevice { .. }
            | Node::BlockDevice { .. }
            | Node::Fifo
            | Node::Socket => format!("{path} {mode:o} {node:?}"),
        });
        for (name, child) in children {
            pending.push((format!("{path}/{}", String::from_utf8_lossy(name)), *child));
        }
    }
    found.sort();
    found
}

/// Names in the tree that no directory can hold.
#[must_use]
pub fn impossible_names(tree: &Tree) -> Vec<Vec<u8>> {
    let names = tree.inodes.iter().flat_map(|inode| inode.children.keys()).map(|name| &**name);
    let is_impossible = |name: &&[u8]| {
        let is_off = !(1..=255).contains(&name.len());
        is_off || matches!(*name, b"." | b"..") || name.contains(&b'/') || name.contains(&0)
    };
    names.filter(is_impossible).map(<[u8]>::to_vec).collect()
}
