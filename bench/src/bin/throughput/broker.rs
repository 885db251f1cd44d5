//! The limit on the broker's side: as many messages through one quorum queue, confirmed and acknowledged.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryFutureExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer};
use tokio::time::Instant;

/// Publishing and consuming each have a connection, as in the programs.
pub struct Broker {
    publishes: Channel,
    consumes: Channel,
    messages: Consumer,
    connections: [Connection; 2],
}

const QUEUE: &str = "bench";
/// Confirms that are awaited together, and messages in hand: beyond these nothing is gained.
const WINDOW: usize = 500;
const PREFETCH: u16 = 1000;
const PERSISTENT: u8 = 2;
/// For all messages of a repeat to come back.
const LIMIT: Duration = Duration::from_secs(60);

impl Broker {
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let connect = || Connection::connect(url, ConnectionProperties::default());
        let connections = [connect().await.context("the broker")?, connect().await.context("the broker")?];
        let publishes = connections[0].create_channel().await?;
        publishes.confirm_select(ConfirmSelectOptions::default()).await?;
        let consumes = connections[1].create_channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        consumes.queue_declare(QUEUE.into(), durable, arguments).await?;
        consumes.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let messages =
            consumes.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await?;
        Ok(Self { publishes, consumes, messages, connections })
    }

    /// Messages per second until all are acknowledged by their consumer.
    pub async fn once(&mut self, body: &[u8], n: usize) -> anyhow::Result<f64> {
        let Self { publishes, consumes, messages, connections: _ } = self;
        let began = Instant::now();
        let both = async { tokio::try_join!(publish(publishes, body, n), consume(consumes, messages, n)) };
        tokio::time::timeout(LIMIT, both).await.context("the broker took too long")??;
        Ok(n as f64 / began.elapsed().as_secs_f64())
    }

    pub async fn close(self) -> anyhow::Result<()> {
        for connection in self.connections {
            connection.close(200, "done".into()).await.context("closing a connection")?;
        }
        Ok(())
    }
}

async fn publish(channel: &Channel, body: &[u8], n: usize) -> anyhow::Result<()> {
    let mut left = n;
    while left > 0 {
        let window = left.min(WINDOW);
        let confirms = (0..window).map(|_| {
            let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            channel
                .basic_publish("".into(), QUEUE.into(), options, body, properties)
                .and_then(|confirm| confirm)
        });
        for confirm in try_join_all(confirms).await.context("publishing")? {
            ensure!(matches!(confirm, Confirmation::Ack(None)), "not taken: {confirm:?}");
        }
        left -= window;
    }
    Ok(())
}

async fn consume(channel: &Channel, messages: &mut Consumer, n: usize) -> anyhow::Result<()> {
    for _ in 0..n {
        let message = messages.next().await.context("the consumer goes on")?.context("a delivery")?;
        message.acker.ack(BasicAckOptions::default()).await.context("acknowledging")?;
    }
    ensure!(channel.status().connected(), "the channel was closed");
    Ok(())
}
