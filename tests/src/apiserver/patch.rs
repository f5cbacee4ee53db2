//! The kinds of patches that clients send.

use serde_json::Value;

use super::store::StoreError;

/// Applies a patch of the given content type to an object.
pub(super) fn apply(kind: &str, object: &mut Value, body: &[u8]) -> Result<(), StoreError> {
    let invalid = |error: &dyn std::fmt::Display| StoreError::Invalid(error.to_string());
    if kind.starts_with("application/json-patch+json") {
        let patch: json_patch::Patch = serde_json::from_slice(body).map_err(|error| invalid(&error))?;
        return json_patch::patch(object, &patch).map_err(|error| {
            // The API server answers a failed `test` of the version like any other patch that does not apply.
            invalid(&error)
        });
    }
    let patch: Value = serde_json::from_slice(body).map_err(|error| invalid(&error))?;
    json_patch::merge(object, &patch);
    Ok(())
}
