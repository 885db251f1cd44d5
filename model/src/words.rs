//! Actions in words, for the way to a law that does not hold.

use berth_common::id::Replica;
use berth_common::message::{Event, FromDevice, Order, ToDevice};

use crate::action::Action;
use crate::state::State;
use crate::world::World;

/// What happens in `state`.
#[must_use]
pub fn in_words(world: &World, state: &State, action: Action) -> String {
    let name = |device: usize| world.devices[device].name;
    let again = |again: bool| if again { " (it will come again)" } else { "" };
    match action {
        Action::Submit { job } => format!("job {} is submitted", job + 1),
        Action::Kill { job } => format!("job {} is to be killed", job + 1),
        Action::Read { report, again: more } => {
            format!("the leader reads {}{}", report_in_words(&state.to_leader[report]), again(more))
        }
        Action::LoseReport { report } => format!("lost: {}", report_in_words(&state.to_leader[report])),
        Action::Take { device, message, again: more } => {
            let message = order_in_words(&state.to_device[device][message]);
            format!("{} takes {message}{}", name(device), again(more))
        }
        Action::LoseMessage { device, message } => {
            format!(
                "lost on its way to {}: {}",
                name(device),
                order_in_words(&state.to_device[device][message])
            )
        }
        Action::Beat { device, late: false } => format!(
            "the leader hears {}: {}",
            name(device),
            report_in_words(&state.workers[device].heartbeat())
        ),
        Action::Beat { device, late: true } => format!("{} sends a heartbeat", name(device)),
        Action::Move { device, replica, one } => format!("{}: {one:?} of {}", name(device), short(replica)),
        Action::CrashWorker { device } => format!("the worker of {} is started anew", name(device)),
        Action::CrashLeader => "the leader loses its memory and loads the tables".into(),
        Action::Cut { device } => format!("{} loses the broker", name(device)),
        Action::Fence { device } => format!("{} is fenced: its session is over", name(device)),
        Action::Lose { device } => format!("the leader gives {} up", name(device)),
        Action::Reconnect { device } => format!("{} has the broker again", name(device)),
        Action::Tick => "20 s pass".into(),
    }
}

fn short(replica: Replica) -> String {
    format!("job {}/{}/{}", replica.job.as_u128(), replica.attempt, replica.replica)
}

fn order_in_words(message: &ToDevice) -> String {
    let what = match &message.order {
        Order::Start(start) => format!("start {}", short(start.replica)),
        Order::Stop(stop) => format!("stop {} ({})", short(stop.replica), stop.reason),
        Order::Ask(replica) => format!("ask for {}", short(*replica)),
        Order::Welcome(welcome) => {
            let expected: Vec<String> = welcome.expected.iter().map(|replica| short(*replica)).collect();
            format!("welcome, expecting {expected:?}")
        }
        Order::Exec(exec) => format!("exec in {}", short(exec.replica)),
        Order::Limit(limit) => format!("limit of {}", short(limit.replica)),
    };
    format!("[{}.{}] {what}", message.session, message.id)
}

fn report_in_words(told: &FromDevice) -> String {
    let what = match &told.event {
        Event::Heartbeat(beat) => {
            let held = beat.attempts.iter().flatten().map(|h| format!("{} {:?}", short(h.replica), h.state));
            let held: Vec<String> = held.collect();
            format!("heartbeat of session {:?}, last {:?}, {held:?}", beat.session, beat.last)
        }
        Event::Started(started) => format!("started {}", short(started.replica)),
        Event::Exited(exited) => {
            let ending = &exited.ending;
            format!(
                "exited {} code {:?} signalled {}",
                short(exited.replica),
                ending.exit_code,
                ending.signalled
            )
        }
        Event::Answer(answer) => format!("answer for {}: {:?}", short(answer.replica), answer.answer),
        Event::Executed(_) => "an exec's end".into(),
    };
    format!("{}'s {what}", told.device)
}
