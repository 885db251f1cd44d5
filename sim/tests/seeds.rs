//! Seeds of the fault simulator, in parts, so that the test runner can use all cores. `make sim` runs
//! more of them.

use berth_sim::{Counts, Tally, Trace, run};

/// Of each part.
const SEEDS: u64 = 130;
/// What makes a seed worth its time; a very quiet one has less.
const EVENTS: u64 = 200;

fn part(number: u64) {
    let reports: Vec<_> = (number * SEEDS..(number + 1) * SEEDS).map(|seed| run(seed, Trace::Off)).collect();
    for report in &reports {
        let findings = report.findings.join("\n");
        assert_eq!(report.counts, Counts::default(), "make sim SEED={}\n{findings}", report.seed);
    }
    let events: u64 = reports.iter().map(|report| report.events).sum();
    assert!(events / SEEDS >= EVENTS, "{events} events in {SEEDS} seeds");
    let mut tally = Tally::default();
    reports.iter().for_each(|report| tally += report.tally);
    // What never happens is not checked.
    assert!(tally.ran_again > 0 && tally.quota_full > 0 && tally.beyond_quota > 0, "{tally:?}");
    assert!(tally.settings > 0, "{tally:?}");
}

macro_rules! parts {
    ($($name:ident = $number:literal),+ $(,)?) => {
        $(#[test]
        fn $name() {
            part($number);
        })+
    };
}

parts! {
    promises_are_kept_in_the_first_seeds = 0,
    promises_are_kept_in_the_second_seeds = 1,
    promises_are_kept_in_the_third_seeds = 2,
    promises_are_kept_in_the_fourth_seeds = 3,
    promises_are_kept_in_the_fifth_seeds = 4,
    promises_are_kept_in_the_sixth_seeds = 5,
    promises_are_kept_in_the_seventh_seeds = 6,
    promises_are_kept_in_the_eighth_seeds = 7,
}

#[test]
fn a_seed_is_replayed_step_by_step() {
    for seed in 10_000..10_010 {
        let (first, again) = (run(seed, Trace::On), run(seed, Trace::On));
        assert!(first.trace.len() > 20, "seed {seed} has a trace");
        assert!(first == again, "seed {seed} went another way");
    }
}
