//! A small machine that tests write.

use vmstream::contract::{Attribute, Policy};
use vmstream::message::{
    DeclaredDevice, DeviceRecord, Disk, Encoding, Hello, Manifest, Note, PagesBuilder, Purpose,
    Ram, Region, RunKind, Switch, SwitchMode,
};
use vmstream::schema::{Criticality, Field, Int, Struct, Type};
use vmstream::writer::Finality;
use vmstream::{Map, Schema, Value, Writer};

pub(crate) const PAGE: u64 = 4096;

pub(crate) fn hello() -> Hello {
    Hello::new("toy", "1.0", Purpose::State)
}

pub(crate) fn manifest(schema: u32) -> Manifest {
    let region = |name: &str, bytes, gpa| Region {
        name: name.to_owned(),
        kind: "ram".to_owned(),
        bytes,
        gpa: Some(gpa),
    };
    Manifest {
        page_size: PAGE,
        memory: vec![region("low", 64 * PAGE, 0), region("high", 16 * PAGE, 1 << 32)],
        disks: vec![Disk { name: "root".to_owned(), bytes: 8 * PAGE }],
        contract: vec![
            Attribute::new("machine", "vcpus", 2_u8, Policy::Exact).hint("--vcpus"),
            Attribute::new("machine", "memory", 80 * PAGE, Policy::Exact).unit("bytes"),
            Attribute::new("cpu", "features", vec!["sse2".into(), "avx".into()], Policy::Subset),
        ],
        devices: Some(vec![DeclaredDevice {
            path: "bus/uart0".to_owned(),
            kind: "toy.uart".to_owned(),
            schema,
        }]),
        parent: None,
    }
}

/// A schema with a field of every type.
pub(crate) fn schema() -> Schema {
    let small = Struct::new(vec![
        Field::new("vector", Type::uint(16)).default(0_u8),
        Field::new("masked", Type::Bool),
    ]);
    let flags =
        Int { flags: vec![("rx".to_owned(), 0), ("tx".to_owned(), 3)], ..Int::new(8, false) };
    let mode = Type::Enum(vec!["off".to_owned(), "on".to_owned()]);
    let mut divisor = Field::new("divisor", Type::uint(16)).default(12_u8);
    divisor.unit = "ticks".to_owned();
    divisor.description = "What the clock is divided by".to_owned();
    divisor.aliases = vec!["div".to_owned()];
    let fields = vec![
        divisor,
        Field::new("irq", Type::Struct(small.clone())),
        Field::new("lines", Type::List(Box::new(Type::Struct(small)), 0, 4))
            .default(Vec::<Value>::new()),
        Field::new("fifo", Type::Bytes(0, 16)).default(Value::Bytes(Vec::new())),
        Field::new("serial", Type::Text(20)).critical(Criticality::Ignorable).default("none"),
        Field::new("mode", mode),
        Field::new("offset", Type::int(64)).default(0_u8),
        Field::new("enable", Type::Int(flags)),
        Field::new("armed", Type::Optional(Box::new(Type::uint(64)))),
    ];
    Schema {
        name: "toy.uart".to_owned(),
        version: 1,
        description: "A serial port".to_owned(),
        source: "the toy machine".to_owned(),
        root: Struct::new(fields),
    }
}

pub(crate) fn state() -> Map {
    let irq = Map::new().with("masked", true).with("vector", 33_u8);
    Map::new()
        .with("divisor", 3_u8)
        .with("irq", irq)
        .with("fifo", Value::Bytes(vec![0, 0xab, 0xff]))
        .with("mode", "on")
        .with("offset", -5_i8)
        .with("enable", 9_u8)
        .with("armed", Value::Null)
}

pub(crate) fn record(schema: u32) -> DeviceRecord {
    DeviceRecord {
        path: "bus/uart0".to_owned(),
        kind: "toy.uart".to_owned(),
        schema,
        state: state(),
    }
}

/// Bytes that compress a little and repeat nowhere soon.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed | 1;
    let next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A stream with every kind of frame that a writer of state can write.
pub(crate) fn stream() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &hello()).expect("a hello");
    let id = writer.schema(&schema()).expect("a schema");
    writer.manifest(&manifest(id)).expect("a manifest");
    for encoding in [Encoding::Raw, Encoding::Lz4, Encoding::Zstd] {
        let mut pages = PagesBuilder::new(0, 4096, encoding);
        pages.page(1, &[7; 4096]);
        pages.page(2, &noise(9, 4096));
        pages.page(3, &[0; 4096]);
        pages.run(10, 2, RunKind::SameAs(1));
        writer.pages(&pages.build().expect("pages")).expect("pages are written");
        writer.next_epoch();
    }
    let mut disk = PagesBuilder::new(0, 4096, Encoding::Lz4);
    disk.page(7, &[1; 4096]);
    writer.disk(&disk.build().expect("pages")).expect("a disk is written");
    let ram = Ram { region: 1, offset: 0, chunk: 8192, length: 5 * PAGE };
    writer.ram(&ram, 4096, &mut noise(4, 5 * 4096).as_slice()).expect("ram is written");
    writer.devices(&[record(id)], Finality::Provisional).expect("a record is written");
    let note = Note { name: "toy.note".to_owned(), value: Value::from(vec![Value::Bool(true)]) };
    writer.note(&note).expect("a note is written");
    writer.switch(&Switch { mode: SwitchMode::Stopped }).expect("a switch is written");
    writer.devices(&[record(id)], Finality::Final).expect("a record is written");
    writer.finish_with_index().expect("all is there").0
}
