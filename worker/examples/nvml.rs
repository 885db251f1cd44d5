//! Prints what NVML says on this machine, as JSON: the GPUs, how they are linked, and one sample of each.

use berth_common::inventory::GpuSource;
use berth_worker::gpu::Probe;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let probe = Probe::new(&GpuSource::Auto, "example");
    let gpus = probe.gpus().await?;
    let links = probe.links(&gpus).await;
    let answer = serde_json::json!({ "gpus": gpus, "links": links, "samples": probe.samples().await? });
    println!("{}", serde_json::to_string_pretty(&answer)?);
    Ok(())
}
