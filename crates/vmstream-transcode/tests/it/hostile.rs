//! Bytes that nobody wrote: refused, or read as something else; never a panic.

use vmstream_transcode::{Form, Options, from_vmstream, to_vmstream};

use crate::fixtures::{ours, stream};

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

#[test]
fn changed_bits_of_qemus_stream_do_no_harm() {
    let bytes = stream("100_microvm_S");
    let mut numbers = Numbers(1);
    let (mut refused, mut back) = (0, 0);
    for _ in 0..40 {
        let mut changed = bytes.clone();
        // Most of the device state lies at the end, before its description.
        let from = changed.len() - changed.len() / 8;
        let at = from + numbers.below(changed.len() - from);
        changed[at] ^= 1 << numbers.below(8);
        match to_vmstream(&mut &*changed, Vec::new(), &Options::default()) {
            Err(_) => refused += 1,
            Ok((ours, _)) => {
                let same = from_vmstream(&*ours, Vec::new(), Form::Same).expect("it comes back");
                assert!(same == changed, "byte {at}");
                back += 1;
            }
        }
    }
    assert!(back > 5 && refused > 5, "{back} came back, {refused} were refused");
}

#[test]
fn a_stream_that_ends_early_is_refused_both_ways() {
    let bytes = stream("100_microvm_S");
    let ours = ours(&bytes);
    let mut numbers = Numbers(2);
    for _ in 0..20 {
        let most = bytes.len() - 40_000;
        let cut = &bytes[..numbers.below(most)];
        to_vmstream(&mut &*cut, Vec::new(), &Options::default()).expect_err("cut short");
        let cut = &ours[..numbers.below(ours.len())];
        from_vmstream(cut, Vec::new(), Form::Same).expect_err("cut short");
        from_vmstream(cut, Vec::new(), Form::Precopy).expect_err("cut short");
    }
}
