//! Who issues certificates, and files with them.

use std::path::PathBuf;
use std::sync::Arc;

use halley::config::{ClientCertificates, Config, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Somebody who issues certificates.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(crate) struct Issued {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    /// For these names: of hosts, addresses, or URIs.
    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        self.issue_with(names, |_| {})
    }

    pub(crate) fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let (uris, hosts): (Vec<&str>, Vec<&str>) =
            names.iter().copied().partition(|name| name.contains("://"));
        let hosts: Vec<String> = hosts.into_iter().map(ToOwned::to_owned).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        let uri = |name: &str| SanType::URI(name.try_into().expect("a URI is ASCII"));
        params.subject_alt_names.extend(uris.into_iter().map(uri));
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { certificate, key }
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a root");
        Arc::new(roots)
    }
}

impl Issued {
    pub(crate) fn sha256(&self) -> String {
        let digest = Sha256::digest(self.certificate.der());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// The files of a broker.
pub(crate) struct Files(TempDir);

impl Files {
    /// With a certificate for this machine.
    pub(crate) fn of(authority: &Authority) -> Self {
        let files = Self(TempDir::new().expect("a temporary folder"));
        files.put(&authority.issue(&["127.0.0.1", "localhost"]));
        files
    }

    /// Replaces the certificate and its key.
    pub(crate) fn put(&self, issued: &Issued) {
        self.write("tls.crt", &issued.certificate.pem());
        self.write("tls.key", &issued.key.serialize_pem());
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("the temporary folder takes a file");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The settings that name them.
    pub(crate) fn settings(&self) -> Tls {
        let path = |name| self.path(name).display().to_string();
        Tls {
            certificate: path("tls.crt"),
            key: path("tls.key"),
            ..Tls::default()
        }
    }

    /// The same, with clients that are asked for certificates of `authority`.
    pub(crate) fn asking(&self, authority: &Authority, who: ClientCertificates) -> Tls {
        self.write("ca.crt", &authority.certificate.pem());
        Tls {
            client_certificates: who,
            client_ca: self.path("ca.crt").display().to_string(),
            ..self.settings()
        }
    }

    /// TLS for clients.
    pub(crate) fn public(&self) -> impl FnOnce(&mut Config) {
        let tls = self.settings();
        |config| config.public.tls = tls
    }
}
