//! The list that confirms that policies were deleted, and the age of their definition. When a definition is deleted, every
//! policy goes with it, and when it is applied again lists succeed and are empty. What was made before its own definition
//! was not deleted by anybody who meant it: that is how the two are told apart.

use std::collections::BTreeSet;
use std::pin::Pin;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::ListParams;
use portwright_core::drive::chain;
use tokio::time::Instant;

use super::ask::ask;
use super::kinds;

/// A policy that is older than its definition by no more than this may be as old as it, by another server's clock.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// An answer, and when it was asked for.
pub(super) type Answer = (Instant, Result<Listed, String>);

/// A question that was put.
pub(super) type Listing = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// All policies, as the API server has them now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// Their names.
    pub(super) names: BTreeSet<String>,
    /// When their definition was made; none if we may not see it.
    pub(super) defined: Option<Timestamp>,
}

impl Listed {
    /// Whether something that was made at `created` went with an earlier definition. If a time is not known it did not.
    pub(super) fn outlives(&self, created: Option<Timestamp>) -> bool {
        let (Some(defined), Some(created)) = (self.defined, created) else { return false };
        defined.duration_since(created) > SKEW
    }
}

/// Asks.
pub(super) fn ask_for(client: Client) -> Listing {
    Box::pin(async move { (Instant::now(), list(&client).await) })
}

/// The answer, if there was a question; else it is waited for without end.
pub(super) async fn answer(listing: &mut Option<Listing>) -> Answer {
    match listing {
        Some(listing) => listing.await,
        None => std::future::pending().await,
    }
}

/// The definition is looked at after the list: one that went in between was still there, or is seen to be another one.
async fn list(client: &Client) -> Result<Listed, String> {
    let list = kinds::policy_metadata(client);
    let list = ask("list nodepolicies", list.list_metadata(&ListParams::default())).await;
    let list = list.map_err(|error| chain(&error))?;
    let names = list.items.into_iter().filter_map(|one| one.metadata.name).collect();
    let definition = kinds::definitions(client);
    let found =
        ask("read the definition of NodePolicy", definition.get_metadata(kinds::POLICY_DEFINITION)).await;
    let defined = match found {
        Ok(found) if found.metadata.deletion_timestamp.is_some() => {
            return Err("the definition of NodePolicy is being deleted".to_owned());
        }
        Ok(found) => found.metadata.creation_timestamp.map(|time| time.0),
        // The rights are those of an older manifest.
        Err(error) if error.code() == Some(403) => None,
        Err(error) => return Err(chain(&error)),
    };
    Ok(Listed { names, defined })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::Listed;

    #[test]
    fn only_what_is_clearly_older_than_its_definition_went_with_another_one() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        for (defined, created, expected) in [
            (at("2026-03-01T10:00:00Z"), at("2026-03-01T09:00:00Z"), true),
            (at("2026-03-01T10:00:00Z"), at("2026-03-01T09:59:30Z"), false),
            (at("2026-03-01T10:00:00Z"), at("2026-03-01T11:00:00Z"), false),
            (None, at("2026-03-01T09:00:00Z"), false),
            (at("2026-03-01T10:00:00Z"), None, false),
        ] {
            let listed = Listed { defined, ..Listed::default() };
            assert_eq!(listed.outlives(created), expected, "{defined:?} {created:?}");
        }
    }
}
