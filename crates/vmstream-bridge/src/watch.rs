//! Whoever wants to look on: joins at any time, and reads a stream from there.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use vmstream::message::{Hello, Note};
use vmstream::writer::Finality;
use vmstream::{Event, Map, Value, WriteError, Writer};

/// Bytes that wait for one onlooker. One who is slower is left behind: the guest does not wait for him.
const WAITING: usize = 16 << 20;

/// What is told to onlookers: hello, schemas, manifest, verdict, switch and devices of before, then all as it comes.
pub(crate) struct Watch {
    path: PathBuf,
    joining: Arc<Mutex<Vec<UnixStream>>>,
    hello: Option<Hello>,
    /// What one must know who comes late, with its epoch.
    head: Vec<(u32, Event)>,
    onlookers: Vec<Writer<Queue>>,
}

impl Watch {
    /// Lets onlookers in at a socket.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let joining = Arc::new(Mutex::new(Vec::new()));
        let door = Arc::clone(&joining);
        thread::Builder::new().name("watch".to_owned()).spawn(move || {
            for onlooker in listener.incoming().map_while(Result::ok) {
                door.lock().unwrap_or_else(PoisonError::into_inner).push(onlooker);
            }
        })?;
        let (head, onlookers) = (Vec::new(), Vec::new());
        Ok(Self { path: path.to_owned(), joining, hello: None, head, onlookers })
    }

    /// Tells what has come. Whoever cannot take it is gone.
    pub(crate) fn event(&mut self, epoch: u32, event: &Event) {
        if let Event::Hello(hello) = event {
            self.hello = Some(hello.clone());
            return;
        }
        self.join(epoch);
        for mut writer in std::mem::take(&mut self.onlookers) {
            match event {
                // Its counts and digest are its own.
                Event::Finish(_) => drop(writer.finish()),
                event => {
                    if write(&mut writer, epoch, event).and_then(|()| writer.flush()).is_ok() {
                        self.onlookers.push(writer);
                    }
                }
            }
        }
        let is_known_later = matches!(
            event,
            Event::Schema(..)
                | Event::Manifest(_)
                | Event::Verdict(_)
                | Event::Switch(_)
                | Event::Devices(_)
        );
        if is_known_later {
            self.head.push((epoch, event.clone()));
        }
    }

    fn join(&mut self, epoch: u32) {
        let joining =
            std::mem::take(&mut *self.joining.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(hello) = &self.hello else { return };
        for onlooker in joining {
            let begun = || -> Result<Writer<Queue>, WriteError> {
                let out = Queue::start(onlooker)
                    .map_err(|source| WriteError::Io { offset: 0, source })?;
                let mut writer = Writer::new(out, hello)?;
                let value = Value::Map(Map::new().with("epoch", epoch));
                writer.note(&Note { name: "joined".to_owned(), value })?;
                for (epoch, event) in &self.head {
                    write(&mut writer, *epoch, event)?;
                }
                Ok(writer)
            };
            // One who is gone already has missed nothing.
            self.onlookers.extend(begun().ok());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Whoever removed it before does not mind.
        drop(std::fs::remove_file(&self.path));
    }
}

fn write(writer: &mut Writer<Queue>, epoch: u32, event: &Event) -> Result<(), WriteError> {
    if let Event::Switch(switch) = event {
        // It begins an epoch by itself.
        while writer.epoch().saturating_add(1) < epoch {
            writer.next_epoch();
        }
        return writer.switch(switch);
    }
    while writer.epoch() < epoch {
        writer.next_epoch();
    }
    match event {
        Event::Schema(id, schema) => writer.schema_as(*id, schema),
        Event::Manifest(manifest) => writer.manifest(manifest),
        Event::Verdict(verdict) => writer.verdict(verdict),
        Event::Pages(pages) => writer.pages(pages),
        Event::Disk(pages) => writer.disk(pages),
        Event::Provisional(records) => writer.devices(records, Finality::Provisional),
        Event::Devices(records) => writer.devices(records, Finality::Final),
        Event::Abort(finding) => writer.abort(finding),
        // How QEMU's stream is made of it makes no sense without its beginning.
        _ => Ok(()),
    }
}

/// What waits for one onlooker, who takes it as fast as he can.
struct Queue {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Nothing more comes.
    is_over: bool,
    /// He takes no more.
    is_gone: bool,
}

impl Queue {
    fn start(mut onlooker: UnixStream) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let taken = Arc::clone(&shared);
        thread::Builder::new().name("onlooker".to_owned()).spawn(move || {
            while let Some(piece) = taken.next() {
                if onlooker.write_all(&piece).is_err() {
                    taken.state.lock().unwrap_or_else(PoisonError::into_inner).is_gone = true;
                    return;
                }
            }
        })?;
        Ok(Self { shared })
    }
}

impl Shared {
    fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(piece) = state.pieces.pop_front() {
                state.bytes = state.bytes.saturating_sub(piece.len());
                return Some(piece);
            }
            if state.is_over {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_gone || state.bytes > WAITING {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        state.bytes = state.bytes.saturating_add(bytes.len());
        state.pieces.push_back(bytes.to_vec());
        self.shared.changed.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_over = true;
        self.shared.changed.notify_one();
    }
}
