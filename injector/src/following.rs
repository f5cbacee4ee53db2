//! Following a kind of object: the events of a watch, pauses that grow from failure to failure, and one line in the log
//! when following fails and one when it works again.
//!
//! A watch announces every attempt to list with an event of its own, which says nothing about success. So only what comes
//! after a complete list counts: it ends the failure and shortens the pauses.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use kube::Api;
use kube::Resource;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, watcher};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::cluster::Watches;
use crate::words::chain;

/// What is to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// Following has begun to fail.
    Failing,
    /// It works again.
    Again,
}

/// Whether following works, and how long to pause when it does not.
struct Health {
    failing: bool,
    pauses: DefaultBackoff,
}

impl Health {
    fn event<K>(&mut self, event: &Event<K>) -> Option<News> {
        match event {
            Event::Init | Event::InitApply(_) => None,
            Event::InitDone | Event::Apply(_) | Event::Delete(_) => {
                self.pauses.reset();
                self.accepted()
            }
        }
    }

    /// The API server has accepted a watch. That does not shorten the pauses: it may end at once, again and again.
    fn accepted(&mut self) -> Option<News> {
        std::mem::take(&mut self.failing).then_some(News::Again)
    }

    fn failure(&mut self) -> (Duration, Option<News>) {
        let news = (!std::mem::replace(&mut self.failing, true)).then_some(News::Failing);
        (self.pauses.next().unwrap_or(LONGEST), news)
    }
}

/// Between attempts, should the pauses ever run out.
const LONGEST: Duration = Duration::from_secs(30);

/// Follows the objects of one kind.
pub struct Following<K> {
    events: BoxStream<'static, Result<Event<K>, watcher::Error>>,
    health: Health,
    /// How long to wait before the API server is asked again.
    pause: Option<Duration>,
    well: watch::Sender<bool>,
    watches: watch::Receiver<BTreeMap<String, u64>>,
    path: String,
    /// For the log: what is followed.
    what: String,
    /// For the log: what holds while that fails.
    meanwhile: &'static str,
}

impl<K> Following<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// Starts; `what` and `meanwhile` are for the log.
    pub fn new(
        api: Api<K>,
        config: watcher::Config,
        watches: &Watches,
        what: impl Into<String>,
        meanwhile: &'static str,
    ) -> Self {
        let path = api.resource_url().to_owned();
        Following {
            events: watcher(api, config).boxed(),
            health: Health { failing: false, pauses: DefaultBackoff::default() },
            pause: None,
            well: watch::Sender::new(true),
            watches: watches.subscribe(),
            path,
            what: what.into(),
            meanwhile,
        }
    }

    /// The next event. Failures are logged and waited for. `None` never comes as long as the process runs.
    pub async fn next(&mut self) -> Option<Event<K>> {
        loop {
            if let Some(pause) = self.pause.take() {
                sleep_until(Instant::now() + pause).await;
            }
            let known = self.watches.borrow_and_update().get(&self.path).copied();
            let accepted = self.watches.wait_for(|counts| counts.get(&self.path).copied() > known);
            let failing = self.health.failing;
            let event = tokio::select! {
                event = self.events.next() => Some(event?),
                Ok(_) = accepted, if failing => None,
            };
            let (news, error) = match &event {
                None => (self.health.accepted(), None),
                Some(Ok(event)) => (self.health.event(event), None),
                Some(Err(error)) => {
                    let (pause, news) = self.health.failure();
                    self.pause = Some(pause);
                    (news, Some(error))
                }
            };
            let well = !self.health.failing;
            self.well.send_if_modified(|told| std::mem::replace(told, well) != well);
            let Self { what, meanwhile, .. } = self;
            match (news, error) {
                (Some(News::Failing), Some(error)) => {
                    tracing::warn!(error = %told::<K>(error), "cannot follow {what}; {meanwhile}");
                }
                (Some(News::Again), _) => tracing::info!("following {what} again"),
                (Some(News::Failing), None) | (None, _) => {}
            }
            if let Some(Ok(event)) = event {
                return Some(event);
            }
        }
    }

    /// Tells whether following works.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.well.subscribe()
    }
}

/// An error in words; that a kind is not known at all is said by name.
fn told<K: Resource<DynamicType = ()>>(error: &watcher::Error) -> String {
    if let watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error
        && status.code == 404
    {
        return format!("the definition of {} ({}) is not installed", K::plural(&()), K::group(&()));
    }
    chain(error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::Status;
    use kube::runtime::watcher::{self, DefaultBackoff, Event};

    use super::{Health, News, told};
    use crate::nad::NetworkAttachmentDefinition;

    #[test]
    fn attempts_to_list_are_no_success() {
        let mut health = Health { failing: false, pauses: DefaultBackoff::default() };
        let init = Event::<ConfigMap>::Init;
        assert_eq!(health.event(&init), None);
        assert_eq!(health.failure().1, Some(News::Failing));
        let mut longest = Duration::ZERO;
        for _ in 0..6 {
            assert_eq!(health.event(&init), None, "nothing was listed yet");
            let (pause, news) = health.failure();
            assert_eq!(news, None, "said already");
            longest = longest.max(pause);
        }
        assert!(longest > Duration::from_secs(8), "pauses do not grow: {longest:?}");
        assert_eq!(health.event(&Event::InitApply(ConfigMap::default())), None, "half a list is none");
        assert_eq!(health.event(&Event::<ConfigMap>::InitDone), Some(News::Again));
        let (pause, news) = health.failure();
        assert!(pause < Duration::from_secs(4), "pauses start anew: {pause:?}");
        assert_eq!(news, Some(News::Failing), "the next outage is said too");
    }

    #[test]
    fn a_watch_that_is_accepted_ends_an_outage_and_leaves_the_pauses_long() {
        let mut health = Health { failing: false, pauses: DefaultBackoff::default() };
        let mut longest = Duration::ZERO;
        for _ in 0..6 {
            let (pause, news) = health.failure();
            assert_eq!(news, Some(News::Failing));
            assert_eq!(health.accepted(), Some(News::Again));
            longest = longest.max(pause);
        }
        assert!(
            longest > Duration::from_secs(8),
            "a watch that ends at once would be asked for all the time"
        );
    }

    #[test]
    fn a_kind_that_the_api_server_does_not_know_is_said_by_name() {
        let unknown = Status::failure("404 page not found\n", "Failed to parse error data").with_code(404);
        let error = watcher::Error::InitialListFailed(kube::Error::Api(Box::new(unknown)));
        assert_eq!(
            told::<NetworkAttachmentDefinition>(&error),
            "the definition of network-attachment-definitions (k8s.cni.cncf.io) is not installed"
        );
    }
}
