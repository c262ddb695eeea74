//! Against the real `mke2fs` and `e2fsck`.

use super::*;

fn e2fsck(path: &Path) -> std::process::Output {
    Command::new("/usr/sbin/e2fsck").arg("-fn").arg(path).output().expect("e2fsck runs")
}

#[test]
fn an_overlay_is_sparse_and_clean_and_the_second_one_too() {
    let dir = tempfile::tempdir().expect("a temporary directory");

    for name in ["first.ext4", "second.ext4"] {
        let dest = dir.path().join(name);
        let made = create(&dest, 2048, dir.path()).expect("creates");

        assert_eq!(made.size_bytes, 2048 << 20);
        assert!(made.allocated_bytes < 1 << 20, "{name} takes {} bytes", made.allocated_bytes);
        let check = e2fsck(&dest);
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    }
    assert!(dir.path().join("template-2048.ext4").exists());
}

#[test]
fn small_and_huge_overlays_are_clean_and_stay_under_a_mebibyte() {
    let dir = tempfile::tempdir().expect("a temporary directory");

    for size_mib in [MIN_MIB, 64, 300, 10_240, 102_400] {
        let dest = dir.path().join(format!("{size_mib}.ext4"));
        let made = create(&dest, size_mib, dir.path()).expect("creates");

        assert!(made.allocated_bytes < 1 << 20, "{size_mib} MiB takes {}", made.allocated_bytes);
        let check = e2fsck(&dest);
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    }
}

#[test]
fn an_existing_overlay_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let dest = dir.path().join("disk.ext4");
    fs::write(&dest, b"precious").expect("writes");

    let refused = create(&dest, 64, dir.path()).expect_err("it exists");

    assert!(matches!(refused, CreateError::Exists { .. }), "{refused}");
    assert_eq!(fs::read(&dest).expect("reads"), b"precious");
}

#[test]
fn a_size_out_of_range_is_refused_by_number() {
    let dir = tempfile::tempdir().expect("a temporary directory");

    let refused = create(&dir.path().join("x"), MIN_MIB - 1, dir.path()).expect_err("too small");

    assert_eq!(refused.to_string(), "overlay of 15 MiB; want 16..=16777215 MiB");
}
