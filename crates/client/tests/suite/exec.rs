//! Sessions: streams, codes, lost connections, agents that do not keep to the protocol.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use bandsox_client::Channel;
use bandsox_client::exec::{
    Attachment, Begin, Command, Conversation, Ended, Exec, ExecError, Exit, Flow, LinkError,
    SessionId, Started, Streams, run,
};
use bandsox_proto::control::Transport;
use bandsox_proto::v2::{Ack, Attach, Output, Reply, Request, Signal, StdinAck, StreamName};

use crate::peer::Agent;

const SESSION: SessionId = SessionId([7; 16]);

type Script = Box<dyn FnOnce(Agent) + Send>;

/// Each connection meets the next of the scripted agents; after the last, the VM is gone.
struct Scripts {
    scripts: VecDeque<Script>,
    agents: Vec<thread::JoinHandle<()>>,
    commands: VecDeque<Vec<Command>>,
    wake: Option<UnixStream>,
    leaves: bool,
}

impl Scripts {
    fn new<const N: usize>(scripts: [Script; N]) -> Self {
        let (agents, commands) = (vec![], VecDeque::new());
        Self { scripts: scripts.into(), agents, commands, wake: None, leaves: false }
    }

    fn finish(self) {
        assert!(self.scripts.is_empty(), "{} connections were not made", self.scripts.len());
        for agent in self.agents {
            agent.join().expect("the scripted agent met what it expected");
        }
    }
}

impl Attachment for Scripts {
    fn connect(&mut self) -> Result<Channel, LinkError> {
        let script = self.scripts.pop_front().ok_or_else(|| LinkError::Final("gone".into()))?;
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        self.agents.push(thread::spawn(move || script(Agent::greet(theirs))));
        Ok(Channel::new(ours, Transport::Vsock))
    }

    fn wake(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(|socket| socket.as_fd())
    }

    fn commands(&mut self) -> Vec<Command> {
        if let Some(wake) = &mut self.wake {
            wake.read_exact(&mut [0]).ok();
        }
        self.commands.pop_front().unwrap_or_default()
    }

    fn started(&mut self, _: &Started) -> Flow {
        if self.leaves { Flow::Leave } else { Flow::Stay }
    }
}

fn exec() -> Exec {
    Exec::new(SESSION, vec!["true".into()])
}

fn started() -> Started {
    Started { session: SESSION, pid: 2, stdin_offset: 0, resumed: false, first_seq: 0 }
}

fn output(seq: u64, stream: StreamName, data: &str) -> Reply {
    Reply::Output(Output { seq, stream, data: data.as_bytes().to_vec() })
}

fn exit(code: u8, seq: u64) -> Reply {
    Reply::Exit(Exit { code: Some(code), signal: None, timeout: false, seq, error: None })
}

/// Runs a session; what was written to standard output and standard error.
fn attend(scripts: &mut Scripts) -> (Result<Ended, ExecError>, String, String) {
    attend_with(scripts, exec(), None)
}

fn attend_with(
    scripts: &mut Scripts,
    exec: Exec,
    stdin: Option<&File>,
) -> (Result<Ended, ExecError>, String, String) {
    let [mut out, mut err] = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
    let streams =
        Streams { stdin: stdin.map(|file| file.as_fd()), stdout: out.as_fd(), stderr: err.as_fd() };
    let ended = run(Conversation::new(Begin::Run(exec)), scripts, streams);
    let [out, err] = [&mut out, &mut err].map(|file| {
        let mut text = String::new();
        file.rewind().expect("rewinds");
        file.read_to_string(&mut text).expect("reads");
        text
    });
    (ended, out, err)
}

fn code(ended: Result<Ended, ExecError>) -> Option<u8> {
    let ended = ended.expect("the session ends well");
    let Ended::Exited(exit) = ended else { panic!("ended as {ended:?}") };
    exit.code
}

#[test]
fn output_stays_apart_and_the_code_is_passed_on() {
    let mut scripts = Scripts::new([Box::new(|mut agent: Agent| {
        let Some(Request::Exec(asked)) = agent.hear() else { panic!("no Exec") };
        assert_eq!(asked.session, SESSION);
        agent.say(&Reply::Started(started()));
        assert!(matches!(agent.hear(), Some(Request::StdinEof(_))));
        agent.say(&output(0, StreamName::Stdout, "out"));
        agent.say(&output(1, StreamName::Stderr, "err"));
        agent.say(&output(2, StreamName::Stdout, "put"));
        agent.say(&exit(3, 3));
        assert_eq!(agent.hear(), Some(Request::Ack(Ack { seq: 4 })));
    })]);

    let (ended, out, err) = attend(&mut scripts);

    scripts.finish();
    assert_eq!((code(ended), out.as_str(), err.as_str()), (Some(3), "output", "err"));
}

#[test]
fn whoever_leaves_does_not_read_what_came_along_with_the_start() {
    let mut scripts = Scripts::new([Box::new(|mut agent: Agent| {
        agent.hear();
        let all = [Reply::Started(started()), output(0, StreamName::Stdout, "later"), exit(4, 1)];
        let frames = all.map(|reply| reply.to_frame().expect("fits into a frame"));
        agent.raw(&frames.concat());
        agent.wait_for_end();
    })]);
    scripts.leaves = true;

    let (ended, out, err) = attend(&mut scripts);

    scripts.finish();
    assert_eq!(ended.expect("the session ends well"), Ended::Left);
    assert_eq!((out.as_str(), err.as_str()), ("", ""));
}

#[test]
fn a_lost_connection_is_replaced_and_nothing_is_missed_or_repeated() {
    let mut scripts = Scripts::new([
        Box::new(|mut agent: Agent| {
            assert!(matches!(agent.hear(), Some(Request::Exec(_))));
            agent.say(&Reply::Started(started()));
            agent.say(&output(0, StreamName::Stdout, "a"));
            agent.say(&output(1, StreamName::Stdout, "b"));
        }),
        Box::new(|mut agent: Agent| {
            let attach = Attach { session: SESSION, from_seq: 2 };
            assert_eq!(agent.hear(), Some(Request::Attach(attach)));
            agent.say(&Reply::Started(Started { resumed: true, ..started() }));
            // More than was asked for does no harm.
            agent.say(&output(1, StreamName::Stdout, "b"));
            agent.say(&output(2, StreamName::Stdout, "c"));
            agent.say(&exit(0, 3));
            agent.wait_for_end();
        }),
    ]);

    let (ended, out, _) = attend(&mut scripts);

    scripts.finish();
    assert_eq!((code(ended), out.as_str()), (Some(0), "abc"));
}

#[test]
fn a_connection_lost_before_the_answer_asks_for_the_same_session() {
    let mut scripts = Scripts::new([
        Box::new(|mut agent: Agent| {
            assert!(matches!(agent.hear(), Some(Request::Exec(_))));
        }),
        Box::new(|mut agent: Agent| {
            let Some(Request::Exec(asked)) = agent.hear() else { panic!("no Exec") };
            assert_eq!(asked.session, SESSION);
            agent.say(&Reply::Started(Started { resumed: true, ..started() }));
            agent.say(&exit(5, 0));
            agent.wait_for_end();
        }),
    ]);

    let (ended, _, _) = attend(&mut scripts);

    scripts.finish();
    assert_eq!(code(ended), Some(5));
}

#[test]
fn input_that_the_agent_has_not_confirmed_is_sent_again() {
    let mut input = tempfile::tempfile().expect("a file");
    input.write_all(b"0123456789").and_then(|()| input.rewind()).expect("written");
    let mut scripts = Scripts::new([
        Box::new(|mut agent: Agent| {
            agent.hear();
            agent.say(&Reply::Started(started()));
            let Some(Request::Stdin(stdin)) = agent.hear() else { panic!("no Stdin") };
            assert_eq!((stdin.offset, stdin.data.as_slice()), (0, &b"0123456789"[..]));
            agent.say(&Reply::StdinAck(StdinAck { offset: 4 }));
        }),
        Box::new(|mut agent: Agent| {
            assert!(matches!(agent.hear(), Some(Request::Attach(_))));
            agent.say(&Reply::Started(Started { stdin_offset: 6, resumed: true, ..started() }));
            let Some(Request::Stdin(stdin)) = agent.hear() else { panic!("no Stdin") };
            assert_eq!((stdin.offset, stdin.data.as_slice()), (6, &b"6789"[..]));
            assert!(matches!(agent.hear(), Some(Request::StdinEof(end)) if end.offset == 10));
            agent.say(&exit(0, 0));
            agent.wait_for_end();
        }),
    ]);

    let (ended, _, _) = attend_with(&mut scripts, Exec { stdin: true, ..exec() }, Some(&input));

    scripts.finish();
    assert_eq!(code(ended), Some(0));
}

#[test]
fn input_waits_for_the_window() {
    let mut input = tempfile::tempfile().expect("a file");
    let sent = vec![b'x'; 1 << 20];
    input.write_all(&sent).and_then(|()| input.rewind()).expect("written");
    let mut scripts = Scripts::new([Box::new(|mut agent: Agent| {
        agent.hear();
        agent.say(&Reply::Started(started()));
        let (mut got, mut confirmed) = (0, 0);
        loop {
            match agent.hear() {
                Some(Request::Stdin(stdin)) => {
                    assert_eq!(stdin.offset, got);
                    got += stdin.data.len() as u64;
                    assert!(got - confirmed <= StdinAck::WINDOW, "beyond the window");
                }
                Some(Request::StdinEof(end)) => {
                    assert_eq!(end.offset, 1 << 20);
                    break;
                }
                other => panic!("{other:?}"),
            }
            if got - confirmed == StdinAck::WINDOW {
                confirmed = got;
                agent.say(&Reply::StdinAck(StdinAck { offset: confirmed }));
            }
        }
        agent.say(&exit(0, 0));
        agent.wait_for_end();
    })]);

    let (ended, _, _) = attend_with(&mut scripts, Exec { stdin: true, ..exec() }, Some(&input));

    scripts.finish();
    assert_eq!(code(ended), Some(0));
}

#[test]
fn a_vm_that_is_gone_ends_the_session_as_lost() {
    let mut scripts = Scripts::new([Box::new(|mut agent: Agent| {
        agent.hear();
        agent.say(&Reply::Started(started()));
    })]);

    let (ended, _, _) = attend(&mut scripts);

    assert!(matches!(ended, Err(ExecError::Lost { session: SESSION, .. })), "{ended:?}");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_as_a_pipe_would() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut scripts = Scripts::new([Box::new(|mut agent: Agent| {
        agent.hear();
        agent.say(&Reply::Started(started()));
        agent.hear();
        agent.say(&output(0, StreamName::Stdout, "nobody reads this"));
        assert_eq!(agent.hear(), Some(Request::Signal(Signal { number: 13 })));
        let killed = Exit { code: None, signal: Some(13), timeout: false, seq: 1, error: None };
        agent.say(&Reply::Exit(killed));
        agent.wait_for_end();
    })]);
    let null = File::options().write(true).open("/dev/null").expect("opens");
    let streams = Streams { stdin: None, stdout: writer.as_fd(), stderr: null.as_fd() };

    let ended = run(Conversation::new(Begin::Run(exec())), &mut scripts, streams);

    scripts.finish();
    assert_eq!(ended.expect("ends"), Ended::OutputClosed);
}

#[test]
fn a_signal_while_there_is_no_connection_ends_the_wait() {
    let (mut caught, wake) = UnixStream::pair().expect("a pair of sockets");
    let mut scripts = Scripts::new([Box::new(move |mut agent: Agent| {
        agent.hear();
        agent.say(&Reply::Started(started()));
        agent.hear();
        caught.write_all(b"!").expect("the client listens");
    })]);
    scripts.wake = Some(wake);
    // The agent's end of the connection is closed by then, or the signal cannot be sent: either
    // way the session is over, and not by running into its time limit.
    scripts.commands.push_back(vec![Command::Signal(2)]);

    let (ended, _, _) = attend(&mut scripts);

    assert!(
        matches!(ended, Err(ExecError::Interrupted { signal: 2, .. } | ExecError::Lost { .. })),
        "{ended:?}"
    );
}

/// A way to break the protocol, and what it is called.
type Broken = (&'static str, fn(&mut Agent));

#[test]
fn an_agent_that_breaks_the_protocol_is_left_at_once() {
    let broken: [Broken; 8] = [
        ("output that skips a number", |agent| {
            agent.say(&Reply::Started(started()));
            agent.say(&output(1, StreamName::Stdout, "x"));
        }),
        ("an exit before its output", |agent| {
            agent.say(&Reply::Started(started()));
            agent.say(&exit(0, 7));
        }),
        ("output without a session", |agent| agent.say(&output(0, StreamName::Stdout, "x"))),
        ("another session", |agent| {
            agent.say(&Reply::Started(Started { session: SessionId([8; 16]), ..started() }));
        }),
        ("input that was never sent", |agent| {
            agent.say(&Reply::Started(started()));
            agent.say(&Reply::StdinAck(StdinAck { offset: 1 << 40 }));
        }),
        ("a message out of place", |agent| agent.say(&Reply::Listening(listening()))),
        ("a message of four gigabytes", |agent| agent.raw(&[0xff; 64])),
        ("a message that is none", |agent| agent.raw(&[1, 0, 0, 0, 0x81, 0xff])),
    ];
    for (what, misbehave) in broken {
        let mut scripts = Scripts::new([Box::new(move |mut agent: Agent| {
            agent.hear();
            misbehave(&mut agent);
            agent.wait_for_end();
        })]);

        let (ended, _, _) = attend(&mut scripts);

        assert!(matches!(ended, Err(ExecError::Misbehaved(_))), "{what}: {ended:?}");
        scripts.finish();
    }
}

fn listening() -> bandsox_proto::v2::Listening {
    bandsox_proto::v2::Listening { port: 1 }
}

#[test]
fn a_peer_that_is_no_agent_is_refused() {
    struct Foreign;
    impl Attachment for Foreign {
        fn connect(&mut self) -> Result<Channel, LinkError> {
            let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
            theirs.write_all(b"{\"type\":\"error\",\"error\":\"?\"}\n").expect("written");
            Ok(Channel::new(ours, Transport::Serial))
        }
        fn wake(&self) -> Option<BorrowedFd<'_>> {
            None
        }
        fn commands(&mut self) -> Vec<Command> {
            vec![]
        }
    }
    let null = File::options().write(true).open("/dev/null").expect("opens");
    let streams = Streams { stdin: None, stdout: null.as_fd(), stderr: null.as_fd() };

    let ended = run(Conversation::new(Begin::Run(exec())), &mut Foreign, streams);

    assert!(matches!(ended, Err(ExecError::Misbehaved(_))), "{ended:?}");
}
