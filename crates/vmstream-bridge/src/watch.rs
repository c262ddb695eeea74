//! Whoever wants to look on: joins at any time, and reads a stream from there.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};
use vmstream::message::{Hello, Note};
use vmstream::writer::Finality;
use vmstream::{Event, Map, Value, WriteError, Writer};

use crate::onlooker::{Queue, Seat, Shared};

/// How many may look on at the same time.
const ONLOOKERS: usize = 16;
/// How long onlookers may take for what waits for them when it is over.
const END: Duration = Duration::from_secs(10);

/// What is told to onlookers: hello, schemas, manifest, verdict, switch and devices of before, then all as it comes.
pub(crate) struct Watch {
    path: PathBuf,
    /// To close it.
    listener: UnixListener,
    joining: Arc<Mutex<Vec<(UnixStream, Seat)>>>,
    hello: Option<Hello>,
    /// What one must know who comes late, with its epoch.
    head: Vec<(u32, Event)>,
    onlookers: Vec<Writer<Queue>>,
    /// What waits for each, those who were left behind among them.
    queues: Vec<Arc<Shared>>,
}

impl Watch {
    /// Lets onlookers in at a socket.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        let listener = crate::listener::listen(path)?;
        let (door_listener, seats) = (listener.try_clone()?, Seat::default());
        let joining = Arc::new(Mutex::new(Vec::new()));
        let door = Arc::clone(&joining);
        thread::Builder::new().name("watch".to_owned()).spawn(move || {
            for onlooker in door_listener.incoming().map_while(Result::ok) {
                // The first one is the door's own.
                if Arc::strong_count(&seats) <= ONLOOKERS {
                    let mut joining = door.lock().unwrap_or_else(PoisonError::into_inner);
                    joining.push((onlooker, Arc::clone(&seats)));
                }
            }
        })?;
        let (head, onlookers, queues) = (Vec::new(), Vec::new(), Vec::new());
        let path = path.to_owned();
        Ok(Self { path, listener, joining, hello: None, head, onlookers, queues })
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
        self.queues.retain(|queue| !queue.is_done());
        for (onlooker, seat) in joining {
            let Ok(out) = Queue::start(onlooker, seat) else { continue };
            self.queues.push(Arc::clone(&out.shared));
            let begun = || -> Result<Writer<Queue>, WriteError> {
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
    /// Lets onlookers take what waits for them, but not for ever.
    fn drop(&mut self) {
        // Whoever removed it before does not mind; the thread at the door ends.
        drop(std::fs::remove_file(&self.path));
        shutdown(&self.listener, Shutdown::Both).ok();
        self.onlookers.clear();
        let deadline = Instant::now() + END;
        for queue in &self.queues {
            queue.end(deadline);
        }
    }
}

fn write(writer: &mut Writer<Queue>, epoch: u32, event: &Event) -> Result<(), WriteError> {
    writer.to_epoch(epoch);
    match event {
        Event::Switch(switch) => writer.switch(switch),
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use vmstream::Reader;
    use vmstream::contract::{Attribute, Policy};
    use vmstream::message::{Finish, Manifest, Purpose, Switch, SwitchMode};

    use super::*;

    fn watch() -> (tempfile::TempDir, Watch) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut watch = Watch::listen(&dir.path().join("watch")).expect("it listens");
        watch.event(0, &Event::Hello(Hello::new("toy", "1", Purpose::State)));
        (dir, watch)
    }

    /// Onlookers who are in, once the door has let so many come.
    fn join(watch: &Watch, count: usize) -> Vec<UnixStream> {
        let joined = (0..count).map(|_| UnixStream::connect(&watch.path).expect("it listens"));
        let joined: Vec<_> = joined.collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        while watch.joining.lock().expect("no panic").len() < count.min(ONLOOKERS) {
            assert!(Instant::now() < deadline, "they are let in");
            thread::sleep(Duration::from_millis(1));
        }
        joined
    }

    fn note(watch: &mut Watch) {
        watch.event(0, &Event::Pad);
    }

    fn events(onlooker: UnixStream) -> Result<Vec<Event>, vmstream::ReadError> {
        let mut reader = Reader::new(onlooker);
        let mut events = Vec::new();
        while let Some(event) = reader.next_event()? {
            events.push(event);
        }
        Ok(events)
    }

    fn manifest(name: &str) -> Event {
        let contract = vec![Attribute::new("machine", "type", name, Policy::Exact)];
        Event::Manifest(Manifest { page_size: 4096, contract, ..Manifest::default() })
    }

    fn finish() -> Event {
        Event::Finish(Finish::default())
    }

    #[test]
    fn whoever_comes_when_all_seats_are_taken_is_sent_away() {
        let (_dir, mut watch) = watch();
        let mut onlookers = join(&watch, ONLOOKERS + 1);
        note(&mut watch);
        let mut one_more = onlookers.pop().expect("one more");
        assert_eq!(one_more.read(&mut [0]).expect("it ends"), 0);
        drop(onlookers);
    }

    #[test]
    fn a_pass_with_any_number_is_told_at_once() {
        let (_dir, mut watch) = watch();
        let onlooker = join(&watch, 1).pop().expect("one");
        watch.event(0, &manifest("toy"));
        watch.event(u32::MAX, &Event::Switch(Switch { mode: SwitchMode::Stopped }));
        watch.event(u32::MAX, &finish());
        let events = events(onlooker).expect("it is valid");
        assert!(matches!(events.last(), Some(Event::Finish(_))), "{events:?}");
    }

    #[test]
    fn an_onlooker_gets_all_that_waits_for_him_before_it_is_over() {
        let (_dir, mut watch) = watch();
        let onlooker = join(&watch, 1).pop().expect("one");
        // More than a socket holds.
        watch.event(0, &manifest(&"long ".repeat(190_000)));
        watch.event(1, &Event::Switch(Switch { mode: SwitchMode::Stopped }));
        watch.event(1, &finish());
        let queues = watch.queues.clone();
        let reads = thread::spawn(|| events(onlooker));
        drop(watch);
        assert!(queues.iter().all(|queue| queue.is_done()));
        let events = reads.join().expect("no panic").expect("it is valid");
        assert!(matches!(events.last(), Some(Event::Finish(_))), "{events:?}");
    }
}
