//! Following objects of the API server for as long as somebody listens. A failure is passed on and followed by a pause; pauses
//! grow until something has been heard of an object, or nothing has failed for a while. That a list has begun, or even was
//! complete, is no reason to be hasty again: what fails next may be the very same.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use kube::api::Api;
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};

use super::pace::Growing;

/// After so long without a failure the pauses start small again.
const CALM: Duration = Duration::from_secs(120);

/// What is heard, and why nothing can be heard at the moment.
pub type Events<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

/// Follows the objects of `api` that `only` selects.
pub fn follow<K>(api: Api<K>, only: watcher::Config, pauses: Growing) -> Events<K>
where
    K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let events = Box::pin(watcher(api, only));
    let rests = Rests { pauses, failed: None, forgotten: None };
    Box::pin(stream::unfold((events, rests, None), |(mut events, mut rests, rest)| async move {
        if let Some(until) = rest {
            sleep_until(until).await;
        }
        loop {
            let event = events.next().await?;
            let now = Instant::now();
            match rests.after(event.as_ref(), now) {
                Next::Heard => return Some((event, (events, rests, None))),
                Next::Rest(pause) => return Some((event, (events, rests, Some(now + pause)))),
                Next::AtOnce => {}
            }
        }
    }))
}

/// When a stream is to be asked again.
#[derive(Debug)]
struct Rests {
    pauses: Growing,
    /// When something failed last.
    failed: Option<Instant>,
    /// When a forgotten history was forgiven last.
    forgotten: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Somebody wants to know, and it goes on.
    Heard,
    /// It failed: not before this span.
    Rest(Duration),
    /// It is no failure, and nobody wants to know.
    AtOnce,
}

impl Rests {
    fn after<K>(&mut self, event: Result<&Event<K>, &watcher::Error>, now: Instant) -> Next {
        match event {
            Ok(Event::Init | Event::InitApply(_) | Event::InitDone) => Next::Heard,
            Ok(Event::Apply(_) | Event::Delete(_)) => {
                self.pauses.reset();
                Next::Heard
            }
            Err(error) => {
                let long_ago = |last: Option<Instant>| last.is_none_or(|last| now - last > CALM);
                // After a long absence the history has usually been forgotten. To be told so is an answer: the list that
                // follows waits for no further pause, unless that happens again and again.
                if is_gone(error) && long_ago(self.forgotten) {
                    self.forgotten = Some(now);
                    return Next::AtOnce;
                }
                if long_ago(self.failed) {
                    self.pauses.reset();
                }
                self.failed = Some(now);
                Next::Rest(self.pauses.next().unwrap_or(CALM))
            }
        }
    }
}

/// Whether the API server has forgotten the history that a watch went on from.
fn is_gone(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchError(status) | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            status.code == 410
        }
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::core::Status;
    use kube::runtime::watcher::{Error, Event};
    use tokio::time::Instant;

    use super::{CALM, Next, Rests};
    use crate::daemon::cluster::pace::Growing;

    const LEAST: Duration = Duration::from_secs(1);

    fn rests() -> Rests {
        Rests { pauses: Growing::new(LEAST, LEAST * 16), failed: None, forgotten: None }
    }

    fn status(code: u16) -> Error {
        Error::WatchError(Box::new(Status { code, ..Status::default() }))
    }

    fn rest(rests: &mut Rests, error: &Error, now: Instant) -> Duration {
        match rests.after::<()>(Err(error), now) {
            Next::Rest(pause) => pause,
            Next::Heard | Next::AtOnce => panic!("{error:?} is a failure"),
        }
    }

    #[test]
    fn pauses_grow_while_lists_begin_and_fail() {
        let (mut rests, mut now) = (rests(), Instant::now());
        for expected in [1, 2, 4, 8, 16, 16] {
            assert_eq!(rests.after::<()>(Ok(&Event::Init), now), Next::Heard);
            let pause = rest(&mut rests, &Error::NoResourceVersion, now);
            assert!(pause >= LEAST * expected && pause < LEAST * expected * 3 / 2, "{pause:?}: {expected}");
            now += pause;
        }
        // A list that is complete is followed by a watch that may be what fails.
        assert_eq!(rests.after::<()>(Ok(&Event::InitDone), now), Next::Heard);
        assert!(rest(&mut rests, &status(403), now) >= LEAST * 16);
        assert_eq!(rests.after(Ok(&Event::Apply(())), now), Next::Heard);
        assert!(rest(&mut rests, &status(403), now) < LEAST * 2, "it has worked");
        rest(&mut rests, &status(403), now);
        assert!(rest(&mut rests, &status(403), now + CALM * 2) < LEAST * 2, "it has not failed for a while");
    }

    #[test]
    fn a_forgotten_history_is_an_answer_once() {
        let (mut rests, now) = (rests(), Instant::now());
        assert_eq!(rests.after::<()>(Err(&status(410)), now), Next::AtOnce);
        assert!(rest(&mut rests, &status(410), now) >= LEAST);
        assert!(rest(&mut rests, &status(410), now + CALM) >= LEAST * 2);
        assert_eq!(rests.after::<()>(Err(&status(410)), now + CALM * 2), Next::AtOnce);
    }
}
