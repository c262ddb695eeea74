//! Why a stream could not be read: one error, with the byte where it broke which rule.

use std::fmt;
use std::io;

/// Why a stream could not be read. Offsets are bytes from the start of the channel or file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The operating system refused a read.
    #[error("read failed at byte {offset}")]
    Io {
        /// How far the reader had got.
        offset: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// Whoever takes what was read refused it.
    #[error("what was read at byte {offset} could not be passed on")]
    Sink {
        /// Where what was refused begins.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The stream breaks a rule of its format.
    #[error(transparent)]
    Broken(#[from] Broken),
}

/// One broken rule, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Broken {
    /// The byte at which it shows, counted from the start of the channel or file.
    pub offset: u64,
    /// Which rule.
    pub rule: Rule,
    /// The number that was found, where there is one.
    pub found: Option<u64>,
    /// The number that the rule wants, or its bound.
    pub want: Option<u64>,
    /// What is concerned: a section, a RAM block, a field.
    pub name: Option<Box<str>>,
}

impl Broken {
    pub(crate) fn at(offset: u64, rule: Rule) -> Self {
        Self { offset, rule, found: None, want: None, name: None }
    }

    pub(crate) fn found(mut self, found: impl Into<u64>) -> Self {
        self.found = Some(found.into());
        self
    }

    pub(crate) fn want(mut self, want: impl Into<u64>) -> Self {
        self.want = Some(want.into());
        self
    }

    pub(crate) fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.name.get_or_insert(name.into());
        self
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, rule, found, want, name } = self;
        write!(f, "byte {offset}: {}: {}", rule.id(), rule.text())?;
        if let Some(name) = name {
            write!(f, " ({})", name.escape_debug())?;
        }
        if let Some(found) = found {
            write!(f, "; found {found:#x}")?;
        }
        if let Some(want) = want {
            write!(f, ", want {want:#x}")?;
        }
        Ok(())
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident $id:literal $text:literal;)*) => {
        /// A rule of QEMU's stream that a reader checks.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Rule { $($(#[$doc])* #[doc = $text] $name,)* }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The rule's short name, as it stands in messages and in the specification.
            #[must_use]
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id),* }
            }

            /// What the rule says.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

rules! {
    Truncated "Q-1" "the stream goes on to its end marker";
    Magic "Q-2" "a stream begins with QEVM";
    Version "Q-3" "the stream's version is 3";
    Element "Q-4" "an element has a known kind";
    Footer "Q-5" "every section ends with a footer that repeats its id, or none does";
    UnknownSection "Q-6" "a part belongs to a section that was started";
    Length "Q-7" "a length is within its bound";
    Text "Q-8" "a name is UTF-8";
    Configuration "Q-9" "the configuration holds known subsections only";
    Command "Q-10" "a command has a known number and the length that belongs to it";
    Nesting "Q-11" "a package holds no package";
    AfterEnd "Q-12" "after the end marker comes the description or nothing";
    RamFlags "Q-20" "a RAM record has one known kind";
    RamBlock "Q-21" "a RAM record names a block that was announced";
    RamOffset "Q-22" "a RAM page lies inside its block";
    RamTotal "Q-23" "the announced blocks add up to the announced total";
    RamContinue "Q-24" "only a record after a named one can leave its block's name out";
    MappedHeader "Q-25" "a mapped block's bitmap and pages lie behind its header, in order";
    Difference "Q-26" "a difference is of a page that was sent before";
    Json "Q-30" "the description is JSON of QEMU's subset";
    Description "Q-31" "the description has the members that QEMU writes";
    DescribedSection "Q-32" "sections come in the order of the description";
    DescribedSize "Q-33" "a field is as long as the description says";
    DescribedSubsection "Q-34" "a subsection is where the description says";
    DescribedMarker "Q-35" "a list's markers agree with the description";
    Fields "Q-36" "a section has a bounded number of fields";
    Decoder "Q-40" "the bytes of a known state fit its layout";
    Answer "Q-45" "a message of the return path has a known kind and the content that belongs to it";
    Multifd "Q-50" "a multifd packet has the known magic, version and bounds";
    Compression "Q-51" "compressed pages inflate to their exact size";
    Window "Q-52" "what zstd keeps of all channels fits in memory: fewer channels, or a lower level";
}
