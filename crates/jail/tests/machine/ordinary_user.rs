//! The same machines, owned by somebody who is not root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::getuid;

use crate::guest::{Plan, helper};

/// An id without a name.
const USER: u32 = 60_123;

/// Runs tests of this program as an ordinary user, from a folder that is its own.
fn as_ordinary_user(tests: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let open_to_all = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    };
    open_to_all(folder.path());
    let copy = |from: &Path, name: &str| {
        let to = folder.path().join(name);
        fs::copy(from, &to).expect("room for a copy");
        open_to_all(&to);
        to
    };
    let program = copy(&std::env::current_exe().expect("this program has a path"), "tests");
    let helper = copy(&helper("").program, "helper");
    let shared = folder.path().join("shared");
    fs::create_dir_all(shared.join("kernel")).expect("room");
    let plan = Plan::new("");
    let initrd = plan.initrd.file_name().expect("it is a file");
    copy(&plan.initrd, &format!("shared/{}", initrd.display()));
    let kernels = plan.kernel.parent().expect("a file is in a folder");
    for entry in fs::read_dir(kernels).expect("it is there").flatten() {
        copy(&entry.path(), &format!("shared/kernel/{}", entry.file_name().display()));
    }
    open_to_all(&shared);
    open_to_all(&shared.join("kernel"));
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).expect("room");

    let mut command = Command::new(program);
    command
        .args(tests)
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .env("BANDSOX_TEST_SHARED", shared)
        .env("BANDSOX_TEST_HELPER", helper)
        .env("TMPDIR", &temporary)
        .current_dir(folder.path());
    // An ordinary user needs to become nobody else.
    if getuid().is_root() {
        std::os::unix::fs::chown(&temporary, Some(USER), Some(USER)).expect("root may");
        command.uid(USER).gid(USER);
    }
    command.output().expect("the copy can be run")
}

fn assert_passed(output: &Output, count: usize) {
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains(&format!("{count} passed")), "{said}");
}

#[test]
fn an_ordinary_user_runs_machines_in_a_jail() {
    let output = as_ordinary_user(&[
        "inside::a_running_qemu_has_nothing_left",
        "lifecycle::a_guest_that_powers_off_is_said_to_have_done_so",
        "lifecycle::killing_works_at_once_and_from_the_start",
        "lifecycle::without_a_jail_a_machine_runs_all_the_same_and_says_so",
        "confined::a_confined_owner_still_drives_its_machine",
    ]);

    assert_passed(&output, 5);
}
