//! Certificates that we make, keep in a Secret and announce in the webhook configuration.
//!
//! Every replica runs this; there is no leader. A write carries the version of what was read, so of two replicas that
//! want the same step one loses, reads again and finds nothing to do. The Secret and the configuration are watched, so
//! that an edit is repaired at once; a slow timer covers what watches miss and the passing of time.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{BoxStream, select, unfold};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout};

use super::authority::{AuthorityError, Pair, Store};
use super::plan::{self, Action, Lifetimes};
use super::{Installer, Material};
use crate::clock::unix_seconds;
use crate::cluster::Cluster;
use crate::following::Following;
use crate::words::chain;

/// How long to wait for a change before looking anyway.
pub const SLOW: Duration = Duration::from_secs(600);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// A burst of changes is one change.
const SETTLE: Duration = Duration::from_millis(50);
/// Each step is a write and a read; more than this in one go is a fight with somebody.
const MAX_STEPS: usize = 8;

/// Why certificates could not be looked after this time.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// The API server's refusal.
    #[error("cannot {verb} {object}")]
    Api {
        /// What was attempted.
        verb: &'static str,
        /// On what.
        object: String,
        /// Why not.
        #[source]
        source: kube::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make certificates")]
    Make(#[source] AuthorityError),
    /// What is in the Secret cannot be served.
    #[error("cannot use the certificate in the Secret")]
    Install(#[source] super::CertificateError),
    /// Somebody keeps undoing what we do.
    #[error("the Secret or the webhook configuration keeps changing under us")]
    Contended,
}

impl ManageError {
    /// Says it in the log. That the webhook configuration is not there is in order as long as the installation is under
    /// way, in which it comes last.
    fn log(&self, text: &str) {
        match self {
            Self::Api { source: kube::Error::Api(status), object, .. }
                if status.code == 404 && object.starts_with(CONFIGURATION) =>
            {
                tracing::info!("{object} does not exist (yet); its caBundle is set as soon as it does");
            }
            Self::Api { .. } | Self::Make(_) | Self::Install(_) | Self::Contended => {
                tracing::error!(error = %text, "certificates cannot be looked after; trying again");
            }
        }
    }
}

/// What announces the certificate to the API server.
const CONFIGURATION: &str = "MutatingWebhookConfiguration";

/// Looks after the certificates of one webhook.
pub struct Manager {
    /// API server.
    pub cluster: Cluster,
    /// Our namespace.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The Service, whose names the certificate is for.
    pub service: String,
    /// The MutatingWebhookConfiguration.
    pub webhook: String,
    /// How long things last.
    pub lifetimes: Lifetimes,
    /// How long to wait for a change before looking anyway.
    pub look: Duration,
    /// Where certificates are put into use.
    pub installer: Installer,
}

impl Manager {
    /// Looks after the certificates for ever.
    pub async fn run(self: Arc<Self>) {
        let mut wakes = self.wakes();
        let mut served = None;
        let mut complained = String::new();
        loop {
            let pause = match self.reconcile(&mut served).await {
                Ok(()) => {
                    complained.clear();
                    self.look
                }
                Err(error) => {
                    let text = chain(&error);
                    if text != complained {
                        error.log(&text);
                        complained = text;
                    }
                    RETRY.min(self.look)
                }
            };
            // Either way it is time to look again.
            timeout(pause, wakes.next()).await.ok();
            sleep_until(Instant::now() + SETTLE).await;
        }
    }

    /// Something every time the Secret or the configuration changes. A watch that fails wakes nobody; the slow timer remains.
    fn wakes(&self) -> BoxStream<'static, ()> {
        let Cluster { client, watches } = &self.cluster;
        let named = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let meanwhile = "changes of it are noticed later";
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &self.namespace);
        let what = format!("Secret {}/{}", self.namespace, self.secret);
        let secrets = Following::new(secrets, named(&self.secret), watches, what, meanwhile);
        let webhooks: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
        let what = format!("{CONFIGURATION} {}", self.webhook);
        let webhooks = Following::new(webhooks, named(&self.webhook), watches, what, meanwhile);
        select(every(secrets), every(webhooks)).boxed()
    }

    /// One pass: read, step until nothing is left to do, announce, serve.
    async fn reconcile(&self, served: &mut Option<Pair>) -> Result<(), ManageError> {
        let secrets: Api<Secret> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let names = self.names();
        for _ in 0..MAX_STEPS {
            let secret =
                secrets.get(&self.secret).await.map_err(|source| self.secret_error("read", source))?;
            let store = read(&secret);
            if store.facts(&names, false).leaf.is_some() && served.as_ref() != Some(&store.leaf) {
                self.serve(&store.leaf)?;
                *served = Some(store.leaf.clone());
            }
            // An empty bundle is not announced: first found an authority.
            let announced =
                if store.authority.certificate.is_empty() { Ok(false) } else { self.announce(&store).await };
            let seen = announced.as_ref().is_ok_and(|seen| *seen);
            let now = unix_seconds();
            let action = plan::next(now, &store.facts(&names, seen), &self.lifetimes);
            if action == Action::Nothing {
                return announced.map(|_| ());
            }
            tracing::info!(?action, "certificates: next step");
            let store = store.after(action, now, &names, &self.lifetimes).map_err(ManageError::Make)?;
            match secrets.replace(&self.secret, &PostParams::default(), &write(secret, &store)).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    tracing::debug!("another replica was faster");
                }
                Err(source) => return Err(self.secret_error("write", source)),
            }
        }
        Err(ManageError::Contended)
    }

    fn names(&self) -> Vec<String> {
        let Self { service, namespace, .. } = self;
        vec![service.clone(), format!("{service}.{namespace}"), format!("{service}.{namespace}.svc")]
    }

    fn serve(&self, leaf: &Pair) -> Result<(), ManageError> {
        let material = Material {
            chain: leaf.certificate.clone().into_bytes(),
            key: leaf.key.clone().into_bytes(),
            client_ca: Vec::new(),
        };
        self.installer.install(&material).map_err(ManageError::Install)
    }

    /// Brings the bundle into the webhook configuration; true if it was there already.
    async fn announce(&self, store: &Store) -> Result<bool, ManageError> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.cluster.client.clone());
        let bundle = ByteString(store.bundle().into_bytes());
        let mut attempts = 0;
        loop {
            let found = api.get(&self.webhook).await.map_err(|source| self.webhook_error("read", source))?;
            let Some(patch) = self.repair(&found, &bundle)? else { return Ok(true) };
            match api.patch(&self.webhook, &PatchParams::default(), &Patch::<()>::Json(patch)).await {
                Ok(_) => {
                    tracing::info!(webhook = self.webhook, "caBundle put right");
                    return Ok(false);
                }
                // The version that the patch tests for is no longer the newest.
                Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) && attempts < MAX_STEPS => {
                    attempts += 1;
                    tracing::debug!("another replica was faster");
                }
                Err(source) => return Err(self.webhook_error("patch", source)),
            }
        }
    }

    /// What is missing from the configuration; `None` if nothing is.
    fn repair(
        &self,
        found: &MutatingWebhookConfiguration,
        bundle: &ByteString,
    ) -> Result<Option<json_patch::Patch>, ManageError> {
        let mut operations = vec![json!({
            "op": "test", "path": "/metadata/resourceVersion", "value": found.metadata.resource_version,
        })];
        for (index, webhook) in found.webhooks.iter().flatten().enumerate() {
            let config = &webhook.client_config;
            let ours = config
                .service
                .as_ref()
                .is_some_and(|service| service.name == self.service && service.namespace == self.namespace);
            if ours && config.ca_bundle.as_ref() != Some(bundle) {
                operations.push(json!({
                    "op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": bundle,
                }));
            }
        }
        if operations.len() == 1 {
            return Ok(None);
        }
        serde_json::from_value(operations.into())
            .map(Some)
            .map_err(|source| self.webhook_error("patch", kube::Error::SerdeError(source)))
    }

    fn webhook_error(&self, verb: &'static str, source: kube::Error) -> ManageError {
        ManageError::Api { verb, object: format!("{CONFIGURATION} {}", self.webhook), source }
    }

    fn secret_error(&self, verb: &'static str, source: kube::Error) -> ManageError {
        ManageError::Api { verb, object: format!("Secret {}/{}", self.namespace, self.secret), source }
    }
}

fn every<K>(following: Following<K>) -> BoxStream<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    unfold(following, async |mut following| following.next().await.map(|_| ((), following))).boxed()
}

fn read(secret: &Secret) -> Store {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key));
        bytes.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).unwrap_or_default()
    };
    let pair = |certificate: &str, key: &str| Pair { certificate: text(certificate), key: text(key) };
    Store {
        authority: pair("ca.crt", "ca.key"),
        next: pair("next-ca.crt", "next-ca.key"),
        previous: text("previous-ca.crt"),
        leaf: pair("tls.crt", "tls.key"),
    }
}

fn write(mut secret: Secret, store: &Store) -> Secret {
    let Store { authority, next, previous, leaf } = store;
    let data = secret.data.get_or_insert_default();
    for (key, text) in [
        ("ca.crt", &authority.certificate),
        ("ca.key", &authority.key),
        ("next-ca.crt", &next.certificate),
        ("next-ca.key", &next.key),
        ("previous-ca.crt", previous),
        ("tls.crt", &leaf.certificate),
        ("tls.key", &leaf.key),
    ] {
        if text.is_empty() {
            data.remove(key);
        } else {
            data.insert(key.to_owned(), ByteString(text.clone().into_bytes()));
        }
    }
    secret
}
