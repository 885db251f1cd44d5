//! What a worker's account may do, and nothing else. That it is enough shows in every end-to-end test:
//! their workers sign in with such accounts.

use berth_tests::berth::Berth;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind};

/// Somebody signed in, whose mistakes close channels.
struct Person {
    connection: Connection,
    account: String,
}

impl Person {
    async fn sign_in(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("signed in");
        let account = url.split(['/', ':']).find(|part| part.len() > 1 && !part.starts_with("amqp"));
        Self { connection, account: account.expect("the URL names it").to_owned() }
    }

    async fn channel(&self) -> Channel {
        let channel = self.connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        channel
    }

    async fn publish(&self, exchange: &str, key: &str, user: &str) -> u16 {
        let properties = BasicProperties::default().with_user_id(user.into());
        let channel = self.channel().await;
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await;
        match sent {
            Ok(confirm) => code(confirm.await),
            Err(error) => code(Err::<(), _>(error)),
        }
    }

    async fn consume(&self, queue: &str) -> u16 {
        let options = BasicConsumeOptions::default();
        code(
            self.channel().await.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await,
        )
    }

    async fn declare(&self, queue: &str) -> u16 {
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        code(self.channel().await.queue_declare(queue.into(), options, FieldTable::default()).await)
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> u16 {
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        code(self.channel().await.queue_bind(queue.into(), exchange.into(), key.into(), options, none).await)
    }
}

/// 0: done. Else AMQP's code: 403 is refused.
fn code<T>(result: Result<T, lapin::Error>) -> u16 {
    match result.map_err(|error| error.kind().clone()) {
        Ok(_) => 0,
        Err(ErrorKind::ProtocolError(error)) => error.get_id(),
        Err(error) => panic!("{error:?}"),
    }
}

/// The broker with its topology, a device's worker, and the name of a second device that begins like
/// the first one's.
async fn stage() -> (Berth, Person, String, String) {
    let berth = Berth::start().await;
    let own = format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
    let other = format!("{own}.lab");
    let everybody = Person::sign_in(&berth.vhost.url).await;
    for device in [&own, &other] {
        let channel = everybody.channel().await;
        for queue in [format!("berth.device.{device}"), format!("berth.rpc.{device}")] {
            let durable = QueueDeclareOptions { durable: true, ..Default::default() };
            let declared = channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await;
            declared.expect("declared");
        }
    }
    let worker = Person::sign_in(&berth.accounts.make(&format!("device-{own}")).await).await;
    (berth, worker, own, other)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_account_reads_its_own_queues_only() {
    let (_berth, worker, own, other) = stage().await;
    for queue in [format!("berth.device.{own}"), format!("berth.rpc.{own}")] {
        assert_eq!(worker.consume(&queue).await, 0, "{queue}");
    }
    for queue in [
        format!("berth.device.{other}"),
        format!("berth.rpc.{other}"),
        "berth.requests.0".into(),
        "berth.events.0".into(),
        "berth.dead".into(),
    ] {
        assert_eq!(worker.consume(&queue).await, 403, "{queue}");
    }
    let channel = worker.channel().await;
    let queue = format!("berth.device.{own}");
    let deleted = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
    assert_eq!(code(deleted), 403, "the leader's to delete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workers_account_speaks_under_its_own_name_only() {
    let (_berth, worker, own, other) = stage().await;
    let me = worker.account.clone();
    for event in ["heartbeat", "started", "exited", "answer"] {
        assert_eq!(worker.publish("berth.events", &format!("{own}.{event}"), &me).await, 0, "{event}");
        assert_eq!(worker.publish("berth.events", &format!("{other}.{event}"), &me).await, 403, "{event}");
    }
    assert_eq!(worker.publish("berth.telemetry", &format!("{own}.gauge"), &me).await, 0);
    for (exchange, key) in [
        ("berth.telemetry", format!("{other}.gauge")),
        ("berth.events", "_leader.0.marker".into()),
        ("berth.requests", "job.submit".into()),
        ("berth.requests", "command".into()),
        ("berth.devices", own.clone()),
        ("berth.rpc", other.clone()),
        ("berth.status", "default.admin.exited".into()),
        ("berth.dead", String::new()),
        // The default exchange leads to every queue.
        ("", format!("berth.device.{other}")),
    ] {
        assert_eq!(worker.publish(exchange, &key, &me).await, 403, "{exchange} {key}");
    }
    let heartbeat = format!("{own}.heartbeat");
    let posing = worker.publish("berth.events", &heartbeat, &format!("device-{other}")).await;
    assert_eq!(posing, 406, "the broker vouches for user_id");
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let channel = worker.channel().await;
    let made = channel.exchange_declare("own".into(), ExchangeKind::Topic, durable, FieldTable::default());
    assert_eq!(code(made.await), 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_has_a_reply_queue_of_its_own_and_overhears_nobody() {
    let (berth, worker, own, other) = stage().await;
    let queue = |device: &str| format!("berth.reply.{device}.{}", uuid::Uuid::new_v4());
    for queue in [queue(&other), queue("shim"), queue("leader"), format!("berth.reply.{own}.x.y")] {
        assert_eq!(worker.declare(&queue).await, 403, "{queue}");
    }
    let mine = queue(&own);
    assert_eq!(worker.declare(&mine).await, 0);
    // Whoever may bind may bind under somebody else's key: questions tell a worker the shim's.
    for (exchange, key) in
        [("berth.replies", mine.as_str()), ("berth.replies", "berth.reply.shim.x"), ("berth.events", "#")]
    {
        assert_eq!(worker.bind(&mine, exchange, key).await, 403, "{exchange}");
    }
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let channel = worker.channel().await;
    let replies = channel.basic_consume(mine.as_str().into(), "".into(), options, FieldTable::default());
    let mut replies = replies.await.expect("its own");
    let scheduler = Person::sign_in(&berth.vhost.url).await;
    assert_eq!(scheduler.publish("", &mine, &scheduler.account).await, 0);
    let heard = tokio::time::timeout(std::time::Duration::from_secs(10), replies.next()).await;
    assert_eq!(heard.expect("in time").expect("the stream goes on").expect("a reply").data, b"{}");
}
