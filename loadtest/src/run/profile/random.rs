//! Seeded draws: sizes, choices, and which user acts. Setup may use what it likes; users are drawn
//! once per request, so that one is cheap.

use fastrand::Rng;

/// Draws from a log-normal distribution (normal by Box and Muller), kept between two bounds.
/// `sigma` is the standard deviation of the logarithm.
pub(super) fn log_normal(rng: &mut Rng, median: f64, sigma: f64, min: usize, max: usize) -> usize {
    // One minus, so that the logarithm never sees zero.
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * rng.f64()).cos();
    let drawn = median * (sigma * normal).exp();
    // A float beyond the integers saturates, and the bounds catch it.
    (drawn.round() as usize).clamp(min, max)
}

/// Draws one of the items by their weights; the first when there is none with a weight.
pub(super) fn pick<'a, T>(rng: &mut Rng, items: &'a [(T, u32)]) -> &'a T {
    let total: u32 = items.iter().map(|(_, weight)| weight).sum();
    let mut roll = rng.u32(..total.max(1));
    for (item, weight) in items {
        if roll < *weight {
            return item;
        }
        roll -= weight;
    }
    &items[0].0
}

/// Which user acts: all alike, or some far more often than others.
#[derive(Clone, Debug)]
pub(in crate::run) enum Users {
    /// Numbers below this one, equally often.
    Uniform(u32),
    /// The number is the rank by frequency, from 0.
    Zipf(Zipf),
}

impl Users {
    /// Draws the number of a user.
    pub(in crate::run) fn draw(&self, rng: &mut Rng) -> u64 {
        match self {
            Users::Uniform(users) => u64::from(rng.u32(..(*users).max(1))),
            Users::Zipf(zipf) => zipf.draw(rng),
        }
    }
}

/// Zipf's law over the ranks 1 to `n`: rank k has probability k^-s / sum of i^-s.
///
/// Drawn by rejection-inversion: W. Hoermann and G. Derflinger, "Rejection-inversion to generate
/// variates from monotone discrete distributions", ACM TOMACS 6(3), 1996. No table, and less than
/// 1.2 tries per draw for any `n` and `s`.
#[derive(Clone, Debug)]
pub(in crate::run) struct Zipf {
    ranks: f64,
    exponent: f64,
    /// The integral of the hat at its two ends.
    low: f64,
    high: f64,
    /// A candidate this close below its rank is accepted without the full check.
    near: f64,
}

impl Zipf {
    /// `exponent` is above 0.
    pub(in crate::run) fn new(ranks: u32, exponent: f64) -> Zipf {
        let mut zipf = Zipf {
            ranks: f64::from(ranks.max(1)),
            exponent,
            low: 0.0,
            high: 0.0,
            near: 0.0,
        };
        zipf.low = zipf.integral(1.5) - 1.0;
        zipf.high = zipf.integral(zipf.ranks + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.weight(2.0));
        zipf
    }

    /// x^-s.
    fn weight(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The integral of x^-s from 1; its limit, the logarithm, where s is 1.
    fn integral(&self, x: f64) -> f64 {
        let power = 1.0 - self.exponent;
        let log = x.ln();
        if power == 0.0 {
            log
        } else {
            (power * log).exp_m1() / power
        }
    }

    /// The inverse of the integral.
    fn inverse(&self, y: f64) -> f64 {
        let power = 1.0 - self.exponent;
        if power == 0.0 {
            y.exp()
        } else {
            // Rounding must not take the logarithm's argument to or below zero.
            ((power * y).max(-1.0 + f64::EPSILON).ln_1p() / power).exp()
        }
    }

    /// Draws a rank, counted from 0.
    fn draw(&self, rng: &mut Rng) -> u64 {
        loop {
            let y = self.high + rng.f64() * (self.low - self.high);
            let x = self.inverse(y);
            let rank = x.round().clamp(1.0, self.ranks);
            if rank - x <= self.near || y >= self.integral(rank + 0.5) - self.weight(rank) {
                return rank as u64 - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 200_000;

    #[test]
    fn ranks_are_as_frequent_as_zipfs_law_says() {
        for (ranks, exponent) in [
            (1, 1.0),
            (10, 0.5),
            (1_000, 1.0),
            (1_000_000, 1.2),
            (50, 3.0),
        ] {
            let zipf = Zipf::new(ranks, exponent);
            let mut rng = Rng::with_seed(7);
            let mut counts = vec![0u32; ranks as usize];
            for _ in 0..DRAWS {
                counts[zipf.draw(&mut rng) as usize] += 1;
            }
            let sum: f64 = (1..=ranks).map(|k| f64::from(k).powf(-exponent)).sum();
            let expected = |k: u32| DRAWS as f64 * f64::from(k).powf(-exponent) / sum;
            for rank in 1..=ranks.min(20) {
                let expected = expected(rank);
                let drawn = f64::from(counts[rank as usize - 1]);
                // Five standard deviations of a count.
                let wide = 5.0 * expected.sqrt().max(1.0);
                assert!(
                    (drawn - expected).abs() < wide,
                    "{ranks} {exponent}: rank {rank}"
                );
            }
            let head: f64 = (1..=ranks.min(100)).map(expected).sum();
            let tail = DRAWS as f64 - head;
            let drawn: u32 = counts.iter().skip(100).sum();
            let wide = 5.0 * tail.max(1.0).sqrt();
            assert!(
                (f64::from(drawn) - tail).abs() <= wide,
                "{ranks} {exponent}: tail"
            );
        }
    }

    #[test]
    fn users_without_a_law_are_all_alike() {
        let users = Users::Uniform(10);
        let mut rng = Rng::with_seed(7);
        let mut counts = [0u32; 10];
        for _ in 0..DRAWS {
            counts[users.draw(&mut rng) as usize] += 1;
        }
        for count in counts {
            assert!((19_000..21_000).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn sizes_have_the_median_asked_for_and_stay_in_bounds() {
        let mut rng = Rng::with_seed(7);
        let mut sizes: Vec<usize> = (0..10_001)
            .map(|_| log_normal(&mut rng, 1_400.0, 0.6, 512, 4_096))
            .collect();
        sizes.sort_unstable();
        assert!((1_350..1_450).contains(&sizes[5_000]), "{}", sizes[5_000]);
        assert_eq!((sizes[0], sizes[10_000]), (512, 4_096));
        // One standard deviation up: the 84.13th percentile is the median times e^sigma.
        let up = sizes[8_413] as f64;
        assert!((up / (1_400.0 * 0.6f64.exp()) - 1.0).abs() < 0.05, "{up}");
    }

    #[test]
    fn choices_follow_their_weights() {
        let mut rng = Rng::with_seed(7);
        let items = [('a', 60), ('b', 0), ('c', 40)];
        let drawn: Vec<char> = (0..10_000).map(|_| *pick(&mut rng, &items)).collect();
        let count = |which| drawn.iter().filter(|one| **one == which).count();
        assert_eq!(count('b'), 0);
        assert!((5_700..6_300).contains(&count('a')));
    }
}
