//! `halley drain`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args as ClapArgs;
use http_body_util::{BodyExt, Full};
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use thiserror::Error;

use super::exit;
use super::serve::complain;
use crate::http;

/// Let the clients of a running broker go, one after the other, and end it.
///
/// The same as SIGTERM, from elsewhere: /readyz says 503 at once, nobody new comes in, and after shutdown.drain the process
/// ends. Nothing is lost: sessions go on with the next process on the same log.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Its internal listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    internal: Uri,
    /// A file with a key that has the action "drain", where keys are asked for
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Wait until it has ended, and say who is left
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Error)]
enum DrainError {
    #[error("{0}: {1}")]
    Key(String, String),
    #[error("--internal: {0}")]
    Url(String),
    #[error("{0} does not answer: {1}")]
    Unreachable(Uri, String),
    #[error("the broker says {0}: {1}")]
    Refused(StatusCode, String),
}

/// What the broker says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct State {
    sockets: usize,
    connects: usize,
}

struct Broker {
    url: Uri,
    key: Option<HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// How often the broker is asked who is left.
const PAUSE: Duration = Duration::from_millis(250);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(exit::FAILED, &error),
    };
    match runtime.block_on(drain(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(code(&error), &error),
    }
}

fn code(error: &DrainError) -> u8 {
    match error {
        DrainError::Key(..) | DrainError::Url(_) => exit::CONFIG,
        DrainError::Unreachable(..) => exit::UNAVAILABLE,
        DrainError::Refused(..) => exit::FAILED,
    }
}

async fn drain(args: &Args) -> Result<(), DrainError> {
    let broker = Broker::new(args)?;
    let mut left = broker.ask(Method::POST).await?;
    say(&left);
    if !args.wait {
        return Ok(());
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        match broker.ask(Method::GET).await {
            Ok(now) if now == left => {}
            Ok(now) => {
                say(&now);
                left = now;
            }
            Err(DrainError::Unreachable(..)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn say(left: &State) {
    let State { sockets, connects } = left;
    // When nobody reads it, it is not worth failing for.
    let _ = writeln!(
        std::io::stdout(),
        "draining: {sockets} sockets and {connects} held connects are left"
    );
}

impl Broker {
    fn new(args: &Args) -> Result<Self, DrainError> {
        let mut parts = args.internal.clone().into_parts();
        parts.path_and_query = Some(hyper::http::uri::PathAndQuery::from_static("/api/v1/drain"));
        let url = Uri::from_parts(parts)
            .map_err(|error| DrainError::Url(format!("{error}: a URL such as http://127.0.0.1:9090")))?;
        let key = args.key_file.as_deref().map(read_key).transpose()?;
        let connector = http::connector(&url).map_err(DrainError::Url)?;
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { url, key, client })
    }

    async fn ask(&self, method: Method) -> Result<State, DrainError> {
        let unreachable = |error: String| DrainError::Unreachable(self.url.clone(), error);
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = self.url.clone();
        if let Some(key) = &self.key {
            request.headers_mut().insert("x-api-key", key.clone());
        }
        let answer = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| error.to_string())?;
            let status = response.status();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((status, body.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(PATIENCE, answer)
            .await
            .map_err(|_| unreachable("no answer in time".to_owned()))?
            .map_err(unreachable)?;
        let refused = || DrainError::Refused(status, String::from_utf8_lossy(&body).into_owned());
        if !status.is_success() {
            return Err(refused());
        }
        serde_json::from_slice(&body).map_err(|_| refused())
    }
}

fn read_key(file: &Path) -> Result<HeaderValue, DrainError> {
    let wrong = |reason: String| DrainError::Key(file.display().to_string(), reason);
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut key = HeaderValue::from_str(text.trim()).map_err(|_| wrong("no key is like that".to_owned()))?;
    key.set_sensitive(true);
    Ok(key)
}
