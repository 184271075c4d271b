//! CometD's binary extension: data of an event is binary, encoded by one client (Z85) and decoded by another.
//!
//! The server passes it on as it came, with `ext.binary`, by which the receiving client knows.

use serde_json::value::RawValue;

use super::{Agreement, Extension};
use crate::{Settings, Traits};

pub(super) struct Binary;

impl Extension for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn negotiate(&self, _: &Settings, _: Option<&RawValue>) -> Agreement {
        Agreement::Silent
    }

    fn publishing(&self, _: &RawValue, traits: &mut Traits) {
        traits.binary = true;
    }
}
