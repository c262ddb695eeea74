//! Against archives that GNU tar wrote, and against ones that nobody should have written.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use super::*;

fn members(bytes: &[u8]) -> Result<Vec<(Member, Vec<u8>)>, ReadError> {
    let mut archive = Archive::new(bytes, 1 << 30);
    let mut all = Vec::new();
    while let Some(member) = archive.next_member()? {
        let mut data = Vec::new();
        let offset = archive.offset;
        archive.read_to_end(&mut data).map_err(|source| ReadError::Io { offset, source })?;
        all.push((member, data));
    }
    Ok(all)
}

fn gnu_tar(dir: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .current_dir(dir)
        .args(["-c", "-f", "-"])
        .args(arguments)
        .output()
        .expect("tar runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn with_checksum(mut header: Header) -> Vec<u8> {
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn file_header(name: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_path(name).expect("short name");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header.set_entry_type(EntryType::Regular);
    header
}

#[test]
fn holes_arrive_as_holes_from_every_sparse_format() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = std::fs::File::create(dir.path().join("sparse")).expect("creates");
    // More than four data extents need the old format's extension headers.
    for extent in 0..40u64 {
        file.write_all_at(&[b'x'; 4096], extent * 1_048_576 + 65_536).expect("writes");
    }
    file.set_len(1 << 30).expect("grows");

    for arguments in [
        &["-S", "--format=gnu", "sparse"][..],
        &["-S", "--format=posix", "--sparse-version=0.0", "sparse"],
        &["-S", "--format=posix", "--sparse-version=0.1", "sparse"],
        &["-S", "--format=posix", "--sparse-version=1.0", "sparse"],
    ] {
        let all = members(&gnu_tar(dir.path(), arguments)).expect("reads");

        let [(member, data)] = all.as_slice() else { panic!("one member from {arguments:?}") };
        assert_eq!(member.path, b"sparse", "{arguments:?}");
        assert_eq!(member.size, 1 << 30, "{arguments:?}");
        assert_eq!(data.len(), 40 * 4096, "{arguments:?}");
        let Kind::File { extents } = &member.kind else { panic!("a file from {arguments:?}") };
        let want: Vec<_> = (0..40).map(|extent| (extent * 1_048_576 + 65_536, 4096)).collect();
        assert_eq!(extents, &want, "{arguments:?}");
    }
}

#[test]
fn long_names_links_times_and_attributes_arrive_from_gnu_and_posix() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let long = format!("d/{}", "n".repeat(200));
    std::fs::create_dir(dir.path().join("d")).expect("creates");
    std::fs::write(dir.path().join(&long), b"content\n").expect("writes");
    std::fs::hard_link(dir.path().join(&long), dir.path().join("hard")).expect("links");
    std::os::unix::fs::symlink("t".repeat(300), dir.path().join("soft")).expect("links");
    std::fs::write(dir.path().join("new\nline"), b"").expect("writes");

    for format in ["--format=gnu", "--format=posix"] {
        let arguments = [format, "--mtime=@1700000000.5", "d", "hard", "soft", "new\nline"];
        let all = members(&gnu_tar(dir.path(), &arguments)).expect("reads");

        let [dir, long_file, hard, soft, newline] = all.as_slice() else {
            panic!("{format}: {all:?}")
        };
        assert_eq!((dir.0.path.as_slice(), &dir.0.kind), (&b"d/"[..], &Kind::Directory));
        assert_eq!(
            (long_file.0.path.as_slice(), long_file.1.as_slice()),
            (long.as_bytes(), &b"content\n"[..])
        );
        assert_eq!(hard.0.kind, Kind::HardLink { target: long.clone().into_bytes() });
        assert_eq!(soft.0.kind, Kind::Symlink { target: vec![b't'; 300] });
        assert_eq!(newline.0.path, b"new\nline");
        assert_eq!(soft.0.mtime.seconds, 1_700_000_000);
    }
}

#[test]
fn a_file_whose_size_only_pax_can_say_is_framed_by_pax() {
    let mut bytes = with_checksum({
        let mut header = file_header("x", 11);
        header.set_entry_type(EntryType::XHeader);
        header
    });
    bytes.extend_from_slice(b"11 size=600");
    bytes.resize(1024, 0);
    // The record must end with a newline.
    bytes[522] = b'\n';
    bytes[512..523].copy_from_slice(b"11 size=60\n");
    bytes.extend(with_checksum(file_header("f", 0)));
    bytes.extend([b'y'; 60]);
    bytes.resize(2048, 0);
    bytes.extend(with_checksum(file_header("g", 0)));

    let all = members(&bytes).expect("reads");

    assert_eq!(all.len(), 2);
    assert_eq!((all[0].0.size, all[0].1.as_slice()), (60, &[b'y'; 60][..]));
    assert_eq!(all[1].0.path, b"g");
}

#[test]
fn cut_lying_and_damaged_archives_are_refused_by_what_is_wrong() {
    let mut cut = with_checksum(file_header("f", 5000));
    cut.extend([1; 700]);
    assert!(matches!(members(&cut), Err(ReadError::Io { offset: 512, .. })));
    let mut archive = Archive::new(cut.as_slice(), 1 << 30);
    archive.next_member().expect("the header is whole");
    assert!(matches!(archive.next_member(), Err(ReadError::Truncated { offset: 1212 })));

    let huge = with_checksum(file_header("f", 1 << 40));
    let refused = members(&huge).expect_err("over the limit").to_string();
    assert_eq!(
        refused,
        "member at byte 0: data of 1099511627776 bytes is over the limit of 1073741312 bytes"
    );

    let mut endless = file_header("f", 8 << 20);
    endless.set_entry_type(EntryType::GNULongName);
    let refused = members(&with_checksum(endless)).expect_err("a name of 8 MiB").to_string();
    assert_eq!(
        refused,
        "member at byte 0: extended header of 8388608 bytes is over the limit of 4194304 bytes"
    );

    let mut damaged = with_checksum(file_header("f", 0));
    damaged[0] ^= 1;
    assert!(matches!(members(&damaged), Err(ReadError::Header { offset: 0, field: "checksum" })));

    let mut volume = file_header("f", 0);
    volume.set_entry_type(EntryType::new(b'M'));
    assert!(matches!(
        members(&with_checksum(volume)),
        Err(ReadError::Unsupported { kind: 'M', .. })
    ));
}

#[test]
fn data_after_a_link_is_not_skipped_since_links_have_none() {
    let mut link = file_header("l", 512);
    link.set_entry_type(EntryType::Link);
    link.set_link_name("f").expect("short");
    let mut bytes = with_checksum(file_header("f", 0));
    bytes.extend(with_checksum(link));
    bytes.extend(with_checksum(file_header("g", 0)));

    let all = members(&bytes).expect("reads");

    assert_eq!(all.len(), 3);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(header: [u8; 345], rest: Vec<u8>, fix_checksum: bool) {
        let mut bytes = header.to_vec();
        bytes.extend(rest);
        bytes.resize(1024, 0);
        if fix_checksum {
            let mut header = Header::from_byte_slice(&bytes[..512]).clone();
            header.set_cksum();
            bytes[..512].copy_from_slice(header.as_bytes());
        }
        // Only that it returns counts here.
        drop(members(&bytes));
    }
}

#[test]
fn the_last_members_padding_may_be_missing_but_none_of_its_data() {
    let header = with_checksum(file_header("f", 5));
    let archive = |data: &[u8]| [header.as_slice(), data].concat();

    let whole = members(&archive(b"hello")).expect("reads");
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].1, b"hello");

    let mut short = Archive::new(&archive(b"hell")[..], 1 << 30).next_twice();
    assert!(matches!(short.pop(), Some(Err(ReadError::Truncated { .. }))), "{short:?}");
}

impl<R: Read> Archive<R> {
    /// Two members without a look at the first one's data.
    fn next_twice(mut self) -> Vec<Result<Option<Member>, ReadError>> {
        vec![self.next_member(), self.next_member()]
    }
}

#[test]
fn numbers_that_a_header_leaves_empty_are_zero() {
    let mut header = file_header("f", 0);
    let old = header.as_old_mut();
    (old.mode, old.uid, old.gid, old.size, old.mtime) =
        ([0; 8], [b' '; 8], [0; 8], [0; 12], [0; 12]);

    let all = members(&with_checksum(header)).expect("reads");

    let [(member, data)] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((member.mode, member.uid, member.gid, member.size), (0, 0, 0, 0));
    assert_eq!((member.mtime, data.len()), (Timestamp::default(), 0));
}
