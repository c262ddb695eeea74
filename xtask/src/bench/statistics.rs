//! Medians and percentiles of small samples.

/// The value in the middle, or the mean of the two there.
///
/// # Panics
///
/// When there is no value.
pub(super) fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// The smallest value that 95 of 100 do not exceed.
///
/// # Panics
///
/// When there is no value.
pub(super) fn p95(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    sorted[(sorted.len() * 95).div_ceil(100) - 1]
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_two_in_the_middle() {
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-9);
        assert!((median(&[9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn five_of_a_hundred_may_exceed_the_95th_percentile() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();

        assert!((p95(&values) - 95.0).abs() < 1e-9);
    }
}
