//! API paths: which resource, namespace, object and part of it a URL means.

/// What a path points at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// `group/version/plural`, with an empty group for the core.
    pub resource: String,
    /// Empty for cluster-scoped objects and lists over all namespaces.
    pub namespace: String,
    /// Empty for lists.
    pub name: String,
    /// Such as `status`; empty for the object itself.
    pub part: String,
}

impl Target {
    /// Reads the path of a URL, without its query.
    pub fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/').map(str::to_owned);
        let (group, version) = match segments.next()?.as_str() {
            "api" => (String::new(), segments.next()?),
            "apis" => (segments.next()?, segments.next()?),
            _ => return None,
        };
        let rest: Vec<String> = segments.collect();
        let (namespace, rest) = match rest.as_slice() {
            [first, namespace, rest @ ..] if first == "namespaces" && !rest.is_empty() => {
                (namespace.clone(), rest)
            }
            rest => (String::new(), rest),
        };
        let (plural, name, part) = match rest {
            [plural] => (plural, "", ""),
            [plural, name] => (plural, name.as_str(), ""),
            [plural, name, part] => (plural, name.as_str(), part.as_str()),
            _ => return None,
        };
        Some(Self {
            resource: format!("{group}/{version}/{plural}"),
            namespace,
            name: name.to_owned(),
            part: part.to_owned(),
        })
    }

    /// `apiVersion` of the resource's objects.
    pub fn api_version(&self) -> String {
        let mut parts = self.resource.splitn(3, '/');
        let (group, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
    }
}
