//! The voice API as its clients see it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use voice::publisher::Counts;
use voice::{Agent, Config, Server, device_id};

use crate::broker::Broker;

/// A running server with the agents 15000 to 15003 and the supervisor 15009, all with the password `secret`.
pub(crate) struct Api {
    pub(crate) url: String,
    address: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Counts>,
}

pub(crate) fn agents() -> Vec<Agent> {
    let mut agents: Vec<Agent> = ["15000", "15001", "15002", "15003"]
        .map(|user| Agent::new(user, "secret"))
        .into();
    agents.push(Agent::new("15009", "secret").supervisor());
    agents
}

impl Api {
    pub(crate) async fn start(broker: &Broker) -> Self {
        Api::start_with(broker, 1000).await
    }

    /// With a queue of this length.
    pub(crate) async fn start_with(broker: &Broker, queue: usize) -> Self {
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            broker: broker.url.clone(),
            agents: agents(),
            publisher: voice::publisher::Config {
                queue,
                first_pause: Duration::from_millis(1),
                ..voice::publisher::Config::default()
            },
            ..Config::default()
        };
        let server = Server::bind(config).await.unwrap();
        let address = server.local_addr().to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Api {
            url: format!("http://{address}"),
            address,
            stop,
            running,
        }
    }

    pub(crate) async fn stop(self) -> Counts {
        self.stop.send(()).unwrap();
        self.running.await.unwrap()
    }

    pub(crate) async fn get(&self, user: &str, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, Some((user, "secret")), Bytes::new())
            .await
    }

    pub(crate) async fn post(&self, user: &str, path: &str, body: Value) -> (u16, Value) {
        self.send(
            Method::POST,
            path,
            Some((user, "secret")),
            body.to_string().into(),
        )
        .await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        credentials: Option<(&str, &str)>,
        body: Bytes,
    ) -> (u16, Value) {
        let socket = TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address);
        if let Some((user, password)) = credentials {
            let encoded = STANDARD.encode(format!("{user}:{password}"));
            request = request.header("authorization", format!("Basic {encoded}"));
        }
        let response = sender
            .send_request(request.body(Full::new(body)).unwrap())
            .await
            .unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    pub(crate) async fn log_in(&self, users: &[&str]) {
        for user in users {
            let body = json!({"operationName": "StartContactCenterSession", "channels": ["voice"]});
            assert_eq!(self.post(user, "/api/v2/me", body).await.0, 200);
        }
    }

    pub(crate) async fn dial(&self, user: &str, number: &str) -> (u16, Value) {
        let path = format!("/api/v2/me/devices/{}/calls", device_id(user));
        let body = json!({"operationName": "Dial", "destination": {"phoneNumber": number}});
        self.post(user, &path, body).await
    }

    /// The address of the user's only call.
    pub(crate) async fn call(&self, user: &str) -> String {
        let (_, found) = self.get(user, "/api/v2/me/calls").await;
        format!("/api/v2/me/calls/{}", found["calls"][0]["id"].as_str().unwrap())
    }

    /// 15000 speaks with 15001 and has brought 15002, who has answered: the address of the conference.
    pub(crate) async fn conference(&self) -> String {
        self.log_in(&["15000", "15001", "15002"]).await;
        self.dial("15000", "15001").await;
        let call = self.call("15000").await;
        let bring = json!({"operationName": "SingleStepConference", "destination": {"phoneNumber": "15002"}});
        for (user, body) in [
            ("15001", json!({"operationName": "Answer"})),
            ("15000", bring),
            ("15002", json!({"operationName": "Answer"})),
        ] {
            assert_eq!(self.post(user, &call, body).await.0, 200);
        }
        call
    }
}
