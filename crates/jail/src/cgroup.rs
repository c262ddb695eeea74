//! A cgroup per machine, where one can be made: memory and number of tasks.
//!
//! Best effort: an ordinary user, a container and many a host give no right to make any.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bandsox_engine::Limits;

/// The folder that holds the cgroups of all machines, in each hierarchy.
const OURS: &str = "bandsox";

/// The cgroups of one machine. They are removed with the machine; those of a monitor that was
/// killed are removed by [`sweep`].
#[derive(Debug)]
pub(crate) struct Cgroups {
    folders: Vec<PathBuf>,
}

impl Cgroups {
    /// No cgroup.
    pub(crate) fn none() -> Self {
        Self { folders: vec![] }
    }

    /// Makes those that can be made; says what could not be.
    pub(crate) fn make(vm: &str, limits: &Limits) -> (Self, Vec<String>) {
        let mut made = Self::none();
        let mut missing = Vec::new();
        let hierarchies = hierarchies();
        for (controller, file_v1, file_v2, value) in [
            ("memory", "memory.limit_in_bytes", "memory.max", limits.memory),
            // One more for the launcher.
            ("pids", "pids.max", "pids.max", limits.tasks.saturating_add(1)),
        ] {
            let place = hierarchies.iter().find(|place| place.has(controller));
            let result = place.ok_or_else(|| io::ErrorKind::NotFound.into()).and_then(|place| {
                let file = if place.unified { file_v2 } else { file_v1 };
                made.add(place, vm, controller, file, value)
            });
            if let Err(error) = result {
                missing.push(format!("no cgroup limit on {controller}: {error}"));
            }
        }
        (made, missing)
    }

    fn add(
        &mut self,
        place: &Hierarchy,
        vm: &str,
        controller: &str,
        file: &str,
        value: u64,
    ) -> io::Result<()> {
        let parent = place.root.join(OURS);
        make_folder(&parent)?;
        if place.unified {
            // Refused where this is so already, or where nothing may be enabled: the limit's
            // file then tells.
            for above in [&place.root, &parent] {
                fs::write(above.join("cgroup.subtree_control"), format!("+{controller}")).ok();
            }
        }
        let folder = parent.join(vm);
        make_folder(&folder)?;
        if !self.folders.contains(&folder) {
            self.folders.push(folder.clone());
        }
        fs::write(folder.join(file), value.to_string())
    }

    /// Puts a process into them; says where that was not allowed.
    pub(crate) fn take_in(&self, pid: u32) -> Vec<String> {
        let mut missing = Vec::new();
        for folder in &self.folders {
            if let Err(error) = fs::write(folder.join("cgroup.procs"), pid.to_string()) {
                missing.push(format!("no cgroup in {}: {error}", folder.display()));
            }
        }
        missing
    }

    /// Removes them, once their process is gone.
    pub(crate) fn remove(&mut self) {
        for folder in self.folders.drain(..) {
            // What is left is found by the next sweep.
            fs::remove_dir(folder).ok();
        }
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the cgroups of machines that no longer run; returns how many. The kernel refuses to
/// remove one that has a process in it, so none that is in use is touched.
pub fn sweep() -> usize {
    let mut removed = 0;
    for place in hierarchies() {
        let Ok(entries) = fs::read_dir(place.root.join(OURS)) else { continue };
        for entry in entries.flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && fs::remove_dir(entry.path()).is_ok() {
                removed += 1;
            }
        }
    }
    removed
}

/// The folders in which machines' cgroups are made, for whoever restricts itself to paths.
pub(crate) fn parents() -> Vec<PathBuf> {
    hierarchies()
        .into_iter()
        .map(|place| place.root.join(OURS))
        .filter(|path| path.is_dir())
        .collect()
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// A mounted cgroup hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    unified: bool,
    controllers: Vec<String>,
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

fn hierarchies() -> Vec<Hierarchy> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<Hierarchy> = mounts.lines().filter_map(hierarchy).collect();
    for place in found.iter_mut().filter(|place| place.unified) {
        let listed = fs::read_to_string(place.root.join("cgroup.controllers"));
        place.controllers =
            listed.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    }
    found
}

/// Source: proc(5), `/proc/[pid]/mountinfo`: fields up to a lone `-`, then type, source, and
/// the options of the file system.
fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (mount, file_system) = line.split_once(" - ")?;
    let root = mount.split(' ').nth(4)?;
    let mut fields = file_system.split(' ');
    let unified = match fields.next()? {
        "cgroup2" => true,
        "cgroup" => false,
        _ => return None,
    };
    let controllers = if unified { "" } else { fields.nth(1)? };
    let controllers = controllers.split(',').map(str::to_owned).collect();
    Some(Hierarchy { root: PathBuf::from(root), unified, controllers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_hierarchy_are_recognised() {
        let v1 = "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";
        let v2 = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let other = "22 1 0:20 / /proc rw - proc proc rw";

        let found = hierarchy(v1).expect("a cgroup mount");

        assert!(found.has("memory") && !found.unified);
        assert!(hierarchy(v2).expect("a cgroup2 mount").unified);
        assert_eq!(hierarchy(other), None);
    }
}
