//! Which device is chosen: the one that fits best, by the way in which its queue places.

use std::collections::BTreeMap;

use crate::cluster::{Cluster, DeviceKey, PoolKey};
use crate::demand::{Need, WHOLE};
use crate::device::{Device, Held};
use crate::fgd;
use crate::place::choose_gpus;
use crate::pool::{Fill, Pool};
use crate::queue::Placement;

impl Cluster {
    /// The device for one container, among the open ones of a pool that `allow` does not rule out.
    pub fn find(
        &self,
        pool: PoolKey,
        need: &Need,
        labels: &BTreeMap<String, String>,
        placement: Placement,
        mut allow: impl FnMut(DeviceKey, &Device) -> bool,
    ) -> Option<DeviceKey> {
        let pool = self.pool(pool);
        let mut suits = |key: DeviceKey| {
            let device = self.device(key);
            device.fits(need, device.free()) && device.carries(labels) && allow(key, device)
        };
        match placement {
            Placement::Pack if need.share < WHOLE => {
                let suiting = pool.open_devices(0).filter(|fill| suits(fill.key));
                let tightness = |fill: &&Fill| (self.tightest_share(fill.key, need), **fill);
                suiting.min_by_key(tightness).map(|fill| fill.key)
            }
            Placement::Pack if pool.kinds.len() > 1 && !need.types.is_empty() => {
                let suiting = pool.open_devices(need.gpus).filter(|fill| suits(fill.key));
                let usable = |fill: &&Fill| {
                    let device = self.device(fill.key);
                    ((device.free().gpus & device.accepted(need)).count_ones(), **fill)
                };
                suiting.min_by_key(usable).map(|fill| fill.key)
            }
            Placement::Pack => pool.fullest_first(need).find(|fill| suits(fill.key)).map(|fill| fill.key),
            Placement::Spread => pool.emptiest_first().find(|fill| suits(fill.key)).map(|fill| fill.key),
            Placement::Fgd => {
                let suiting = pool.open_devices(if need.share < WHOLE { 0 } else { need.gpus });
                let spoils = |fill: &&Fill| (fgd::spoiled(self.device(fill.key), need, &self.usual), **fill);
                suiting.filter(|fill| suits(fill.key)).min_by_key(spoils).map(|fill| fill.key)
            }
        }
    }

    /// Puts one container where it fits best, whatever pool that is in; it stays there until it is
    /// [released](Self::release). For whoever fills a cluster without queues.
    pub fn place(&mut self, need: &Need, placement: Placement) -> Option<(DeviceKey, Held)> {
        let labels = BTreeMap::new();
        let suits = |(key, pool): &(PoolKey, &Pool)| {
            pool.kinds
                .iter()
                .any(|kind| need.accepts(kind))
                .then(|| self.find(*key, need, &labels, placement, |_, _| true))?
        };
        let found: Vec<DeviceKey> = self.pools().filter_map(|pool| suits(&pool)).collect();
        let device = found.into_iter().min_by_key(|key| self.rank_among_pools(*key, need, placement))?;
        let of = self.device(device);
        let held = of.hold(need, choose_gpus(of, need, placement, &self.usual), crate::NEVER, false);
        self.take(device, held);
        Some((device, held))
    }

    /// Compares the best devices of pools as those of one pool are compared.
    fn rank_among_pools(&self, key: DeviceKey, need: &Need, placement: Placement) -> (i64, i64) {
        let device = self.device(key);
        let free = i64::from(device.free_gpu_count());
        let score = match placement {
            Placement::Pack if need.share < WHOLE => {
                let (whole, left, _) = self.tightest_share(key, need);
                i64::from(whole) * i64::from(u16::MAX) + i64::from(left)
            }
            Placement::Pack => free,
            Placement::Spread => -free,
            Placement::Fgd => fgd::spoiled(device, need, &self.usual),
        };
        (score, self.rank(key))
    }

    /// For a shared GPU: beside others before a whole one; then the fewest whole ones free.
    fn tightest_share(&self, key: DeviceKey, need: &Need) -> (bool, u16, u32) {
        let device = self.device(key);
        let left = fgd::place_for_share(device, need).map_or(WHOLE, |place| device.left(place));
        (left == WHOLE, left, device.free_gpu_count())
    }
}
