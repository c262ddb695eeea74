//! A buffer that files are read into, and whether there is anything in it.

/// Bytes of the kernel's pages.
const PAGE: usize = 4096;

/// A buffer that begins in the middle of one of the kernel's pages.
///
/// Where the kernel copies from a file to an address that is a little above the place in the file, both counted within a
/// page, processors take what is read for what was just written, and wait for it: that takes five times as long. It is the
/// usual case: files are read at whole pages, and long buffers begin 16 bytes behind the beginning of a page.
///
/// ```
/// let mut piece = vmstream::Piece::new(1 << 20);
/// assert_eq!(piece.bytes().len(), 1 << 20);
/// assert_eq!(piece.bytes().as_ptr().addr() % 4096, 2048);
/// ```
#[derive(Debug)]
pub struct Piece {
    held: Vec<u8>,
    start: usize,
    length: usize,
}

impl Piece {
    /// Bytes that are best read or written at once: a processor's own cache holds them. For a longer piece of a file the kernel
    /// looks for free memory in runs as long, which at times takes three times as long as to write it.
    pub const BEST: usize = 256 << 10;

    /// Zeros, so many bytes of them.
    #[must_use]
    pub fn new(length: usize) -> Self {
        let held = vec![0; length.saturating_add(PAGE)];
        let over = held.as_ptr().addr() % PAGE;
        let start = (PAGE + PAGE / 2 - over) % PAGE;
        Self { held, start, length }
    }

    /// The bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        let end = self.start.saturating_add(self.length);
        self.held.get_mut(self.start..end).unwrap_or_default()
    }
}

/// Whether there is no bit set; in wide steps, since every page of memory is asked.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(64).all(|chunk| chunk.iter().fold(0, |sum, byte| sum | byte) == 0)
}
