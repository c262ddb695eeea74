//! A machine of three devices that saves itself, loads, gains a field, loses one, and moves between its versions.
//!
//! Run it with `cargo run -p vmstream --example toy_machine`. Each move is forecast from schemas alone, then made; that the
//! forecast was right is asserted, and tested as an example is.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write};

use vmstream::chain::{PageStore, apply};
use vmstream::contract::{Attribute, Policy, compare};
use vmstream::message::{
    DeclaredDevice, DeviceRecord, Encoding, Hello, Manifest, PagesBuilder, Purpose, Region, Switch,
    SwitchMode,
};
use vmstream::record::Shape;
use vmstream::resolve::{Forecast, forecast};
use vmstream::writer::Finality;
use vmstream::{Event, Finding, Map, Reader, Record, Schema, Writer};

/// The machine as its first release had it.
mod first {
    use vmstream::record::Record;

    /// A timer that counts down.
    #[derive(Clone, Debug, PartialEq, Record)]
    #[record(name = "toy.timer", source = "the toy machine's manual, chapter 3")]
    pub(crate) struct Timer {
        /// What it counts down from.
        #[field(unit = "ns", required)]
        pub(crate) period: u64,
        /// Whether it runs.
        #[field(default = false)]
        pub(crate) armed: bool,
        /// How often the host looked at it: nobody will miss it.
        #[field(ignorable, default = 0)]
        pub(crate) looks: u32,
    }
}

/// The machine as its second release has it: the timer has gained a field and lost one, and one has another name.
mod second {
    use vmstream::record::Record;

    /// How a timer goes on when it has run out.
    #[derive(Clone, Copy, Debug, PartialEq, Record)]
    pub(crate) enum Mode {
        /// It stops.
        OneShot,
        /// It begins again.
        Periodic,
    }

    /// A timer that counts down.
    #[derive(Clone, Debug, PartialEq, Record)]
    #[record(name = "toy.timer", source = "the toy machine's manual, chapter 3")]
    pub(crate) struct Timer {
        /// What it counts down from.
        #[field(unit = "ns", required)]
        pub(crate) period: u64,
        /// Whether it runs.
        #[field(alias = "armed", default = false)]
        pub(crate) running: bool,
        /// How it goes on when it has run out.
        #[field(since = 2, critical, default = Mode::OneShot)]
        pub(crate) mode: Mode,
    }
}

/// Memory, and one timer.
#[derive(Clone, Debug, PartialEq)]
struct Machine<T> {
    memory: Vec<u8>,
    timer: T,
}

const PAGE: usize = 4096;

/// What the guest can see of a machine of so much memory.
fn contract(memory: &[u8]) -> Result<Vec<Attribute>, Box<dyn Error>> {
    let bytes = u64::try_from(memory.len())?;
    Ok(vec![
        Attribute::new("machine", "memory", bytes, Policy::Exact).unit("bytes").hint("--memory"),
        Attribute::new("timer0", "resolution", 1_u8, Policy::AtLeast).unit("ns"),
    ])
}

/// Saves a machine into a stream.
fn save<T: Record>(machine: &Machine<T>) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut writer = Writer::new(Vec::new(), &Hello::new("toy", "1", Purpose::State))?;
    let schema = writer.schema(&T::schema())?;
    let (path, kind) = ("timer0".to_owned(), T::schema().name);
    let bytes = u64::try_from(machine.memory.len())?;
    writer.manifest(&Manifest {
        page_size: u64::try_from(PAGE)?,
        memory: vec![Region { name: "ram".into(), kind: "ram".into(), bytes, gpa: Some(0) }],
        contract: contract(&machine.memory)?,
        devices: Some(vec![DeclaredDevice { path: path.clone(), kind: kind.clone(), schema }]),
        ..Manifest::default()
    })?;
    let mut pages = PagesBuilder::new(0, PAGE, Encoding::Lz4);
    for (number, page) in (0..).zip(machine.memory.chunks(PAGE)) {
        if pages.is_full() {
            writer.pages(&pages.build()?)?;
        }
        pages.page(number, page);
    }
    writer.pages(&pages.build()?)?;
    writer.switch(&Switch { mode: SwitchMode::Stopped })?;
    let record = DeviceRecord { path, kind, schema, state: machine.timer.save() };
    writer.devices(&[record], Finality::Final)?;
    Ok(writer.finish()?.0)
}

/// What came of a load.
enum Loaded<T> {
    Whole(Machine<T>),
    Refused(Vec<Finding>),
}

/// Loads a machine: checks all of it first, and commits last.
fn load<T: Record>(stream: &[u8], memory: Vec<u8>) -> Result<Loaded<T>, Box<dyn Error>> {
    let mut reader = Reader::new(stream);
    let mut incoming = Incoming { memory };
    let mut records = BTreeMap::new();
    while let Some(event) = reader.next_event()? {
        if let Event::Manifest(manifest) = event {
            let comparison = compare(&manifest.contract, &contract(&incoming.memory)?);
            if !comparison.accepts() {
                return Ok(Loaded::Refused(comparison.refusals));
            }
        } else if let Event::Pages(pages) = event {
            apply(&pages, PAGE, &mut incoming)?;
        } else if let Event::Devices(devices) = event {
            records.extend(devices.into_iter().map(|record| (record.path.clone(), record)));
        } else if let Event::Abort(why) = event {
            return Ok(Loaded::Refused(vec![why]));
        }
    }
    reader.expect_end()?;
    let record = records.remove("timer0").ok_or("no timer")?;
    let writer = reader.schema(record.schema).ok_or("no schema")?;
    Ok(match T::load_from(&record.state, writer) {
        Ok((timer, _)) => Loaded::Whole(Machine { memory: incoming.memory, timer }),
        Err(refusals) => Loaded::Refused(refusals),
    })
}

/// Memory that is being loaded.
struct Incoming {
    memory: Vec<u8>,
}

impl Incoming {
    fn pages(&mut self, first: u64, count: u64) -> io::Result<&mut [u8]> {
        let byte = |page: u64| usize::try_from(page).ok().and_then(|page| page.checked_mul(PAGE));
        let range = byte(first).zip(first.checked_add(count).and_then(byte));
        let pages = range.and_then(|(start, end)| self.memory.get_mut(start..end));
        pages.ok_or_else(|| io::Error::other("beyond memory"))
    }
}

impl PageStore for Incoming {
    type Error = io::Error;

    fn write(&mut self, _: u32, first: u64, data: &[u8]) -> io::Result<()> {
        let count = u64::try_from(data.len() / PAGE).map_err(io::Error::other)?;
        self.pages(first, count)?.copy_from_slice(data);
        Ok(())
    }

    fn zero(&mut self, _: u32, first: u64, count: u64) -> io::Result<()> {
        self.pages(first, count)?.fill(0);
        Ok(())
    }

    fn same(&mut self, _: u32, first: u64, count: u64, page: u64) -> io::Result<()> {
        let page = self.pages(page, 1)?.to_vec();
        self.pages(first, count)?.chunks_mut(PAGE).for_each(|slot| slot.copy_from_slice(&page));
        Ok(())
    }
}

/// Moves a machine, and makes sure that the forecast was right.
fn travel<From: Record, To: Record>(
    out: &mut impl Write,
    name: &str,
    machine: &Machine<From>,
) -> Result<Loaded<To>, Box<dyn Error>> {
    let told = forecast(&From::schema(), &To::schema());
    let loaded = load::<To>(&save(machine)?, vec![0; machine.memory.len()])?;
    let fails = will_fail(&told, &machine.timer.save(), &From::schema());
    match &loaded {
        Loaded::Whole(_) => writeln!(out, "{name}: loaded")?,
        Loaded::Refused(why) => {
            let why: Vec<_> = why.iter().map(ToString::to_string).collect();
            writeln!(out, "{name}: refused, {}", why.join("; "))?;
        }
    }
    assert_eq!(fails, matches!(loaded, Loaded::Refused(_)), "the forecast was {told:?}");
    Ok(loaded)
}

/// What a forecast says of one record.
fn will_fail(forecast: &Forecast, state: &Map, schema: &Schema) -> bool {
    let now = schema.complete(state);
    match forecast {
        Forecast::Yes => false,
        Forecast::No(_) => true,
        Forecast::OnlyWhile(all) => {
            all.iter().any(|each| now.get(&each.path) != each.source.as_ref())
        }
    }
}

fn tour(out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut memory = vec![0; 64 * PAGE];
    memory[5 * PAGE..7 * PAGE].fill(42);
    let old = Machine {
        memory: memory.clone(),
        timer: first::Timer { period: 1000, armed: true, looks: 7 },
    };

    let Loaded::Whole(same) = travel::<_, first::Timer>(out, "first to first", &old)? else {
        return Err("it is the same machine".into());
    };
    assert_eq!(same, old);

    let Loaded::Whole(newer) = travel::<_, second::Timer>(out, "first to second", &old)? else {
        return Err("the new field has a default, and nobody misses the old one".into());
    };
    let want = second::Timer { period: 1000, running: true, mode: second::Mode::OneShot };
    assert_eq!((&newer.timer, &newer.memory), (&want, &memory));

    let Loaded::Whole(older) = travel::<_, first::Timer>(out, "second to first", &newer)? else {
        return Err("the new feature is not used".into());
    };
    assert_eq!(older.timer, first::Timer { looks: 0, ..old.timer.clone() });

    let mut uses = newer;
    uses.timer.mode = second::Mode::Periodic;
    match travel::<_, first::Timer>(out, "second to first, periodic", &uses)? {
        Loaded::Refused(why) => assert_eq!(why[0].path, "mode"),
        Loaded::Whole(_) => return Err("the first release would lose the mode".into()),
    }

    let stream = save(&uses)?;
    match load::<second::Timer>(&stream, vec![0; PAGE])? {
        Loaded::Refused(why) => writeln!(out, "another size of memory: refused, {}", why[0])?,
        Loaded::Whole(_) => return Err("memory of another size was taken".into()),
    }
    writeln!(out, "{} bytes; the mode is {:?}", stream.len(), uses.timer.mode.to_value())?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    tour(&mut io::stdout().lock())
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_move_ends_as_it_was_forecast() {
        super::tour(&mut Vec::new()).expect("each forecast was right");
    }
}
