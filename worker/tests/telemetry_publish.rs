//! Telemetry on the broker: whoever binds a queue gets each row, and nobody has to.

use std::time::Duration;

use berth_common::broker::{Broker, topology};
use berth_common::inventory::GpuSource;
use berth_worker::gpu::Probe;
use berth_worker::telemetry::{ContainerStats, ContainerUse, Settings, start};
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const LIMIT: Duration = Duration::from_secs(20);

struct NoContainers;

impl ContainerStats for NoContainers {
    async fn list(&mut self) -> Result<Vec<ContainerUse>, String> {
        Ok(Vec::new())
    }
}

/// What is published under `key`, on a queue of its own.
async fn listen(channel: &Channel, key: &str) -> Consumer {
    let (queue, none) = (format!("test.{}", uuid::Uuid::new_v4()), FieldTable::default);
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let exchange = topology::TELEMETRY;
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, none()).await.expect("exchange");
    let own = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), own, none()).await.expect("a queue");
    let bind = QueueBindOptions::default();
    channel
        .queue_bind(queue.as_str().into(), exchange.into(), key.into(), bind, none())
        .await
        .expect("bound");
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    channel.basic_consume(queue.as_str().into(), "".into(), options, none()).await.expect("consumes")
}

#[tokio::test]
async fn each_row_is_published_under_its_device_and_table() {
    let url = std::env::var("BERTH_TEST_AMQP_URL")
        .expect("BERTH_TEST_AMQP_URL is not set: run `make test`, which starts RabbitMQ");
    let device = format!("test-{}", uuid::Uuid::new_v4().simple());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("connects");
    let channel = connection.create_channel().await.expect("a channel");
    let mut rows = listen(&channel, &format!("{device}.gauge")).await;

    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let broker = Broker::new(&url, "telemetry-test", stop.clone(), tasks.clone()).expect("a URL");
    let folder = std::env::temp_dir().join(&device);
    std::fs::create_dir(&folder).expect("a new folder");
    let settings = Settings {
        url: None,
        state_dir: folder.clone(),
        interval: Duration::from_millis(50),
        keep_days: 7,
        device: device.clone(),
    };
    let probe = Probe::new(&GpuSource::None, &device);
    start(&settings, probe, NoContainers, Some(broker.publisher()), &stop, &tasks).expect("starts");

    let row =
        tokio::time::timeout(LIMIT, rows.next()).await.expect("a row").expect("open").expect("a delivery");
    assert_eq!(row.properties.kind().as_ref().map(|kind| kind.as_str()), Some("telemetry.v1"));
    assert_eq!(row.properties.expiration().as_ref().map(|ms| ms.as_str()), Some("60000"));
    let body: serde_json::Value = serde_json::from_slice(&row.data).expect("JSON");
    assert_eq!(body["device"], device);
    assert!(body["t"].is_string() && body["cpu"].is_number() && body["gpu_load"].is_null(), "{body}");

    stop.cancel();
    tasks.close();
    tokio::time::timeout(LIMIT, tasks.wait()).await.expect("all tasks end with the stop");
    std::fs::remove_dir_all(&folder).expect("removes its folder");
}
