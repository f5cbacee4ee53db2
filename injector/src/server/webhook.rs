//! One admission request, from its body to the answer.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::join_all;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::{SemaphorePermit, watch};
use tokio::time::Instant;

use super::activity::{Activity, Phase};
use super::body::Budget;
use super::finished::Finished;
use super::places::{Overload, Places};
use super::{REQUEST_TIMEOUT, Stage};
use crate::follow_switches::LiveSwitches;
use crate::metrics::Metrics;
use crate::mutate::{Decide, Mutation, Networks, Refusal, Settings, Wish, encode_checked, read};
use crate::networks::{LookupError, NetworkCache};
use crate::pod::Pod;
use crate::review::{self, ReviewError, shorten};
use crate::words::chain;

/// The webhook's path, as network-resources-injector has it.
pub const PATH: &str = "/mutate";
/// Live look-ups of one pod that run at once; the first missing network ends them.
const LOOKUPS_AT_ONCE: usize = 8;

/// Everything a request needs.
pub struct Webhook {
    /// Who decides.
    pub decide: Arc<Decide>,
    /// How decisions are made.
    pub settings: Settings,
    /// Switches in force.
    pub switches: Arc<LiveSwitches>,
    /// Networks of the cluster.
    pub networks: Arc<NetworkCache>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Memory for bodies.
    pub bodies: Budget,
    /// Places for reviews under way.
    pub places: Places,
    /// What the process is doing.
    pub stage: watch::Receiver<Stage>,
}

/// What kept a review from being answered; HTTP 400, 500 or 503, and the registration's failurePolicy decides.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("bad request")]
    Review(#[source] ReviewError),
    #[error("a network could not be looked up")]
    Lookup(#[source] Arc<LookupError>),
    #[error("overload")]
    Overload(#[source] Overload),
    #[error("the answer could not be made")]
    Patch(#[source] crate::mutate::PatchError),
    #[error("the answer could not be encoded")]
    Encode(#[source] serde_json::Error),
}

impl Webhook {
    /// Answers one HTTP request; every path through here ends with an answer.
    pub async fn serve(
        self: Arc<Self>,
        request: Request<Incoming>,
        activity: Arc<Activity>,
    ) -> Response<Full<Bytes>> {
        activity.enter(Phase::Body);
        let started = Instant::now();
        let deadline = started + budget_of(request.uri().query());
        let refused = check_head(&request);
        let collected = self.bodies.collect(request.into_body()).await;
        activity.enter(Phase::Busy);
        let in_flight = InFlight::new(&self.metrics);
        let finished = match (refused, collected) {
            (Some((status, text)), _) => Finished::text(status, text, "BadRequest"),
            (None, Err(error)) => Finished::without_body(error),
            (None, Ok(body)) => {
                self.metrics
                    .body_bytes
                    .observe(f64::from(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX)));
                guarded(self.work(&body.bytes), deadline, &self.metrics).await
            }
        };
        drop(in_flight);
        self.metrics.finished(finished.outcome, finished.reason, started.elapsed());
        let closing =
            *self.stage.borrow() != Stage::Serving || finished.status == StatusCode::PAYLOAD_TOO_LARGE;
        let response = finished.into_response(closing);
        activity.enter(Phase::Idle);
        response
    }

    async fn work(&self, body: &[u8]) -> Finished {
        match self.review(body).await {
            Ok(finished) => finished,
            Err(Failure::Review(error)) => {
                tracing::warn!(error = %chain(&error), "a request is no admission review");
                Finished::text(StatusCode::BAD_REQUEST, &chain(&error), "NotAReview")
            }
            Err(Failure::Overload(overload)) => {
                tracing::warn!(%overload, "a request was turned away");
                Finished::text(StatusCode::SERVICE_UNAVAILABLE, &overload.to_string(), "Overload")
            }
            Err(failure) => {
                let reason = match &failure {
                    Failure::Lookup(_) => "Lookup",
                    Failure::Review(_) | Failure::Overload(_) | Failure::Patch(_) | Failure::Encode(_) => {
                        "Defect"
                    }
                };
                tracing::warn!(error = %chain(&failure), reason, "a request could not be answered");
                Finished::text(StatusCode::INTERNAL_SERVER_ERROR, &chain(&failure), reason)
            }
        }
    }

    async fn review(&self, body: &[u8]) -> Result<Finished, Failure> {
        let place = self.places.work().await.map_err(Failure::Overload)?;
        let request = review::parse(body).map_err(Failure::Review)?;
        let uid = request.uid.as_str();
        if !request.is_for_new_pod() {
            tracing::warn!(uid, kind = %shorten(&request.kind.kind, 60), operation = %shorten(&request.operation, 20), "not a new pod; let through (check the webhook's rules)");
            return Finished::unchanged(uid, &[]).map_err(Failure::Encode);
        }
        let pod = match request.object.map_or("null", |object| object.get()) {
            "null" => Err("there is no object".to_owned()),
            text => Pod::from_json(text).map_err(|error| error.to_string()),
        };
        let pod = match pod {
            Ok(pod) => pod,
            Err(why) => return Finished::refused(uid, &Refusal::NotAPod(why)).map_err(Failure::Encode),
        };
        let switches = self.switches.current();
        let decided = match read(&pod, &request.namespace, &switches, &self.settings) {
            Err(refusal) => Err(refusal),
            Ok(wish) => {
                let (networks, _place) = self.look_up(&wish, place).await?;
                (self.decide)(&pod, wish, &networks, &switches, &self.settings)
            }
        };
        let namespace =
            if pod.metadata.namespace.is_empty() { &request.namespace } else { &pod.metadata.namespace };
        match decided {
            Err(refusal) => {
                tracing::info!(uid, %namespace, pod = pod.display_name(), reason = refusal.label(), message = %shorten(&refusal.to_string(), 300), "refused");
                Finished::refused(uid, &refusal).map_err(Failure::Encode)
            }
            Ok(Mutation { patch, warnings, .. }) if patch.is_empty() => {
                Finished::unchanged(uid, &warnings).map_err(Failure::Encode)
            }
            Ok(Mutation { patch, warnings, needed }) => {
                let patch = encode_checked(&pod, &patch).map_err(Failure::Patch)?;
                tracing::info!(uid, %namespace, pod = pod.display_name(), ?needed, "patched");
                Finished::patched(uid, &patch, &warnings).map_err(Failure::Encode)
            }
        }
    }

    /// Looks each wished network up once. Names have been validated before they come here. Whoever has to wait for the
    /// API server gives its place to others meanwhile.
    async fn look_up<'a>(
        &'a self,
        wish: &Wish,
        place: SemaphorePermit<'a>,
    ) -> Result<(Networks, SemaphorePermit<'a>), Failure> {
        let mut found = Networks::new();
        let mut unknown = Vec::new();
        for name in wish.networks() {
            match self.networks.cached(name) {
                Some(network) => drop(found.insert(name.clone(), Some(network))),
                None => unknown.push(name),
            }
        }
        if unknown.is_empty() {
            return Ok((found, place));
        }
        drop(place);
        let waiting = self.places.wait().map_err(Failure::Overload)?;
        for some in unknown.chunks(LOOKUPS_AT_ONCE) {
            let answers = join_all(some.iter().map(|name| self.networks.look_up(name))).await;
            for (name, answer) in some.iter().zip(answers) {
                found.insert((*name).clone(), answer.map_err(Failure::Lookup)?);
            }
            if !self.settings.tolerate_missing && found.values().any(Option::is_none) {
                break;
            }
        }
        drop(waiting);
        Ok((found, self.places.work().await.map_err(Failure::Overload)?))
    }
}

/// Counts a request as long as it lives, also if its client goes away in the middle.
struct InFlight<'a>(&'a Metrics);

impl<'a> InFlight<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

/// Ends work that takes too long or panics with an answer that says so.
async fn guarded(work: impl Future<Output = Finished>, deadline: Instant, metrics: &Metrics) -> Finished {
    match tokio::time::timeout_at(deadline, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(finished)) => finished,
        Ok(Err(_)) => {
            metrics.panics.inc();
            tracing::error!("handling a request panicked; this is a defect of the injector");
            Finished::text(StatusCode::INTERNAL_SERVER_ERROR, "internal error", "Panic")
        }
        Err(_) => {
            Finished::text(StatusCode::GATEWAY_TIMEOUT, "no answer within the request's time", "Timeout")
        }
    }
}

/// What the head alone rules out.
fn check_head(request: &Request<Incoming>) -> Option<(StatusCode, &'static str)> {
    if request.uri().path() != PATH {
        return Some((StatusCode::NOT_FOUND, "not found; reviews are posted to /mutate"));
    }
    if request.method() != Method::POST {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "only POST is allowed here"));
    }
    let kind =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/json"));
    }
    None
}

/// How long the answer may take: what the API server says it waits (`?timeout=5s`), less a tenth to get back there.
fn budget_of(query: Option<&str>) -> Duration {
    let asked = query.into_iter().flat_map(|query| query.split('&')).find_map(|pair| {
        let seconds = pair.strip_prefix("timeout=")?.strip_suffix('s')?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok()
    });
    asked.unwrap_or(REQUEST_TIMEOUT).min(REQUEST_TIMEOUT).mul_f64(0.9)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use tokio::time::Instant;

    use super::{Finished, InFlight, budget_of, guarded};
    use crate::metrics::Metrics;

    #[tokio::test]
    async fn work_that_panics_or_never_ends_is_answered() {
        let metrics = Metrics::default();
        let soon = Instant::now() + Duration::from_millis(20);
        let finished = guarded(async { panic!("a defect") }, soon, &metrics).await;
        assert_eq!(finished.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(metrics.panics.get(), 1);
        let finished = guarded(std::future::pending::<Finished>(), soon, &metrics).await;
        assert_eq!(finished.status, StatusCode::GATEWAY_TIMEOUT);
    }

    #[test]
    fn a_request_whose_client_goes_away_is_not_counted_for_ever() {
        let metrics = Metrics::default();
        let in_flight = InFlight::new(&metrics);
        assert_eq!(metrics.in_flight.get(), 1);
        drop(in_flight);
        assert_eq!(metrics.in_flight.get(), 0);
    }

    #[test]
    fn the_api_servers_patience_bounds_ours() {
        let cases = [
            (None, 9000),
            (Some("timeout=5s"), 4500),
            (Some("a=b&timeout=2s"), 1800),
            (Some("timeout=30s"), 9000),
            (Some("timeout=x"), 9000),
            (Some("timeout=-1s"), 9000),
            (Some("timeout=NaNs"), 9000),
        ];
        for (query, milliseconds) in cases {
            assert_eq!(budget_of(query), Duration::from_millis(milliseconds), "{query:?}");
        }
    }
}
