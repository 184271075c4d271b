//! TLS of a listener.

use serde::{Deserialize, Serialize};

use super::values::{Span, seconds};

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The file with its certificate, and those between it and one that clients know. Without one TLS is not spoken.
    pub certificate: String,
    /// The file with the certificate's key.
    pub key: String,
    /// Whether clients are asked for certificates.
    pub client_certificates: ClientCertificates,
    /// The file with the certificates of those who may issue them.
    pub client_ca: String,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// How long a client may take to agree on keys.
    pub handshake_timeout: Span,
    /// Clients that do so at once.
    pub handshakes: usize,
    /// How often the files are looked at.
    pub reload_interval: Span,
}

/// Whether clients are asked for certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// They are not.
    None,
    /// They are, and may have none.
    Optional,
    /// They are, and nobody comes in without.
    Required,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}

impl Tls {
    /// Whether TLS is spoken.
    pub fn is_on(&self) -> bool {
        !self.certificate.is_empty()
    }

    /// What is wrong, and with which of its settings.
    pub(super) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let asks = self.client_certificates != ClientCertificates::None;
        for (key, is_good, reason) in [
            (
                "key",
                self.key.is_empty() != self.is_on(),
                "the certificate and its key come together: name both files, or neither",
            ),
            (
                "client_certificates",
                self.is_on() || !asks,
                "clients can be asked for certificates only where TLS is spoken: set certificate and key",
            ),
            (
                "client_ca",
                self.client_ca.is_empty() != asks,
                "the file of those who may issue certificates of clients comes together with client_certificates = \"required\" \
                 or \"optional\"",
            ),
            (
                "handshake_timeout",
                !self.handshake_timeout.0.is_zero(),
                "longer than nothing",
            ),
            (
                "handshakes",
                (1..=HANDSHAKES_MAX).contains(&self.handshakes),
                "from 1 to 1,000,000",
            ),
            (
                "reload_interval",
                !self.reload_interval.0.is_zero(),
                "longer than nothing",
            ),
        ] {
            if !is_good {
                return Err((key, reason));
            }
        }
        Ok(())
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            certificate: String::new(),
            key: String::new(),
            client_certificates: ClientCertificates::None,
            client_ca: String::new(),
            min_version: TlsVersion::Tls12,
            handshake_timeout: seconds(10),
            handshakes: 1000,
            reload_interval: seconds(30),
        }
    }
}

/// Far above what a machine can do at once.
const HANDSHAKES_MAX: usize = 1_000_000;
