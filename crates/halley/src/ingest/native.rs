//! Events in our own form: one object each, of which every field is known.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{Asked, Fields, Ingest, Name, Wrong, missing, twice, wrong};

/// What a publisher sends, field by field as it came. Other fields are refused: a misspelt `user` must not make an event
/// public, and neither must `"user":null`.
#[derive(Default)]
pub(super) struct Sent<'a> {
    tenant: Option<&'a RawValue>,
    user: Option<&'a RawValue>,
    channel: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    lazy: Option<&'a RawValue>,
}

impl Ingest {
    pub(super) fn own<'a>(&self, sent: &Sent<'a>) -> Result<Asked<'a>, Wrong> {
        let id = text("id", sent.id)?;
        if id
            .as_ref()
            .is_some_and(|id| id.is_empty() || id.len() > self.limits.id_bytes)
        {
            let detail = format!("an id has 1 to {} bytes", self.limits.id_bytes);
            return Err(wrong("id", detail));
        }
        Ok(Asked {
            tenant: text("tenant", sent.tenant)?,
            user: text("user", sent.user)?,
            channel: text("channel", sent.channel)?.ok_or_else(|| missing("channel"))?,
            data: sent.data.ok_or_else(|| missing("data"))?,
            id,
            lazy: flag("lazy", sent.lazy)?,
        })
    }
}

impl<'a> Fields<'a> for Sent<'a> {
    fn take(&mut self, name: Cow<'a, str>, value: &'a RawValue) -> Result<(), Wrong> {
        let place = match &*name {
            "tenant" => &mut self.tenant,
            "user" => &mut self.user,
            "channel" => &mut self.channel,
            "data" => &mut self.data,
            "id" => &mut self.id,
            "lazy" => &mut self.lazy,
            _ => {
                let detail = "there is no such field: an event has tenant, user, channel, data, id and lazy";
                return Err(wrong(&name, detail.to_owned()));
            }
        };
        if place.replace(value).is_some() {
            return Err(twice(&name));
        }
        Ok(())
    }
}

/// The text of a field, if the field is there. `null` is no text: it would say "everyone" where a user was forgotten.
fn text<'a>(name: &str, raw: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, Wrong> {
    let Some(raw) = raw else { return Ok(None) };
    match serde_json::from_str(raw.get()) {
        Ok(Name(text)) => Ok(Some(text)),
        Err(_) => Err(wrong(
            name,
            format!("{name} is a text; leave it out if there is none"),
        )),
    }
}

fn flag(name: &str, raw: Option<&RawValue>) -> Result<bool, Wrong> {
    match raw.map(RawValue::get) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(wrong(name, format!("{name} is true or false"))),
    }
}
