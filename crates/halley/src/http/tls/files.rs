//! What the files of a certificate, its key and a client CA come to.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::unix_time;
use crate::config::{ClientCertificates, Tls, TlsVersion};

/// What the files say.
pub(super) struct Read {
    pub(super) config: ServerConfig,
    /// When the first certificate of the chain ends, in seconds since 1970.
    pub(super) not_after: i64,
}

/// When each file was last changed, and its length. Nothing where there is none.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stamps([Option<(SystemTime, u64)>; 3]);

/// What is wrong, and the setting that names the file.
type Wrong = (&'static str, String);

pub(super) const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

impl Read {
    pub(super) fn has_ended(&self) -> bool {
        self.not_after < unix_time()
    }

    /// For people.
    pub(super) fn end(&self) -> String {
        jiff::Timestamp::from_second(self.not_after)
            .map_or_else(|_| "never".to_owned(), |end| end.to_string())
    }
}

impl Stamps {
    pub(super) fn of(settings: &Tls) -> Self {
        let stamp = |path: &String| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Self([&settings.certificate, &settings.key, &settings.client_ca].map(stamp))
    }
}

/// Reads all files, and checks that they belong together.
pub(super) fn read(settings: &Tls, offers_http2: bool) -> Result<Read, Wrong> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = certificates("certificate", &settings.certificate)?;
    let key = key(&settings.key)?;
    let not_after = chain
        .iter()
        .map(|certificate| match X509Certificate::from_der(certificate) {
            Ok((_, parsed)) => Ok(parsed.validity().not_after.timestamp()),
            Err(error) => Err(("certificate", format!("{}: {error}", settings.certificate))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let versions: &[_] = match settings.min_version {
        TlsVersion::Tls12 => &[&version::TLS13, &version::TLS12],
        TlsVersion::Tls13 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| ("min_version", error.to_string()))?;
    let builder = match verifier(settings, &provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        let reason = if let rustls::Error::InconsistentKeys(_) = error {
            format!("not the key of the certificate in {}", settings.certificate)
        } else {
            error.to_string()
        };
        ("key", format!("{}: {reason}", settings.key))
    })?;
    config.alpn_protocols = vec![HTTP1.to_vec()];
    if offers_http2 {
        config.alpn_protocols.insert(0, HTTP2.to_vec());
    }
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match settings.client_certificates {
        // Whoever comes back is known by what it brings, so nothing is kept for it here.
        ClientCertificates::None => {
            config.ticketer = aws_lc_rs::Ticketer::new().map_err(|error| ("key", error.to_string()))?;
        }
        // A certificate is looked at each time: what was good once may have ended.
        ClientCertificates::Optional | ClientCertificates::Required => config.send_tls13_tickets = 0,
    }
    Ok(Read {
        config,
        not_after: not_after.into_iter().min().unwrap_or_default(),
    })
}

fn verifier(
    settings: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, Wrong> {
    let is_optional = match settings.client_certificates {
        ClientCertificates::None => return Ok(None),
        ClientCertificates::Optional => true,
        ClientCertificates::Required => false,
    };
    let wrong = |error: &dyn std::fmt::Display| ("client_ca", format!("{}: {error}", settings.client_ca));
    let mut roots = RootCertStore::empty();
    for root in certificates("client_ca", &settings.client_ca)? {
        roots.add(root).map_err(|error| wrong(&error))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match is_optional {
        true => builder.allow_unauthenticated(),
        false => builder,
    };
    builder.build().map(Some).map_err(|error| wrong(&error))
}

fn certificates(setting: &'static str, path: &str) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let text = read_file(setting, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| (setting, format!("{path}: {error}")))?;
    if found.is_empty() {
        return Err((setting, format!("{path}: there is no certificate in it, as PEM")));
    }
    Ok(found)
}

fn key(path: &str) -> Result<PrivateKeyDer<'static>, Wrong> {
    let text = read_file("key", path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let reason = if let pem::Error::NoItemsFound = error {
            "there is no key in it that needs no passphrase, as PEM: PKCS#8 (BEGIN PRIVATE KEY), PKCS#1 or SEC1"
        } else {
            // What is wrong is not repeated: it is a part of the key.
            "this is no PEM"
        };
        ("key", format!("{path}: {reason}"))
    })
}

fn read_file(setting: &'static str, path: &str) -> Result<Vec<u8>, Wrong> {
    fs::read(path).map_err(|error| (setting, format!("{path}: {error}")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustls::pki_types::PrivateKeyDer;

    use super::key;

    /// The kind of key that a file with this text has.
    fn kind(text: &str) -> Result<&'static str, String> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("it takes a text");
        match key(&file.path().display().to_string()) {
            Ok(PrivateKeyDer::Pkcs8(_)) => Ok("PKCS#8"),
            Ok(PrivateKeyDer::Pkcs1(_)) => Ok("PKCS#1"),
            Ok(PrivateKeyDer::Sec1(_)) => Ok("SEC1"),
            Ok(_) => Ok("another"),
            Err((_, reason)) => Err(reason),
        }
    }

    #[test]
    fn a_key_may_be_in_any_of_three_formats_and_behind_a_certificate() {
        for (label, expected) in [
            ("PRIVATE KEY", "PKCS#8"),
            ("RSA PRIVATE KEY", "PKCS#1"),
            ("EC PRIVATE KEY", "SEC1"),
        ] {
            let text = format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
            assert_eq!(kind(&text), Ok(expected));
            let behind = format!("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n{text}");
            assert_eq!(kind(&behind), Ok(expected));
        }
    }

    #[test]
    fn a_key_with_a_passphrase_or_none_at_all_is_refused_and_nothing_of_it_is_repeated() {
        let label = "ENCRYPTED PRIVATE KEY";
        let encrypted = format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
        assert!(kind(&encrypted).unwrap_err().contains("no passphrase"));
        assert!(kind("").unwrap_err().contains("no key in it"));
        let broken = kind("-----BEGIN PRIVATE KEY-----\nc2VjcmV0*\n-----END PRIVATE KEY-----\n").unwrap_err();
        assert!(broken.contains("no PEM") && !broken.contains("c2Vj"), "{broken}");
    }
}
