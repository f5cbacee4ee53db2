//! A finished request, on its way to becoming HTTP.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

use super::body::BodyError;
use crate::mutate::Refusal;
use crate::review::{Answer, shorten};

/// What an overloaded replica asks of its client, in seconds. API servers do not try again by themselves; controllers do.
const RETRY_AFTER: &str = "1";

/// The answer, and what the metrics say about it.
pub(super) struct Finished {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    pub(super) outcome: &'static str,
    pub(super) reason: &'static str,
}

impl Finished {
    /// A failure: a status and a line of text. The registration's failurePolicy decides about the pod.
    pub(super) fn text(status: StatusCode, text: &str, reason: &'static str) -> Self {
        Self { status, body: format!("{text}\n").into_bytes(), outcome: "error", reason }
    }

    /// There is no body to work on.
    pub(super) fn without_body(error: BodyError) -> Self {
        let (status, reason) = match error {
            BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "BodyTooLarge"),
            BodyError::TooSlow => (StatusCode::REQUEST_TIMEOUT, "BodyTooSlow"),
            BodyError::Broken => (StatusCode::BAD_REQUEST, "BodyBroken"),
            BodyError::NoMemory => (StatusCode::SERVICE_UNAVAILABLE, "Overload"),
        };
        Self::text(status, &error.to_string(), reason)
    }

    /// The pod may pass with this patch.
    pub(super) fn patched(uid: &str, patch: &[u8], warnings: &[String]) -> Result<Self, serde_json::Error> {
        let body = Answer::allow(uid, Some(patch), warnings).to_json()?;
        Ok(Self { status: StatusCode::OK, body, outcome: "patched", reason: "" })
    }

    /// The pod may pass as it is.
    pub(super) fn unchanged(uid: &str, warnings: &[String]) -> Result<Self, serde_json::Error> {
        let body = Answer::allow(uid, None, warnings).to_json()?;
        Ok(Self { status: StatusCode::OK, body, outcome: "unchanged", reason: "" })
    }

    /// The pod may not pass.
    pub(super) fn refused(uid: &str, refusal: &Refusal) -> Result<Self, serde_json::Error> {
        let message = shorten(&refusal.to_string(), 1024);
        let body = Answer::deny(uid, refusal.code(), refusal.status_reason(), &message).to_json()?;
        Ok(Self { status: StatusCode::OK, body, outcome: "refused", reason: refusal.label() })
    }

    /// As HTTP; `closing` asks the client to open another connection next time.
    pub(super) fn into_response(self, closing: bool) -> Response<Full<Bytes>> {
        let kind =
            if self.status == StatusCode::OK { "application/json" } else { "text/plain; charset=utf-8" };
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        if closing {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
