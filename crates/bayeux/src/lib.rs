//! The Bayeux protocol as CometD speaks it, without I/O and without a clock.
//!
//! [`codec`] turns a body into messages and replies into a body. A [`Session`] takes messages, events and time as
//! arguments and says what to do: `handle_*` goes in, `poll_*` comes out, to be drained after every `handle_*`. A
//! [`Carrier`] is one HTTP exchange or one WebSocket; it is what makes every transport look alike to a session.
//!
//! A session is a cursor over a log ([`Offset`]): who asks, what it listens to, and how far it has come. Its queue is a
//! cache of the log and may be dropped at any time.

mod channel;
pub mod codec;
mod event;
pub mod extension;
mod failure;
mod ids;
mod message;
mod replay_id;
mod reply;
mod rules;
mod session;
mod settings;
mod wall;

pub use channel::{ChannelError, ChannelKind, ChannelName, ChannelPattern, Reach};
pub use event::{Delivery, Draft, Marks, Offset, Traits};
pub use failure::{Action, Failure};
pub use ids::{Carrier, CarrierKind, ClientId};
pub use message::{Advice, Message, Target};
pub use replay_id::ReplayId;
pub use reply::{Reconnect, Reply, ReplyAdvice};
pub use rules::{Access, Rights, Rule, Rules};
pub use session::{
    AUTH_CHANNEL, Answer, Call, CallResult, Direct, Handover, LastReply, LogEnds, Output, PageRead, Publish,
    Routes, Session, Snapshot, Subscription, defer_handshake, deny_handshake,
};
pub use settings::{Activity, Limits, Settings, StaleReplay};
