//! The way to the API server, with a note of every watch that it accepts: a watch that goes on where it left off makes no
//! event, so without the note nobody could tell when an outage has ended.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use tokio::sync::watch;
use tower::{BoxError, Layer, Service};

/// How many watches were accepted, by path.
#[derive(Debug, Clone, Default)]
pub struct Watches(watch::Sender<BTreeMap<String, u64>>);

impl Watches {
    /// Tells of changes.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<String, u64>> {
        self.0.subscribe()
    }
}

/// The API server, as it is used here.
#[derive(Clone)]
pub struct Cluster {
    /// Sends requests.
    pub client: Client,
    /// Watches that were accepted.
    pub watches: Watches,
}

impl Cluster {
    /// Prepares the connection; nothing is sent yet.
    ///
    /// # Errors
    /// Certificates or credentials cannot be used.
    pub fn new(config: kube::Config) -> Result<Cluster, kube::Error> {
        let watches = Watches::default();
        let client = ClientBuilder::try_from(config)?.with_layer(&Noting(watches.clone())).build();
        Ok(Cluster { client, watches })
    }
}

/// Puts the notes around a service.
#[derive(Debug, Clone)]
struct Noting(Watches);

impl<S> Layer<S> for Noting {
    type Service = Noted<S>;

    fn layer(&self, inner: S) -> Noted<S> {
        Noted { inner, watches: self.0.clone() }
    }
}

/// A service with notes.
#[derive(Debug, Clone)]
struct Noted<S> {
    inner: S,
    watches: Watches,
}

impl<S, B> Service<Request<Body>> for Noted<S>
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
        let uri = request.uri();
        let watches = uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
        let path = watches.then(|| uri.path().to_owned());
        let notes = self.watches.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await.map_err(Into::into)?;
            if let Some(path) = path
                && answer.status().is_success()
            {
                notes.0.send_modify(|counts| {
                    let count = counts.entry(path).or_default();
                    *count = count.saturating_add(1);
                });
            }
            Ok(answer)
        })
    }
}
