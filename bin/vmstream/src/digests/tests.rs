use super::*;

/// Pages of the region of the test, in groups of which some are never mentioned.
const PAGES: u64 = 40 * GROUP;

/// Numbers that look like any.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % end
    }
}

/// A stream's pages: first in order, then what has changed, all over memory.
fn filled(held: u64, has_parent: bool, seed: u64) -> Digests {
    let mut digests = Digests::holding(held, 8, has_parent);
    let mut numbers = Numbers(7);
    for group in (0..PAGES / GROUP).filter(|group| group % 5 != 3) {
        let data: Vec<u8> = (0..GROUP).flat_map(|page| (group ^ page).to_le_bytes()).collect();
        digests.write(1, group * GROUP, &data).expect("room");
    }
    let mut own = Numbers(seed);
    for turn in 0..3000 {
        // Most of what one side does, the other does too.
        let numbers = if turn % 8 == 0 { &mut own } else { &mut numbers };
        let (first, count) = (numbers.below(PAGES - 700), numbers.below(700));
        let byte = u8::try_from(numbers.below(4)).expect("small");
        match numbers.below(8) {
            0 => digests.zero(1, first, count / 16).expect("room"),
            1 => digests.same(1, first, count / 64, numbers.below(PAGES)).expect("room"),
            2 => digests.absent(1, first, count / 8).expect("room"),
            _ => digests.write(1, first, &[byte; 16]).expect("room"),
        }
    }
    digests
}

/// Runs that differ, and how many pages are unknown.
fn compared(one: &Digests, other: &Digests, same_parent: bool) -> (Vec<(u64, u64)>, u64) {
    let mut runs = Vec::new();
    let unknown = one.differences(other, 1, PAGES, same_parent, &mut |first, count| {
        runs.push((first, count));
        Ok(())
    });
    (runs, unknown.expect("the file is there"))
}

#[test]
fn what_differs_is_the_same_however_little_is_held() {
    for has_parent in [false, true] {
        let all = [1, 2].map(|seed| filled(HELD, has_parent, seed));
        assert!(all.iter().all(|side| !side.table.held().1), "all of it is held");
        let wanted = [false, true].map(|same| compared(&all[0], &all[1], same));
        assert!(wanted.iter().all(|(runs, _)| runs.len() > 100), "there is much to tell");
        assert_eq!(wanted[0].1 > 0, has_parent, "some pages are in the parent");

        for held in [1, 3, 16] {
            let few = [1, 2].map(|seed| filled(held, has_parent, seed));
            for side in &few {
                let (groups, has_file) = side.table.held();
                assert!(has_file && u64::try_from(groups).is_ok_and(|groups| groups <= held));
            }
            let found = [false, true].map(|same| compared(&few[0], &few[1], same));
            assert!(found == wanted, "{held} held, has parent: {has_parent}");
            let one = compared(&few[0], &all[0], true);
            assert_eq!(one, (Vec::new(), 0), "{held} held: each is as if all were");
        }
    }
}

#[test]
fn pages_side_by_side_that_differ_are_one_run() {
    let mut one = Digests::holding(1, 8, false);
    let other = Digests::holding(1, 8, false);
    for page in [3, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP + 5] {
        one.write(1, page, &[1; 8]).expect("room");
    }
    let runs = vec![(3, 1), (GROUP - 1, 3), (2 * GROUP + 5, 1)];
    assert_eq!(compared(&one, &other, true), (runs, 0));
}
