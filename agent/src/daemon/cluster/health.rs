//! How requests to the API server fare. A layer below every request gives it a deadline and notes for lists and watches
//! whether the last one was answered, so that what is said about the connection is true as soon as a watch is accepted
//! again, not only when something happens to change.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::{Method, Request, Response, StatusCode};
use kube::client::Body;
use tokio::sync::watch;
use tower::{BoxError, Layer, Service};

/// How long the API server may take until it begins to answer.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Resources whose last list or watch failed: the path, and why.
#[derive(Debug, Clone, Default)]
pub struct Health(watch::Sender<BTreeMap<String, String>>);

impl Health {
    /// Tells of changes.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<String, String>> {
        self.0.subscribe()
    }

    fn note(&self, path: &str, outcome: Result<(), String>) {
        self.0.send_if_modified(|failing| match outcome {
            Ok(()) => failing.remove(path).is_some(),
            Err(why) => failing.insert(path.to_owned(), why.clone()) != Some(why),
        });
    }
}

/// The API server did not begin to answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", DEADLINE.as_secs())]
pub struct NoAnswer;

/// Puts the deadline and the notes around a service.
#[derive(Debug, Clone)]
pub struct Guard {
    health: Health,
}

impl Guard {
    /// Notes go to `health`.
    pub fn new(health: Health) -> Guard {
        Guard { health }
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, health: self.health.clone() }
    }
}

/// A guarded service.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    health: Health,
}

impl<S, B> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = (request.method() == Method::GET).then(|| request.uri().path().to_owned());
        let answer = self.inner.call(request);
        let health = self.health.clone();
        Box::pin(async move {
            let answer = match tokio::time::timeout(DEADLINE, answer).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(NoAnswer.into()),
            };
            if let Some(path) = path {
                health.note(&path, outcome(&answer));
            }
            answer
        })
    }
}

fn outcome<B>(answer: &Result<Response<B>, BoxError>) -> Result<(), String> {
    match answer {
        Ok(response) => match response.status() {
            // What has expired is listed anew, which is no failure.
            StatusCode::GONE => Ok(()),
            status if status.is_client_error() || status.is_server_error() => {
                Err(format!("answers {status}"))
            }
            _ => Ok(()),
        },
        Err(error) => Err(portwright_core::drive::chain(error.as_ref())),
    }
}
