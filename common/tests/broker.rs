//! Connections to RabbitMQ that are lost while they are in use.

use std::sync::Arc;
use std::time::Duration;

use berth_common::broker::{
    Broker, Declare, Delivery, LinkState, Message, Publisher, Subscription, topology,
};
use berth_tests::broker::Vhost;
use berth_tests::proxy::{Proxy, Wire};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the connection is lost. lapin alone forgets acknowledgements at many a loss.
const LOSSES: u16 = 20;
/// For each connection, which sees some of them.
const MESSAGES: u16 = 2000;
/// Acknowledging at the same time.
const HANDS: u16 = 8;
const LIMIT: Duration = Duration::from_secs(20);

/// Whoever takes messages acknowledges one after the other: after an acknowledgement that never ends,
/// nothing is taken any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_end_when_the_connection_does() {
    let vhost = Vhost::create().await;
    let wire = Proxy::to_server_of(&vhost.url).await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let broker = |url: &str, stop| Broker::new(url, "test", stop, tasks.clone()).expect("a URL");
    let publisher = broker(&vhost.url, stop.clone()).publisher();
    publisher.state().wait_for(|state| *state == LinkState::Up).await.expect("it runs");
    let mut lost = 0;
    for loss in 0..LOSSES {
        wire.set(Wire::Whole);
        let (queue, over) = (format!("test.{loss}"), stop.child_token());
        let subscription =
            Subscription { queue: queue.clone(), declare: Declare::Unbound, prefetch: MESSAGES };
        let mut incoming = broker(&wire.carrying(&vhost.url), over.clone()).subscribe(vec![subscription]);
        incoming.state.wait_for(|state| *state == LinkState::Up).await.expect("it runs");
        let sending = send_all(&publisher, &queue);
        let deliveries = Arc::new(Mutex::new(incoming.deliveries));
        let hands: JoinSet<u32> = (0..HANDS).map(|_| acknowledge_all(Arc::clone(&deliveries))).collect();
        tokio::time::sleep(Duration::from_millis(u64::from(10 + 3 * loss))).await;
        wire.set(Wire::Cut);
        incoming.state.wait_for(|state| *state != LinkState::Up).await.expect("it runs");
        over.cancel();
        let ended = tokio::time::timeout(LIMIT, hands.join_all()).await;
        let each = ended.unwrap_or_else(|_| panic!("after loss {loss}, an acknowledgement hangs"));
        lost += each.into_iter().sum::<u32>();
        sending.join_all().await;
    }
    assert!(lost > 0, "no connection was lost with an acknowledgement on its way");
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

/// The queue goes with the connection: some of them find none.
fn send_all(publisher: &Publisher, queue: &str) -> JoinSet<()> {
    let message = |n: u16| Message::new(topology::BY_QUEUE, queue, "test", n.to_string(), Vec::new());
    let send = |message| {
        let publisher = publisher.clone();
        async move { drop(publisher.publish(message).await) }
    };
    (0..MESSAGES).map(message).map(send).collect()
}

/// Until there are no more; how many acknowledgements were lost.
async fn acknowledge_all(deliveries: Arc<Mutex<mpsc::Receiver<Delivery>>>) -> u32 {
    let mut lost = 0;
    loop {
        let next = deliveries.lock().await.recv().await;
        let Some(next) = next else { return lost };
        lost += u32::from(!next.ack().await);
    }
}
