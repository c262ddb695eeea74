//! Who may read what: sockets, metadata with secrets, logs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bandsox_e2e::{Bed, Run, Storage, Vm};

#[test]
fn nothing_of_a_vm_is_readable_by_others_whatever_the_umask() {
    let storage = Storage::new();
    let create =
        Run::new("sh").arg("-c").arg("umask 0; exec \"$@\"").arg("sh").arg(storage.program());
    let create = create.arg("--storage").arg(storage.root()).args(["create", "-e", "TOKEN=s3cret"]);
    let vm = Vm::new(&storage, create.arg(Bed::get().ext4()).ok());
    let start =
        Run::new("sh").arg("-c").arg("umask 0; exec \"$@\"").arg("sh").arg(storage.program());
    start.arg("--storage").arg(storage.root()).args(["start", &vm.id]).output().ok();
    assert_eq!(vm.sh("echo $TOKEN"), "s3cret");

    let exposed: Vec<_> = ["metadata", "disks", "logs", "sockets", "locks"]
        .iter()
        .flat_map(|dir| reachable_by_others(&storage.root().join(dir), true))
        .collect();

    assert_eq!(exposed, Vec::<PathBuf>::new());
    assert_eq!(mode(&vm.metadata_path()), 0o600);
    assert_eq!(mode(&vm.sockets()), 0o700);
    assert!(!vm.monitor_log().contains("s3cret"), "a secret is in the log");
    let family = bandsox_e2e::descendants(vm.monitor().pid);
    let told = family
        .iter()
        .flat_map(|process| &process.args)
        .any(|arg| arg.to_string_lossy().contains("s3cret"));
    assert!(!told, "a secret is on a command line");
}

#[test]
fn another_user_cannot_reach_a_vm() {
    assert!(
        rustix::process::geteuid().is_root(),
        "needs root, since only root can become somebody else to try: run cargo xtask test as root"
    );
    let storage = Storage::new();
    let vm = storage.started("mine");
    // Even where the path to the socket is open, the monitor looks at who asks.
    for dir in storage.root().ancestors().take_while(|dir| *dir != Path::new("/tmp")) {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    fs::set_permissions(vm.sockets().parent().expect("sockets"), fs::Permissions::from_mode(0o755))
        .expect("ours");
    fs::set_permissions(vm.sockets(), fs::Permissions::from_mode(0o755)).expect("ours");
    for entry in fs::read_dir(vm.sockets()).expect("ours").flatten() {
        fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o777)).expect("ours");
    }
    let program = storage.scratch("bandsox");
    fs::copy(storage.program(), &program).expect("copied");

    let stranger =
        Run::new("setpriv").args(["--reuid=1001", "--regid=1001", "--clear-groups"]).arg(program);
    let tried =
        stranger.arg("--storage").arg(storage.root()).args(["exec", &vm.id, "--", "id"]).output();

    assert!(!tried.status.success(), "{tried}");
    assert!(tried.stdout.is_empty(), "{tried}");
    // Nor by talking to the monitor without the program: it hangs up before it says a word.
    let heard = std::thread::scope(|scope| scope.spawn(|| greeted_as(1001, &vm)).join());
    assert_eq!(heard.expect("no panic"), 0, "the monitor answered a stranger");
    assert!(greeted_as(0, &vm) > 0, "it answers its own user");
    assert_eq!(vm.sh("echo alive"), "alive");
}

/// How many bytes the monitor answers to the hello of this user, whom the calling thread becomes.
fn greeted_as(user: u32, vm: &Vm<'_>) -> usize {
    let uid = rustix::process::Uid::from_raw(user);
    rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may");
    let socket = bandsox_e2e::call_monitor(vm);
    let flags = rustix::net::SendFlags::NOSIGNAL;
    // It may have hung up already.
    rustix::net::send(&socket, b"{\"hello\":{\"versions\":[1]}}", flags).ok();
    let mut answer = [0; 4096];
    let flags = rustix::net::RecvFlags::empty();
    rustix::net::recv(&socket, &mut answer[..], flags).map_or(0, |(count, _)| count)
}

/// Entries below `dir` that somebody else could open: those in a closed directory are safe.
fn reachable_by_others(dir: &Path, is_reachable: bool) -> Vec<PathBuf> {
    let Ok(meta) = fs::metadata(dir) else { return Vec::new() };
    if !is_reachable || meta.mode() & 0o077 == 0 {
        return Vec::new();
    }
    if !meta.is_dir() {
        return vec![dir.to_owned()];
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.flat_map(|entry| reachable_by_others(&entry.path(), meta.mode() & 0o011 != 0)).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").mode() & 0o7777
}
