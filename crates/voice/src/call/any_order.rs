//! Whatever is asked, in whatever order: what is true of the switch after every operation.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::office::Office;

const USERS: [&str; 5] = ["15000", "15001", "15002", "15003", "15009"];

/// Who does what, on which of its calls, with whom.
type Attempt = (usize, usize, usize, usize);

const OPERATIONS: [&str; 22] = [
    "Answer",
    "Answer",
    "Answer",
    "Hangup",
    "ClearCall",
    "Hold",
    "Retrieve",
    "SwapCalls",
    "MuteCall",
    "UnmuteCall",
    "InitiateConference",
    "InitiateConference",
    "CompleteConference",
    "SingleStepConference",
    "InitiateTransfer",
    "CompleteTransfer",
    "SingleStepTransfer",
    "DeleteUserData",
    "RemoveParticipantFromConference",
    "RemoveParticipantFromConference",
    "SwitchToBargeIn",
    "SwitchToListenIn",
];

fn attempt(office: &mut Office, (user, operation, call, other): Attempt) {
    let number = if other == USERS.len() {
        "+442079460000"
    } else {
        USERS[other]
    };
    let user = USERS[user];
    match operation.checked_sub(OPERATIONS.len()) {
        None => {
            let body = json!({
                "operationName": OPERATIONS[operation],
                "destination": {"phoneNumber": number},
                "participant": number,
            });
            office.try_on_call(user, call, &body);
        }
        Some(0..=2) => office.try_dial(user, number),
        Some(3) => office.try_on_device(user, &Office::monitor("ListenIn", number)),
        Some(4) => {
            let mut request = Office::monitor("BargeIn", number);
            request["supervisorMonitoringMode"] = json!("NextCall");
            request["supervisorMonitoringScope"] = json!("Agent");
            office.try_on_device(user, &request);
        }
        Some(_) => office.try_on_device(user, &json!({"operationName": "CancelSupervisorMonitoring"})),
    }
}

/// Nobody is shown another's device, or itself among the others.
fn keeps_to_itself(user: &str, said: &Value) -> bool {
    let own = crate::agent::device_id(user);
    let device = said["call"]["deviceUri"]
        .as_str()
        .is_none_or(|uri| uri.ends_with(&own));
    let others = said["call"]["participants"].as_array();
    device && others.is_none_or(|others| others.iter().all(|other| other["phoneNumber"] != user))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_dangles_and_nobody_sees_what_is_anothers(
        attempts in prop::collection::vec((0..5_usize, 0..OPERATIONS.len() + 6, 0..4_usize, 0..6_usize), 1..80)
    ) {
        let mut office = Office::open();
        for next in attempts {
            attempt(&mut office, next);
            office.expect_consistent();
            for (user, said) in office.said() {
                prop_assert!(keeps_to_itself(&user, &said), "{user} was told {said}");
            }
        }
    }
}
