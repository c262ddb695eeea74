// size: table
//! The rules of the format, by the ids that `docs/formats/vmstream.md` gives them.

use std::fmt;

macro_rules! rules {
    ($($name:ident $id:literal $text:literal;)+) => {
        /// A rule that an input can break.
        ///
        /// Source: `docs/formats/vmstream.md`, where each has the same id.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Rule {
            $(#[doc = $text] $name,)+
        }

        impl Rule {
            /// All rules, in the order of the specification.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The id, as `F-3`.
            #[must_use]
            pub const fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)+ }
            }

            /// The rule in one line.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

rules! {
    V1 "V-1" "a payload of metadata is one value and nothing after it";
    V2 "V-2" "an integer or a length has the shortest head that holds it";
    V3 "V-3" "lengths are definite";
    V4 "V-4" "keys of a map are text, ascending in their encoded form, none twice";
    V5 "V-5" "there are no floats, tags, or simple values but false, true and null";
    V6 "V-6" "text is UTF-8";
    V7 "V-7" "lists and maps nest 32 deep at most";
    V8 "V-8" "a map has at most 65,536 keys, a payload at most 262,144 values";
    V9 "V-9" "a value ends inside its payload";

    F1 "F-1" "a stream begins with the bytes D9 D9 F7";
    F2 "F-2" "a frame is an array of nine with heads of fixed width";
    F3 "F-3" "a header matches its CRC-32C";
    F4 "F-4" "the head of the payload repeats the payload's length";
    F5 "F-5" "a payload matches its CRC-32C";
    F6 "F-6" "a payload is no longer than its kind allows";
    F7 "F-7" "only flags that exist and that the kind allows are set";
    F8 "F-8" "an unknown kind that is critical refuses the stream, another is skipped and counted";
    F9 "F-9" "a known kind is critical exactly if the table of kinds says so";
    F10 "F-10" "all frames of a stream have the channel of the first";
    F11 "F-11" "sequence numbers count from 0 by 1";
    F12 "F-12" "epochs never fall";
    F13 "F-13" "a compressed payload is one whole zlib stream of at most 1 MiB inflated";
    F14 "F-14" "a stream ends where its finish frame says and not before";
    F15 "F-15" "nothing follows the end of a stream";

    O1 "O-1" "hello comes first and once";
    O2 "O-2" "a schema comes before its first use, under an id of its own";
    O3 "O-3" "the manifest comes once, before all that it describes";
    O4 "O-4" "each purpose has its own kinds of frame";
    O5 "O-5" "switch comes once and alone begins the last epoch";
    O6 "O-6" "final device records come after switch, provisional ones before it";
    O7 "O-7" "a ram frame is followed at once by the checksums of the same bytes";
    O8 "O-8" "after finish come as many frames as it says, index then tail";
    O9 "O-9" "a schema after the manifest needs the feature late-schemas";
    O10 "O-10" "a recorded verdict comes once, after the manifest and before switch";
    O11 "O-11" "nothing follows an abort";

    M1 "M-1" "a message has all the keys it must have, of the types given, and no others but x-…";
    M2 "M-2" "hello says format vmstream and version 1";
    M3 "M-3" "every feature that hello needs is known to the reader";
    M4 "M-4" "regions and disks have distinct names, sizes in whole pages, a page size that is a power of two";
    M5 "M-5" "an attribute of the contract has a path and a name of its own, and a value that suits its policy";
    M6 "M-6" "a path is 1 to 255 bytes of printable ASCII, in parts joined by slashes";
    M7 "M-7" "a device declared in the manifest names a schema of its kind";

    D1 "D-1" "the state of a device fits its schema";
    D2 "D-2" "a device record names a schema that came before, of its own kind";
    D3 "D-3" "a field equal to its default is not sent";
    D4 "D-4" "a path has one final record";
    D5 "D-5" "device records are 64 MiB and 65,536 at most in all";
    D6 "D-6" "where the manifest declares devices, these have final records, and no others";

    S1 "S-1" "a schema is written in the dialect and in nothing else";
    S2 "S-2" "a default fits the type of its field";
    S3 "S-3" "a stream has at most 4,096 schemas, of 4 MiB and 262,144 values in all";
    S4 "S-4" "names, earlier names, symbols and bits are distinct";

    P1 "P-1" "pages hold at most 4 MiB of data and 32,768 runs";
    P2 "P-2" "runs are not empty, ascend without overlap, and lie inside their region";
    P3 "P-3" "data decode to exactly the pages that runs of kind data announce";
    P4 "P-4" "a run same as another page names one inside the region and outside of all such runs of the frame";
    P5 "P-5" "absent pages need a parent in the manifest";
    P6 "P-6" "encodings are raw, lz4 and zstd";

    R1 "R-1" "a ram payload is an array of four with heads of fixed width, inside its region";
    R2 "R-2" "every chunk of ram matches its checksum";

    E1 "E-1" "finish counts the frames, bytes, pages and device records before it";
    E2 "E-2" "finish holds the SHA-256 of all headers before it";

    K1 "K-1" "a stream with absent pages names the digest of the stream that has them";
    K2 "K-2" "a stream and its parent have the same page size, regions and disks";

    J1 "J-1" "JSON has a frame on each line, in the form that writing it gave";

    I1 "I-1" "the tail's offset leads to the index";
    I2 "I-2" "the index says what a scan finds";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id(), self.text())
    }
}
