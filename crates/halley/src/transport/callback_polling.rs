//! `callback-polling` (JSONP): a GET brings messages in its query, and its response is a script that hands the replies to a
//! function of the page.
//!
//! Any page may ask for a script of any site, and the browser adds the cookies and credentials of that site by itself. So
//! neither counts here and no cookie is set: who asks is what the messages say (`ext`), and a session that is opened here
//! has no browser (`Sessions::belongs` says what that means).
//!
//! A status other than 200 is an error without a word to a page, and nothing at all to some: it is kept for requests that are
//! no JSONP, or whose messages were refused as a whole. A connect that a newer one replaced is answered with an array without
//! messages, which every client takes for a failure of that connect, and for nothing more.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::polling::{NoMessages, poll, refuse};
use super::{Connection, Public, Transport};
use crate::config::CallbackPolling;
use crate::http::{self, Reply};
use crate::metrics;
use crate::quota::Origin;

pub(super) const TRANSPORT: Transport = Transport {
    connection_type: "callback-polling",
    method: Some(Method::GET),
    accepts: |request| request.method() == Method::GET,
    answer: |public, connection, request| -> BoxFuture<'static, Reply> {
        Box::pin(answer(public, connection, request))
    },
};

const LABEL: metrics::Transport = metrics::Transport {
    transport: "callback-polling",
};

const JAVASCRIPT: &str = "text/javascript;charset=UTF-8";

/// What a query asks.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    callback: String,
    bodies: Vec<Bytes>,
}

async fn answer(public: Arc<Public>, connection: Connection, request: Request<Incoming>) -> Reply {
    let query = request.uri().query().unwrap_or_default();
    let asked = parse(query, &public.config.callback_polling, public.body_limit());
    let origin = public.quotas.origin(connection.peer, request.headers());
    // A held connect need not keep what it was asked with.
    drop(request);
    let mut response = match asked {
        Ok(asked) => respond(&public, &connection, origin, asked).await,
        Err((status, reason)) => refuse(status, &reason),
    };
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // The URL of a later page may be the same.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn respond(public: &Arc<Public>, connection: &Connection, origin: Origin, asked: Asked) -> Reply {
    let mut who = public.requester_without_headers(origin).await;
    match poll(public, connection, &mut who, asked.bodies, &LABEL).await {
        Ok(polled) => polled.response(connection, JAVASCRIPT, |messages| {
            script(&asked.callback, &messages)
        }),
        Err(NoMessages::Superseded) => {
            http::with_type(StatusCode::OK, JAVASCRIPT, script(&asked.callback, b"[]").into())
        }
        Err(NoMessages::Refused(status, reason)) => refuse(status, &reason),
    }
}

fn parse(query: &str, settings: &CallbackPolling, limit: usize) -> Result<Asked, (StatusCode, String)> {
    let refused = |reason: String| Err((StatusCode::BAD_REQUEST, reason));
    let (mut callback, mut bodies, mut length) = (None, Vec::new(), 0);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let value = decode(value);
        if name == settings.parameter {
            callback = callback.or(Some(value));
        } else if name == "message" {
            length += value.len();
            bodies.push(value.into());
        }
    }
    let name = &settings.parameter;
    let Some(callback) = callback else {
        return refused(format!(
            "the parameter {name} is missing: it names the function that is given the replies"
        ));
    };
    let longest = settings.callback_max_length;
    let Some(callback) = String::from_utf8(callback)
        .ok()
        .filter(|callback| is_callback(callback, longest))
    else {
        return refused(format!(
            "the parameter {name} is no name: 1 to {longest} letters, digits, dots, hyphens and underscores"
        ));
    };
    if bodies.is_empty() {
        return refused("the parameter message is missing: it carries the messages".to_owned());
    }
    if length > limit {
        let reason = format!("the messages are larger than the {limit} bytes allowed");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, reason));
    }
    Ok(Asked { callback, bodies })
}

/// Bytes and not a text: what is no UTF-8 is refused with the body, rather than patched.
fn decode(value: &str) -> Vec<u8> {
    percent_decode_str(&value.replace('+', " ")).collect()
}

fn is_callback(name: &str, longest: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= longest && name.bytes().all(allowed)
}

fn script(callback: &str, messages: &[u8]) -> Vec<u8> {
    let mut script = Vec::with_capacity(callback.len() + messages.len() + 2);
    script.extend_from_slice(callback.as_bytes());
    script.push(b'(');
    push_expression(&mut script, messages);
    script.push(b')');
    script
}

/// JSON is JavaScript but for two things that a publisher could break every page with: U+2028 and U+2029 end a line, and so a
/// text, in older engines; and `"__proto__"` as a key is not a key but sets the prototype, twice is a syntax error.
fn push_expression(script: &mut Vec<u8>, json: &[u8]) {
    let mut rest = json;
    while let Some(start) = rest.iter().position(|byte| *byte == b'"') {
        script.extend_from_slice(&rest[..start]);
        let (text, after) = rest[start..].split_at(text_length(&rest[start..]));
        let is_key = after.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
        if is_key && is_prototype(text) {
            script.extend_from_slice(br#"["__proto__"]"#);
        } else {
            push_text(script, text);
        }
        rest = after;
    }
    script.extend_from_slice(rest);
}

/// The length of the JSON text with which this begins, with its quotes.
fn text_length(json: &[u8]) -> usize {
    let mut escaped = false;
    let end = json.iter().skip(1).position(|byte| {
        let ends = !escaped && *byte == b'"';
        escaped = !escaped && *byte == b'\\';
        ends
    });
    end.map_or(json.len(), |end| end + 2)
}

fn is_prototype(text: &[u8]) -> bool {
    // Every character may be written as six.
    const LONGEST: usize = 6 * "__proto__".len() + 2;
    text.len() <= LONGEST && serde_json::from_slice::<String>(text).is_ok_and(|text| text == "__proto__")
}

fn push_text(script: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(place) = rest.windows(3).position(is_line_separator) {
        script.extend_from_slice(&rest[..place]);
        script.extend_from_slice(if rest[place + 2] == 0xA8 {
            br"\u2028"
        } else {
            br"\u2029"
        });
        rest = &rest[place + 3..];
    }
    script.extend_from_slice(rest);
}

/// U+2028 or U+2029 in UTF-8.
fn is_line_separator(bytes: &[u8]) -> bool {
    matches!(bytes, [0xE2, 0x80, 0xA8 | 0xA9])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<Asked, (StatusCode, String)> {
        parse(query, &CallbackPolling::default(), 10)
    }

    #[track_caller]
    fn expect_refused(query: &str, status: StatusCode, words: &str) {
        let (found, reason) = asked(query).expect_err(query);
        assert!(
            found == status && reason.contains(words),
            "{query}: {found} {reason}"
        );
    }

    fn in_script(json: &str) -> String {
        let script = script("f", json.as_bytes());
        String::from_utf8(script).unwrap()
    }

    #[test]
    fn messages_may_repeat_and_are_decoded_in_order() {
        let asked = asked("x&jsonp=a.b-c_1&message=%5B%7B%22+%2B&message=%E2%80%A8&y=z&jsonp=(").unwrap();
        assert_eq!(asked.callback, "a.b-c_1");
        assert_eq!(asked.bodies, ["[{\" +", "\u{2028}"]);
    }

    #[test]
    fn a_callback_is_a_short_name() {
        let longest = "c".repeat(64);
        assert!(asked(&format!("jsonp={longest}&message=1")).is_ok());
        for callback in [
            "",
            "a%28b",
            "a%0Ab",
            "a+b",
            "%C3%A9",
            "%FF",
            &format!("{longest}c"),
        ] {
            let query = format!("jsonp={callback}&message=1");
            expect_refused(&query, StatusCode::BAD_REQUEST, "jsonp is no name: 1 to 64");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        expect_refused("message=1", StatusCode::BAD_REQUEST, "parameter jsonp is missing");
        expect_refused("jsonp=f", StatusCode::BAD_REQUEST, "parameter message is missing");
        expect_refused("", StatusCode::BAD_REQUEST, "parameter jsonp is missing");
    }

    #[test]
    fn the_limit_is_one_of_all_messages_as_they_are_decoded() {
        assert!(asked("jsonp=f&message=%31%32%33%34%35&message=67890").is_ok());
        let too_large = "jsonp=f&message=12345&message=678901";
        expect_refused(too_large, StatusCode::PAYLOAD_TOO_LARGE, "10 bytes");
    }

    #[test]
    fn separators_of_lines_do_not_break_a_script() {
        assert_eq!(in_script("[\"a\u{2028}\u{2029}b\"]"), r#"f(["a\u2028\u2029b"])"#);
        assert_eq!(in_script("[\"\u{2027}\u{202a}\"]"), "f([\"\u{2027}\u{202a}\"])");
    }

    #[test]
    fn a_key_that_is_none_in_a_script_is_computed() {
        assert_eq!(
            in_script(r#"[{"__proto__" : 1,"\u005f_proto__":2}]"#),
            r#"f([{["__proto__"] : 1,["__proto__"]:2}])"#
        );
        for other in [
            r#"[{"a":"__proto__"}]"#,
            r#"["__proto__"]"#,
            r#"[{"_proto__":1}]"#,
        ] {
            assert_eq!(in_script(other), format!("f({other})"));
        }
    }

    #[test]
    fn texts_end_where_they_do_in_json() {
        for json in [
            r#"["\\","\"",":"]"#,
            r#"[{"\"__proto__":1,"\\":2}]"#,
            "[]",
            r#"[""]"#,
        ] {
            assert_eq!(in_script(json), format!("f({json})"));
        }
    }
}
