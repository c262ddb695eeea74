//! What the layers of an image hold beside plain files: all of it arrives in the guest.

use std::fs;

use bandsox_e2e::{Bed, Layout, Storage, Vm};
use tar::{Builder, EntryType, Header};

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_234_567_890);
    header.set_size(size as u64);
    header
}

/// `cap_chown+ep`, as the kernel keeps it. Source: linux/capability.h, `struct vfs_cap_data`.
const CAP_CHOWN: [u8; 20] = [1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A gibibyte and a half of holes, and six bytes in the end.
fn sparse(tar: &mut Builder<Vec<u8>>) {
    let mut header = header(EntryType::GNUSparse, 0o644, 6);
    header.set_path("srv/sparse").expect("short");
    let field = |number: u64| -> [u8; 12] {
        format!("{number:011o}\0").into_bytes().try_into().expect("twelve")
    };
    let gnu = header.as_gnu_mut().expect("is GNU's");
    gnu.sparse[0].offset = field((3 << 29) - 6);
    gnu.sparse[0].numbytes = field(6);
    gnu.realsize = field(3 << 29);
    header.set_cksum();
    tar.append(&header, &b"at end"[..]).expect("appends");
}

fn layer() -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let busybox = fs::read(Bed::get().rootfs.join("bin/busybox")).expect("there");
    tar.append_pax_extensions([("SCHILY.xattr.security.capability", &CAP_CHOWN[..])])
        .expect("appends");
    let mut add = |path: &str, mut header: Header, content: &[u8]| {
        tar.append_data(&mut header, path, content).expect("appends");
    };
    add("srv/chown", header(EntryType::Regular, 0o755, busybox.len()), &busybox);
    let mut zero = header(EntryType::Char, 0o666, 0);
    zero.set_device_major(1).and_then(|()| zero.set_device_minor(5)).expect("GNU's has them");
    add("srv/zero", zero, b"");
    let mut disk = header(EntryType::Block, 0o660, 0);
    disk.set_device_major(259).and_then(|()| disk.set_device_minor(300)).expect("likewise");
    add("srv/disk", disk, b"");
    add("srv/fifo", header(EntryType::Fifo, 0o600, 0), b"");
    let mut owned = header(EntryType::Regular, 0o6751, 5);
    owned.set_uid(123_456);
    owned.set_gid(654_321);
    add("srv/owned", owned, b"owned");
    add("srv/sticky", header(EntryType::Directory, 0o3777, 0), b"");
    let deep = format!("srv/{}/{}", "d".repeat(255), "f".repeat(255));
    add(&deep, header(EntryType::Regular, 0o644, 4), b"deep");
    sparse(&mut tar);
    tar.into_inner().expect("ends")
}

#[test]
fn capabilities_devices_owners_times_long_names_and_holes_arrive_in_the_guest() {
    let storage = Storage::new();
    let layout = Layout::copy(&Bed::get().busybox_image(), storage.scratch("odd"));
    let image = layout.with_layer(&layer()).name();
    let vm = Vm::new(&storage, storage.bandsox(&["create", &image]).ok());
    vm.start();
    let root = |script: &str| vm.run("exec", &["-u", "root", "--", "sh", "-c", script]).ok();

    // As alice, whom only the capability of the file lets give a file away.
    vm.sh("echo > /tmp/file; ! /bin/chown 7:8 /tmp/file 2>/dev/null");
    assert_eq!(vm.sh("/srv/chown 7:8 /tmp/file && stat -c %u:%g /tmp/file"), "7:8");
    assert_eq!(root("stat -c %t:%T:%a /srv/zero /srv/disk"), "1:5:666\n103:12c:660");
    assert_eq!(
        root("head -c 3 /srv/zero | od -An -tx1 | tr -d ' '"),
        "000000",
        "a device that works"
    );
    assert_eq!(root("test -p /srv/fifo && echo fifo"), "fifo");
    assert_eq!(
        root("stat -c %u:%g:%a:%Y /srv/owned /srv/sticky"),
        "123456:654321:6751:1234567890\n0:0:3777:1234567890"
    );
    assert_eq!(root("cat /srv/ddd*/fff*"), "deep");
    assert_eq!(root("stat -c %s /srv/sparse; tail -c 6 /srv/sparse"), "1610612736\nat end");
    let sizes = fs::read_dir(storage.root().join("images")).expect("there").flatten();
    let bases = sizes.filter(|it| it.path().extension().is_some_and(|it| it == "erofs"));
    let blocks =
        |it: fs::DirEntry| std::os::unix::fs::MetadataExt::blocks(&it.metadata().expect("there"));
    assert!(bases.map(blocks).sum::<u64>() * 512 < 64 << 20, "holes take no room");
}
