//! A service of the voice backend: what clients ask, the broker posts here.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Settings;

/// Answers `/service/desk/echo` with the question and who asked, and refuses everything else as a conflict. Dropping it
/// ends it.
pub struct Service {
    address: SocketAddr,
    listening: JoinHandle<()>,
}

impl Service {
    /// Listens on a port of its own.
    pub async fn start() -> Service {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port for the service");
        let address = listener.local_addr().expect("a bound socket has an address");
        let listening = tokio::spawn(listen(listener));
        Service { address, listening }
    }

    /// A broker that asks it whatever clients send to `/service/desk/…`.
    pub fn settings(&self) -> Settings {
        let extra = format!(
            "[[services]]\nchannel = \"/service/desk/*\"\nurl = \"http://{}/\"\n",
            self.address
        );
        Settings {
            extra,
            ..Settings::default()
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn listen(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(connection);
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes());
    let question: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    Ok(match question["channel"].as_str() {
        Some("/service/desk/echo") => {
            let answer = json!({ "user": question["user"], "asked": question["data"] });
            json_response(StatusCode::OK, "application/json", &answer)
        }
        Some(_) | None => {
            let problem = json!({ "title": "Taken", "status": 409 });
            json_response(StatusCode::CONFLICT, "application/problem+json", &problem)
        }
    })
}

fn json_response(status: StatusCode, content_type: &'static str, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
