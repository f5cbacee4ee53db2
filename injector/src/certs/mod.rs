//! Certificates: from files that somebody else renews, or made and renewed by ourselves.
//!
//! Both ways end in one place: the TLS configuration for new connections, replaced only by one that is known to work.
//! An injector never stops because of a certificate; it serves the old one and says so.

pub mod authority;
pub mod files;
pub mod plan;
pub mod self_managed;

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::metrics::Metrics;
use crate::server::tls_policy::TlsPolicy;

/// What is wrong with a certificate, a key or a CA file.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file that cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Its path.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Not PEM, or nothing in it.
    #[error("{what} is not usable PEM")]
    Pem {
        /// Which part.
        what: &'static str,
        /// What the reader said.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// No certificate in the chain.
    #[error("there is no certificate in {0}")]
    Empty(&'static str),
    /// Key and certificate do not belong together, or the TLS library refuses them.
    #[error("the certificate and its key cannot be used together")]
    Pair(#[source] rustls::Error),
    /// The certificate cannot be parsed.
    #[error("the certificate is not X.509")]
    X509(#[source] x509_parser::nom::Err<x509_parser::error::X509Error>),
    /// The client CA is unusable.
    #[error("the client CA cannot be used")]
    ClientCa(#[source] rustls::server::VerifierBuilderError),
    /// The TLS library refuses the configuration.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// PEM texts that make up one TLS configuration.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Material {
    /// The certificate chain, leaf first.
    pub chain: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
    /// CAs that clients' certificates must come from; empty if clients are not asked.
    pub client_ca: Vec<u8>,
}

/// Where new certificates are put into use.
#[derive(Debug, Clone)]
pub struct Installer {
    policy: TlsPolicy,
    metrics: Arc<Metrics>,
    tls: Arc<watch::Sender<Option<Arc<ServerConfig>>>>,
}

impl Installer {
    /// Nothing is installed yet.
    pub fn new(policy: TlsPolicy, metrics: Arc<Metrics>) -> Self {
        Self { policy, metrics, tls: Arc::new(watch::Sender::new(None)) }
    }

    /// The configuration for new connections.
    pub fn tls(&self) -> watch::Receiver<Option<Arc<ServerConfig>>> {
        self.tls.subscribe()
    }

    /// Checks the material and puts it into use for new connections.
    ///
    /// # Errors
    /// It cannot be used; what was in use stays in use, and the metric `certificate_bad` is raised.
    pub fn install(&self, material: &Material) -> Result<(), CertificateError> {
        let (config, expiry) = self.build(material).inspect_err(|_| self.failed())?;
        self.tls.send_replace(Some(Arc::new(config)));
        self.metrics.certificate_bad.set(0);
        self.metrics.certificate_expiry.set(expiry);
        self.metrics.certificate_generation.inc();
        tracing::info!(
            expires_in_days = expiry.saturating_sub(crate::clock::unix_seconds()).div_euclid(86_400),
            "certificate in use"
        );
        Ok(())
    }

    /// Raises the metric that says that the certificate should have changed and could not.
    pub fn failed(&self) {
        self.metrics.certificate_bad.set(1);
    }

    fn build(&self, material: &Material) -> Result<(ServerConfig, i64), CertificateError> {
        let chain = certificates(&material.chain, "the certificate file")?;
        let expiry = not_after(chain.first().ok_or(CertificateError::Empty("the certificate file"))?)?;
        let key = PrivateKeyDer::from_pem_slice(&material.key)
            .map_err(|source| CertificateError::Pem { what: "the key file", source })?;
        let pair =
            CertifiedKey::from_der(chain, key, &self.policy.provider).map_err(CertificateError::Pair)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.policy.provider))
            .with_protocol_versions(&self.policy.versions)
            .map_err(CertificateError::Tls)?;
        let builder = if material.client_ca.is_empty() {
            builder.with_no_client_auth()
        } else {
            let mut roots = RootCertStore::empty();
            for ca in certificates(&material.client_ca, "the client CA file")? {
                roots.add(ca).map_err(CertificateError::Tls)?;
            }
            let provider = Arc::clone(&self.policy.provider);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(CertificateError::ClientCa)?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder.with_cert_resolver(Arc::new(Only(Arc::new(pair))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((config, expiry))
    }
}

/// One certificate, whatever name the client asks for.
#[derive(Debug)]
struct Only(Arc<CertifiedKey>);

impl ResolvesServerCert for Only {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|source| CertificateError::Pem { what, source })?;
    if found.is_empty() { Err(CertificateError::Empty(what)) } else { Ok(found) }
}

/// When a certificate expires, in Unix seconds.
fn not_after(certificate: &CertificateDer<'_>) -> Result<i64, CertificateError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(CertificateError::X509)?;
    Ok(parsed.validity().not_after.timestamp())
}
