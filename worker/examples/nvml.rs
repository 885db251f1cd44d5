//! Prints what NVML says on this machine, as JSON: the GPUs and one sample of each.

use berth_common::inventory::GpuSource;
use berth_worker::gpu::Probe;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let probe = Probe::new(&GpuSource::Auto, "example");
    let answer = serde_json::json!({ "gpus": probe.gpus().await?, "samples": probe.samples().await? });
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(())
}
