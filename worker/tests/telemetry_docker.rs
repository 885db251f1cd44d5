//! What Docker counts of a container, over a real one.

use std::collections::HashMap;
use std::time::Duration;

use berth_worker::telemetry::{ContainerStats, ContainerUse, DockerStats};
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};

const LIMIT: Duration = Duration::from_secs(20);

async fn busy_container(docker: &Docker, name: &str, device: &str) {
    let image = std::env::var("BERTH_TEST_IMAGE")
        .expect("BERTH_TEST_IMAGE is not set: run `make test`, which makes an image");
    let body = ContainerCreateBody {
        image: Some(image),
        cmd: Some(["sh", "-c", "while :; do :; done"].map(str::to_owned).to_vec()),
        labels: Some(HashMap::from([("berth.device".to_owned(), device.to_owned())])),
        ..Default::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    docker.create_container(Some(options), body).await.expect("creates a container");
    docker.start_container(name, None).await.expect("starts it");
}

#[tokio::test]
async fn a_running_container_is_counted_and_others_are_not() {
    let docker = Docker::connect_with_defaults().expect("Docker's address can be read");
    let device = format!("test-{}", uuid::Uuid::new_v4().simple());
    let mut stats = DockerStats::new(docker.clone(), &device);
    assert_eq!(stats.list().await, Ok(Vec::new()), "containers of others do not count");

    let name = format!("berth-{device}");
    busy_container(&docker, &name, &device).await;
    let measured = tokio::time::timeout(LIMIT, async {
        loop {
            let used = stats.list().await.expect("Docker answers");
            if let [ContainerUse { container, cpu: Some(cpu), mem_mb: Some(mem_mb), .. }] = used.as_slice()
                && *cpu > 1.0
            {
                return (container.clone(), *cpu, *mem_mb);
            }
        }
    })
    .await;
    let remove = RemoveContainerOptionsBuilder::new().force(true).build();
    docker.remove_container(&name, Some(remove)).await.expect("removes it");

    let (container, cpu, mem_mb) = measured.expect("its CPU is known from the second reading on");
    assert_eq!(container, name);
    assert!(cpu < 150.0, "one shell cannot use {cpu} % of a CPU");
    assert!(mem_mb < 500.0, "a shell with {mem_mb} MB");
}
