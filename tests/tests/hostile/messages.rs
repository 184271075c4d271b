//! Messages that ask for too much, or for nothing that there is.

use crate::it::Expected::{Answer, Reply, Status};
use crate::it::{Case, messages, post};

/// T21: a small body that asks for a large answer.
pub(crate) fn batches() -> Vec<Case> {
    let many = |message: &str, count: usize| format!("[{}]", vec![message; count].join(","));
    let handshake = r#"{"channel":"/meta/handshake"}"#;
    vec![
        post("65 messages", many("{}", 65), Status(&[400])),
        post("10,000 messages", many("{}", 10_000), Status(&[400])),
        post("20,000 numbers for messages", many("1", 20_000), Status(&[400])),
        post("1,000 handshakes", many(handshake, 1_000), Status(&[400])),
        post(
            "64 handshakes",
            many(handshake, 64),
            Reply("400::handshake_not_first"),
        ),
        post("64 empty messages", many("{}", 64), Reply("400::channel_missing")),
        post(
            "64 numbers for messages",
            many("1", 64),
            Reply("400::message_invalid"),
        ),
        post(
            "64 connects without a session",
            many(r#"{"channel":"/meta/connect"}"#, 64),
            Reply("402::"),
        ),
        messages(
            "64 connects",
            many(r#"{"channel":"/meta/connect","clientId":"$id"}"#, 64),
            Answer,
        ),
        messages(
            "64 subscribes to 64 channels",
            many(
                &format!(
                    r#"{{"channel":"/meta/subscribe","clientId":"$id","subscription":[{}]}}"#,
                    vec!["\"/a\""; 64].join(",")
                ),
                64,
            ),
            Answer,
        ),
        messages(
            "9,000 subscriptions in a list",
            format!(
                r#"[{{"channel":"/meta/subscribe","clientId":"$id","subscription":[{}]}}]"#,
                (0..7_000)
                    .map(|n| format!("\"/a{n}\""))
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            Reply("403:subscriptions_per_session:subscribe_denied"),
        ),
        messages(
            "64 disconnects",
            many(r#"{"channel":"/meta/disconnect","clientId":"$id"}"#, 64),
            Answer,
        ),
        messages(
            "64 publishes",
            many(r#"{"channel":"/hostile/y","clientId":"$id","data":1}"#, 64),
            Answer,
        ),
        messages(
            "64 calls",
            many(
                r#"{"channel":"/service/y","clientId":"$id","data":1,"id":"1"}"#,
                64,
            ),
            Answer,
        ),
    ]
}

/// T27: numbers that were never given out.
pub(crate) fn acknowledgements() -> Vec<Case> {
    let of = |ack: &str| {
        messages(
            format!("ack {ack}"),
            format!(
                r#"[{{"channel":"/meta/connect","clientId":"$id","advice":{{"timeout":0}},"ext":{{"ack":{ack}}}}}]"#
            ),
            Answer,
        )
    };
    [
        "0",
        "1",
        "-1",
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551615",
        "18446744073709551616",
        "35184372088832",
        "1e308",
        "1e400",
        "1.5",
        "-0.0",
        "\"1\"",
        "\"\"",
        "null",
        "true",
        "[]",
        "[1]",
        "{}",
        "NaN0",
    ]
    .into_iter()
    .filter(|ack| *ack != "NaN0")
    .map(of)
    .collect()
}

/// T28: times that no clock has, and those that make a loop of a client.
pub(crate) fn advice() -> Vec<Case> {
    let mut cases = Vec::new();
    for field in ["timeout", "interval", "maxInterval"] {
        for value in [
            "0",
            "-1",
            "1e308",
            "1e400",
            "-1e308",
            "9223372036854775807",
            "18446744073709551616",
            "0.5",
            "\"0\"",
            "\"x\"",
            "null",
            "true",
            "[]",
            "{}",
        ] {
            // Beside it, so that a wish that is not heard holds nothing.
            let other = if field == "timeout" { "" } else { r#","timeout":0"# };
            let held = field == "timeout" && value != "0";
            let more = if held {
                r#",{"channel":"/meta/connect","clientId":"$id","advice":{"timeout":0}}"#
            } else {
                ""
            };
            cases.push(messages(
                format!("advice.{field} {value}"),
                format!(
                    r#"[{{"channel":"/meta/connect","clientId":"$id","advice":{{"{field}":{value}{other}}}}}{more}]"#
                ),
                Answer,
            ));
        }
    }
    for value in ["null", "1", "\"x\"", "[]", "[[]]"] {
        cases.push(messages(
            format!("advice {value}"),
            format!(
                r#"[{{"channel":"/meta/connect","clientId":"$id","advice":{value}}},{{"channel":"/meta/connect","clientId":"$id","advice":{{"timeout":0}}}}]"#
            ),
            Answer,
        ));
    }
    cases
}

/// Every field of the protocol with every type that it does not have.
pub(crate) fn types() -> Vec<Case> {
    let mut cases = Vec::new();
    let long = format!("\"{}\"", "x".repeat(5_000));
    let values = [
        "null",
        "true",
        "7",
        "-1",
        "1e308",
        "\"\"",
        "[]",
        "{}",
        "[[[]]]",
        "\"\\u0000\"",
        "\"/\"",
        "\"\\ud800\"",
        &long,
    ];
    for (field, message) in [
        ("channel", r#""clientId":"$id","data":1"#),
        ("clientId", r#""channel":"/meta/subscribe","subscription":"/a""#),
        ("subscription", r#""channel":"/meta/subscribe","clientId":"$id""#),
        (
            "subscription",
            r#""channel":"/meta/unsubscribe","clientId":"$id""#,
        ),
        ("id", r#""channel":"/hostile/x","clientId":"$id","data":1"#),
        ("ext", r#""channel":"/hostile/x","clientId":"$id","data":1"#),
        ("version", r#""channel":"/meta/handshake""#),
        ("supportedConnectionTypes", r#""channel":"/meta/handshake""#),
        ("ext", r#""channel":"/meta/handshake""#),
        (
            "connectionType",
            r#""channel":"/meta/connect","clientId":"$id","advice":{"timeout":0}"#,
        ),
    ] {
        for value in values {
            let shown: String = value.chars().take(12).collect();
            let to = message.split('"').nth(3).unwrap_or_default();
            let to = if to == "$id" { "a publish" } else { to };
            cases.push(messages(
                format!("{field} {shown} of {to}"),
                format!(r#"[{{{message},"{field}":{value}}}]"#),
                Answer,
            ));
        }
    }
    for extension in [
        "ack",
        "replay",
        "timesync",
        "authentication",
        "token",
        "activity",
        "binary",
        "acknowledgedTimeout",
    ] {
        for value in ["null", "-1", "1e400", "\"x\"", "[[]]", r#"{"/a":"x"}"#] {
            cases.push(messages(
                format!("ext.{extension} {value}"),
                format!(r#"[{{"channel":"/meta/subscribe","clientId":"$id","subscription":"/a","ext":{{"{extension}":{value}}}}}]"#),
                Answer,
            ));
        }
    }
    cases
}
