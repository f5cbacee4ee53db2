//! TLS versions, cipher suites and key exchange groups, by the names that Kubernetes and Go give them.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

/// Names of suites, as Kubernetes components take them, and what they are. `None` marks those that Go counts as safe
/// and this TLS library does not have: they are left out with a warning.
const SUITES: [(&str, Option<CipherSuite>); 15] = [
    ("TLS_AES_128_GCM_SHA256", Some(CipherSuite::TLS13_AES_128_GCM_SHA256)),
    ("TLS_AES_256_GCM_SHA384", Some(CipherSuite::TLS13_AES_256_GCM_SHA384)),
    ("TLS_CHACHA20_POLY1305_SHA256", Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
];

/// Go's numbers of key exchange groups that are known and not available here: P-521 and the post-quantum hybrids.
const ABSENT_GROUPS: [u32; 4] = [25, 4587, 4588, 4589];

/// A TLS flag that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsPolicyError {
    /// Neither of the two versions.
    #[error("--tls-min-version {0:?}: use VersionTLS12 or VersionTLS13")]
    Version(String),
    /// A name that is unknown, unsafe or empty.
    #[error("--tls-cipher-suites: {0:?} is unknown or unsafe")]
    Suite(String),
    /// All named suites are absent from this TLS library.
    #[error("--tls-cipher-suites: none of the named suites is available for the chosen TLS versions")]
    NoSuite,
    /// Not a number, or the number of no group.
    #[error("--tls-curve-preferences: {0:?} is no known group; use 29 (X25519), 23 (P-256), 24 (P-384)")]
    Group(String),
    /// All named groups are absent from this TLS library.
    #[error("--tls-curve-preferences: none of the named groups is available")]
    NoGroup,
}

/// What may be negotiated.
#[derive(Debug, Clone)]
pub struct TlsPolicy {
    /// The one crypto provider, reduced to what is allowed.
    pub provider: Arc<CryptoProvider>,
    /// Allowed versions.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Names that were given and left out, for a warning at start.
    pub left_out: Vec<String>,
}

impl TlsPolicy {
    /// Reads the three flags; an empty text stands for the default.
    ///
    /// # Errors
    /// A name that is not known, or nothing left to negotiate.
    pub fn new(min_version: &str, suites: &str, groups: &str) -> Result<Self, TlsPolicyError> {
        let versions = match min_version {
            "" | "VersionTLS12" => vec![&rustls::version::TLS13, &rustls::version::TLS12],
            "VersionTLS13" => vec![&rustls::version::TLS13],
            other => return Err(TlsPolicyError::Version(other.to_owned())),
        };
        let mut left_out = Vec::new();
        let mut provider = ring::default_provider();
        if !suites.is_empty() {
            provider.cipher_suites = pick_suites(&provider.cipher_suites, suites, &mut left_out)?;
        }
        if !groups.is_empty() {
            provider.kx_groups = pick_groups(&provider.kx_groups, groups, &mut left_out)?;
        }
        let usable = |version: &&SupportedProtocolVersion| {
            provider.cipher_suites.iter().any(|suite| suite.version().version == version.version)
        };
        let versions: Vec<_> = versions.into_iter().filter(usable).collect();
        if versions.is_empty() {
            return Err(TlsPolicyError::NoSuite);
        }
        Ok(Self { provider: Arc::new(provider), versions, left_out })
    }
}

fn pick_suites(
    all: &[SupportedCipherSuite],
    names: &str,
    left_out: &mut Vec<String>,
) -> Result<Vec<SupportedCipherSuite>, TlsPolicyError> {
    let mut picked: Vec<SupportedCipherSuite> = Vec::new();
    for name in names.split(',').map(str::trim) {
        let Some((_, id)) = SUITES.iter().find(|(known, _)| *known == name) else {
            return Err(TlsPolicyError::Suite(name.to_owned()));
        };
        match id.and_then(|id| all.iter().find(|suite| suite.suite() == id)) {
            Some(suite) if picked.contains(suite) => {}
            Some(suite) => picked.push(*suite),
            None => left_out.push(name.to_owned()),
        }
    }
    // As in Go, TLS 1.3 suites cannot be chosen away; naming only older ones leaves the newer version usable.
    for suite in all.iter().filter(|suite| suite.version().version == rustls::ProtocolVersion::TLSv1_3) {
        if !picked.contains(suite) {
            picked.push(*suite);
        }
    }
    Ok(picked)
}

fn pick_groups(
    all: &[&'static dyn SupportedKxGroup],
    ids: &str,
    left_out: &mut Vec<String>,
) -> Result<Vec<&'static dyn SupportedKxGroup>, TlsPolicyError> {
    let mut picked: Vec<&'static dyn SupportedKxGroup> = Vec::new();
    for text in ids.split(',').map(str::trim) {
        let id: u32 = text.parse().map_err(|_| TlsPolicyError::Group(text.to_owned()))?;
        match all.iter().find(|group| u32::from(u16::from(group.name())) == id) {
            Some(group) => picked.push(*group),
            None if ABSENT_GROUPS.contains(&id) => left_out.push(text.to_owned()),
            None => return Err(TlsPolicyError::Group(text.to_owned())),
        }
    }
    if picked.is_empty() { Err(TlsPolicyError::NoGroup) } else { Ok(picked) }
}
