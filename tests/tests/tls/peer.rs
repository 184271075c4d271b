//! Whoever connects by TLS, and what it says over that.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates::{Authority, Issued};
use crate::it::{Answer, read_answer, request};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How somebody speaks TLS.
pub(crate) struct Peer {
    pub(crate) config: ClientConfig,
}

pub(crate) type Line = TlsStream<TcpStream>;

impl Peer {
    /// Trusts `authority`, and has no certificate.
    pub(crate) fn trusting(authority: &Authority) -> Self {
        Self::with(authority, &[&TLS13, &TLS12], None)
    }

    /// The same, with a certificate.
    pub(crate) fn showing(authority: &Authority, own: &Issued) -> Self {
        Self::with(authority, &[&TLS13, &TLS12], Some(own))
    }

    pub(crate) fn with(
        authority: &Authority,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Issued>,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(authority.roots());
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(own.chain(), own.key())
                .expect("a certificate and its key"),
        };
        Self { config }
    }

    /// The same, offering these protocols.
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<Line> {
        self.connect_on(TcpStream::connect(address).await?, address).await
    }

    pub(crate) async fn connect_on(&self, stream: TcpStream, address: SocketAddr) -> io::Result<Line> {
        let name = ServerName::IpAddress(address.ip().into());
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        timeout(PATIENCE, connector.connect(name, stream)).await?
    }

    /// One request on a connection of its own. With TLS 1.3 a server's refusal of a certificate comes only now.
    pub(crate) async fn ask(&self, address: SocketAddr, request: &[u8]) -> io::Result<Answer> {
        let mut line = self.connect(address).await?;
        line.write_all(request).await?;
        // Until the refusal is read, it may have been written all the same.
        let mut first = [0];
        timeout(
            PATIENCE,
            tokio::io::AsyncReadExt::read_exact(&mut line, &mut first),
        )
        .await??;
        Ok(read_answer(&mut tokio::io::AsyncReadExt::chain(&first[..], &mut line)).await)
    }

    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> io::Result<Answer> {
        self.ask(address, &request("GET", path, &[], b"")).await
    }

    pub(crate) async fn publish(&self, address: SocketAddr, event: &Value) -> io::Result<Answer> {
        let body = event.to_string();
        let request = request("POST", "/api/v1/events", &[], body.as_bytes());
        self.ask(address, &request).await
    }
}

/// Says something on a connection and reads the answer.
pub(crate) async fn exchange_on(line: &mut Line, request: &[u8]) -> Answer {
    line.write_all(request).await.expect("the connection is open");
    read_answer(line).await
}

/// What the broker has shown on a connection.
pub(crate) fn shown(line: &Line) -> CertificateDer<'static> {
    let shown = line.get_ref().1.peer_certificates().expect("a certificate");
    shown[0].clone()
}
