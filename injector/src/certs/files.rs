//! Certificates from files, read again whenever they change.
//!
//! A mounted Secret is replaced by swapping a symbolic link two directories up, which file watches miss, so the files'
//! contents are compared now and then. The two files may be caught in the middle of a change: then they do not match,
//! the old pair stays in use, and the next look finds them whole.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{CertificateError, Installer, Material};
use crate::words::chain;

/// How often the files are looked at.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// Where the files are.
#[derive(Debug, Clone)]
pub struct Files {
    /// Certificate chain.
    pub chain: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// Client CAs; empty if clients are not asked for certificates.
    pub client_ca: Vec<PathBuf>,
}

impl Files {
    /// Reads all files.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub async fn read(&self) -> Result<Material, CertificateError> {
        let mut client_ca = Vec::new();
        for path in &self.client_ca {
            client_ca.extend(read(path).await?);
            client_ca.push(b'\n');
        }
        Ok(Material { chain: read(&self.chain).await?, key: read(&self.key).await?, client_ca })
    }

    /// Looks at the files every `every` and installs what has changed, for ever. `installed` is what is in use.
    pub async fn follow(self, installer: Installer, mut installed: Material, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused: Option<Material> = None;
        let mut unreadable = false;
        loop {
            ticks.tick().await;
            let material = match self.read().await {
                Ok(material) => material,
                Err(error) => {
                    installer.failed();
                    if !std::mem::replace(&mut unreadable, true) {
                        tracing::error!(error = %chain(&error), "the old certificate stays in use");
                    }
                    continue;
                }
            };
            let was_unreadable = std::mem::take(&mut unreadable);
            if (material == installed && refused.is_none() && !was_unreadable)
                || refused.as_ref() == Some(&material)
            {
                continue;
            }
            match installer.install(&material) {
                Ok(()) => {
                    installed = material;
                    refused = None;
                }
                Err(error) => {
                    tracing::error!(error = %chain(&error), "the old certificate stays in use");
                    refused = Some(material);
                }
            }
        }
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, CertificateError> {
    tokio::fs::read(path)
        .await
        .map_err(|source| CertificateError::Read { path: path.display().to_string(), source })
}
