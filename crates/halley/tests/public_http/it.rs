//! A broker in this process, and short words for talking to it.

use std::time::Duration;

use bytes::Bytes;
use halley::app::App;
use halley::config::Config;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A running broker. It serves until the test ends.
pub(crate) async fn broker(adjust: impl FnOnce(&mut Config)) -> App {
    let mut config = Config::default();
    config.public.listen = ([127, 0, 0, 1], 0).into();
    config.internal.listen = ([127, 0, 0, 1], 0).into();
    config.log.url = "memory:".to_owned();
    adjust(&mut config);
    App::start(config).await.expect("a broker")
}

/// A response, whole.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The value of a header; nothing if it is not there.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.response.headers().get(name);
        value.map_or("", |value| value.to_str().expect("a text"))
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

pub(crate) fn request(method: &str, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri("/cometd");
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "halley.example");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    request.body(body).expect("a request")
}

/// Sends a request of HTTP/1.1 on a connection of its own.
pub(crate) async fn send(app: &App, request: Request<Full<Bytes>>) -> Answer {
    let stream = TcpStream::connect(app.public_addr())
        .await
        .expect("the broker listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("a connection");
    tokio::spawn(connection);
    let exchange = async {
        let mut response = sender.send_request(request).await.expect("an answer");
        let body = response.body_mut().collect().await.expect("a whole answer");
        Answer {
            body: body.to_bytes(),
            response,
        }
    };
    timeout(PATIENCE, exchange).await.expect("an answer in time")
}

pub(crate) async fn post(app: &App, headers: &[(&str, &str)], body: &Value) -> Answer {
    send(app, request("POST", headers, &body.to_string())).await
}

pub(crate) fn handshake() -> Value {
    json!([{ "channel": "/meta/handshake", "version": "1.0" }])
}
