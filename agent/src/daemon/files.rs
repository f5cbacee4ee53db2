//! Policies from files, followed while the daemon runs. A set of files is good as a whole or not at all: with one mistake
//! anywhere what was good before stays.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use portwright_core::desired::Document;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::wish::{MaxUnavailable, Policy, Wish};
use crate::error::CliError;
use crate::input::{self, TextFile};
use crate::serve::wake;

/// Reads policy files once.
///
/// # Errors
/// Everything that is wrong with them.
pub fn read(paths: &[PathBuf]) -> Result<Wish, CliError> {
    let files = input::read_policies(paths)?;
    let documents = input::desired(&files)?.documents;
    let mut texts = texts(&files)?;
    let policy = |document: Document| {
        let text = texts.remove(&document.name).unwrap_or_default();
        let name = document.name.clone();
        let policy = Policy {
            uid: None,
            generation: None,
            read: Ok(Arc::new(document)),
            text: text.into(),
            // Without a cluster there are no other nodes to spare.
            max_unavailable: MaxUnavailable::default(),
            cordon: false,
        };
        (name, policy)
    };
    Ok(Wish { synced: true, policies: documents.into_iter().map(policy).collect(), ..Wish::default() })
}

/// Each document by name as one JSON text: a file may hold several.
fn texts(files: &[TextFile]) -> Result<BTreeMap<String, String>, CliError> {
    let mut texts = BTreeMap::new();
    for file in files {
        let policies = portwright_api::read_policies(&file.name, &file.text)
            .map_err(|problems| CliError::Policies { problems })?;
        for policy in policies {
            let text = serde_json::to_string(&policy).map_err(|source| CliError::Json { source })?;
            texts.insert(policy.metadata.name.unwrap_or_default(), text);
        }
    }
    Ok(texts)
}

/// Follows files from `first` on, which was read from them before.
pub fn follow(paths: Vec<PathBuf>, first: Wish, stop: CancellationToken) -> watch::Receiver<Wish> {
    let (sender, receiver) = watch::channel(first);
    let changed: Arc<Notify> = Arc::default();
    let tell = Arc::clone(&changed);
    wake::files(&paths, stop.clone(), move || tell.notify_one());
    tokio::spawn(async move {
        while stop.run_until_cancelled(changed.notified()).await.is_some() {
            let paths = paths.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || read(&paths)).await else { continue };
            sender.send_if_modified(|wish| {
                let fresh = match read {
                    Ok(fresh) => fresh,
                    Err(error) => Wish { trouble: Some(error.render().trim().to_owned()), ..wish.clone() },
                };
                let differs = *wish != fresh;
                if let (true, Some(trouble)) = (differs, &fresh.trouble) {
                    tracing::error!(trouble, "the last good policies stay");
                }
                *wish = fresh;
                differs
            });
        }
    });
    receiver
}
