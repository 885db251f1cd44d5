//! One connection that is made, and made again, until the program stops.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind, Event};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::publisher::Publisher;
use super::subscriber::{Subscriber, Subscription};
use super::topology;
use super::wire::Wire;

/// Connecting, opening a channel, declaring: a broker that needs longer is treated as away.
pub(super) const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
/// First and last pause between two attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long a broker may take to answer a farewell.
const FAREWELL: Duration = Duration::from_secs(2);
/// How often a quiet connection is asked whether it still stands.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// 0.12 MB of buffers per connection instead of the 7.8 MB that the broker's default costs.
const FRAME_MAX: u32 = 131_072;
/// Seconds. A frozen peer's messages come back after about two and a half of these.
const HEARTBEAT_S: u16 = 10;

/// How a connection is, for readiness reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Not there; with what the last attempt met.
    Connecting {
        error: Option<String>,
    },
    Up,
    /// The broker is short of memory or disk and takes nothing.
    Blocked {
        reason: String,
    },
}

/// What is done on a connection while it lasts.
pub(super) trait Session: Send {
    /// Ends with the connection (`Err`: why), or when there is nothing more to do.
    fn run(&mut self, connection: &Connection) -> impl Future<Output = Result<(), String>> + Send;
}

/// Where the broker is, and for how long its connections live.
#[derive(Clone)]
pub struct Broker {
    uri: AMQPUri,
    name: String,
    pub(super) stop: CancellationToken,
    pub(super) tracker: TaskTracker,
}

impl Broker {
    /// Reads an `amqp://` or `amqps://` URL. `name` is what the broker's operators see.
    ///
    /// # Errors
    /// A sentence that says how such a URL is written.
    pub fn new(url: &str, name: &str, stop: CancellationToken, tracker: TaskTracker) -> Result<Self, String> {
        let mut uri: AMQPUri = url.parse().map_err(|error| {
            format!("BERTH_AMQP_URL cannot be read ({error}); write amqp://user:password@host:5672/%2f")
        })?;
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        Ok(Self { uri, name: name.to_owned(), stop, tracker })
    }

    /// Host, port and vhost: where it is, without the password.
    #[must_use]
    pub fn location(&self) -> String {
        let authority = &self.uri.authority;
        format!("{}:{} (vhost {})", authority.host, authority.port, self.uri.vhost)
    }

    /// The account that it signs in with.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// Where the tasks of its connections run; whoever works on its deliveries runs there too.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        &self.tracker
    }

    /// A connection that publishes.
    #[must_use]
    pub fn publisher(&self) -> Publisher {
        Publisher::start(self)
    }

    /// A connection that consumes.
    #[must_use]
    pub fn subscribe(&self, subscriptions: Vec<Subscription>) -> Subscriber {
        Subscriber::start(self, subscriptions)
    }

    /// The same broker, on connections whose owner, when it freezes, is missed after two and a half
    /// times `seconds`: then what it had in hand goes to others.
    #[must_use]
    pub fn with_heartbeat(&self, seconds: u16) -> Self {
        let mut this = self.clone();
        this.uri.query.heartbeat = this.uri.query.heartbeat.map(|given| given.min(seconds)).or(Some(seconds));
        this
    }

    /// Declares the queues of a device, on a connection of its own: it happens once per device.
    ///
    /// # Errors
    /// What went wrong, in words; it can be repeated.
    pub async fn declare_device(&self, device: &str) -> Result<(), String> {
        self.once(async |channel| topology::declare_device(&channel, device).await).await
    }

    /// Deletes the queues of a device, on a connection of its own.
    ///
    /// # Errors
    /// What went wrong, in words; it can be repeated.
    pub async fn delete_device(&self, device: &str) -> Result<(), String> {
        self.once(async |channel| topology::delete_device(&channel, device).await).await
    }

    async fn once(&self, work: impl AsyncFnOnce(Channel) -> Result<(), lapin::Error>) -> Result<(), String> {
        let wire = self.connect().await?;
        let connection = &wire.connection;
        let work = async { work(connection.create_channel().await?).await };
        let done = tokio::time::timeout(SETUP_TIMEOUT, work).await;
        let _ = tokio::time::timeout(FAREWELL, connection.close(200, "bye".into())).await;
        done.map_err(|_| "it took too long".to_owned())?.map_err(|error| error.to_string())
    }

    async fn connect(&self) -> Result<Wire, String> {
        let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        match tokio::time::timeout(SETUP_TIMEOUT, Wire::connect(self.uri.clone(), properties)).await {
            Ok(Ok(wire)) => Ok(wire),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", SETUP_TIMEOUT.as_secs())),
        }
    }

    /// Connects and runs `session`, again and again, until the program stops. Says once that the
    /// broker is away and once that it is back.
    pub(super) async fn keep(&self, state: &watch::Sender<LinkState>, mut session: impl Session) {
        let mut pause = BACKOFF.0;
        let mut told = false;
        while !self.stop.is_cancelled() {
            let error = match self.stop.run_until_cancelled(self.connect()).await {
                None => return,
                Some(Err(error)) => error,
                Some(Ok(wire)) => {
                    let connection = &wire.connection;
                    if told {
                        tracing::info!(broker = %self.location(), link = %self.name, "the broker is back");
                    }
                    told = false;
                    let began = Instant::now();
                    let ended = self.stop.run_until_cancelled(session.run(connection)).await;
                    let close = connection.close(200, "bye".into());
                    // A broker that does not answer the farewell is gone all the same.
                    let _ = tokio::time::timeout(FAREWELL, close).await;
                    // What had gone well for a while begins to wait anew.
                    if began.elapsed() > BACKOFF.1 {
                        pause = BACKOFF.0;
                    }
                    match ended {
                        None => return,
                        Some(Ok(())) => "the connection ended".to_owned(),
                        Some(Err(error)) => error,
                    }
                }
            };
            if !told {
                tracing::warn!(
                    broker = %self.location(), link = %self.name, %error,
                    "no connection to RabbitMQ; check BERTH_AMQP_URL and that the broker runs. Trying again"
                );
                told = true;
            }
            state.send_replace(LinkState::Connecting { error: Some(error) });
            self.stop.run_until_cancelled(tokio::time::sleep(jittered(pause))).await;
            pause = (pause * 2).min(BACKOFF.1);
        }
    }
}

/// Between one half and the whole of `pause`, so that a hundred workers do not come back in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

/// What was named is not there. It closes the channel, not the connection.
pub(super) fn is_missing(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(error) => *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND),
        _ => false,
    }
}

/// Ends when the connection does; meanwhile reports blocking.
pub(super) async fn watch(connection: &Connection, state: &watch::Sender<LinkState>) -> String {
    let mut events = std::pin::pin!(connection.events_listener());
    let mut check = tokio::time::interval(CHECK_EVERY);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(%reason, "RabbitMQ takes no messages until it has room again");
                    state.send_replace(LinkState::Blocked { reason });
                }
                Some(Event::ConnectionUnblocked) => {
                    state.send_replace(LinkState::Up);
                }
                // The one who looked for it is told, and may look again on another channel.
                Some(Event::Error(error)) if is_missing(&error) => {}
                Some(Event::Error(error)) => return error.to_string(),
                Some(_) => {}
                None => return "the connection ended".into(),
            },
            _ = check.tick() => if !connection.status().connected() {
                return "the connection was closed".into();
            },
        }
    }
}
