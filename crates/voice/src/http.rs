//! One keep-alive HTTP/1.1 connection to one server, for the publisher and the scenario.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection that is opened when it is first needed and again when it was lost.
pub(crate) struct Connection {
    origin: Origin,
    authorization: Option<HeaderValue>,
    answer_within: Duration,
    open: Option<SendRequest<Full<Bytes>>>,
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// From `Retry-After`, if it is a number of seconds; a date is not understood.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

/// Why there is no answer. Whether the server has acted on the request is not known.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing listens, or the name does not resolve.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    /// The connection was lost in between, or spoke no HTTP.
    #[error("the connection failed: {0}")]
    Lost(#[from] hyper::Error),
    /// The answer took too long.
    #[error("no answer within {0:?}")]
    TooLate(Duration),
    /// The answer could not be read to its end, or is too large.
    #[error("the answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// The request could not be built.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] hyper::http::Error),
}

impl Connection {
    pub(crate) fn new(origin: Origin, authorization: Option<HeaderValue>, answer_within: Duration) -> Self {
        Connection {
            origin,
            authorization,
            answer_within,
            open: None,
        }
    }

    /// Sends a request and waits for the whole answer. After a failure the next request opens a new connection.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer, NoAnswer> {
        let within = self.answer_within;
        let result = match tokio::time::timeout(within, self.exchange(method, path, body)).await {
            Ok(result) => result,
            Err(_) => Err(NoAnswer::TooLate(within)),
        };
        if result.is_err() {
            self.open = None;
        }
        result
    }

    async fn exchange(&mut self, method: Method, path: &str, body: Bytes) -> Result<Answer, NoAnswer> {
        let request = self.request(method, path, body)?;
        let sender = self.sender().await?;
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_ANSWER)
            .collect()
            .await
            .map_err(NoAnswer::Body)?
            .to_bytes();
        let seconds = head
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Answer {
            status: head.status,
            retry_after: seconds.map(Duration::from_secs),
            body,
        })
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, NoAnswer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.origin.prefix))
            .header(HOST, &self.origin.host);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        Ok(request.body(Full::new(body))?)
    }

    /// The open connection, if it can take a request, or a new one.
    async fn sender(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, NoAnswer> {
        if let Some(sender) = &mut self.open
            && sender.ready().await.is_err()
        {
            self.open = None;
        }
        match &mut self.open {
            Some(sender) => Ok(sender),
            closed => Ok(closed.insert(connect(&self.origin.address).await?)),
        }
    }
}

async fn connect(address: &str) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
    let failed = |error| NoAnswer::Connect(address.to_owned(), error);
    let socket = TcpStream::connect(address).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // Ends when the sender is dropped or the peer closes; what went wrong, the sender hears too.
    tokio::spawn(connection);
    sender.ready().await?;
    Ok(sender)
}

/// Where a server is: the parts of an `http://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// For the socket: always with a port.
    address: String,
    /// For the `Host` header: as written.
    host: String,
    /// The path before every path, without a slash at the end.
    prefix: String,
}

/// An address that is not `http://host[:port][/prefix]`.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is not an http:// address")]
pub struct InvalidUrl(pub String);

impl std::str::FromStr for Origin {
    type Err = InvalidUrl;

    fn from_str(url: &str) -> Result<Self, InvalidUrl> {
        let invalid = || InvalidUrl(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(invalid());
        }
        let authority = uri.authority().ok_or_else(invalid)?;
        Ok(Origin {
            address: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
            host: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// No answer of a broker or of the voice API comes near this.
const MOST_ANSWER: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(url: &str) -> (String, String) {
        let origin: Origin = url.parse().unwrap();
        (origin.address, origin.prefix)
    }

    #[test]
    fn an_address_without_a_port_means_port_80() {
        assert_eq!(origin("http://broker"), ("broker:80".into(), String::new()));
    }

    #[test]
    fn an_address_may_have_a_path() {
        assert_eq!(
            origin("http://[::1]:9090/halley/"),
            ("[::1]:9090".into(), "/halley".into())
        );
    }

    #[test]
    fn only_http_is_spoken() {
        assert!("https://broker".parse::<Origin>().is_err());
    }
}
