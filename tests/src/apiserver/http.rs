//! Requests and watches over HTTP/1.1.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;

use super::path::Target;
use super::select::Selection;
use super::store::StoreError;
use super::{Mood, Shared, evict, meta, patch};

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Query = BTreeMap<String, String>;

/// How often an idle watch sends a bookmark.
const BOOKMARK: Duration = Duration::from_secs(5);

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        take(stream, &shared);
    }
}

/// Answers what is asked on a connection, until either side ends it.
pub(super) fn take(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, shared: &Arc<Shared>) {
    shared.connections.fetch_add(1, Ordering::Relaxed);
    shared.arrived.notify_waiters();
    if *shared.mood.borrow() == Mood::Away {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let mut mood = shared.mood.subscribe();
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(answer(&shared, request).await) }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // How a client ends its connection does not matter.
            _ = connection => {}
            _ = mood.wait_for(|mood| *mood == Mood::Away) => {}
        }
    });
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let method = request.method().to_string();
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push((method, path));
    shared.arrived.notify_waiters();
    if let Some(code) = refused(shared, &request) {
        return status(code, "Forbidden", "told to refuse");
    }
    let mood = *shared.mood.borrow();
    match mood {
        Mood::Well | Mood::Away | Mood::Blind => {}
        Mood::Undecided => {
            if request.method() != Method::GET {
                shared.mood.subscribe().wait_for(|mood| *mood != Mood::Undecided).await.ok();
            }
        }
        Mood::Failing(code) => return status(code, "InternalError", "told to fail"),
        Mood::Stalling => {
            shared.mood.subscribe().wait_for(|mood| *mood != Mood::Stalling).await.ok();
        }
    }
    let query = query(request.uri().query().unwrap_or_default());
    let Some(target) = Target::parse(request.uri().path()) else {
        return status(404, "NotFound", "no such API path");
    };
    if shared.removed.lock().unwrap_or_else(PoisonError::into_inner).contains(&target.resource) {
        // In plain text, as for any path that nobody serves.
        let mut response =
            Response::new(Full::new(Bytes::from_static(b"404 page not found\n")).boxed_unsync());
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    }
    if !allowed(shared, &request, &target, &query) {
        let message = format!("no right to {} {}", request.method(), request.uri().path());
        return status(403, "Forbidden", &message);
    }
    if mood == Mood::Blind && target.name.is_empty() {
        shared.mood.subscribe().wait_for(|mood| *mood != Mood::Blind).await.ok();
    }
    let accept = request.headers().get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let metadata_only = meta::wanted(accept);
    if request.method() == Method::GET
        && query.get("watch").is_some_and(|watch| watch == "true" || watch == "1")
    {
        return watch(shared, target, &query, metadata_only).unwrap_or_else(|error| refusal(&error));
    }
    let delay = *shared.delay.lock().unwrap_or_else(PoisonError::into_inner);
    if !delay.is_zero() {
        sleep_until(Instant::now() + delay).await;
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match change(shared, &parts.method, &target, &query, kind, &body) {
        Ok((code, object)) if metadata_only && object.get("items").is_some() => {
            json_response(code, &meta::only_list(&object))
        }
        Ok((code, object)) if metadata_only => json_response(code, &meta::only(&object)),
        Ok((code, object)) => json_response(code, &object),
        Err(error) => {
            if matches!(error, StoreError::Conflict(_)) {
                shared.conflicts.fetch_add(1, Ordering::Relaxed);
            }
            refusal(&error)
        }
    }
}

/// Whether the client has the right to ask this, if rights are limited.
fn allowed(shared: &Shared, request: &Request<Incoming>, target: &Target, query: &Query) -> bool {
    let rights = shared.rights.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(rights) = rights else { return true };
    let exists = shared.store.lock().unwrap_or_else(PoisonError::into_inner).get(target).is_ok();
    let watch = query.get("watch").is_some_and(|watch| watch == "true" || watch == "1");
    rights.allow(request.method(), target, watch, exists)
}

fn refused(shared: &Shared, request: &Request<Incoming>) -> Option<u16> {
    let refused = shared.refused.lock().unwrap_or_else(PoisonError::into_inner);
    let is = |(method, part, _): &&(String, String, u16)| {
        method == request.method().as_str() && request.uri().path().contains(part.as_str())
    };
    refused.iter().find(is).map(|(_, _, code)| *code)
}

fn refusal(error: &StoreError) -> Response<Body> {
    let (code, reason) = match error {
        StoreError::NotFound(_) => (404, "NotFound"),
        StoreError::Exists(_) => (409, "AlreadyExists"),
        StoreError::Conflict(_) => (409, "Conflict"),
        StoreError::Owned(_) => (409, "Conflict"),
        StoreError::Gone => (410, "Expired"),
        StoreError::Invalid(_) => (422, "Invalid"),
        StoreError::Server(_) => (500, ""),
        StoreError::Budget(_) => (429, "TooManyRequests"),
    };
    let mut object = status_object(code, reason, &error.to_string());
    if let (StoreError::Budget(cause), Some(object)) = (error, object.as_object_mut()) {
        let causes = json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]});
        object.insert("details".to_owned(), causes);
    }
    json_response(code, &object)
}

fn change(
    shared: &Shared,
    method: &Method,
    target: &Target,
    query: &Query,
    kind: &str,
    body: &[u8],
) -> Result<(u16, Value), StoreError> {
    let parse = || serde_json::from_slice(body).map_err(|error| StoreError::Invalid(error.to_string()));
    let mut store = shared.store.lock().unwrap_or_else(PoisonError::into_inner);
    let result = match (method.as_str(), target.name.is_empty()) {
        ("GET", true) => Ok((200, list(&store, target, query)?)),
        ("GET", false) => Ok((200, store.get(target)?)),
        ("POST", true) => Ok((201, store.create(target, parse()?)?)),
        ("POST", false) if target.part == "eviction" => {
            let ending = *shared.ending.lock().unwrap_or_else(PoisonError::into_inner);
            Ok((201, evict::evict(&mut store, target, &parse()?, ending)?))
        }
        ("PUT", false) => Ok((200, store.replace_as(target, manager(query), parse()?)?)),
        ("PATCH", false) if kind.starts_with("application/apply-patch") => {
            let force = query.get("force").is_some_and(|force| force == "true");
            store.apply(target, manager(query), force, &parse()?)
        }
        ("PATCH", false) => {
            let mut object = store.get(target)?;
            patch::apply(kind, &mut object, body)?;
            Ok((200, store.replace_as(target, manager(query), object)?))
        }
        ("DELETE", false) => {
            let options = if body.is_empty() { Value::Null } else { parse()? };
            let conditions = options.get("preconditions").cloned().unwrap_or_default();
            Ok((200, store.delete_if(target, &conditions)?))
        }
        _ => Err(StoreError::Invalid("this server does not do that".to_owned())),
    };
    let version = store.version();
    drop(store);
    if method != Method::GET {
        shared.changed.send_replace(version);
    }
    result
}

/// Who writes.
fn manager(query: &Query) -> &str {
    query.get("fieldManager").map_or("", String::as_str)
}

/// A list, in pages if the client wants so. The continue token is the number of objects that were sent.
fn list(store: &super::Store, target: &Target, query: &Query) -> Result<Value, StoreError> {
    let objects = store.list(target, &selection(query)?);
    let number = |key: &str| query.get(key).and_then(|text| text.parse::<usize>().ok());
    let start = number("continue").unwrap_or(0);
    let limit = number("limit").filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let page: Vec<&Value> = objects.iter().copied().skip(start).take(limit).collect();
    let sent = start + page.len();
    let more = if sent < objects.len() { sent.to_string() } else { String::new() };
    Ok(json!({
        "kind": "List", "apiVersion": target.api_version(),
        "metadata": {"resourceVersion": store.version().to_string(), "continue": more},
        "items": page,
    }))
}

fn selection(query: &Query) -> Result<Selection, StoreError> {
    let text = |key: &str| query.get(key).map_or("", String::as_str);
    Selection::parse(text("labelSelector"), text("fieldSelector"))
}

fn watch(
    shared: &Arc<Shared>,
    target: Target,
    query: &Query,
    metadata_only: bool,
) -> Result<Response<Body>, StoreError> {
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, Infallible>>(64);
    let selection = selection(query)?;
    let from = query.get("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or(0);
    let seconds = query.get("timeoutSeconds").and_then(|text| text.parse().ok()).unwrap_or(300);
    let until = Instant::now() + Duration::from_secs(seconds);
    let bookmarks = query.get("allowWatchBookmarks").is_some_and(|text| text == "true");
    let wanted = Wanted { target, selection, metadata_only };
    tokio::spawn(send_changes(Arc::clone(shared), wanted, from, bookmarks, until, sender));
    let mut response = Response::new(StreamBody::new(ReceiverStream::new(receiver)).boxed_unsync());
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// What a watch is about.
struct Wanted {
    target: Target,
    selection: Selection,
    metadata_only: bool,
}

async fn send_changes(
    shared: Arc<Shared>,
    wanted: Wanted,
    from: u64,
    bookmarks: bool,
    until: Instant,
    sender: mpsc::Sender<Result<Frame<Bytes>, Infallible>>,
) {
    let mut changed = shared.changed.subscribe();
    let mut cut = shared.cut.subscribe();
    cut.mark_unchanged();
    let mut version = from;
    loop {
        changed.borrow_and_update();
        let (changes, newest) = {
            let store = shared.store.lock().unwrap_or_else(PoisonError::into_inner);
            (store.since(&wanted.target, &wanted.selection, version), store.version())
        };
        let events = match changes {
            Ok(changes) => {
                let shown = |object| if wanted.metadata_only { meta::only(&object) } else { object };
                let events =
                    changes.into_iter().map(|(kind, object)| json!({"type": kind, "object": shown(object)}));
                events.collect::<Vec<_>>()
            }
            Err(error) => {
                let gone =
                    json!({"type": "ERROR", "object": status_object(410, "Expired", &error.to_string())});
                sender.send(Ok(frame(&gone))).await.ok();
                return;
            }
        };
        version = newest;
        for event in events {
            if sender.send(Ok(frame(&event))).await.is_err() {
                return;
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            _ = cut.changed() => return,
            () = sender.closed() => return,
            () = sleep_until(until) => return,
            () = sleep_until(Instant::now() + BOOKMARK), if bookmarks => {
                let object = json!({"kind": "Bookmark", "apiVersion": wanted.target.api_version(), "metadata": {"resourceVersion": version.to_string()}});
                if sender.send(Ok(frame(&json!({"type": "BOOKMARK", "object": object})))).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn frame(value: &Value) -> Frame<Bytes> {
    Frame::data(Bytes::from(format!("{value}\n")))
}

fn status_object(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    json_response(code, &status_object(code, reason, message))
}

fn json_response(code: u16, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

/// Reads a query; `%XX` and `+` are decoded.
fn query(text: &str) -> Query {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            match byte {
                b'+' => bytes.push(b' '),
                b'%' => {
                    let pair: Vec<u8> = rest.by_ref().take(2).collect();
                    let hex =
                        std::str::from_utf8(&pair).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    bytes.push(hex.unwrap_or(b'?'));
                }
                other => bytes.push(other),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}
