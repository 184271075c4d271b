//! Where an event carries its offset for clients that replay, and how it gets there without decoding its data.
//!
//! The digits are written when the offset is known, into room that was left for them: JSON allows spaces behind a number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Offset;

/// The place of an event's offset in its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplayId {
    /// `data.event.replayId`, where Salesforce's clients read it. Data that is no object, or has an `event` that is none,
    /// goes without.
    #[serde(rename = "data.event.replayId")]
    Data,
    /// `ext.replayId`, which leaves the data as it came.
    #[serde(rename = "ext.replayId")]
    Ext,
}

/// 2^53 has sixteen digits.
const ROOM: usize = 16;

/// Writes `data`, and returns where the offset goes if it goes in there.
pub(crate) fn write_data(frame: &mut Vec<u8>, data: &RawValue, place: Option<ReplayId>) -> Option<usize> {
    let text = data.get().as_bytes();
    let Some(inserted) = place
        .filter(|place| *place == ReplayId::Data)
        .and_then(|_| Insert::find(data))
    else {
        frame.extend_from_slice(text);
        return None;
    };
    let (before, after) = text.split_at(inserted.at);
    frame.extend_from_slice(before);
    if inserted.behind_another {
        frame.push(b',');
    }
    if inserted.makes_event {
        frame.extend_from_slice(b"\"event\":{");
    }
    let offset_at = write_field(frame);
    if inserted.makes_event {
        frame.push(b'}');
    }
    frame.extend_from_slice(after);
    Some(offset_at)
}

/// Writes the field into an open `ext`, and returns where the offset goes.
pub(crate) fn write_ext(frame: &mut Vec<u8>, behind_another: bool) -> usize {
    if behind_another {
        frame.push(b',');
    }
    write_field(frame)
}

/// Writes the digits into the room that was left for them.
pub(crate) fn write_offset(room: &mut [u8], offset: Offset) {
    let digits = offset.0.to_string();
    room[..digits.len()].copy_from_slice(digits.as_bytes());
}

fn write_field(frame: &mut Vec<u8>) -> usize {
    frame.extend_from_slice(b"\"replayId\":");
    let at = frame.len();
    frame.extend_from_slice(&[b' '; ROOM]);
    at
}

/// What is put in front of a closing brace. Behind whatever is there: of a repeated key, readers take the last.
struct Insert {
    at: usize,
    behind_another: bool,
    makes_event: bool,
}

impl Insert {
    fn find(data: &RawValue) -> Option<Self> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_str(data.get()).ok()?;
        let Some(event) = fields.get("event") else {
            return Some(Self {
                at: data.get().len() - 1,
                behind_another: !fields.is_empty(),
                makes_event: true,
            });
        };
        let inner: BTreeMap<String, &RawValue> = serde_json::from_str(event.get()).ok()?;
        let begin = event.get().as_ptr() as usize - data.get().as_ptr() as usize;
        Some(Self {
            at: begin + event.get().len() - 1,
            behind_another: !inner.is_empty(),
            makes_event: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::{ChannelName, Draft, Offset, ReplayId, Traits};
    use serde_json::value::RawValue;

    fn delivered(data: &str, place: ReplayId) -> String {
        let data: Box<RawValue> = serde_json::from_str(data).unwrap();
        let traits = Traits {
            replay_id: Some(place),
            ..Traits::default()
        };
        let draft = Draft::new(ChannelName::parse("/e").unwrap(), &data, &traits, 0);
        String::from_utf8(draft.at(Offset(42)).message().to_vec()).unwrap()
    }

    #[test]
    fn salesforce_clients_find_the_offset_in_the_event_of_the_data() {
        assert_eq!(
            delivered(r#"{"payload":{"n":1e400}}"#, ReplayId::Data),
            r#"{"channel":"/e","data":{"payload":{"n":1e400},"event":{"replayId":42              }}}"#
        );
    }

    #[test]
    fn an_event_that_is_there_keeps_its_fields() {
        assert_eq!(
            delivered(r#"{"event":{"createdDate":"x"},"z":1}"#, ReplayId::Data),
            r#"{"channel":"/e","data":{"event":{"createdDate":"x","replayId":42              },"z":1}}"#
        );
    }

    #[test]
    fn an_empty_object_gets_an_event_and_an_empty_event_an_offset() {
        assert_eq!(
            [
                delivered("{}", ReplayId::Data),
                delivered(r#"{"event":{}}"#, ReplayId::Data)
            ],
            [r#"{"channel":"/e","data":{"event":{"replayId":42              }}}"#; 2].map(str::to_owned)
        );
    }

    #[test]
    fn data_without_a_place_for_it_goes_as_it_came() {
        for data in ["7", "[{}]", "null", r#"{"event":7}"#] {
            assert_eq!(
                delivered(data, ReplayId::Data),
                format!(r#"{{"channel":"/e","data":{data}}}"#)
            );
        }
    }

    #[test]
    fn beside_the_data_it_leaves_the_data_alone() {
        assert_eq!(
            delivered(r#"{"event":{}}"#, ReplayId::Ext),
            r#"{"channel":"/e","data":{"event":{}},"ext":{"replayId":42              }}"#
        );
    }
}
