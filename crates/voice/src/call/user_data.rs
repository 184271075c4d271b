//! `AttachUserData`, `UpdateUserData`, `DeleteUserDataPair`, `DeleteUserData`.
//!
//! User data belongs to the call, so every party is told.

use serde_json::{Map, Value};

use super::MOST_USER_DATA;
use super::model::CallId;
use super::refusal::Refusal;
use super::turn::{Accepted, Turn};
use crate::message::NotificationType;

impl Turn<'_> {
    /// Adds pairs and overwrites none. The source says that an existing key is then there twice, which a JSON object
    /// cannot show; readers of such a list find the first pair, so the first value stays.
    pub(super) fn attach_user_data(&mut self, id: &CallId, data: Map<String, Value>) -> Accepted {
        let mut attached = data;
        attached.extend(self.call(id).user_data.clone());
        self.set_user_data(id, attached)
    }

    pub(super) fn update_user_data(&mut self, id: &CallId, data: Map<String, Value>) -> Accepted {
        let mut updated = self.call(id).user_data.clone();
        updated.extend(data);
        self.set_user_data(id, updated)
    }

    pub(super) fn delete_user_data_pair(&mut self, id: &CallId, key: &str) -> Accepted {
        let mut rest = self.call(id).user_data.clone();
        if rest.remove(key).is_none() {
            return Err(Refusal::invalid(format!(
                "There is no user data with the key '{key}'."
            )));
        }
        self.set_user_data(id, rest)
    }

    pub(super) fn delete_user_data(&mut self, id: &CallId) -> Accepted {
        self.set_user_data(id, Map::new())
    }

    fn set_user_data(&mut self, id: &CallId, data: Map<String, Value>) -> Accepted {
        require_size(&data)?;
        self.call_mut(id).user_data = data;
        self.tell_all(id, NotificationType::AttachedDataChanged);
        Ok(())
    }
}

/// Refuses user data that no call may have.
pub(super) fn require_size(data: &Map<String, Value>) -> Accepted {
    let size: usize = data
        .iter()
        .map(|(key, value)| key.len() + value.to_string().len())
        .sum();
    if size > MOST_USER_DATA {
        return Err(Refusal::invalid(format!(
            "User data may have at most {MOST_USER_DATA} bytes."
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::call::office::Office;

    fn attach(office: &mut Office, call: &str, operation: &str, value: &str) -> serde_json::Value {
        let body = json!({"operationName": operation, "userData": {"case": value}});
        office.on_with("15000", call, body)[0]["call"]["userData"].clone()
    }

    #[test]
    fn every_party_learns_of_new_user_data() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        attach(&mut office, &call, "AttachUserData", "1");
        office.expect(&[
            "15000 AttachedDataChanged Established [15001]",
            "15001 AttachedDataChanged Established [15000]",
        ]);
    }

    #[test]
    fn attaching_overwrites_nothing() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        attach(&mut office, &call, "AttachUserData", "1");
        assert_eq!(
            attach(&mut office, &call, "AttachUserData", "2"),
            json!({"case": "1"})
        );
    }

    #[test]
    fn updating_overwrites() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        attach(&mut office, &call, "AttachUserData", "1");
        assert_eq!(
            attach(&mut office, &call, "UpdateUserData", "2"),
            json!({"case": "2"})
        );
    }

    #[test]
    fn deleted_user_data_is_absent_not_empty() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        attach(&mut office, &call, "AttachUserData", "1");
        let said = office.on("15000", &call, "DeleteUserData");
        assert_eq!(said[0]["call"].get("userData"), None);
    }

    #[test]
    fn a_notification_of_attached_data_has_no_extensions() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        let said = office.on("15000", &call, "DeleteUserData");
        assert_eq!(said[0].get("extensions"), None);
    }

    #[test]
    fn one_pair_can_be_deleted() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        attach(&mut office, &call, "AttachUserData", "1");
        let said = office.on_with(
            "15000",
            &call,
            json!({"operationName": "DeleteUserDataPair", "key": "case"}),
        );
        assert_eq!(said[0]["call"].get("userData"), None);
    }

    #[test]
    fn user_data_is_bounded() {
        let mut office = Office::open();
        let call = office.connect("15000", "15001");
        let large = "x".repeat(super::MOST_USER_DATA);
        let body = json!({"operationName": "AttachUserData", "userData": {"large": large}});
        assert_eq!(office.refused_with("15000", &call, body), 2);
    }
}
