//! A storage directory of a test's own.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use tempfile::TempDir;

use crate::bed::{Bed, testbed_dir};
use crate::outcome::Run;
use crate::processes::{descendants, naming};
use crate::terminal::Terminal;
use crate::vm::Vm;

/// How much of each log a failed test shows.
const LOG_TAIL_BYTES: usize = 3000;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A directory that `--storage` names, and everything that was started with it.
///
/// Dropping it kills its monitors and their engines and removes it. When the test failed, the ends of its logs are
/// printed first.
#[derive(Debug)]
pub struct Storage {
    dir: TempDir,
    root: PathBuf,
    program: PathBuf,
    as_user: Option<u32>,
}

impl Storage {
    /// With kernel and initramfs in place, as after `bandsox init`.
    #[must_use]
    pub fn new() -> Self {
        let storage = Self::empty();
        storage.install_kernel();
        storage
    }

    /// A path that does not exist yet.
    #[must_use]
    pub fn empty() -> Self {
        Self::at("storage")
    }

    /// Initialised, with a path longer than a unix socket address may be.
    #[must_use]
    pub fn with_long_path() -> Self {
        let storage = Self::at(&format!("{}/storage", "long".repeat(30)));
        storage.install_kernel();
        storage
    }

    /// Belongs to, and is used by, the ordinary user 1000. Needs root, unless that is who runs the tests.
    ///
    /// # Panics
    ///
    /// When the program cannot be copied to where that user can run it.
    #[must_use]
    pub fn of_ordinary_user() -> Self {
        let mut storage = Self::empty();
        if rustix::process::geteuid().is_root() {
            // Neither the build directory nor a private temporary one need be open to others.
            let program = storage.dir.path().join("bandsox");
            fs::copy(&storage.program, &program).expect("the program can be copied");
            std::os::unix::fs::chown(storage.dir.path(), Some(1000), Some(1000)).expect("root may");
            storage.program = program;
            storage.as_user = Some(1000);
        }
        storage
    }

    fn at(below: &str) -> Self {
        let dir =
            tempfile::Builder::new().prefix("bandsox-e2e-").tempdir().expect("/tmp is writable");
        let root = dir.path().join(below);
        fs::create_dir_all(root.parent().expect("it is below the temporary one")).expect("ours");
        Self { dir, root, program: Bed::get().bandsox.clone(), as_user: None }
    }

    /// The directory that `--storage` names.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The program that [`Storage::bandsox`] runs.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A path for the test's own files, outside the storage and removed with it.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file of the test's own and returns its path.
    ///
    /// # Panics
    ///
    /// When the disk is full.
    #[must_use]
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.scratch(name);
        fs::write(&path, bytes).expect("the temporary directory is writable");
        path
    }

    /// Gives a file to the user whose storage this is.
    ///
    /// # Panics
    ///
    /// When we may not.
    pub fn give_to_user(&self, path: &Path) {
        if let Some(user) = self.as_user {
            std::os::unix::fs::chown(path, Some(user), Some(user)).expect("root may");
        }
    }

    /// The program, run by the user whose storage this is, without arguments yet.
    #[must_use]
    pub fn user_program(&self) -> Run {
        match self.as_user {
            Some(user) => Run::new("setpriv")
                .args([
                    format!("--reuid={user}"),
                    format!("--regid={user}"),
                    "--clear-groups".into(),
                ])
                .arg(&self.program)
                .env("HOME", self.dir.path()),
            None => Run::new(&self.program),
        }
    }

    /// `bandsox --storage … ARGS`.
    #[must_use]
    pub fn bandsox(&self, args: &[&str]) -> Run {
        self.user_program().arg("--storage").arg(&self.root).args(args)
    }

    /// `bandsox --storage … ARGS` with somebody at a terminal of this size.
    #[must_use]
    pub fn in_terminal(&self, size: (u16, u16), args: &[&str]) -> Terminal {
        let storage = [OsStr::new("--storage"), self.root.as_os_str()];
        Terminal::run(size, &self.program, storage.into_iter().chain(args.iter().map(OsStr::new)))
    }

    /// `create` from the test bed's ext4 image, with small defaults.
    #[must_use]
    pub fn create(&self, name: &str) -> Vm<'_> {
        self.create_with(name, &[])
    }

    /// `create` with more arguments.
    ///
    /// # Panics
    ///
    /// When `create` fails or prints something other than an id.
    #[must_use]
    pub fn create_with(&self, name: &str, args: &[&str]) -> Vm<'_> {
        let image = Bed::get().ext4();
        let id = self.bandsox(&["create"]).arg(image).args(["--name", name]).args(args).ok();
        assert!(id.len() >= 8 && !id.contains(char::is_whitespace), "create printed {id:?}");
        Vm::new(self, id)
    }

    /// `create` and `start`.
    #[must_use]
    pub fn started(&self, name: &str) -> Vm<'_> {
        let vm = self.create(name);
        vm.start();
        vm
    }

    /// What `list -o json` prints for this VM, by id or name; `None` when it does not list it.
    #[must_use]
    pub fn listed(&self, vm: &str) -> Option<Value> {
        let list = self.bandsox(&["-o", "json", "list"]).output().ok().json();
        let rows = list.as_array().cloned().unwrap_or_default();
        rows.into_iter().find(|row| row["id"] == vm || row["name"] == vm)
    }

    /// A file of the storage as JSON.
    ///
    /// # Panics
    ///
    /// When it is not there or not JSON.
    #[must_use]
    pub fn json(&self, below: &str) -> Value {
        let bytes = fs::read(self.root.join(below)).unwrap_or_else(|e| panic!("{below}: {e}"));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{below}: {error}"))
    }

    /// Copies what `init` makes, which is the same for every test, from a storage where it was made once.
    fn install_kernel(&self) {
        copy_tree(initialised_once(&self.program), &self.root);
    }

    fn show_logs(&self) {
        for log in files_below(&self.root.join("logs")) {
            let bytes = fs::read(&log).unwrap_or_default();
            let tail = bytes.get(bytes.len().saturating_sub(LOG_TAIL_BYTES)..).unwrap_or(&bytes);
            report(&format!("--- {}\n{}", log.display(), String::from_utf8_lossy(tail)));
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show_logs();
        }
        for process in naming(self.dir.path()) {
            let family = descendants(process.pid);
            process.kill();
            family.iter().for_each(crate::Process::kill);
        }
    }
}

/// A storage with kernel and initramfs, made once for each build of the program.
fn initialised_once(program: &Path) -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let build = fs::metadata(program).expect("the program is built");
        let name = format!("init-{}-{}-{}", build.ino(), build.mtime(), build.mtime_nsec());
        let beds = testbed_dir();
        let made = beds.join(name);
        fs::create_dir_all(&beds).expect("the target directory is writable");
        let lock =
            fs::File::create(beds.join("init.lock")).expect("the target directory is writable");
        flock(&lock, FlockOperation::LockExclusive).expect("a local file can be locked");
        if !made.with_extension("done").exists() {
            remove_older(&beds);
            let deb = &Bed::get().kernel_deb;
            let init = Run::new(program).arg("--storage").arg(&made).args(["init", "--kernel-deb"]);
            init.arg(deb).ok();
            fs::write(made.with_extension("done"), []).expect("the target directory is writable");
        }
        made
    })
}

/// Removes what builds of yesterday left; those of today may be under test at this moment.
fn remove_older(beds: &Path) {
    let entries = fs::read_dir(beds).into_iter().flatten().flatten();
    let inits = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("init-"));
    for entry in inits {
        let made = entry.metadata().and_then(|meta| meta.modified()).ok();
        let age = made.and_then(|made| made.elapsed().ok());
        if age.is_some_and(|age| age > DAY) {
            // A leftover costs space and nothing else.
            drop(fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path())));
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("ours");
    fs::set_permissions(to, fs::metadata(from).expect("made").permissions()).expect("ours");
    for entry in fs::read_dir(from).expect("init made it").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("there is room");
        }
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[expect(clippy::print_stderr, reason = "shown with the test that failed")]
fn report(text: &str) {
    eprintln!("{text}");
}
