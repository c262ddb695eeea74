//! The client's drivers against the agent that the program carries.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use bandsox_client::Channel;
use bandsox_client::exec::{
    Attachment, Begin, Command, Conversation, Ended, Exec, Exit, LinkError, SessionId, Streams, run,
};
use bandsox_client::files::{
    EntryKind, Parents, Source, Target, get_stream, get_tree, put_tree, stat,
};
use bandsox_client::v1::V1;
use bandsox_proto::ByteString;

use crate::bed::Agent;

struct Direct<'a>(&'a Agent);

impl Attachment for Direct<'_> {
    fn connect(&mut self) -> Result<Channel, LinkError> {
        Ok(self.0.channel())
    }
    fn wake(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn commands(&mut self) -> Vec<Command> {
        Vec::new()
    }
}

fn execute(agent: &Agent, script: &str, stdin: Option<&[u8]>) -> (Exit, Vec<u8>, Vec<u8>) {
    let [mut out, mut err, mut input] = [(); 3].map(|()| tempfile::tempfile().expect("a file"));
    input.write_all(stdin.unwrap_or_default()).and_then(|()| input.rewind()).expect("written");
    let mut session = [0; 16];
    getrandom::fill(&mut session).expect("random");
    let exec = Exec {
        env: vec!["COLOUR=green".into()],
        cwd: Some("/usr".into()),
        stdin: stdin.is_some(),
        ..Exec::new(SessionId(session), ["sh", "-c", script].map(ByteString::from).to_vec())
    };
    let streams = Streams {
        stdin: stdin.is_some().then(|| input.as_fd()),
        stdout: out.as_fd(),
        stderr: err.as_fd(),
    };
    let ended = run(Conversation::new(Begin::Run(exec)), &mut Direct(agent), streams);
    let Ended::Exited(exit) = ended.expect("ends") else { panic!("left early") };
    let [out, err] = [&mut out, &mut err].map(content);
    (exit, out, err)
}

fn content(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("reads");
    bytes
}

fn noise(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at * at / 7) % 251).expect("below 251")).collect()
}

#[test]
fn commands_run_with_their_streams_apart() {
    let agent = Agent::start();

    let (exit, out, err) = execute(&agent, "pwd; echo $COLOUR; echo err >&2; exit 3", None);

    assert_eq!((exit.code, exit.signal), (Some(3), None));
    assert_eq!((out.as_slice(), err.as_slice()), (&b"/usr\ngreen\n"[..], &b"err\n"[..]));
}

#[test]
fn much_goes_in_and_comes_out_whole() {
    let agent = Agent::start();
    let sent = noise(5_000_001);

    let (exit, out, _) = execute(&agent, "cat", Some(&sent));

    assert_eq!(exit.code, Some(0));
    assert!(out == sent, "{} of {} bytes came back", out.len(), sent.len());
}

#[test]
fn directories_survive_the_round_trip() {
    let agent = Agent::start();
    let bed = tempfile::tempdir().expect("a directory");
    let tree = bed.path().join("tree");
    fs::create_dir_all(tree.join("sub/empty")).expect("created");
    fs::write(tree.join("a b\n"), noise(70_000)).expect("written");
    fs::set_permissions(tree.join("a b\n"), fs::Permissions::from_mode(0o4751)).expect("ours");
    symlink("/nowhere", tree.join("sub/link")).expect("linked");
    let file = File::create(tree.join("sparse")).expect("created");
    file.set_len(64 << 20).expect("grows");

    let up = put_tree(
        &agent.channel(),
        Source::open(&tree).expect("opens"),
        bed.path().into(),
        Some("there".into()),
        &mut |_| (),
    );
    let up = up.expect("uploads");
    let back = bed.path().join("back");
    let target = Target::resolve(&back, None, Parents::Require).expect("resolves");
    let down = get_tree(&agent.channel(), up.path.clone(), &target, u64::MAX, &mut |_| ());

    assert_eq!((up.sent.files, down.expect("downloads").files), (2, 2));
    assert_eq!(up.path.as_path(), bed.path().join("there"));
    assert!(fs::read(back.join("a b\n")).expect("there") == noise(70_000));
    let kept = fs::metadata(back.join("a b\n")).expect("there").mode();
    assert_eq!(kept & 0o7777, 0o751, "no set-user-id out of a guest");
    assert_eq!(fs::read_link(back.join("sub/link")).expect("there"), Path::new("/nowhere"));
    assert!(back.join("sub/empty").is_dir());
    let sparse = fs::metadata(back.join("sparse")).expect("there");
    assert_eq!((sparse.len(), sparse.blocks()), (64 << 20, 0));
}

#[test]
fn a_file_is_looked_at_and_streamed() {
    let agent = Agent::start();
    let bed = tempfile::tempdir().expect("a directory");
    let path = bed.path().join("file");
    fs::write(&path, noise(300_000)).expect("written");

    let found = stat(&agent.channel(), path.as_path().into()).expect("is there");
    let mut out = Vec::new();
    let streamed = get_stream(&agent.channel(), path.as_path().into(), &mut out, &mut |_| ());
    let missing = get_stream(&agent.channel(), "/no/such".into(), &mut out, &mut |_| ());

    assert_eq!((found.kind, found.size), (EntryKind::File, 300_000));
    assert_eq!(streamed.expect("streams"), 300_000);
    assert!(out == noise(300_000));
    assert!(missing.expect_err("is missing").to_string().contains("/no/such"));
}

#[test]
fn v1_moves_files_of_every_size_and_leaves_the_old_one_on_failure() {
    let agent = Agent::start();
    let bed = tempfile::tempdir().expect("a directory");
    let path = bed.path().join("file");
    let text = path.to_str().expect("text");
    let channel = agent.channel();
    let mut v1 = V1::new(&channel);

    for size in [0, 1, 65_535, 65_536, 65_537, 1_000_000] {
        let mut sent = tempfile::tempfile().expect("a file");
        sent.write_all(&noise(size)).expect("written");
        v1.upload(&sent, text, &mut |_| ()).expect("uploads");
        let mut got = tempfile::tempfile().expect("a file");
        v1.download(text, &got, &mut |_| ()).expect("downloads");

        assert!(content(&mut got) == noise(size), "{size}");
    }
    let failed = v1.upload(&tempfile::tempfile().expect("a file"), "/no/dir/x", &mut |_| ());

    assert!(failed.expect_err("no such directory").to_string().contains("/no/dir"));
    assert_eq!(fs::read_dir(bed.path()).expect("lists").count(), 1, "nothing is left behind");
}
