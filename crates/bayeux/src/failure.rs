//! What can go wrong with a message, as CometD says it: `code:arguments:text`.
//!
//! Clients in the field look at the number or at the advice only; the texts are CometD's because logs and tests match
//! them. Rows that CometD does not have are marked *ours*.

use std::fmt;

/// Why a message was refused. The `Display` form is the `error` field of the reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The message names no channel.
    ChannelMissing,
    /// *Ours:* the message is not an object with each known field at most once. CometD fails the whole request.
    MessageInvalid,
    /// *Ours:* a field has the wrong type or an impossible value. CometD fails the whole request.
    FieldInvalid(&'static str),
    /// The clientId is unknown, foreign or absent.
    SessionUnknown,
    /// The security policy says no.
    Denied(Action),
    /// The roles of whoever asks do not include one that may.
    NotGranted(Action),
    /// *Ours:* a limit of the configuration says no; the text names it.
    OverLimit(Action, &'static str),
    /// Events after this offset cannot be replayed, and the configuration makes that an error. The text is Salesforce's.
    ReplayInvalid(i64),
    /// A subscribe without a subscription.
    SubscriptionMissing,
    /// The subscription is no text and no list of texts.
    SubscriptionInvalid,
    /// Unsubscribing from a meta channel.
    UnsubscribeFailed,
    /// Whoever asks may not have a session.
    HandshakeDenied,
    /// *Ours:* the credentials of whoever asks, or those that the session was known by, were good once.
    CredentialsExpired,
    /// *Ours:* the credentials that are to renew a session are wrong.
    CredentialsWrong,
    /// *Ours:* they were revoked.
    CredentialsRevoked,
    /// *Ours:* nobody can say now whether they are good.
    CredentialsUnavailable,
    /// *Ours:* too much of this at once; the text names the limit of the configuration, and the advice when to come again.
    TooMany(&'static str),
    /// *Ours:* this node is about to end; another one, or the next process, takes whoever comes.
    Draining,
    /// *Ours:* a handshake behind another message of the same body.
    HandshakeNotFirst,
    /// The channel is outside the grammar.
    ChannelInvalid,
    /// The id is neither text nor number, or longer than allowed.
    IdInvalid,
    /// *Ours:* the log did not take the message; it may be sent again.
    PublishFailed,
    /// *Ours:* the disk is full; the message may be sent again later.
    StorageFull,
}

/// What was attempted, for the failures that name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Making a channel, also by using an unknown meta channel.
    ChannelCreate,
    /// Making a channel by subscribing to it.
    Create,
    /// Subscribing.
    Subscribe,
    /// Publishing.
    Publish,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::ChannelCreate => "channel_create",
            Self::Create => "create",
            Self::Subscribe => "subscribe",
            Self::Publish => "publish",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChannelMissing => formatter.write_str("400::channel_missing"),
            Self::MessageInvalid => formatter.write_str("400::message_invalid"),
            Self::FieldInvalid(field) => write!(formatter, "400:{field}:field_invalid"),
            Self::HandshakeNotFirst => formatter.write_str("400::handshake_not_first"),
            Self::SessionUnknown => formatter.write_str("402::session_unknown"),
            Self::Denied(action) => write!(
                formatter,
                "403:denied_by_security_policy:{}_denied",
                action.name()
            ),
            Self::NotGranted(action) => {
                write!(formatter, "403:denied_by_not_granting:{}_denied", action.name())
            }
            Self::OverLimit(action, limit) => write!(formatter, "403:{limit}:{}_denied", action.name()),
            Self::ReplayInvalid(id) => write!(
                formatter,
                "400::The replayId {{{id}}} you provided was invalid. Please provide a valid ID, -2 to replay all events, or \
                 -1 to replay only new events."
            ),
            Self::SubscriptionMissing => formatter.write_str("403::subscription_missing"),
            Self::SubscriptionInvalid => formatter.write_str("403::subscription_invalid"),
            Self::UnsubscribeFailed => formatter.write_str("403::unsubscribe_failed"),
            Self::HandshakeDenied => formatter.write_str("403::handshake_denied"),
            Self::CredentialsExpired => formatter.write_str("401::credentials_expired"),
            Self::CredentialsWrong => formatter.write_str("401::credentials_wrong"),
            Self::CredentialsRevoked => formatter.write_str("401::credentials_revoked"),
            Self::CredentialsUnavailable => formatter.write_str("503::credentials_unavailable"),
            Self::TooMany(limit) => write!(formatter, "429:{limit}:too_many"),
            Self::Draining => formatter.write_str("503::draining"),
            Self::ChannelInvalid => formatter.write_str("405::channel_invalid"),
            Self::IdInvalid => formatter.write_str("405::message_id_invalid"),
            Self::PublishFailed => formatter.write_str("503::publish_failed"),
            Self::StorageFull => formatter.write_str("507::storage_full"),
        }
    }
}

impl Failure {
    /// A short constant name, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ChannelMissing => "channel_missing",
            Self::MessageInvalid => "message_invalid",
            Self::FieldInvalid(_) => "field_invalid",
            Self::HandshakeNotFirst => "handshake_not_first",
            Self::SessionUnknown => "session_unknown",
            Self::Denied(_) => "denied",
            Self::NotGranted(_) => "not_granted",
            Self::OverLimit(_, _) => "over_limit",
            Self::ReplayInvalid(_) => "replay_invalid",
            Self::SubscriptionMissing => "subscription_missing",
            Self::SubscriptionInvalid => "subscription_invalid",
            Self::UnsubscribeFailed => "unsubscribe_failed",
            Self::HandshakeDenied => "handshake_denied",
            Self::CredentialsExpired => "credentials_expired",
            Self::CredentialsWrong => "credentials_wrong",
            Self::CredentialsRevoked => "credentials_revoked",
            Self::CredentialsUnavailable => "credentials_unavailable",
            Self::TooMany(limit) => limit,
            Self::Draining => "draining",
            Self::ChannelInvalid => "channel_invalid",
            Self::IdInvalid => "id_invalid",
            Self::PublishFailed => "publish_failed",
            Self::StorageFull => "storage_full",
        }
    }
}
