//! Measures things in turns and prints what came out. The benchmarks of the language, of the data
//! and of the model include this file.
//!
//! The speed of a machine changes from minute to minute, that of a shared one by half. So what is
//! compared has its rounds next to each other, and a ratio is the median of the rounds' ratios.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Rounds, and those of what takes long. Odd: one of them is in the middle.
const ROUNDS: usize = 7;
const ROUNDS_LONG: usize = 3;
/// What takes at least this is long.
const LONG: Duration = Duration::from_secs(1);
/// A round repeats what takes less than this.
const ROUND_MIN: Duration = Duration::from_millis(30);

/// What a time is for.
pub(crate) struct Work<'w> {
    pub(crate) title: String,
    /// How many of what are worked on: times are printed for one of them.
    pub(crate) items: (f64, &'w str),
}

/// One way of doing the work.
pub(crate) struct Timed<'w> {
    name: &'w str,
    /// How much of what the work comes to, for speeds: 0.6 MB.
    amounts: Vec<(f64, &'w str)>,
    /// Does the work once and says how long that took.
    time: Box<dyn FnMut() -> Duration + 'w>,
}

impl<'w> Timed<'w> {
    /// Work that is done here.
    pub(crate) fn new<T>(
        name: &'w str,
        amounts: &[(f64, &'w str)],
        mut work: impl FnMut() -> T + 'w,
    ) -> Self {
        Self::measured(name, amounts, move || {
            let started = Instant::now();
            let result = work();
            let took = started.elapsed();
            black_box(result);
            took
        })
    }

    /// Work whose time is taken elsewhere.
    pub(crate) fn measured(
        name: &'w str,
        amounts: &[(f64, &'w str)],
        time: impl FnMut() -> Duration + 'w,
    ) -> Self {
        Self {
            name,
            amounts: amounts.to_vec(),
            time: Box::new(time),
        }
    }

    fn round(&mut self, repeats: u32) -> f64 {
        let total: Duration = (0..repeats).map(|_| (self.time)()).sum();
        total.as_secs_f64() / f64::from(repeats)
    }
}

/// Does the work in every way, in turns, and prints the times. The first way is blip's; every other
/// one is given with blip's time divided by its own.
#[expect(clippy::print_stdout, reason = "a benchmark shows its table")]
pub(crate) fn compare(work: &Work<'_>, mut ways: Vec<Timed<'_>>) {
    // The first time fills caches and does not count.
    let firsts: Vec<Duration> = ways.iter_mut().map(|way| (way.time)()).collect();
    let long = firsts.iter().any(|first| *first >= LONG);
    let rounds = if long { ROUNDS_LONG } else { ROUNDS };
    let repeats = |first: &Duration| {
        let repeats = ROUND_MIN.as_secs_f64() / first.as_secs_f64().max(1e-9);
        (repeats.ceil() as u32).max(1)
    };
    let repeats: Vec<u32> = firsts.iter().map(repeats).collect();
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for ((way, repeats), times) in ways.iter_mut().zip(&repeats).zip(&mut times) {
            times.push(way.round(*repeats));
        }
    }
    let (count, item) = work.items;
    println!("{}", work.title);
    for (at, (way, seconds)) in ways.iter().zip(&times).enumerate() {
        let (low, median, high) = spread(seconds.iter().map(|time| time / count * 1e3));
        print!("  {:<24}", way.name);
        print!("{:>8} ms/{item} ", figure(median));
        print!("{:<17}", format!("({} to {})", figure(low), figure(high)));
        let typical = median / 1e3 * count;
        for (amount, unit) in &way.amounts {
            print!("{:>9} {unit}/s", figure(amount / typical));
        }
        if at > 0 {
            let ratios = times[0].iter().zip(seconds).map(|(ours, its)| ours / its);
            let (low, median, high) = spread(ratios);
            print!("   blip / it: {median:.2} ({low:.2} to {high:.2})");
        }
        println!();
    }
    println!();
}

/// The lowest, the middle and the highest of some numbers.
fn spread(numbers: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    (sorted[0], sorted[last / 2], sorted[last])
}

/// A number in three digits that count.
fn figure(number: f64) -> String {
    let digits = 2 - number.abs().max(1e-3).log10().floor() as i32;
    format!("{number:.*}", digits.max(0) as usize)
}
