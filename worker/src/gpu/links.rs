//! How well each two GPUs of a host are linked, as the score that the inventory tells.
//!
//! The slowest link sets the pace of a job on several GPUs, so the scheduler chooses those that are linked
//! best. What the driver says is read elsewhere, into the plain data here. What must always hold: the
//! scores are square and symmetric, and what is not known is 0, never an error: no GPU is lost for it.

/// What a pair has that is linked by NVLink, before its links are counted: any NVLink is better than PCIe.
const BY_NVLINK: u8 = 10;

/// What the driver says of one GPU's links.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub address: Option<Address>,
    /// Where each active NVLink ends that does not end at a switch.
    pub nvlinks: Vec<Address>,
    /// NVLinks to switches, over which every GPU that has some reaches all others.
    pub to_switches: u32,
    /// The way over PCIe to each GPU before this one.
    pub ways: Vec<Option<Way>>,
}

/// A place on the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub domain: u32,
    pub bus: u32,
    pub device: u32,
}

/// How far two GPUs are apart on PCIe; the number is the score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    BetweenNodes = 1,
    WithinNode = 2,
    HostBridge = 3,
    SeveralSwitches = 4,
    OneSwitch = 5,
    OneBoard = 6,
}

/// The scores of all pairs; none at all when nothing is known.
pub(super) fn scores(seen: &[Seen]) -> Vec<Vec<u8>> {
    let mut all = vec![vec![0; seen.len()]; seen.len()];
    for a in 0..seen.len() {
        for b in 0..a {
            let way = seen[a].ways.get(b).copied().flatten();
            let score = score(nvlinks(&seen[a], &seen[b]), way);
            all[a][b] = score;
            all[b][a] = score;
        }
    }
    if all.iter().flatten().all(|score| *score == 0) { Vec::new() } else { all }
}

fn score(nvlinks: usize, way: Option<Way>) -> u8 {
    match (nvlinks, way) {
        (0, way) => way.map_or(0, |way| way as u8),
        (n, _) => BY_NVLINK.saturating_add(u8::try_from(n).unwrap_or(u8::MAX)),
    }
}

/// Links between two GPUs: each may tell fewer than there are, when the driver refused to say more.
fn nvlinks(a: &Seen, b: &Seen) -> usize {
    let ends_at =
        |from: &Seen, to: &Seen| from.nvlinks.iter().filter(|end| to.address == Some(**end)).count();
    let by_switch = a.to_switches.min(b.to_switches) as usize;
    ends_at(a, b).max(ends_at(b, a)).max(by_switch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(bus: u32) -> Address {
        Address { domain: 0, bus, device: 0 }
    }

    /// GPUs on buses 1, 2, … with the ways to those before them.
    fn gpus(ways: &[&[Way]]) -> Vec<Seen> {
        let gpu = |(bus, ways): (u32, &&[Way])| Seen {
            address: Some(address(bus)),
            ways: ways.iter().copied().map(Some).collect(),
            ..Seen::default()
        };
        (1..).zip(ways).map(gpu).collect()
    }

    #[test]
    fn without_nvlink_the_way_over_pcie_counts() {
        let seen = gpus(&[&[], &[Way::OneSwitch], &[Way::BetweenNodes, Way::HostBridge]]);
        assert_eq!(scores(&seen), [[0, 5, 1], [5, 0, 3], [1, 3, 0]]);
    }

    #[test]
    fn nvlinks_are_counted_whoever_of_the_two_tells_them() {
        let mut seen = gpus(&[&[], &[Way::OneSwitch], &[Way::OneSwitch, Way::OneSwitch]]);
        seen[0].nvlinks = vec![address(2), address(2), address(99)];
        seen[2].nvlinks = vec![address(1)];
        assert_eq!(scores(&seen), [[0, 12, 11], [12, 0, 5], [11, 5, 0]]);
    }

    #[test]
    fn a_switch_links_every_two_as_well_as_the_worse_of_them() {
        let mut seen = gpus(&[&[], &[Way::BetweenNodes], &[Way::BetweenNodes, Way::BetweenNodes]]);
        for (gpu, links) in seen.iter_mut().zip([18, 18, 12]) {
            gpu.to_switches = links;
        }
        assert_eq!(scores(&seen), [[0, 28, 22], [28, 0, 22], [22, 22, 0]]);
    }

    #[test]
    fn what_the_driver_does_not_say_is_not_known() {
        assert_eq!(scores(&vec![Seen::default(); 4]), Vec::<Vec<u8>>::new());
        assert_eq!(scores(&[]), Vec::<Vec<u8>>::new());
        let mut seen = gpus(&[&[], &[Way::OneBoard], &[]]);
        seen[1].nvlinks = vec![address(7); 1000];
        assert_eq!(scores(&seen), [[0, 6, 0], [6, 0, 0], [0, 0, 0]]);
        seen[0].nvlinks = vec![address(2); 1000];
        assert_eq!(scores(&seen)[0], [0, 255, 0]);
    }
}
