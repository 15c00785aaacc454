//! Random numbers that depend on a seed alone: splitmix64 (Steele, Lea, Flood 2014), the same on
//! every machine and in every version of this program.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of a sequence of seeds: other seeds, or another order, give another stream.
    pub fn new(seeds: &[u64]) -> Self {
        let mut state = 0x243f_6a88_85a3_08d3; // the digits of pi
        for seed in seeds {
            state = mix(state ^ *seed);
        }
        Self(state)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in [0, 1), with 53 random bits.
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number in [low, high).
    pub fn uniform_range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// An integer in 0..count; 0 for a count of 0. The bias of the multiplication is below
    /// count / 2^64.
    pub fn index(&mut self, count: usize) -> usize {
        let product = u128::from(self.next_u64()) * count as u128;
        usize::try_from(product >> 64).unwrap_or(0)
    }

    /// True with this probability.
    pub fn bernoulli(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// # Panics
    /// When there is nothing to choose from.
    pub fn choose<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        let at = self.index(from.len());
        from.get(at).expect("something to choose from")
    }
}

fn mix(value: u64) -> u64 {
    let mut z = value;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
