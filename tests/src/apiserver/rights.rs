//! Who may do what: the rules of roles, applied to requests as RBAC does, as far as our manifests use it (no groups of
//! roles).

use std::path::Path;

use hyper::Method;
use serde_json::Value;

use super::Target;

/// The rules of one account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// Of a Role; none of a ClusterRole.
    namespace: Option<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    /// Empty for objects of every name.
    names: Vec<String>,
}

impl Rights {
    /// What deploy/agent/10-rbac.yaml gives to an agent.
    pub fn of_an_agent() -> Rights {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/agent/10-rbac.yaml");
        #[allow(clippy::disallowed_methods, reason = "tests read the repository's own files")]
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut rights = Rights::default();
        for document in text.split("\n---\n") {
            let role: Value =
                serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}: {document}"));
            for rule in role.get("rules").and_then(Value::as_array).into_iter().flatten() {
                let words = |key: &str| {
                    let words = rule.get(key).and_then(Value::as_array).into_iter().flatten();
                    words.filter_map(Value::as_str).map(str::to_owned).collect()
                };
                rights.0.push(Rule {
                    namespace: role.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned),
                    groups: words("apiGroups"),
                    resources: words("resources"),
                    verbs: words("verbs"),
                    names: words("resourceNames"),
                });
            }
        }
        assert!(!rights.0.is_empty(), "{}: no rules", path.display());
        rights
    }

    /// Whether a request may be made. An apply that has to make the object needs the right to create it, too.
    pub(super) fn allow(&self, method: &Method, target: &Target, watch: bool, exists: bool) -> bool {
        let one = !target.name.is_empty();
        let verbs: &[&str] = match method.as_str() {
            "GET" if watch => &["watch"],
            "GET" if one => &["get"],
            "GET" => &["list"],
            "POST" => &["create"],
            "PUT" => &["update"],
            "PATCH" if exists => &["patch"],
            "PATCH" => &["patch", "create"],
            "DELETE" => &["delete"],
            _ => return false,
        };
        verbs.iter().all(|verb| self.0.iter().any(|rule| rule.gives(verb, target)))
    }
}

impl Rule {
    fn gives(&self, verb: &str, target: &Target) -> bool {
        let mut parts = target.resource.splitn(3, '/');
        let (group, plural) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
        let resource =
            if target.part.is_empty() { plural.to_owned() } else { format!("{plural}/{}", target.part) };
        self.namespace.as_ref().is_none_or(|namespace| *namespace == target.namespace)
            && self.groups.iter().any(|given| given == group)
            && self.resources.contains(&resource)
            && (self.names.is_empty() || self.names.contains(&target.name))
            && self.verbs.iter().any(|given| given == verb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_measured_as_rbac_does() {
        let rights = Rights::of_an_agent();
        let leases = "/apis/coordination.k8s.io/v1/namespaces";
        let states = "/apis/portwright.dev/v1alpha1/nodestates";
        let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for (method, path, watch, exists, allowed) in [
            ("GET", "/api/v1/nodes".to_owned(), true, true, true),
            ("GET", "/api/v1/nodes/a".to_owned(), false, true, true),
            ("DELETE", "/api/v1/nodes/a".to_owned(), false, true, false),
            ("PATCH", "/api/v1/nodes/a/status".to_owned(), false, true, true),
            ("POST", "/api/v1/namespaces/web/pods/a/eviction".to_owned(), false, true, true),
            ("DELETE", "/api/v1/namespaces/web/pods/a".to_owned(), false, true, false),
            ("GET", "/api/v1/namespaces/web/secrets".to_owned(), false, true, false),
            ("PUT", format!("{leases}/portwright-agent/leases/a"), false, true, true),
            ("PUT", format!("{leases}/kube-system/leases/a"), false, true, false),
            ("PATCH", format!("{states}/a"), false, false, true),
            ("PUT", format!("{states}/a"), false, true, false),
            ("GET", format!("{definitions}/nodepolicies.portwright.dev"), false, true, true),
            ("GET", format!("{definitions}/nodestates.portwright.dev"), false, true, false),
            ("GET", definitions.to_owned(), false, true, false),
            ("PATCH", "/api/v1/nodes/new".to_owned(), false, false, false),
        ] {
            let target = Target::parse(&path).unwrap_or_else(|| panic!("{path}"));
            let method: Method = method.parse().unwrap_or_else(|_| panic!("{method}"));
            assert_eq!(rights.allow(&method, &target, watch, exists), allowed, "{method} {path}");
        }
    }
}
