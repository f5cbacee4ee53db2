//! The AdmissionReview envelope (`admission.k8s.io/v1`), both directions.
//!
//! These types are our own because the usual library's response writes the patch as an array of numbers and its
//! refusals carry no code. The pod stays raw text until somebody needs it, so a review that is not for us costs little.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::pod::nullable;

/// The only version that is spoken.
pub const API_VERSION: &str = "admission.k8s.io/v1";
/// The only kind that is spoken.
pub const KIND: &str = "AdmissionReview";
/// Longest warning that every client shows whole (`admission/v1` documentation of `warnings`).
pub const WARNING_LENGTH: usize = 120;
/// More warnings than this help nobody.
const MAX_WARNINGS: usize = 8;

/// A review as the API server sends it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Review<'a> {
    /// Must be [`API_VERSION`].
    #[serde(default, deserialize_with = "nullable")]
    pub api_version: String,
    /// Must be [`KIND`].
    #[serde(default, deserialize_with = "nullable")]
    pub kind: String,
    /// Absent only in documents that are no request.
    #[serde(borrow, default)]
    pub request: Option<Request<'a>>,
}

/// The question.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request<'a> {
    /// Fresh for every call; the answer must repeat it.
    #[serde(default, deserialize_with = "nullable")]
    pub uid: String,
    /// What kind the object was converted to.
    #[serde(default, deserialize_with = "nullable")]
    pub kind: GroupKind,
    /// Set when the request is about a subresource such as `binding`.
    #[serde(default, deserialize_with = "nullable")]
    pub sub_resource: String,
    /// The namespace of the request.
    #[serde(default, deserialize_with = "nullable")]
    pub namespace: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(default, deserialize_with = "nullable")]
    pub operation: String,
    /// The object, unparsed.
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
}

impl Request<'_> {
    /// Whether this is what the webhook is registered for. A missing operation is taken for `CREATE`.
    pub fn is_for_new_pod(&self) -> bool {
        let is_pod = self.kind.kind == "Pod" && self.kind.group.is_empty();
        is_pod && self.sub_resource.is_empty() && matches!(self.operation.as_str(), "" | "CREATE")
    }
}

/// Group and kind of the object under review.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct GroupKind {
    /// Empty for the core group.
    #[serde(deserialize_with = "nullable")]
    pub group: String,
    /// `Pod` for us.
    #[serde(deserialize_with = "nullable")]
    pub kind: String,
}

/// What is wrong with a body that is no review; answered with HTTP 400.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Not JSON, or JSON of another shape.
    #[error("cannot read the request body as an AdmissionReview")]
    Json(#[source] serde_json::Error),
    /// JSON, but another document.
    #[error("expected {API_VERSION} {KIND}, got {api_version:?} {kind:?}")]
    Document {
        /// What `apiVersion` said.
        api_version: String,
        /// What `kind` said.
        kind: String,
    },
    /// A review without a request cannot be answered, since the answer must repeat the request's uid.
    #[error("the AdmissionReview has no request with a uid")]
    NoRequest,
}

/// Reads a review and checks that it is one.
///
/// # Errors
/// The body is not JSON, is another document, or lacks a request.
pub fn parse(body: &[u8]) -> Result<Request<'_>, ReviewError> {
    let review: Review<'_> = serde_json::from_slice(body).map_err(ReviewError::Json)?;
    if review.api_version != API_VERSION || review.kind != KIND {
        return Err(ReviewError::Document {
            api_version: shorten(&review.api_version, 80),
            kind: shorten(&review.kind, 80),
        });
    }
    review.request.filter(|request| !request.uid.is_empty()).ok_or(ReviewError::NoRequest)
}

/// The answer to one request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Why a request was refused, in the API server's terms (`meta/v1.Status`).
#[derive(Debug, Serialize)]
struct Status<'a> {
    status: &'static str,
    code: u16,
    reason: &'a str,
    message: &'a str,
}

impl<'a> Answer<'a> {
    /// Lets the object pass, with a JSON patch (`None` changes nothing).
    pub fn allow(uid: &'a str, patch: Option<&[u8]>, warnings: &[String]) -> Self {
        Self::new(Response {
            uid,
            allowed: true,
            patch_type: patch.map(|_| "JSONPatch"),
            patch: patch.map(|patch| STANDARD.encode(patch)),
            status: None,
            warnings: presentable(warnings),
        })
    }

    /// Refuses the object. `code` is an HTTP status of 400 or more, `message` is what the user reads.
    pub fn deny(uid: &'a str, code: u16, reason: &'a str, message: &'a str) -> Self {
        Self::new(Response {
            uid,
            allowed: false,
            patch_type: None,
            patch: None,
            status: Some(Status { status: "Failure", code, reason, message }),
            warnings: Vec::new(),
        })
    }

    fn new(response: Response<'a>) -> Self {
        Self { api_version: API_VERSION, kind: KIND, response }
    }

    /// The answer as JSON.
    ///
    /// # Errors
    /// Never for these types; the signature passes the encoder's on.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// Warnings without repetition, none longer than [`WARNING_LENGTH`], and no flood of them.
fn presentable(warnings: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    for warning in warnings {
        let short = shorten(warning, WARNING_LENGTH);
        if !shown.contains(&short) {
            if shown.len() + 1 >= MAX_WARNINGS {
                shown.push(
                    "portwright: there are more warnings of this kind; see the injector's log".to_owned(),
                );
                break;
            }
            shown.push(short);
        }
    }
    shown
}

/// Cuts `text` to at most `limit` bytes at a character boundary, marking the cut; control characters become spaces.
pub fn shorten(text: &str, limit: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if clean.len() <= limit {
        return clean;
    }
    let keep = clean.floor_char_boundary(limit.saturating_sub('…'.len_utf8()));
    format!("{}…", clean.get(..keep).unwrap_or_default())
}
