//! How we ask others: over TCP, or over TLS with the certificates that this machine trusts.

use std::sync::Arc;

use hyper::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;

/// What connects to `url`. The error says what is wrong with this machine.
pub fn connector(url: &Uri) -> Result<HttpsConnector<HttpConnector>, String> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    if url.scheme_str() == Some("https") {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let builder = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .map_err(|error| format!("the certificates of this machine cannot be read: {error}"))?;
        return Ok(builder.https_only().enable_http1().wrap_connector(http));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let nobody = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let builder = HttpsConnectorBuilder::new().with_tls_config(nobody);
    Ok(builder.https_or_http().enable_http1().wrap_connector(http))
}
