//! The choices against trying everything, and on the machines that people have.

use proptest::prelude::*;

use super::*;

/// Islands of so many GPUs each; inside of one the links are good.
fn islands(number: usize, size: usize) -> Links {
    let n = number * size;
    let score = |a: usize, b: usize| if a / size == b / size { 22 } else { 1 };
    Links::new(&(0..n).map(|a| (0..n).map(|b| score(a, b)).collect()).collect::<Vec<_>>())
}

/// A square, symmetric matrix of scores as they come from devices: few different ones.
fn matrix(gpus: impl Strategy<Value = usize>) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let most = 40;
    let scores = prop::collection::vec(prop::sample::select(vec![0, 1, 3, 5, 11, 12]), most * most);
    (gpus, scores).prop_map(move |(n, scores)| {
        let score = |a: usize, b: usize| if a == b { 0 } else { scores[a.min(b) * most + a.max(b)] };
        (0..n).map(|a| (0..n).map(|b| score(a, b)).collect()).collect()
    })
}

fn pairs(scores: &[Vec<u8>], set: u64) -> Vec<u8> {
    let has = |gpu: usize| set >> gpu & 1 == 1;
    let each = |a: usize| (0..a).filter(move |b| has(a) && has(*b)).map(move |b| scores[a][b]);
    (0..scores.len()).flat_map(each).collect()
}

/// The best choice, by looking at every number.
fn by_force(scores: &[Vec<u8>], free: u64, k: u32) -> Option<u64> {
    let sum = |set| pairs(scores, set).iter().map(|score| u32::from(*score)).sum::<u32>();
    let worst = |set| pairs(scores, set).iter().min().copied().unwrap_or(u8::MAX);
    (0..1 << scores.len())
        .filter(|set: &u64| set & !free == 0 && set.count_ones() == k)
        .max_by_key(|set| (worst(*set), sum(*set), sum(free & !set), Reverse(*set)))
}

fn is_a_choice(chosen: Option<u64>, free: u64, k: u32) -> bool {
    match chosen {
        Some(set) => set & !free == 0 && set.count_ones() == k,
        None => free.count_ones() < k,
    }
}

proptest! {
    #[test]
    fn nothing_is_better_among_few(scores in matrix(0_usize..=8), free: u8, k in 0_u32..10) {
        let free = u64::from(free) & ((1 << scores.len()) - 1);
        let links = Links::new(&scores);
        let best = by_force(&scores, free, k);
        prop_assert_eq!(links.choose(free, k), best);
        prop_assert_eq!(links.choose(free, k), best, "asked again");
    }

    #[test]
    fn a_choice_is_so_many_of_the_free_ones(
        scores in matrix(prop_oneof![0_usize..=10, 17_usize..=40]),
        free: u64,
        k in 0_u32..66,
    ) {
        let links = Links::new(&scores);
        prop_assert!(is_a_choice(links.choose(free, k), free, k), "also beyond the matrix");
        let free = free & ((1 << scores.len()) - 1);
        prop_assert!(is_a_choice(links.choose(free, k), free, k));
    }

    #[test]
    fn of_gpus_that_are_alike_the_lowest_are_taken(n in 0_usize..=64, score: u8, free: u64, k in 0_u32..66) {
        let up_to = |top: u32| free & u64::MAX.checked_shr(u64::BITS - top).unwrap_or(0);
        let first = |k: u32| (0..=u64::BITS).map(up_to).find(|set| set.count_ones() == k);
        prop_assert_eq!(Links::default().choose(free, k), first(k));
        prop_assert_eq!(Links::new(&vec![vec![score; n]; n]).choose(free, k), first(k));
    }

    #[test]
    fn greed_finds_what_is_there_to_be_seen(free in 1_u32.., k in 1_u32..9) {
        // Four islands of eight: where one has enough, the links are those of one island.
        let free = u64::from(free);
        let most = (0..4).map(|island| (free >> (8 * island) & 0xff).count_ones()).max();
        prop_assume!(most >= Some(k));
        let chosen = islands(4, 8).choose(free, k).expect("enough are free");
        prop_assert!((0..4).any(|island| chosen & !(0xff << (8 * island)) == 0), "{chosen:#x}");
    }

    #[test]
    fn what_grows_is_counted_right(
        scores in matrix(2_usize..=20),
        free: u64,
        k in 1_u32..9,
        seed in 0_usize..20,
    ) {
        let free = free & ((1 << scores.len()) - 1);
        prop_assume!(free.count_ones() >= k && free >> seed & 1 == 1);
        let choice = grow::grow(&scores, free, k, seed, &grow::pulls(&scores, free));
        let sum = |set| pairs(&scores, set).iter().map(|score| u32::from(*score)).sum::<u32>();
        prop_assert!(is_a_choice(Some(choice.set.0), free, k) && choice.set.0 >> seed & 1 == 1);
        let worst = pairs(&scores, choice.set.0).iter().min().copied().unwrap_or(u8::MAX);
        prop_assert_eq!(choice.worth, Worth { worst, sum: sum(choice.set.0) });
        prop_assert_eq!(choice.rest, sum(free & !choice.set.0));
    }

    #[test]
    fn no_matrix_is_too_odd(
        scores in prop::collection::vec(prop::collection::vec(0_u8.., 0..12), 0..12),
        free: u64,
        k in 0_u32..66,
    ) {
        prop_assert!(is_a_choice(Links::new(&scores).choose(free, k), free, k));
    }
}

#[test]
fn islands_are_kept_whole() {
    for (name, links, left, right) in [
        ("two of four", islands(2, 4), [0x0f, 0x07, 0x03, 0x01], [0xf0, 0x70, 0x30, 0x10]),
        (
            "two of sixteen",
            islands(2, 16),
            [0x0f, 0x07, 0x03, 0x01],
            [0xf_0000, 0x7_0000, 0x3_0000, 0x1_0000],
        ),
    ] {
        let [four, three, two, one] = left;
        assert_eq!(links.choose(four | right[0], 4), Some(four), "{name}: a whole island");
        assert_eq!(links.choose(three | right[0], 4), Some(right[0]), "{name}: the only whole one");
        assert_eq!(links.choose(three | right[0], 1), Some(one), "{name}: from the one that is broken");
        assert_eq!(links.choose(four | right[2], 2), Some(right[2]), "{name}: what is left of one");
        assert_eq!(links.choose(two | right[0], 3), Some(right[1]), "{name}: not across");
        assert_eq!(links.choose(one | right[1], 1), Some(one), "{name}: the one alone");
    }
}

/// NVIDIA's DGX-1 with V100: each GPU has one or two NVLinks to four of the seven others.
#[test]
fn on_a_cube_mesh_no_pair_goes_over_the_processors() {
    let (o, i, n) = (1, 11, 12);
    let links = Links::new(&[
        vec![0, i, i, n, n, o, o, o],
        vec![i, 0, n, i, o, n, o, o],
        vec![i, n, 0, n, o, o, i, o],
        vec![n, i, n, 0, o, o, o, i],
        vec![n, o, o, o, 0, i, i, n],
        vec![o, n, o, o, i, 0, n, i],
        vec![o, o, i, o, i, n, 0, n],
        vec![o, o, o, i, n, i, n, 0],
    ]);
    assert_eq!(links.choose(0xff, 4), Some(0x0f));
    assert_eq!(links.choose(0xfe, 4), Some(0xf0));
    let two = links.choose(0xff, 2).expect("all are free");
    assert!([0b1001, 0b1_0001, 0b110, 0b10_0010, 0b1100].contains(&two), "two NVLinks: {two:#b}");
}
