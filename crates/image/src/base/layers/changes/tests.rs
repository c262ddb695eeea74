//! One test for each rule by which layers change what is below them.

use ::tar::{EntryType, Header};
use bandsox_erofs::testing::{impossible_names, listing};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::select;

use super::*;

/// An archive from a description: `dir/`, `file=content`, `link -> target`, `name => hard link's target`.
fn archive(members: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for member in members {
        let mut header = Header::new_gnu();
        let (name, link, content) = if let Some((name, target)) = member.split_once(" -> ") {
            header.set_entry_type(EntryType::Symlink);
            (name, target, "")
        } else if let Some((name, target)) = member.split_once(" => ") {
            header.set_entry_type(EntryType::Link);
            (name, target, "")
        } else if let Some((name, content)) = member.split_once('=') {
            header.set_entry_type(EntryType::Regular);
            (name, "", content)
        } else {
            let is_directory = member.ends_with('/');
            let kind = if is_directory { EntryType::Directory } else { EntryType::Regular };
            header.set_entry_type(kind);
            (*member, "", "")
        };
        let is_directory = header.entry_type() == EntryType::Directory;
        header.set_mode(if is_directory { 0o711 } else { 0o640 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn applied(layers: &[&[&str]]) -> Result<Vec<String>, String> {
    let file = tempfile::tempfile().expect("a temporary file");
    let limits = Limits::default();
    let mut builder = Builder::new(file, &limits.of_image()).expect("begins");
    for layer in layers {
        Changes::read(&mut builder, archive(layer).as_slice(), &limits)
            .and_then(|changes| changes.apply(&mut builder.tree))
            .map_err(|error| std::error::Error::source(&error).unwrap_or(&error).to_string())?;
    }
    Ok(listing(&builder.tree).split_off(1))
}

/// What the layers make, without the root.
fn made(layers: &[&[&str]]) -> Vec<String> {
    applied(layers).expect("nothing is wrong with them")
}

#[test]
fn a_whiteout_removes_a_file_of_a_lower_layer_and_is_not_there_itself() {
    assert_eq!(made(&[&["d/", "d/a=1", "d/b=2"], &["d/.wh.a"]]), ["/d/ 711", "/d/b 640 2"]);
}

#[test]
fn a_whiteout_removes_a_directory_with_all_that_is_in_it() {
    assert_eq!(made(&[&["d/", "d/e/", "d/e/f=1", "g=2"], &[".wh.d"]]), ["/g 640 2"]);
}

#[test]
fn a_whiteout_removes_a_symbolic_link_and_not_what_it_points_to() {
    assert_eq!(made(&[&["d/", "d/f=1", "l -> d"], &[".wh.l"]]), ["/d/ 711", "/d/f 640 1"]);
}

#[test]
fn a_whiteout_of_one_name_leaves_the_other_names_of_the_file() {
    assert_eq!(made(&[&["a=1", "b => a"], &[".wh.a"]]), ["/b 640 1"]);
}

#[test]
fn a_whiteout_of_nothing_is_no_error_and_makes_no_directories() {
    assert_eq!(made(&[&["f=1"], &[".wh.x", "d/e/.wh.y", "f/.wh.z"]]), ["/f 640 1"]);
}

#[test]
fn a_whiteout_spares_its_own_layer_s_file_before_and_after_it() {
    for layer in [["f=new", ".wh.f"], [".wh.f", "f=new"]] {
        assert_eq!(made(&[&["f=old"], &layer]), ["/f 640 new"]);
    }
}

#[test]
fn a_whiteout_beside_a_directory_of_its_layer_leaves_only_the_layer_s_own_content() {
    for layer in
        [["d/", "d/new=2", ".wh.d"], [".wh.d", "d/", "d/new=2"], ["d/", ".wh.d", "d/new=2"]]
    {
        assert_eq!(made(&[&["d/", "d/old=1", "d/e/"], &layer]), ["/d/ 711", "/d/new 640 2"]);
    }
}

#[test]
fn a_directory_that_its_layer_removes_and_only_implies_begins_anew() {
    for layer in [["d/new=2", ".wh.d"], [".wh.d", "d/new=2"]] {
        assert_eq!(made(&[&["d/", "d/old=1"], &layer]), ["/d/ 755", "/d/new 640 2"]);
    }
}

#[test]
fn a_removed_file_may_come_back_in_a_later_layer() {
    assert_eq!(made(&[&["f=1"], &[".wh.f"], &["f=3"]]), ["/f 640 3"]);
}

#[test]
fn an_opaque_marker_empties_a_directory_and_keeps_its_attributes() {
    assert_eq!(
        made(&[&["d/", "d/a=1", "d/e/", "d/e/b=2", "f=3"], &["d/.wh..wh..opq"]]),
        ["/d/ 711", "/f 640 3"]
    );
}

#[test]
fn an_opaque_marker_spares_its_own_layer_in_any_order() {
    for layer in [
        ["d/", "d/new=2", "d/.wh..wh..opq"],
        ["d/", "d/.wh..wh..opq", "d/new=2"],
        ["d/.wh..wh..opq", "d/new=2", "d/"],
    ] {
        assert_eq!(made(&[&["d/", "d/old=1"], &layer]), ["/d/ 711", "/d/new 640 2"]);
    }
}

#[test]
fn an_opaque_marker_at_the_root_leaves_nothing_of_what_is_below() {
    assert_eq!(made(&[&["d/", "d/f=1", "g=2"], &[".wh..wh..opq", "h=3"]]), ["/h 640 3"]);
    assert_eq!(made(&[&["d/", "g=2"], &["./.wh..wh..opq"]]), Vec::<String>::new());
}

#[test]
fn an_opaque_marker_in_what_is_no_directory_below_does_nothing() {
    let made = made(&[&["d=1", "e/", "e/f=2"], &["d/", "d/.wh..wh..opq", "x/.wh..wh..opq"]]);
    assert_eq!(made, ["/d/ 711", "/e/ 711", "/e/f 640 2"]);
}

#[test]
fn markers_work_through_a_link_as_members_do() {
    let lower = ["usr/", "usr/bin/", "usr/bin/a=1", "usr/bin/b=2", "bin -> usr/bin"];
    let links = ["/bin -> usr/bin", "/usr/ 711", "/usr/bin/ 711"];

    assert_eq!(made(&[&lower, &["bin/.wh.a"]]), [&links[..], &["/usr/bin/b 640 2"]].concat());
    assert_eq!(made(&[&lower, &["bin/.wh..wh..opq"]]), links);
}

#[test]
fn markers_in_a_directory_that_replaces_a_link_do_not_reach_through_the_link() {
    let lower = ["d/", "d/e/", "d/e/f=1", "l -> d"];
    let kept = ["/d/ 711", "/d/e/ 711", "/d/e/f 640 1", "/l/ 711"];

    assert_eq!(made(&[&lower, &["l/", "l/.wh..wh..opq"]]), kept);
    assert_eq!(made(&[&lower, &["./l/.wh.e", "./l/"]]), kept);
    assert_eq!(made(&[&lower, &["l/", "l/e/.wh.f"]]), kept);
}

#[test]
fn a_file_takes_a_directory_s_place_and_a_directory_a_file_s() {
    assert_eq!(made(&[&["d/", "d/f=1"], &["d=2"]]), ["/d 640 2"]);
    assert_eq!(made(&[&["d/", "d/f=1"], &["d=2"], &["d/", "d/g=3"]]), ["/d/ 711", "/d/g 640 3"]);
}

#[test]
fn a_directory_over_a_directory_changes_its_attributes_and_keeps_its_content() {
    assert_eq!(made(&[&["d/f=1"], &["d/"]]), ["/d/ 711", "/d/f 640 1"]);
}

#[test]
fn a_directory_over_a_link_replaces_the_link_and_leaves_its_target() {
    assert_eq!(
        made(&[&["d/", "d/f=1", "l -> d"], &["l/", "l/g=2"]]),
        ["/d/ 711", "/d/f 640 1", "/l/ 711", "/l/g 640 2"]
    );
}

#[test]
fn a_replaced_file_leaves_its_other_names_the_old_content() {
    assert_eq!(made(&[&["a=1", "b => a"], &["a=2"]]), ["/a 640 2", "/b 640 1"]);
}

#[test]
fn a_hard_link_may_name_a_lower_layer_s_file() {
    assert_eq!(made(&[&["a=1"], &["b => a"]]), ["/a 640 1", "/b 640 1"]);
}

#[test]
fn a_hard_link_may_name_a_lower_layer_s_file_that_its_own_layer_removes() {
    for layer in [["b => d/a", ".wh.d"], [".wh.d", "b => d/a"]] {
        assert_eq!(made(&[&["d/a=1"], &layer]), ["/b 640 1"]);
    }
    assert_eq!(made(&[&["a=1"], &[".wh.a", "a=2", "b => a"]]), ["/a 640 2", "/b 640 2"]);
}

#[test]
fn a_hard_link_out_of_a_directory_that_a_file_replaces_works_before_that_and_is_refused_after() {
    let lower: &[&str] = &["d/", "d/f=old"];
    assert_eq!(made(&[lower, &["h => d/f", "d=new"]]), ["/d 640 new", "/h 640 old"]);

    // Whatever else is in the layer.
    for upper in [&["d=new", "h => d/f"][..], &["d=new", "h => d/f", ".wh.x"]] {
        let refused = applied(&[lower, upper]).expect_err("d is a file by then");
        assert_eq!(refused, "path \"d/f\" leads through \"d\", which is not a directory");
    }
    // What the layer itself has put there meanwhile is what the link names.
    assert_eq!(
        made(&[&["d=file"], &["d/", "d/f=new", "h => d/f"]]),
        ["/d/ 711", "/d/f 640 new", "/h 640 new"]
    );
}

#[test]
fn a_hard_link_into_a_directory_that_a_symbolic_link_replaces_names_what_was_there_before() {
    let lower: &[&str] = &["d/", "d/f=old", "e/"];
    let want = ["/d -> e", "/e/ 711", "/h 640 old"];

    assert_eq!(made(&[lower, &["h => d/f", "d -> e"]]), want);
    // With a marker for something else or without one.
    assert_eq!(made(&[lower, &["d -> e", "h => d/f"]]), want);
    assert_eq!(made(&[lower, &["d -> e", "h => d/f", ".wh.x"]]), want);
}

#[test]
fn a_hard_link_to_what_an_earlier_layer_removed_is_refused() {
    let refused = applied(&[&["a=1"], &[".wh.a"], &["b => a", ".wh.x"]]).expect_err("dangles");
    assert_eq!(refused, "hard link \"b\" names \"a\", which is not there");
}

#[test]
fn of_two_members_with_one_name_the_later_wins() {
    assert_eq!(made(&[&["f=1", "./f=2", "d/", "d/x=1", "d=3"]]), ["/d 640 3", "/f 640 2"]);
}

#[test]
fn links_into_what_aufs_kept_aside_work_and_the_rest_of_it_is_left_out() {
    let layer =
        [".wh..wh.aufs=x", ".wh..wh.plnk/", ".wh..wh.plnk/12.34=1", "a => .wh..wh.plnk/12.34"];
    assert_eq!(made(&[&layer]), ["/a 640 1"]);
}

#[test]
fn markers_that_could_only_harm_are_refused_and_say_so() {
    let said = |layer: &[&str]| applied(&[&["f=1"], layer]).expect_err("refused");

    for name in [".wh.", ".wh..", ".wh...", "d/.wh...", "/.wh.."] {
        let want = format!("member {name:?} removes nothing that could have a name");
        assert_eq!(said(&[name]), want);
    }
    assert_eq!(
        said(&["d/.wh.e/f=1"]),
        "member \"d/.wh.e/f\" is in a directory whose name is reserved for removals"
    );
    assert_eq!(said(&["../.wh.f"]), "path \"../f\" contains `..`");
    assert_eq!(said(&["d/../../.wh..wh..opq"]), "path \"d/../..\" contains `..`");
    assert_eq!(said(&["f/g=1"]), "path \"f/g\" leads through \"f\", which is not a directory");
}

#[test]
fn markers_and_directories_count_against_the_limits_like_all_members() {
    let refused = |member: &str, limits: &Limits| {
        let file = tempfile::tempfile().expect("a temporary file");
        let mut builder = Builder::new(file, &limits.of_image()).expect("begins");
        let layer = archive(&[member; 20]);
        let error = Changes::read(&mut builder, layer.as_slice(), limits).expect_err("too many");
        std::error::Error::source(&error).expect("has one").to_string()
    };
    for member in ["d/.wh.f", "d/.wh..wh..opq", "d/"] {
        let limits = Limits { entries: 10, ..Limits::default() };
        assert_eq!(refused(member, &limits), "more than 10 files and directories");
        let limits = Limits { metadata_bytes: 10, ..Limits::default() };
        assert_eq!(refused(member, &limits), "names and attributes take more than 10 bytes");
    }
}

/// An archive in which bytes of the headers were changed, and the checksums made right again.
fn damaged(members: &[&str], damage: &[(usize, usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = archive(members);
    let end = bytes.len().saturating_sub(1024);
    for (member, at, text) in damage {
        bytes[member * 512 + at..][..text.len()].copy_from_slice(text);
    }
    for block in bytes[..end].chunks_exact_mut(512) {
        let mut header = Header::from_byte_slice(block).clone();
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }
    bytes
}

/// A place in a header: more often than the rest, the beginning of the name, the kind, or the beginning of the target.
fn telling_place() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(156), Just(157), 0usize..504]
}

/// What makes names and kinds more often than anything else.
fn telling_text() -> impl Strategy<Value = Vec<u8>> {
    let telling = select(&b"../.wh.123456gxLKSV\0"[..]);
    vec(prop_oneof![4 => telling, 1 => any::<u8>()], 1..8)
}

proptest::proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn headers_that_say_anything_end_in_a_tree_or_in_an_error(
        damage in vec((0usize..7, telling_place(), telling_text()), 1..8)
    ) {
        let members = ["d/", "d/f", "l -> d", "h => d/f", "d/.wh.g", "l/.wh..wh..opq", ".wh..wh.plnk/1"];
        let limits = Limits { entries: 100, metadata_bytes: 1 << 20, ..Limits::default() };
        let file = tempfile::tempfile().expect("a temporary file");
        let mut builder = Builder::new(file, &limits.of_image()).expect("begins");

        let layer = damaged(&members, &damage);
        let applied = Changes::read(&mut builder, layer.as_slice(), &limits)
            .and_then(|changes| changes.apply(&mut builder.tree));

        if applied.is_ok() {
            proptest::prop_assert_eq!(impossible_names(&builder.tree), Vec::<Vec<u8>>::new());
            builder.finish().expect("whatever is in the tree can be written");
        }
    }
}
