//! A leader that does what the test says: it welcomes, orders, asks, and hears what the worker tells.

use std::time::Duration;

use berth_common::broker::{Broker, Declare, Message, Publisher, Subscriber, Subscription, topology};
use berth_common::id::{CELL, Replica};
use berth_common::job::StopReason;
use berth_common::message::{
    DEVICE_RPC, DeviceRpc, Ending, Event, Exec, Executed, FromDevice, Heartbeat, HeldState, LogPiece,
    LogQuery, Order, Reply, Start, StartGpu, Started, Stop, TO_DEVICE, ToDevice, Welcome, WhatBecame,
};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::LIMIT;

pub struct Leader {
    device: String,
    publisher: Publisher,
    events: Subscriber,
    replies: Subscriber,
    reply_to: String,
    pub instance: Uuid,
    pub boot: Uuid,
    session: i64,
    next_id: i64,
    heard: Vec<FromDevice>,
    /// Where it wants to hear that it is refused.
    pub refusals: Option<String>,
    /// The last heartbeat heard.
    pub heartbeat: Option<Heartbeat>,
    _alive: DropGuard,
}

impl Leader {
    pub async fn new(url: &str, device: &str) -> Self {
        let stop = CancellationToken::new();
        let broker = Broker::new(url, "test leader", stop.clone(), TaskTracker::new()).expect("a URL");
        let connection = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await;
        let connection = connection.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        topology::declare(&channel, CELL).await.expect("declared");
        topology::declare_device(&channel, device).await.expect("declared");
        connection.close(200, "bye".into()).await.expect("closed");
        let reply_to = topology::reply_queue("test", Uuid::new_v4());
        let events =
            Subscription { queue: topology::events_queue(CELL), declare: Declare::Existing, prefetch: 100 };
        let mine = Declare::Exclusive { exchange: topology::REPLIES, routing_key: reply_to.clone() };
        let replies = Subscription { queue: reply_to.clone(), declare: mine, prefetch: 100 };
        Self {
            device: device.to_owned(),
            publisher: broker.publisher(),
            events: broker.subscribe(vec![events]),
            replies: broker.subscribe(vec![replies]),
            reply_to,
            instance: Uuid::new_v4(),
            boot: Uuid::nil(),
            session: 0,
            next_id: 1,
            heard: Vec::new(),
            refusals: None,
            heartbeat: None,
            _alive: stop.drop_guard(),
        }
    }

    /// Waits for a heartbeat without a session, of a process that was not heard before.
    pub async fn hello(&mut self) {
        let before = self.boot;
        self.until("a hello", |told| match &told.event {
            Event::Heartbeat(beat) => (beat.session.is_none() && told.boot != before).then_some(()),
            Event::Started(_) | Event::Exited(_) | Event::Answer(_) | Event::Executed(_) => None,
        })
        .await;
    }

    /// A new session, in which `expected` is believed to be there.
    pub async fn welcome(&mut self, expected: &[Replica]) {
        self.welcome_with(expected, 240).await;
    }

    pub async fn welcome_with(&mut self, expected: &[Replica], fence_after_s: u64) {
        self.session += 1;
        let welcome =
            Welcome { boot: self.boot, instance: self.instance, expected: expected.to_vec(), fence_after_s };
        self.order(Order::Welcome(welcome)).await;
        let session = self.session;
        self.until("a heartbeat of the new session", |told| match &told.event {
            Event::Heartbeat(beat) => (beat.session == Some(session)).then_some(()),
            Event::Started(_) | Event::Exited(_) | Event::Answer(_) | Event::Executed(_) => None,
        })
        .await;
    }

    /// Starts a container with this specification; `image` is added where it has none.
    pub async fn start(&mut self, image: &str, mut spec: Value) -> Replica {
        let replica = Replica { job: Uuid::new_v4(), attempt: 1, replica: 0 };
        if spec.get("image").is_none() {
            spec["image"] = json!(image);
        }
        let order = start_order(replica, spec);
        self.order(order).await;
        replica
    }

    pub async fn stop(&mut self, replica: Replica, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).expect("short");
        self.order(Order::Stop(Stop { replica, reason: StopReason::Kill, grace_ms })).await;
    }

    /// Starts a container that may run for so many seconds.
    pub async fn start_limited(&mut self, image: &str, command: &[&str], timeout_s: u64) -> Replica {
        let replica = Replica { job: Uuid::new_v4(), attempt: 1, replica: 0 };
        let mut order = start_order(replica, json!({"image": image, "command": command}));
        if let Order::Start(start) = &mut order {
            start.timeout_s = Some(timeout_s);
        }
        self.order(order).await;
        replica
    }

    /// Has an argument list run in a container; gives the command's id.
    pub async fn exec(&mut self, replica: Replica, argv: &[&str], timeout_s: u64) -> Uuid {
        let command = Uuid::new_v4();
        self.exec_as(command, replica, argv, timeout_s).await;
        command
    }

    pub async fn exec_as(&mut self, command: Uuid, replica: Replica, argv: &[&str], timeout_s: u64) {
        let argv = argv.iter().map(ToString::to_string).collect();
        self.order(Order::Exec(Exec { command, replica, argv, timeout_s })).await;
    }

    pub async fn executed(&mut self, command: Uuid) -> Executed {
        self.until("a command's result", |told| match &told.event {
            Event::Executed(executed) if executed.command == command => Some(executed.clone()),
            Event::Heartbeat(_)
            | Event::Started(_)
            | Event::Exited(_)
            | Event::Answer(_)
            | Event::Executed(_) => None,
        })
        .await
    }

    /// Sends an order under the next number; says which.
    pub async fn order(&mut self, order: Order) -> ToDevice {
        let message = ToDevice { session: self.session, id: self.next_id, order };
        self.next_id += 1;
        self.send(&message).await;
        message
    }

    pub async fn send(&self, message: &ToDevice) {
        let body = serde_json::to_vec(message).expect("json");
        self.publish(Message::new(
            topology::DEVICES,
            &self.device,
            TO_DEVICE,
            Uuid::new_v4().to_string(),
            body,
        ))
        .await;
    }

    pub async fn publish(&self, message: Message) {
        super::eventually("the broker takes a message", async || {
            self.publisher.publish(message.clone()).await.map_err(|error| error.to_string())
        })
        .await;
    }

    pub async fn started(&mut self, replica: Replica) -> Started {
        self.until("it started", |told| match &told.event {
            Event::Started(started) if started.replica == replica => Some(started.clone()),
            Event::Exited(exited) if exited.replica == replica => panic!("it ended: {exited:?}"),
            Event::Heartbeat(_)
            | Event::Started(_)
            | Event::Exited(_)
            | Event::Answer(_)
            | Event::Executed(_) => None,
        })
        .await
    }

    pub async fn exited(&mut self, replica: Replica) -> Ending {
        self.until("it ended", |told| match &told.event {
            Event::Exited(exited) if exited.replica == replica => Some(exited.ending.clone()),
            Event::Heartbeat(_)
            | Event::Started(_)
            | Event::Exited(_)
            | Event::Answer(_)
            | Event::Executed(_) => None,
        })
        .await
    }

    pub async fn answered(&mut self, replica: Replica) -> WhatBecame {
        self.until("an answer", |told| match &told.event {
            Event::Answer(answer) if answer.replica == replica => Some(answer.answer.clone()),
            Event::Heartbeat(_)
            | Event::Started(_)
            | Event::Exited(_)
            | Event::Answer(_)
            | Event::Executed(_) => None,
        })
        .await
    }

    /// Waits for a heartbeat of this session that lists exactly `held`.
    pub async fn lists(&mut self, held: &[(Replica, HeldState)]) {
        let session = Some(self.session);
        self.until(&format!("a heartbeat with {held:?}"), |told| match &told.event {
            Event::Heartbeat(beat) if beat.session == session => {
                let listed: Vec<_> = beat.attempts.iter().flatten().map(|h| (h.replica, h.state)).collect();
                (beat.attempts.is_some() && listed == held).then_some(())
            }
            Event::Heartbeat(_)
            | Event::Started(_)
            | Event::Exited(_)
            | Event::Answer(_)
            | Event::Executed(_) => None,
        })
        .await;
    }

    /// Hears events until `wanted` finds what it wants in one. Reports that nobody wanted are kept
    /// for later; heartbeats are not.
    pub async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(&FromDevice) -> Option<T>) -> T {
        if let Some((at, found)) =
            self.heard.iter().enumerate().find_map(|(at, told)| Some((at, wanted(told)?)))
        {
            self.heard.remove(at);
            return found;
        }
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let Ok(delivery) = tokio::time::timeout_at(deadline, self.events.deliveries.recv()).await else {
                panic!("never: {what}; heard: {:#?}, last heartbeat {:#?}", self.heard, self.heartbeat);
            };
            let delivery = delivery.expect("the broker stays");
            delivery.ack().await;
            let told: FromDevice = serde_json::from_slice(&delivery.body).expect("an event");
            assert_eq!(delivery.routing_key, format!("{}.{}", self.device, told.event.key()));
            let found = wanted(&told);
            self.boot = told.boot;
            match &told.event {
                Event::Heartbeat(beat) => {
                    self.heartbeat = Some((**beat).clone());
                    self.refusals = delivery.reply_to;
                }
                Event::Started(_) | Event::Exited(_) | Event::Answer(_) | Event::Executed(_)
                    if found.is_none() =>
                {
                    self.heard.push(told);
                }
                Event::Started(_) | Event::Exited(_) | Event::Answer(_) | Event::Executed(_) => {}
            }
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Whether a report came that nobody has asked for.
    pub fn unasked(&self) -> &[FromDevice] {
        &self.heard
    }

    /// Asks the device a question.
    pub async fn ask(&mut self, question: &DeviceRpc) -> Reply {
        let id = Uuid::new_v4().to_string();
        let body = serde_json::to_vec(question).expect("json");
        let mut message = Message::new(topology::RPC, &self.device, DEVICE_RPC, &id, body);
        message.reply_to = Some(self.reply_to.clone());
        message.correlation_id = Some(id.clone());
        self.publish(message).await;
        let answer = tokio::time::timeout(LIMIT, async {
            loop {
                let delivery = self.replies.deliveries.recv().await.expect("the broker stays");
                delivery.ack().await;
                if delivery.correlation_id.as_deref() == Some(&id) {
                    return serde_json::from_slice(&delivery.body).expect("a reply");
                }
            }
        });
        answer.await.expect("the device answers")
    }

    /// Waits until a container has written `text`.
    pub async fn wrote(&mut self, replica: Replica, text: &str) {
        let mut seen = String::new();
        while !seen.contains(text) {
            let query =
                LogQuery { replica, stream: None, tail: None, since: None, cursor: None, wait_ms: 1000 };
            let reply = self.ask(&DeviceRpc::Logs(query)).await;
            seen = reply.body["text"].as_str().unwrap_or_default().to_owned();
            assert_ne!(reply.body["end"], json!(true), "it ended; its log is {seen}");
        }
    }

    /// The whole log of a container, to its end.
    pub async fn log(&mut self, replica: Replica) -> String {
        let (mut text, mut cursor) = (String::new(), None);
        loop {
            let query = LogQuery { replica, stream: None, tail: None, since: None, cursor, wait_ms: 5000 };
            let reply = self.ask(&DeviceRpc::Logs(query)).await;
            assert_eq!(reply.status, 200, "{}", reply.body);
            let piece: LogPiece = serde_json::from_value(reply.body).expect("a piece");
            text.push_str(&piece.text);
            cursor = Some(piece.cursor);
            if piece.end {
                return text;
            }
        }
    }
}

pub fn start_order(replica: Replica, spec: Value) -> Order {
    let spec = berth_common::spec::from_value(spec).expect("valid");
    let gpu = |idx| StartGpu { uuid: format!("declared-x-{idx}"), idx, kind: "T4".into() };
    let gpus = (0..spec.resources.gpus).map(gpu).collect();
    Order::Start(Box::new(Start {
        replica,
        owner: "ann".into(),
        spec,
        gpus,
        password: "hunter2".into(),
        timeout_s: None,
        array_index: None,
        gang: None,
    }))
}
