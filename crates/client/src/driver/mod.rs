//! The one task of a client: it gives the session its time, its calls and its network.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};

use crate::error::Error;
use crate::event::{CloseReason, Event};
use crate::request::MessageId;
use crate::session::{Call, Output, Session};
use crate::transport::{Report, Transport};

/// A call and where its answer goes.
pub(crate) type Asked = (Call, oneshot::Sender<Result<(), Error>>);

/// Runs a session over a transport until it ends or nobody is interested any more.
pub(crate) struct Driver<T> {
    session: Session,
    transport: T,
    /// None once all handles are dropped.
    calls: Option<mpsc::Receiver<Asked>>,
    /// None once the event stream is dropped.
    events: Option<mpsc::Sender<Event>>,
    /// Events for which the stream had no room yet. While there are any, nothing is read.
    undelivered: VecDeque<Event>,
    answer_by_id: HashMap<MessageId, oneshot::Sender<Result<(), Error>>>,
    established: Option<oneshot::Sender<Result<(), Error>>>,
    client_id: watch::Sender<String>,
}

/// The other ends of what a driver holds.
pub(crate) struct Ends {
    pub(crate) calls: mpsc::Sender<Asked>,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) established: oneshot::Receiver<Result<(), Error>>,
    pub(crate) client_id: watch::Receiver<String>,
}

enum Happening {
    Asked(Option<Asked>),
    Reported(Report),
    Delivered,
    StreamDropped,
    TimePassed,
}

enum End {
    Failed,
    Closed(CloseReason),
    Unwatched,
}

impl<T: Transport> Driver<T> {
    pub(crate) fn new(session: Session, transport: T, event_buffer: usize) -> (Driver<T>, Ends) {
        let (calls_sender, calls) = mpsc::channel(CALL_BUFFER);
        let (events, events_receiver) = mpsc::channel(event_buffer.max(1));
        let (established, established_receiver) = oneshot::channel();
        let (client_id, client_id_receiver) = watch::channel(String::new());
        let driver = Driver {
            session,
            transport,
            calls: Some(calls),
            events: Some(events),
            undelivered: VecDeque::new(),
            answer_by_id: HashMap::new(),
            established: Some(established),
            client_id,
        };
        let ends = Ends {
            calls: calls_sender,
            events: events_receiver,
            established: established_receiver,
            client_id: client_id_receiver,
        };
        (driver, ends)
    }

    pub(crate) async fn run(mut self) {
        self.session.handle_start(now());
        let end = loop {
            if let Some(end) = self.drain() {
                break end;
            }
            if self.calls.is_none() && self.events.is_none() {
                break End::Unwatched;
            }
            self.session.handle_stalled(now(), self.is_stalled());
            let happening = self.wait().await;
            self.handle(happening);
        };
        if let End::Closed(reason) = end {
            self.say_goodbye(reason).await;
        }
    }

    /// Does what the session wants done.
    fn drain(&mut self) -> Option<End> {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(batch) => self.transport.send(batch),
                Output::Abandon(id) => self.transport.abandon(id),
                Output::Emit(event) => self.emit(event),
                Output::Answer(id, result) => self.answer(id, result),
                Output::Failed(error) => {
                    self.answer_connect(Err(error));
                    return Some(End::Failed);
                }
                Output::Closed(reason) => return Some(End::Closed(reason)),
            }
        }
        None
    }

    fn answer(&mut self, id: MessageId, result: Result<(), Error>) {
        if let Some(answer) = self.answer_by_id.remove(&id) {
            // A caller that no longer waits is no failure.
            let _ = answer.send(result);
        }
    }

    fn emit(&mut self, event: Event) {
        if let Event::Connected { client_id, .. } = &event {
            self.client_id.send_replace(client_id.clone());
            self.answer_connect(Ok(()));
        }
        let Some(events) = &self.events else { return };
        if self.undelivered.is_empty() {
            if let Err(mpsc::error::TrySendError::Full(event)) = events.try_send(event) {
                self.undelivered.push_back(event);
            }
        } else if !self.session.is_leaving() {
            self.undelivered.push_back(event);
        }
    }

    /// The first connection is answered once, to whoever began the client.
    fn answer_connect(&mut self, result: Result<(), Error>) {
        if let Some(established) = self.established.take() {
            let _ = established.send(result);
        }
    }

    fn is_stalled(&self) -> bool {
        !self.undelivered.is_empty() && !self.session.is_leaving()
    }

    async fn wait(&mut self) -> Happening {
        let reading = !self.is_stalled();
        let deadline = self.session.poll_timeout();
        let Driver {
            calls,
            events,
            transport,
            undelivered,
            ..
        } = self;
        tokio::select! {
            asked = next_call(calls) => Happening::Asked(asked),
            delivered = deliver(events, undelivered) => {
                if delivered { Happening::Delivered } else { Happening::StreamDropped }
            }
            report = poll_fn(|context| transport.poll_report(context)), if reading => Happening::Reported(report),
            () = wait_until(deadline) => Happening::TimePassed,
        }
    }

    fn handle(&mut self, happening: Happening) {
        match happening {
            Happening::Asked(Some((call, answer))) => {
                let id = self.session.handle_call(now(), call);
                self.answer_by_id.insert(id, answer);
            }
            Happening::Asked(None) => self.calls = None,
            Happening::Reported(Report::Received(messages)) => {
                for incoming in messages {
                    self.session.handle_incoming(now(), incoming);
                }
            }
            Happening::Reported(Report::Lost { ids, reason }) => {
                self.session.handle_lost(now(), &ids, &reason);
            }
            Happening::Reported(Report::Broken { reason }) => self.session.handle_broken(now(), &reason),
            Happening::Delivered => {}
            Happening::StreamDropped => {
                self.events = None;
                self.undelivered.clear();
            }
            Happening::TimePassed => self.session.handle_timeout(now()),
        }
    }

    /// Tells the consumer that this was the end, after everything that came before it.
    async fn say_goodbye(self, reason: CloseReason) {
        let Driver {
            mut transport,
            calls,
            answer_by_id,
            events,
            undelivered,
            ..
        } = self;
        drop((calls, answer_by_id));
        // A server that does not read would keep us here.
        let _ = timeout(GOODBYE, transport.close()).await;
        drop(transport);
        let Some(events) = events else { return };
        for event in undelivered.into_iter().chain([Event::Closed { reason }]) {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }
}

async fn next_call(calls: &mut Option<mpsc::Receiver<Asked>>) -> Option<Asked> {
    match calls {
        Some(calls) => calls.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits for room and hands over one event. False when the stream has been dropped.
async fn deliver(events: &Option<mpsc::Sender<Event>>, undelivered: &mut VecDeque<Event>) -> bool {
    let Some(events) = events else {
        return std::future::pending().await;
    };
    if undelivered.is_empty() {
        events.closed().await;
        return false;
    }
    let Ok(room) = events.reserve().await else {
        return false;
    };
    if let Some(event) = undelivered.pop_front() {
        room.send(event);
    }
    true
}

async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The clock of the runtime, which a test can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Calls that wait for the task; more wait at the handle.
const CALL_BUFFER: usize = 64;
/// How long a WebSocket close frame may take to leave.
const GOODBYE: Duration = Duration::from_secs(1);
