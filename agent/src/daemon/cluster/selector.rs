//! Whether a policy is for a node: Kubernetes' label selectors.

use std::collections::BTreeMap;

use portwright_api::policy::{LabelExpression, LabelOperator, NodeSelector};

/// Whether labels satisfy every part of a selector. No selector, or an empty one, selects all.
pub fn selects(selector: Option<&NodeSelector>, labels: &BTreeMap<String, String>) -> bool {
    let Some(NodeSelector { match_labels, match_expressions }) = selector else { return true };
    match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && match_expressions.iter().all(|expression| holds(expression, labels))
}

fn holds(expression: &LabelExpression, labels: &BTreeMap<String, String>) -> bool {
    let LabelExpression { key, operator, values } = expression;
    let value = labels.get(key);
    let among = value.is_some_and(|value| values.contains(value));
    match operator {
        LabelOperator::In => among,
        // As everywhere in Kubernetes, a label that is not there is not in any list.
        LabelOperator::NotIn => !among,
        LabelOperator::Exists => value.is_some(),
        LabelOperator::DoesNotExist => value.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use portwright_api::policy::NodeSelector;
    use serde_json::json;

    use super::selects;

    #[test]
    fn selectors_mean_what_kubernetes_says() {
        let labels = BTreeMap::from([("zone".to_owned(), "a".to_owned()), ("gpu".to_owned(), String::new())]);
        let cases = [
            (json!({}), true),
            (json!({"matchLabels": {"zone": "a"}}), true),
            (json!({"matchLabels": {"zone": "b"}}), false),
            (json!({"matchLabels": {"zone": "a", "other": "x"}}), false),
            (json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b", "a"]}]}), true),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["b", "a"]}]}),
                false,
            ),
            (json!({"matchExpressions": [{"key": "none", "operator": "NotIn", "values": ["b"]}]}), true),
            (json!({"matchExpressions": [{"key": "none", "operator": "In", "values": ["b"]}]}), false),
            (json!({"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}), true),
            (json!({"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}), false),
            (json!({"matchExpressions": [{"key": "none", "operator": "DoesNotExist"}]}), true),
            (
                json!({"matchLabels": {"zone": "a"}, "matchExpressions": [{"key": "none", "operator": "Exists"}]}),
                false,
            ),
        ];
        for (text, expected) in cases {
            let selector: NodeSelector = serde_json::from_value(text.clone()).unwrap();
            assert_eq!(selects(Some(&selector), &labels), expected, "{text}");
        }
        assert!(selects(None, &labels));
    }
}
