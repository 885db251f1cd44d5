//! Asks NVML how the GPUs are linked. Whatever it refuses to say is left out.

use nvml_wrapper::enum_wrappers::device::TopologyLevel;
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::struct_wrappers::device::PciInfo;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id::NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT;
use nvml_wrapper::{Device, Nvml};

use crate::gpu::links::{Address, Seen, Way};

/// NVLinks of one GPU: NVML_NVLINK_MAX_LINKS.
const NVLINKS: u32 = 18;

/// The links of these GPUs, in their order.
pub(super) fn read(nvml: &Nvml, uuids: &[String]) -> Vec<Seen> {
    let one =
        |place: usize| Some(seen(nvml, &nvml.device_by_uuid(uuids[place].as_str()).ok()?, &uuids[..place]));
    (0..uuids.len()).map(|place| one(place).unwrap_or_default()).collect()
}

fn seen(nvml: &Nvml, device: &Device<'_>, before: &[String]) -> Seen {
    let way_to = |uuid: &String| {
        let other = nvml.device_by_uuid(uuid.as_str()).ok()?;
        device.topology_common_ancestor(other).ok().map(way)
    };
    Seen {
        address: device.pci_info().ok().map(|pci| address(&pci)),
        nvlinks: (0..NVLINKS).filter_map(|link| end_of(device, link)).collect(),
        to_switches: to_switches(device),
        ways: before.iter().map(way_to).collect(),
    }
}

/// Where an NVLink ends; none for one that is not there or not in use.
fn end_of(device: &Device<'_>, link: u32) -> Option<Address> {
    let link = device.link_wrapper_for(link);
    let is_active = link.is_active().ok()?;
    is_active.then(|| link.remote_pci_info().ok()).flatten().map(|pci| address(&pci))
}

/// NVLinks that end at a switch, as `nvidia-smi topo` counts them: what kind of device a single link ends
/// at, nvml-wrapper 0.13 always gives as unknown.
fn to_switches(device: &Device<'_>) -> u32 {
    let field = FieldId(NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT);
    let answer = device.field_values_for(&[field]).ok().and_then(|answers| answers.into_iter().next());
    match answer.and_then(Result::ok).map(|sample| sample.value) {
        Some(Ok(SampleValue::U32(links))) => links,
        Some(Ok(SampleValue::U64(links))) => u32::try_from(links).unwrap_or(0),
        Some(Ok(SampleValue::I64(links))) => u32::try_from(links).unwrap_or(0),
        Some(Ok(SampleValue::F64(_)) | Err(_)) | None => 0,
    }
}

fn address(pci: &PciInfo) -> Address {
    Address { domain: pci.domain, bus: pci.bus, device: pci.device }
}

fn way(level: TopologyLevel) -> Way {
    match level {
        TopologyLevel::Internal => Way::OneBoard,
        TopologyLevel::Single => Way::OneSwitch,
        TopologyLevel::Multiple => Way::SeveralSwitches,
        TopologyLevel::HostBridge => Way::HostBridge,
        TopologyLevel::Node => Way::WithinNode,
        TopologyLevel::System => Way::BetweenNodes,
    }
}
