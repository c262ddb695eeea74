//! Files v2: trees read from and written to a disk, safely, on both sides of a channel.
