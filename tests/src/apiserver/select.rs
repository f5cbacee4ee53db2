//! Label and field selectors: comparisons with `=`, `==` and `!=`, joined by commas. Set-based ones (`in`, `notin`, existence)
//! are not there; a field may be any path of an object, of which the real server knows a few per kind.

use serde_json::Value;

use super::store::StoreError;

/// What a list or a watch is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    terms: Vec<Term>,
}

#[derive(Debug, Clone)]
struct Term {
    /// JSON pointer into the object.
    pointer: String,
    value: String,
    equal: bool,
}

impl Selection {
    /// Reads both selectors as they stand in a query; empty selects everything.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, StoreError> {
        let label = |key: &str| format!("/metadata/labels/{}", key.replace('~', "~0").replace('/', "~1"));
        let field = |key: &str| format!("/{}", key.replace('.', "/"));
        let mut terms = Vec::new();
        for (text, pointer) in [(labels, &label as &dyn Fn(&str) -> String), (fields, &field)] {
            for term in text.split(',').filter(|term| !term.is_empty()) {
                let (key, value) = term.split_once('=').ok_or_else(|| {
                    StoreError::Invalid(format!("selector {term}: only = and != are known"))
                })?;
                let (key, equal) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
                let value = value.strip_prefix('=').unwrap_or(value).to_owned();
                terms.push(Term { pointer: pointer(key), value, equal });
            }
        }
        Ok(Self { terms })
    }

    /// Whether an object is selected. A missing field is an empty one.
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let value = object.pointer(&term.pointer).and_then(Value::as_str).unwrap_or_default();
            (value == term.value) == term.equal
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Selection;

    #[test]
    fn labels_and_fields_narrow() {
        let pod = json!({"metadata": {"labels": {"a/b": "1"}}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        let cases = [
            ("", "", true),
            ("a/b=1", "spec.nodeName=n,status.phase!=Failed", true),
            ("a/b==1", "", true),
            ("a/b!=1", "", false),
            ("c=1", "", false),
            ("", "spec.nodeName=m", false),
            ("", "status.phase!=Running", false),
        ];
        for (labels, fields, selected) in cases {
            let selection = Selection::parse(labels, fields).unwrap();
            assert_eq!(selection.matches(&pod), selected, "{labels:?} {fields:?}");
        }
        assert!(Selection::parse("a in (b)", "").is_err());
    }
}
